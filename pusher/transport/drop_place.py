"""Where a drop may go: rsync deletes there what was not sent, so the word of a server is not enough.

Invariant: nothing is written outside of an app's folder beneath the drop root, and nothing into a folder without
the agent's mark. On this machine the mark, and every folder above it, must belong to a user who may run an agent.
"""

import os
import stat
from pathlib import Path

from pusher.errors import Unreachable
from pusher.transport import listener
from pusher.transport.hosts import Host, Ssh
from pusher.wire import DROP_MARK, DROP_ROOT, Code, Refused, drop_mark

_NO_LINK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def place(host: Host, app: str, named: object) -> str:
    """The drop directory of an app; `named` is the one that its agent names, if it answered.

    Elsewhere it is beneath the usual root, or the one that pusher.toml says. On this machine it may be beneath
    another root (the embedded default), which then has the same folders in it. Raises: Refused; Unreachable.
    """
    usual = f"{host.drop or DROP_ROOT}/{app}"
    wanted = named if isinstance(named, str) and named else usual
    here = not isinstance(host.address, Ssh)
    if wanted != usual and not (here and not host.drop and wanted.endswith(f"{DROP_ROOT}/{app}")):
        raise _refused(
            host,
            f"it names {wanted!r}, and drops go to {usual!r}",
            hint='If that is right, say so in pusher.toml: drop = "FOLDER", that of all apps',
        )
    if not here:
        return wanted
    real = os.path.realpath(wanted)
    if not real.endswith(wanted if host.drop else f"{DROP_ROOT}/{app}"):
        raise _refused(host, f"{wanted!r} leads to {real!r}")
    _check_owners(host, Path(real), listener.trusted(getattr(host.address, "owner", "")), app)
    return real


def _check_owners(host: Host, folder: Path, trusted: frozenset[int], app: str) -> None:
    try:
        for above in reversed(folder.parents):
            state = above.lstat()
            # Where others may write, they may replace the next folder, unless this one is sticky.
            if state.st_uid not in trusted or (state.st_mode & 0o022 and not state.st_mode & stat.S_ISVTX):
                raise _refused(host, f"{str(above)!r} can be changed by {_whom(state)}")
        if (state := folder.lstat()).st_uid not in trusted:
            raise _refused(host, f"{str(folder)!r} belongs to {listener.user(state.st_uid)}")
        mark, wanted = folder / DROP_MARK, drop_mark(app)
        descriptor = os.open(mark, _NO_LINK)
        try:
            state, found = os.fstat(descriptor), os.read(descriptor, len(wanted) + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        why = f"{error.filename} is not there"
        raise Unreachable(f"There is no drop directory of {app} on {host.name}", why=why, hint=_START) from error
    except OSError as error:
        raise _refused(host, f"{error.filename or folder}: {error.strerror}") from error
    if not stat.S_ISREG(state.st_mode) or state.st_uid not in trusted or found != wanted:
        raise _refused(host, f"{str(mark)!r} is not the mark of an agent", hint=_START)


_START = "An agent makes it, and its mark, when it starts: systemctl restart pusher-agent"


def _whom(state: os.stat_result) -> str:
    return "others" if state.st_mode & 0o022 else listener.user(state.st_uid)


def _refused(host: Host, why: str, *, hint: str = "") -> Refused:
    return Refused(Code.NOT_ALLOWED, f"Nothing is dropped on {host.name}", why=why, hint=hint)
