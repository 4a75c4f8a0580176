"""The environment of an app and its hooks.

Invariant: it has no variable of the agent's own, and all of root's environment file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pusher.wire import Code, Refused

CLEAN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH where nothing else is set: Debian's default, as systemd has it too."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTED = re.compile(r"""[ \t]*(?:'(?P<single>[^']*)'|"(?P<double>(?:\\.|[^"\\])*)")""", re.DOTALL)
_BARE = re.compile(r"[ \t]*+((?:\\.|[^\\\n])*+)(?=\n|\\?\Z)", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


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


def parse_environment_file(text: str, *, file: str) -> dict[str, str]:
    """The assignments of a file in the syntax of systemd.exec(5), `EnvironmentFile=`.

    A line that systemd would skip with a warning is an error here: the app would run without it.
    Raises: Refused(configuration), naming `file` and the line.
    """
    found: dict[str, str] = {}
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    at = 0
    while at < len(text):
        line = text[at:].partition("\n")[0]
        if not line.strip() or line.lstrip()[0] in "#;":
            at += len(line) + 1
            continue
        name, equals, _ = line.partition("=")
        if not equals or not _NAME.fullmatch(name.strip()):
            raise _wrong(file, text, at, why=f"{line.strip()!r} is not NAME=value")
        found[name.strip()], at = _value(text, at + len(name) + 1, file)
    return found


def _value(text: str, at: int, file: str) -> tuple[str, int]:
    """The value that starts at `at`, and where the next line starts.

    Quoted pieces come first and are joined; after the first bare character, quotes are ordinary.
    """
    start, value = at, ""
    while quoted := _QUOTED.match(text, at):
        double = quoted["double"]
        value += quoted["single"] if double is None else _ESCAPE.sub(_in_double_quotes, double)
        at = quoted.end()
    bare = _BARE.match(text, at)
    if bare is None or bare[1][:1] in ("'", '"'):
        raise _wrong(file, text, start, why="a quote is not closed")
    value += _ESCAPE.sub(lambda match: "" if match[1] == "\n" else match[1], _without_blanks_at_end(bare[1]))
    return value, text.find("\n", bare.end()) + 1 or len(text)


def _without_blanks_at_end(bare: str) -> str:
    """`bare` without the blanks after it. One behind a backslash belongs to it.

    Not by the expression: it would look for the end again at each blank in the middle.
    """
    kept = bare.rstrip(" \t")
    escaped = (len(kept) - len(kept.rstrip("\\"))) % 2
    return bare[: len(kept) + escaped]


def _in_double_quotes(match: re.Match[str]) -> str:
    if match[1] == "\n":
        return ""
    return match[1] if match[1] in '"\\`$' else match[0]


def _wrong(file: str, text: str, at: int, *, why: str) -> Refused:
    line = text.count("\n", 0, at) + 1
    return Refused(Code.CONFIGURATION, f"{file}: line {line} cannot be read", why=why)
