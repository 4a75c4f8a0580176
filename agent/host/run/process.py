"""One child process: started in its own session, read line by line, ended with all it started.

Invariant: every wait here has an end, whatever a child leaves behind. A process that left the session may hold
the output pipe open, so the pipe is closed a moment after the main process has ended. The process group is
killed as soon as the main process has ended, as systemd does with the processes of a unit.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from agent.host.ports import Lines
from pusher.wire.stream import LineSplitter

TAIL_LINES = 200
"""How many of the last lines are remembered."""
LINE_CHARACTERS = 4_000
"""A longer line is cut here."""

_OUTPUT_GRACE_S = 0.2
_CUT = " [line cut]"
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Child:
    """A started process. `pid` is also the id of its process group and session."""

    def __init__(self, transport: asyncio.SubprocessTransport, protocol: "_Protocol") -> None:
        self._transport = transport
        self._protocol = protocol
        self.pid: int = transport.get_pid()

    async def wait(self) -> str:
        """Wait until it has ended and its output is read. Returns how it ended. Never raises."""
        await asyncio.shield(self._protocol.ended)
        code = self._transport.get_returncode()
        return how_it_ended(code if code is not None else 0)

    def tail(self) -> str:
        """The last lines it wrote (at most `TAIL_LINES`), newline-separated."""
        return self._protocol.lines.tail()

    def ended(self) -> bool:
        """Whether the main process is known to have ended."""
        return self._transport.get_returncode() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the main process, unless it has ended."""
        # Not by the transport: its Popen first checks whether the process has ended, and would take the exit
        # status away from asyncio, which then makes one up.
        if not self.ended():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the whole group at once."""
        kill_group(self.pid)

    async def end(self, *, patience_s: float) -> str:
        """Send TERM to the main process; KILL the group when it has ended, or after `patience_s` seconds.

        Returns how it ended, when it is gone.
        """
        self.signal(signal.SIGTERM)
        # Not `asyncio.timeout`: in a task that was cancelled before, Python 3.11.2 does not tell its end. And most
        # of those that fail or are cancelled end what they have begun.
        ended, _ = await asyncio.wait({self._protocol.ended}, timeout=patience_s)
        if not ended:
            self.kill()
        return await self.wait()


def plain_line(raw: bytes) -> str:
    """A line that another program wrote, cut where it is too long."""
    return plain_text(raw[: 4 * LINE_CHARACTERS])[:LINE_CHARACTERS]


async def start(
    argv: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    line: Lines,
    stdin: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
) -> Child:
    """Start `argv` in its own session, with exactly this environment; every line it writes goes to `line`.

    Call it in the thread that lives as long as the agent (the event loop's): Linux sends a child the parent-death
    signal when the *thread* that forked it ends (PR_SET_PDEATHSIG(2const)). Raises: OSError.
    """
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        lambda: _Protocol(loop, line),
        *argv,
        stdin=stdin,
        pass_fds=pass_fds,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=dict(environment),
        start_new_session=True,
    )
    return Child(transport, protocol)


async def run(
    argv: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    deadline_s: float,
    line: Lines = lambda _: None,
) -> tuple[str, str]:
    """Run `argv` to its end. Returns ("" if it ended well, else how it ended; the last lines it wrote).

    After `deadline_s` seconds, or when the caller is cancelled, the whole group is killed: nothing it started
    outlives the call. Raises: OSError.
    """
    child = await start(argv, folder=folder, environment=environment, line=line)
    try:
        async with asyncio.timeout(deadline_s):
            how = await child.wait()
    except TimeoutError:
        how = f"no end after {deadline_s:g} s"
    finally:
        if not child.ended():
            child.kill()
            await child.wait()
    return ("" if how == "exit code 0" else how), child.tail()


async def until_pid_ends(pid: int) -> None:
    """Wait for the end of any process, also another user's. Returns at once if there is none (or `pid` is 0).

    A pidfd becomes readable when its process has ended (pidfd_open(2)): no polling, no right to that process.
    """
    if not pid:
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def how_it_ended(returncode: int) -> str:
    """A return code of `subprocess` in words: "exit code 3", "signal 9 (KILL)"."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {-returncode} ({signal.Signals(-returncode).name.removeprefix('SIG')})"
    except ValueError:
        return f"signal {-returncode}"


def kill_group(group: int) -> None:
    """KILL every process of the group. Nothing happens if there is none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def plain_text(raw: bytes) -> str:
    """Output made safe to show: UTF-8 with replacements, terminal controls removed."""
    text = raw.decode(errors="replace")
    return text if text.isprintable() else _ESCAPES.sub("", text)


class OutputLines:
    """Bytes in, whole lines out: UTF-8 with replacements, terminal controls removed, long lines cut."""

    def __init__(self, line: Lines) -> None:
        self._line = line
        self._last: deque[str] = deque(maxlen=TAIL_LINES)
        self._splitter = LineSplitter(4 * LINE_CHARACTERS)  # a character has at most four bytes

    def feed(self, data: bytes) -> None:
        """Pass on the lines that end in `data`."""
        for raw in self._splitter.feed(data):
            self._emit(raw)

    def close(self) -> None:
        """Pass on what came after the last newline."""
        if rest := self._splitter.end():
            self._emit(rest)

    def tail(self) -> str:
        """The last lines (at most `TAIL_LINES`), newline-separated."""
        return "\n".join(self._last)

    def _emit(self, raw: bytes) -> None:
        text = plain_text(raw)
        if len(text) > LINE_CHARACTERS:
            text = text[:LINE_CHARACTERS] + _CUT
        self._last.append(text)
        self._line(text)


class _Protocol(asyncio.SubprocessProtocol):
    def __init__(self, loop: asyncio.AbstractEventLoop, line: Lines) -> None:
        self.lines = OutputLines(line)
        self.ended: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._open = True
        self._alive = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.lines.feed(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open = False
        if not self._alive:
            self._finish()

    def process_exited(self) -> None:
        self._alive = False
        kill_group(self._transport.get_pid())
        if self._open:
            self._loop.call_later(_OUTPUT_GRACE_S, self._finish)
        else:
            self._finish()

    def _finish(self) -> None:
        if not self.ended.done():
            self.lines.close()
            self._transport.close()
            self.ended.set_result(None)
