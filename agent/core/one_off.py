"""One-off commands under systemd: in a transient unit that is boxed in as the app's own unit is.

Invariant: the box is read from the app's unit and its drop-ins, and nothing of it is left out. A setting that
cannot be carried over is an error: a command never gets a weaker box than the app.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pusher.wire import Code, Refused

_LEFT = re.compile(
    "(Type|ExitType|Exec.*|Restart.*|RemainAfterExit|GuessMainPID|PIDFile|BusName|NotifyAccess|Sockets|Watchdog.*"
    "|TimeoutStartSec|TimeoutSec|TimeoutAbortSec|TimeoutStartFailureMode|TimeoutStopFailureMode|RuntimeMaxSec"
    "|RuntimeRandomizedExtraSec|SuccessExitStatus|FileDescriptorStore.*|OOMPolicy|ReloadSignal|RootDirectoryStartOnly"
    "|NonBlocking|USBFunction.*|Kill.*|SendSIG.*|FinalKillSignal|RestartKillSignal|WorkingDirectory|Standard.*|TTY.*"
    "|Syslog.*|RuntimeDirectoryPreserve)"
)
"""How the app is started, watched and ended, and where its output goes: not the box."""

_SPECIFIER = re.compile("%.")

_OWN = (
    "TimeoutStopSec=10s",
    "SendSIGHUP=yes",  # an interactive shell ignores TERM
    "RuntimeDirectoryPreserve=yes",  # the app goes on, and its folder in /run with it
)

_FIND = (
    "cd -P . && PUSHER_RELEASE=${PWD##*/} && read -r PUSHER_VERSION <REVISION && VIRTUAL_ENV=$PWD/venv && "
    "PATH=$VIRTUAL_ENV/bin:$PATH && export PUSHER_RELEASE PUSHER_VERSION VIRTUAL_ENV PATH && "
    "program=$VIRTUAL_ENV/bin/$1 && shift"
)
"""Sets a release's variables, and finds a program in its venv. It enters the release itself, not the link, so that
a later switch does not affect the command."""

SCRIPT = (
    f'{_FIND} || exit; trap : INT QUIT TERM; trap "" TSTP; '
    # Not exec: a command that a signal ends would look as if it had ended well (systemd-run(1), "EXIT STATUS").
    '"$program" "$@"; exit $?'
)
"""The shell script that runs the command in the release that is live when it starts. It waits for the command
whatever signal comes, and ends with its exit code: 128 and the number, if a signal has ended it."""


@dataclass(frozen=True, slots=True)
class OneOff:
    """The units of one command: `scope` is the caller's, and `service`, the command's, ends with it."""

    scope: str
    service: str

    @staticmethod
    def of(app: str, number: str) -> "OneOff":
        """The units of an app's command with this number. Only one command at a time may have it."""
        return OneOff(f"{app}-run-{number}.scope", f"{app}-run-{number}.service")


def box(app: str, text: str) -> list[str]:
    """The settings NAME=VALUE for a command, from the app's unit and its drop-ins (`systemctl cat`).

    Raises: Refused(configuration), if one of them cannot be carried over.
    """
    found = list(_OWN)
    for name, value in _settings(text):
        if _LEFT.fullmatch(name):
            continue
        plain = value.replace("%%", "")
        if _SPECIFIER.search(plain):
            raise Refused(
                Code.CONFIGURATION,
                f"No command can be run in the box of {app}",
                why=f"its unit has {name}={value}, and {_SPECIFIER.findall(plain)[0]} is not known here",
                hint="Write the value itself there: systemctl edit",
            )
        found.append(f"{name}={value.replace('%%', '%')}")
    return found


def run_argv(
    units: OneOff, settings: Iterable[str], *, folder: str, command: Sequence[str], title: str, terminal: bool
) -> tuple[str, ...]:
    """What runs the command in `folder` and waits for it; with `terminal`, at a terminal of its own."""
    own = (f"BindsTo={units.scope}", f"After={units.scope}", f"WorkingDirectory={folder}", *settings)
    return (
        *("systemd-run", "--quiet", "--collect", "--wait", "--service-type=exec"),
        "--pty" if terminal else "--pipe",
        *(f"--unit={units.service}", f"--description={title}"),
        *(f"--property={setting}" for setting in own),
        # systemd.service(5): `$` would name a variable of the unit, and only a double one is a dollar.
        *("--", "/bin/sh", "-c", *(word.replace("$", "$$") for word in (SCRIPT, "sh", *command))),
    )


def scope_argv(units: OneOff, pid: int) -> tuple[str, ...]:
    """What puts a process into the scope of its command. systemd drops a scope when its last process has ended."""
    where = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
    call = ("StartTransientUnit", "ssa(sv)a(sa(sv))", units.scope, "fail", "1", "PIDs", "au", "1", str(pid), "0")
    return ("busctl", "--quiet", "call", *where, *call)


def _settings(text: str) -> Iterable[tuple[str, str]]:
    """The settings in all [Service] sections, in their order (systemd.syntax(7))."""
    section, begun = "", ""
    for line in text.splitlines():
        if line.lstrip()[:1] in ("#", ";"):
            continue
        begun += line
        if begun.endswith("\\"):
            begun = begun[:-1] + " "
            continue
        whole, begun = begun.strip(), ""
        if whole.startswith("["):
            section = whole
        elif section == "[Service]" and "=" in whole:
            name, _, value = whole.partition("=")
            yield name.strip(), value.strip()
