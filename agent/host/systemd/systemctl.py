"""Controlling systemd as an unprivileged user: by `systemctl`, as far as root's polkit rule allows it.

Invariant: nothing here changes a unit, only whether it runs. Every call has a deadline. systemd's messages are
passed on in its own words.
"""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.core.environment import CLEAN_PATH
from agent.host.run import process
from agent.host.run.runner_status import RunnerStatus, parse_status
from pusher.wire import Code, Failed

LINES = 200
"""How many lines of a unit's log are shown."""

_PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "SubState", "Result", "NeedDaemonReload", "InvocationID"),
    *("UnitFileState", "MainPID", "ExecMainCode", "ExecMainStatus", "ExecMainStartTimestampMonotonic"),
    *("DropInPaths", "StatusText"),
)
_ENVIRONMENT = {"PATH": CLEAN_PATH, "LANG": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
_QUERY_S = 15.0
_EXITED = "1"  # CLD_EXITED; others are signals (sigaction(2))
_RESULTS = {
    "oom-kill": "the kernel ended it: out of memory",
    "start-limit-hit": "it was started too often (start limit)",
    "timeout": "it did not end in time and was killed",
    "resources": "systemd could not set it up",
    "trigger-limit-hit": "it was triggered too often (trigger limit)",
    "service-start-limit-hit": "the service was started too often (start limit)",
}
_EXIT_CODES = {  # systemd.exec(5), "Process exit codes"
    200: "its working directory could not be entered",
    203: "its command could not be run",
    208: "its standard input could not be opened",
    209: "its standard output could not be opened",
    216: "its group could not be set",
    217: "its user could not be set",
    226: "its view of the file system could not be set up",
    228: "its system call filter could not be set up",
    127: "the program in its first line (#!), or one it calls, does not exist",
    126: "the program in its first line (#!), or one it calls, may not be run",
}
_ENDED = re.compile(r"process exited, code=(exited|killed|dumped), status=(\d+)/")

_BUS_LOST = (  # the words of systemctl if the bus is lost before a call, or in the middle of one
    *("connect to bus", "is not connected", "D-Bus is shutting down", "D-Bus connection terminated"),
    *("disconnected from message bus", "Connection reset by peer", "Connection timed out"),
)


@dataclass(frozen=True, slots=True)
class State:
    """A unit as systemd sees it. `started_us` is CLOCK_MONOTONIC in microseconds; `pid` 0 means no main process.

    The other members are properties of `systemctl show`; `status` is an exit code if `exited`, else a signal.
    """

    load: str
    active: str
    sub: str
    result: str
    stale: bool
    invocation: str
    pid: int
    exited: bool
    status: int
    started_us: int
    disabled: bool
    runner: RunnerStatus | None = None
    drop_ins: tuple[str, ...] = ()

    @property
    def app_pid(self) -> int:
        """The app's main process: the runner's child, or the unit's main process where there is no runner."""
        return self.runner.pid if self.runner and self.pid else self.pid

    @property
    def app_started_us(self) -> int:
        """When that process was started, as `started_us`."""
        return self.runner.started_us if self.runner and self.pid else self.started_us

    @property
    def why(self) -> str:
        """How its last main process ended, or why it did not run; for people."""
        if self.load not in ("loaded", ""):
            return "it is masked" if self.load == "masked" else f"its unit is {self.load}"
        if self.result in _RESULTS:
            return _RESULTS[self.result]
        if not self.status and not self.exited and self.result == "exit-code":
            return "a command of its unit has failed before its own (ExecStartPre=, ExecCondition=)"
        if not self.status and not self.exited:
            return f"it is {self.active} ({self.sub})"
        how = process.how_it_ended(self.status if self.exited else -self.status)
        more = _EXIT_CODES.get(self.status, "") if self.exited else ""
        return f"{how}: {more}" if more else how


def control_argv(verb: str, *units: str, wait: bool = True) -> tuple[str, ...]:
    """Start, stop, restart or reset units; with `wait`, return when that is done (systemctl(1))."""
    return ("systemctl", "--no-ask-password", *(() if wait else ("--no-block",)), verb, "--", *units)


def show_argv(*units: str) -> tuple[str, ...]:
    """Show the properties of units: a block for each, in the same order (systemctl(1))."""
    return ("systemctl", "show", f"--property={','.join(_PROPERTIES)}", "--", *units)


def host_argv() -> tuple[str, ...]:
    """Say in one word how the whole host is (systemctl(1), is-system-running)."""
    return ("systemctl", "is-system-running")


def timers_argv(*units: str) -> tuple[str, ...]:
    """List timers, with the times of their last and next run, as JSON (systemctl(1))."""
    return ("systemctl", "list-timers", "--all", "--output=json", "--", *units)


def journal_argv(invocation: str, *, since: float = 0) -> tuple[str, ...]:
    """Show the last lines of one run of a unit: its own, and systemd's about it (journalctl(1)).

    With `since` (seconds since 1970), only later ones.
    """
    return (
        *("journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={LINES}"),
        *((f"--since=@{since:.6f}",) if since else ()),
        *(f"_SYSTEMD_INVOCATION_ID={invocation}", "+", f"INVOCATION_ID={invocation}"),
    )


async def control(verb: str, *units: str, deadline_s: float, wait: bool = True) -> None:
    """Start, stop, restart or reset units. Raises: Failed(service_failed), in systemd's words."""
    try:
        ending, said = await _run(control_argv(verb, *units, wait=wait), deadline_s)
    except OSError as error:
        ending, said = error.strerror or str(error), ""
    if ending:
        raise refusal(f"systemd could not {verb} {' and '.join(units)}", said or ending)


async def states_of(*units: str) -> dict[str, State]:
    """The state of units, by name. Raises: Failed(service_failed), if systemd does not answer."""
    try:
        ending, said = await _run(show_argv(*units), _QUERY_S)
    except OSError as error:
        ending, said = error.strerror or str(error), ""
    blocks = [parse_state(block) for block in said.split("\n\n")]
    if ending or len(blocks) != len(units):
        raise refusal(f"systemd did not show the state of {' and '.join(units)}", said or ending)
    return dict(zip(units, blocks, strict=True))


async def state_of(unit: str) -> State:
    """The state of one unit. Raises: Failed(service_failed), if systemd does not answer."""
    return (await states_of(unit))[unit]


async def host_ends() -> bool:
    """Whether systemd is shutting the host down. If it does not answer, that is not said: the bus may be lost."""
    try:
        _, said = await _run(host_argv(), _QUERY_S)
    except OSError:
        return False
    return said.strip() == "stopping"


async def timers_of(*units: str) -> dict[str, tuple[int | None, int | None]]:
    """The last and the next run of timers, in ms since 1970; None where there is none.

    Raises: Failed(service_failed), if systemd does not answer.
    """
    try:
        ending, said = await _run(timers_argv(*units), _QUERY_S)
        entries = json.loads(said) if not ending else None
    except (OSError, ValueError) as error:
        ending, said, entries = str(error), "", None
    if entries is None:
        raise refusal(f"systemd did not list {' and '.join(units)}", said or ending)
    return {one["unit"]: (_ms(one.get("last")), _ms(one.get("next"))) for one in entries}


async def log_of(invocation: str, *, since_us: int = 0) -> str:
    """The last lines of one run of a unit, newline-separated; journalctl's error if they cannot be read.

    With `since_us` (CLOCK_MONOTONIC, microseconds), only those written later.
    """
    if not invocation:
        return ""
    try:
        since = time.time() - (time.monotonic() - since_us / 1e6) if since_us else 0
        _, said = await _run(journal_argv(invocation, since=since), _QUERY_S)
    except OSError as error:
        return f"journalctl cannot be run: {error.strerror}"
    return said


def end_in(log: str) -> str:
    """How a main process ended, from systemd's own log line (which is not translated); empty if there is none."""
    found = _ENDED.search(log)
    if found is None:
        return ""
    number = int(found[2])
    return process.how_it_ended(number if found[1] == "exited" else -number)


def parse_state(block: str) -> State:
    """One block of `systemctl show`: NAME=VALUE lines. A property that is missing counts as empty or 0."""
    values = dict(line.partition("=")[::2] for line in block.splitlines())
    return State(
        load=values.get("LoadState", ""),
        active=values.get("ActiveState", ""),
        sub=values.get("SubState", ""),
        result=values.get("Result", ""),
        stale=values.get("NeedDaemonReload") == "yes",
        invocation=values.get("InvocationID", ""),
        pid=_number(values, "MainPID"),
        exited=values.get("ExecMainCode") == _EXITED,
        status=_number(values, "ExecMainStatus"),
        started_us=_number(values, "ExecMainStartTimestampMonotonic"),
        disabled=values.get("UnitFileState") in ("disabled", "masked"),
        runner=parse_status(values.get("StatusText", "")),
        drop_ins=tuple(path for path in values.get("DropInPaths", "").split() if path.startswith("/etc/")),
    )


def refusal(what: str, said: str) -> Failed:
    """The message of systemctl as a problem: its first line is the reason."""
    why = " ".join(line.strip() for line in said.splitlines()[:1]).removesuffix(".")
    hints = (
        *((sign, "Is dbus running? `systemctl status dbus` as root says more") for sign in _BUS_LOST),
        ("authentication required", "`pusher-agent app apply NAME` as root writes the polkit rule"),
        ("is masked", "`systemctl unmask` it as root"),
        ("not found", "`pusher-agent app apply NAME` as root renders the units"),
    )
    hint = next((hint for sign, hint in hints if sign in said), "")
    return Failed(Code.SERVICE_FAILED, what, why=why, hint=hint)


def _number(values: Mapping[str, str], name: str) -> int:
    text = values.get(name, "")
    return int(text) if text.isdecimal() else 0


def _ms(microseconds: object) -> int | None:
    return microseconds // 1000 if isinstance(microseconds, int) and 0 < microseconds < 1 << 63 else None


async def _run(argv: tuple[str, ...], deadline_s: float) -> tuple[str, str]:
    return await process.run(argv, folder=Path("/"), environment=_ENVIRONMENT, deadline_s=deadline_s)
