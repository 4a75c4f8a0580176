"""The commands of `pusher-agent`, one file each: its name, help, options and function together.

Invariant: a file that is named after a command (`app_add.py`: `app add`) declares it as `COMMAND`, and is imported
only when the command runs, or when its help is asked for.
"""

NAMES = (
    "init",
    "serve",
    "check",
    "trust",
    "untrust",
    "subscribe",
    "identity",
    "notify",
    "repository serve",
    "repository login",
    "door apply",
    "app list",
    "app add",
    "app adopt",
    "app apply",
    "app run",
    "app remove",
    "python list",
    "python add",
    "python remove",
)
"""Every command, in the order of `pusher-agent --help`."""
