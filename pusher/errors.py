"""What ends a command besides the problems an agent reports: wrong usage, no way to the host, Ctrl-C."""

from pusher.wire import Code, Problem


class Usage(Problem):
    """The command line or `pusher.toml` asks for something that cannot be meant: nothing was tried."""

    outcome = "usage"
    exit_code = 2

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(Code.BAD_REQUEST, what, why=why, hint=hint)


class Unreachable(Problem):
    """No agent answered, or the way to it broke: what became of the request is not known from here."""

    outcome = "unreachable"
    exit_code = 5

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(Code.INTERRUPTED, what, why=why, hint=hint)


class Unwritten(Problem):
    """What was asked for cannot be written to standard output, as a file system that is full does not take it."""

    def __init__(self, error: OSError, *, hint: str = "Make room there, or write it elsewhere") -> None:
        super().__init__(
            Code.DISK_ERROR, "Standard output cannot be written", why=error.strerror or str(error), hint=hint
        )


class Interrupted(KeyboardInterrupt):
    """Ctrl-C at a moment when something goes on elsewhere; the text says what, and how to pick it up."""
