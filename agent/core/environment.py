"""The environment of an app and its hooks.

Invariant: it has no variable of the agent's own, and all of root's environment file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CLEAN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH where nothing else is set: Debian's default, as systemd has it too."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that a process runs as. `switch`: it is not the agent's own user."""

    name: str
    uid: int
    gid: int
    home: str
    switch: bool


def app_environment(
    own: Mapping[str, str], *, release: Path, account: Account, file: Mapping[str, str]
) -> dict[str, str]:
    """The environment of a release's processes: `own` (PUSHER_*) wins over `file`, which wins over defaults.

    The venv's programs come first on PATH; the file may set the rest of it.
    """
    venv = release / "venv"
    defaults = {
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",  # a __pycache__ in the release would look like damage to it
        "PYTHONUNBUFFERED": "1",
    }
    path = f"{venv}/bin:{file.get('PATH', CLEAN_PATH)}"
    return {**defaults, **file, **own, "PATH": path, "VIRTUAL_ENV": str(venv)}


def trampoline(
    command: tuple[str, ...], *, parent: int, account: Account, socket: bool = False
) -> tuple[str, ...]:
    """`command` as a child of the process `parent`, which runs as `account` and ends with its parent.

    With `socket`, the listening socket on the trampoline's standard input becomes descriptor 3 (sd_listen_fds(3)).
    LISTEN_PID must be the id of the very process that uses it, so a shell sets it and then becomes `command`. PPID
    is checked because a parent that died before the parent-death signal was requested (PR_SET_PDEATHSIG(2const))
    never causes one. The paths are absolute: PATH begins with the venv, and its programs must not run before the
    user is changed.
    """
    become: tuple[str, ...] = ()
    if account.switch:
        become = (f"--reuid={account.uid}", f"--regid={account.gid}", "--init-groups")
    announce = "export LISTEN_FDS=1 LISTEN_PID=$$; " if socket else ""
    redirect = " 3<&0 0</dev/null" if socket else ""
    script = f'[ "$PPID" = "$1" ] || exit 1; shift; {announce}exec "$@"{redirect}'
    return (
        "/usr/bin/setpriv",
        "--pdeathsig=TERM",
        *become,
        "/bin/sh",
        "-c",
        script,
        "sh",
        str(parent),
        *command,
    )
