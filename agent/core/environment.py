"""What an app and its hooks find in their environment: nothing of the agent's own, and root's file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pusher.wire import Code, Refused

CLEAN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTED = re.compile(r"""[ \t]*(?:'(?P<single>[^']*)'|"(?P<double>(?:\\.|[^"\\])*)")""", re.DOTALL)
_BARE = re.compile(r"[ \t]*(?P<kept>(?:\\.|[^\\\n])*?)[ \t]*(?=\n|\\?\Z)", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Account:
    """The user that something runs as. `switch` says whether the agent has to become him first."""

    name: str
    uid: int
    gid: int
    home: str
    switch: bool


def app_environment(
    own: Mapping[str, str], *, release: Path, account: Account, file: Mapping[str, str]
) -> dict[str, str]:
    """The environment of a release's processes: `own` (PUSHER_*) wins over `file`, which wins over defaults.

    The venv's programs come first on PATH, whatever the file says about the rest of it.
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
    """`command` as a child that ends with the process `parent`, as `account`.

    With `socket`, the listening socket that the trampoline gets as its standard input becomes descriptor 3,
    announced as sd_listen_fds(3) says: LISTEN_PID must be the id of the very process that takes it, so it is
    set by a shell that then becomes `command`. The look at PPID is for a parent that died before the
    parent-death signal was asked for (prctl(2), PR_SET_PDEATHSIG): that one is never sent. Absolute paths,
    since PATH begins with the venv, whose programs must not run before the user is changed.
    """
    become: tuple[str, ...] = ()
    if account.switch:
        become = (f"--reuid={account.uid}", f"--regid={account.gid}", "--init-groups")
    take = "export LISTEN_FDS=1 LISTEN_PID=$$; " if socket else ""
    redirect = " 3<&0 0</dev/null" if socket else ""
    script = f'[ "$PPID" = "$1" ] || exit 1; shift; {take}exec "$@"{redirect}'
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

    What systemd would pass over with a warning in its log is an error here: the app would run without
    it. Raises: Refused(configuration), naming `file` and the line.
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

    Quoted pieces come first and are joined; from the first bare character on, quotes are ordinary.
    """
    start, value = at, ""
    while quoted := _QUOTED.match(text, at):
        double = quoted["double"]
        value += quoted["single"] if double is None else _ESCAPE.sub(_in_double_quotes, double)
        at = quoted.end()
    bare = _BARE.match(text, at)
    if bare is None or bare["kept"][:1] in ("'", '"'):
        raise _wrong(file, text, start, why="a quote is not closed")
    value += _ESCAPE.sub(lambda match: "" if match[1] == "\n" else match[1], bare["kept"])
    return value, text.find("\n", bare.end()) + 1 or len(text)


def _in_double_quotes(match: re.Match[str]) -> str:
    if match[1] == "\n":
        return ""
    return match[1] if match[1] in '"\\`$' else match[0]


def _wrong(file: str, text: str, at: int, *, why: str) -> Refused:
    line = text.count("\n", 0, at) + 1
    return Refused(Code.CONFIGURATION, f"{file}: line {line} cannot be read", why=why)
