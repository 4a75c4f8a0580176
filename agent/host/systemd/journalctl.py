"""The log of an app under systemd: the entries of its units, read from `journalctl` as they come.

Invariant: entries that are not read stay in journalctl's pipe, so a slow reader holds up nothing and fills no
memory. journalctl ends with its reader, however that ends. The agent may read the whole journal (group
`systemd-journal`), so the units are never a caller's words, only the app's own names.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, SubprocessError, run
from typing import Any, cast

from agent.core.config.app import AppConfig
from agent.core.environment import CLEAN_PATH
from agent.core.processes import instances, unit_of
from agent.core.units import AGENT, Units
from agent.host.run.process import how_it_ended, kill_group, plain_text
from pusher.wire import PRIORITY, Code, Failed, Head, LogLine, LogUnit
from pusher.wire.stream import LineSplitter

_ENVIRONMENT = {"PATH": CLEAN_PATH, "LANG": "C.UTF-8"}
_MACHINE = Path("/etc/machine-id")
_PIECE = 64 * 1024
_ENTRY_BYTES = 1024 * 1024
_MESSAGE_CHARACTERS = 64 * 1024
_CUT = " [cut]"
_FIELDS = ("MESSAGE", "PRIORITY", "_PID", "_SYSTEMD_UNIT", "UNIT", "OBJECT_SYSTEMD_UNIT", "COREDUMP_UNIT")


def log_argv(*units: str, lines: int, follow: bool, machine: str) -> tuple[str, ...]:
    """Show the last `lines` entries of and about these units; with `follow`, new ones too (journalctl(1)).

    `machine` is the id of this machine (machine-id(5)): entries of others are left out.
    """
    return (
        # With --follow alone, journalctl needs the id of this boot, which the agent cannot see (ProcSubset=pid).
        # With --merge it does not, but would include entries that were collected from other machines.
        *("journalctl", "--merge", f"_MACHINE_ID={machine}"),
        # Without --all, journalctl leaves out every field longer than 4,096 bytes.
        *("--quiet", "--no-pager", "--all", "--output=json", f"--output-fields={','.join(_FIELDS)}"),
        *(f"--lines={lines}", *(("--follow",) if follow else ())),
        *(f"--unit={unit}" for unit in units),
    )


def heads_argv(*, since: int = 0, most: int = 2_000) -> tuple[str, ...]:
    """Show the last entries in which the agent named the head of a history (journalctl(1)).

    Those from before `since` (seconds since 1970) are left out.

    `_SYSTEMD_UNIT` is set by journald: no other unit can write such an entry (systemd.journal-fields(7)).
    """
    return (
        *("journalctl", "--quiet", "--no-pager", "--all", "--output=json", f"--lines={most}", f"--since=@{since}"),
        *("--output-fields=APP,RECORDS,HISTORY", f"_SYSTEMD_UNIT={AGENT}.service"),
        *("EVENT=deployment_committed", "EVENT=deployment_finished"),
    )


def logged_heads(*, since: int = 0, environment: Mapping[str, str] = _ENVIRONMENT) -> dict[str, list[Head]]:
    """The heads of each app's history that the system's journal has, oldest first. Blocking.

    None if it cannot be asked. A user who may not read it sees nothing in it.
    """
    try:
        done = run(
            heads_argv(since=since), stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=dict(environment), timeout=30
        )
    except (OSError, SubprocessError):
        return {}
    found: dict[str, list[Head]] = {}
    for line in done.stdout.splitlines():
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            head = Head.from_members({"records": int(entry["RECORDS"]), "head": entry["HISTORY"]})
            found.setdefault(str(entry["APP"]), []).append(head)
    return found


def units_of(app: str, config: AppConfig) -> dict[str, str]:
    """The units of an app, and what each is called in its log."""
    units = Units.of(app)
    beside = [*(one.name for one in instances(config)), *config.timers]
    return {
        units.service: LogUnit.SERVICE,
        units.socket: LogUnit.SOCKET,
        units.preflight: LogUnit.PREFLIGHT,
        units.preflight_socket: LogUnit.PREFLIGHT,
        units.hook: LogUnit.HOOK,
        **{unit_of(app, name): name for name in beside},
    }


async def journal_of(
    app: str,
    config: AppConfig,
    *,
    lines: int,
    follow: bool,
    unit: str = "",
    environment: Mapping[str, str] = _ENVIRONMENT,
) -> AsyncIterator[LogLine]:
    """The log of an app, as `Service.log`. Closing it ends journalctl. Raises: Failed(service_failed)."""
    names = {name: part for name, part in units_of(app, config).items() if unit in ("", part)}
    try:
        machine = (await asyncio.to_thread(_MACHINE.read_text)).strip()
        argv = log_argv(*names, lines=lines, follow=follow, machine=machine)
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=dict(environment), start_new_session=True
        )
    except OSError as error:
        raise _unreadable(app, str(error)) from error
    out, errors = cast(asyncio.StreamReader, process.stdout), cast(asyncio.StreamReader, process.stderr)
    try:
        async for raw in _lines(out):
            if (line := parse_entry(raw, units=names)) is not None:
                yield line
        said = plain_text(await errors.read(_PIECE)).strip()
        code = await process.wait()
    finally:
        if process.returncode is None:
            kill_group(process.pid)  # not by its own `kill`: see process.Child.signal
            while await out.read(_PIECE):
                pass  # while its pipe is full, asyncio does not see it end
            await process.wait()
    if code:
        raise _unreadable(app, said.partition("\n")[0] or how_it_ended(code))


def parse_entry(raw: bytes, *, units: Mapping[str, str]) -> LogLine | None:
    """A line of `journalctl --output=json`; None if it is no entry with a message.

    Format: systemd's "Journal JSON Format". A field is a string; an array of numbers if it is not printable UTF-8;
    an array of those if it was given several times; null if it is too long.
    """
    try:
        members = json.loads(raw)
        time = int(members["__REALTIME_TIMESTAMP"]) // 1000
    except (ValueError, KeyError, TypeError):
        return None
    message = _text(members.get("MESSAGE"))
    if message is None:
        return None
    if len(message) > _MESSAGE_CHARACTERS:
        message = message[:_MESSAGE_CHARACTERS] + _CUT
    named = (members.get(name) for name in ("_SYSTEMD_UNIT", "UNIT", "OBJECT_SYSTEMD_UNIT", "COREDUMP_UNIT"))
    # A process can write the last three itself. That is harmless: journalctl has already chosen by the writer.
    unit = next((units[name] for name in named if isinstance(name, str) and name in units), LogUnit.SERVICE)
    priority, pid = _number(members.get("PRIORITY")), _number(members.get("_PID"))
    return LogLine(time, unit, message, priority=PRIORITY if priority is None else priority, pid=pid)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines without their newline; a line that is too long is left out. `readline` would raise at one."""
    splitter = LineSplitter(_ENTRY_BYTES)
    while piece := await stream.read(_PIECE):
        for line in splitter.feed(piece):
            if len(line) <= _ENTRY_BYTES:
                yield line


def _text(field: Any) -> str | None:
    if isinstance(field, str):
        return plain_text(field.encode(errors="replace"))
    if isinstance(field, list) and all(isinstance(one, int) for one in field):
        return plain_text(bytes(one & 0xFF for one in field))
    if isinstance(field, list):
        return "\n".join(text for one in field if (text := _text(one)) is not None)
    return None


def _number(field: Any) -> int | None:
    return int(field) if isinstance(field, str) and field.isdecimal() else None


def _unreadable(app: str, why: str) -> Failed:
    return Failed(
        Code.SERVICE_FAILED,
        f"The log of {app} cannot be read",
        why=why,
        hint="Make the agent's user a member of group systemd-journal",
    )
