"""The problems that an agent does not report: wrong usage, an unreachable host, lost output, Ctrl-C."""

import errno

from pusher.wire import Code, Problem

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


class Usage(Problem):
    """The command line or `pusher.toml` is wrong. Nothing was done."""

    outcome = "usage"
    exit_code = 2

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(Code.BAD_REQUEST, what, why=why, hint=hint)


class Unreachable(Problem):
    """No agent answered, or the connection broke. Whether the request was carried out is not known."""

    outcome = "unreachable"
    exit_code = 5

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(Code.INTERRUPTED, what, why=why, hint=hint)


class HistoryChanged(Problem):
    """The history that a host tells is not the one that it told before, or does not fit what the host knows."""

    outcome = "changed"
    exit_code = 4

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(Code.RELEASE_DAMAGED, what, why=why, hint=hint)


class Unwritten(Problem):
    """Standard output cannot be written, for example to a full disk: the output of the command is lost."""

    def __init__(self, error: OSError, *, hint: str = "Make room there, or redirect the output") -> None:
        super().__init__(
            Code.DISK_ERROR, "Standard output cannot be written", why=error.strerror or str(error), hint=hint
        )


class NoRoom(Usage):
    """A file that a command needs for its work cannot be written on this machine. Nothing was done."""

    def __init__(self, error: OSError) -> None:
        where = f" ({error.filename})" if error.filename else ""
        super().__init__(
            "This machine has no room for what the command has to write",
            why=f"{error.strerror or error}{where}",
            hint="Make room. TMPDIR names the folder of temporary files, XDG_CACHE_HOME that of what is kept",
        )


def is_no_room(error: BaseException) -> bool:
    """Whether an error says that a disk of this machine is full, or may not be written."""
    if isinstance(error, FileNotFoundError):  # what `tempfile` makes of a full disk
        return "No usable temporary directory" in str(error)
    return isinstance(error, OSError) and error.errno in _NO_ROOM


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while work goes on elsewhere. The text says what goes on, and how to follow it."""
