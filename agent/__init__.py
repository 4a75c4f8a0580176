"""The on-host deploy agent: it takes signed bundles, makes releases of them, and keeps one serving.

Imports go strictly downward: doors, deploy, steps, host, core, `pusher.wire`.
"""
