"""The commands of `pusher`, one file each: its name, help, options and function together.

Invariant: a file declares one `COMMAND` under the file's name, and is imported only when the command runs, or when
its help is asked for.
"""

NAMES = (
    *(
        "init",
        "send",
        "status",
        "dashboard",
        "releases",
        "history",
        "diff",
        "logs",
        "run",
        "rollback",
        "cancel",
        "pin",
        "unpin",
        "drop",
        "pack",
        "sign",
        "verify",
        "ignored",
    ),
    *("setup", "doctor"),
    *("publish", "channel", "rollout", "fleet", "repository"),
    "completion",
)
"""Every command, in the order of `pusher --help`."""
