"""The runner of an app as a child of the agent: what it says, and the app's process that it started.

Invariant: only the runner's own socket is believed. The app does not get it.
"""

import asyncio
import signal
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

from agent.host.run import process
from agent.host.run.process import Child, until_pid_ends
from agent.host.run.runner_status import RunnerStatus, parse_status

_GRACE_S = 2.0
_MESSAGE_BYTES = 65_536


class RunnerProcess:
    """A started runner. Make one with its socket, then `attach` the child that has the other end of it."""

    def __init__(self) -> None:
        self.status: RunnerStatus | None = None
        self.tail: deque[str] = deque(maxlen=process.TAIL_LINES)
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours.setblocking(False)
        self._ready = asyncio.Event()
        self._news = asyncio.Event()

    def attach(self, child: Child) -> None:
        """`child` is the runner. It is read from now on."""
        self.child = child
        self.theirs.close()
        asyncio.get_running_loop().add_reader(self._ours.fileno(), self._read)
        self._ended = asyncio.create_task(self._end_with_it())

    def close(self) -> None:
        """Forget a runner that could not be started."""
        self.theirs.close()
        self._ours.close()

    async def ready(self, *, deadline_s: float) -> RunnerStatus | None:
        """What it says when its start or reload is over; None if it has ended, or does not say it in time."""
        waiting = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({waiting, self._ended}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        return self.status if self._ready.is_set() else None

    def ended(self) -> bool:
        """Whether it has ended, and all that it said has been read."""
        return self._ended.done()

    async def reload(self, *, deadline_s: float) -> RunnerStatus | None:
        """Have it change over; as `ready`. Only one reload at a time."""
        self._ready.clear()
        self.tail = deque(maxlen=process.TAIL_LINES)
        self.child.signal(signal.SIGHUP)
        return await self.ready(deadline_s=deadline_s)

    async def next_status(self) -> None:
        """Wait until it says something, or has ended."""
        news = asyncio.create_task(self._news.wait())
        await asyncio.wait({news, self._ended}, return_when=asyncio.FIRST_COMPLETED)
        news.cancel()

    def _read(self) -> None:
        try:
            message = self._ours.recv(_MESSAGE_BYTES).decode(errors="replace")
        except OSError:
            return
        for line in message.splitlines():
            if line.startswith("STATUS="):
                self.status = parse_status(line.removeprefix("STATUS=")) or self.status
        if "READY=1" in message.splitlines():
            self._ready.set()
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _end_with_it(self) -> None:
        await self.child.wait()
        asyncio.get_running_loop().remove_reader(self._ours.fileno())
        while True:  # what it said before it ended
            try:
                if not self._ours.recv(_MESSAGE_BYTES, socket.MSG_PEEK):
                    break
                self._read()
            except OSError:
                break
        self._ours.close()
        if self.status:  # a killed runner could not end it
            process.kill_group(self.status.pid)


class AppProcess:
    """The app's main process beneath its runner; as `process.Child`."""

    def __init__(self, runner: RunnerProcess, pid: int, *, gone: Callable[[int], Awaitable[None]]) -> None:
        self.runner = runner
        self.pid = pid
        self._tail = runner.tail
        self._gone = gone
        self._over = asyncio.create_task(self._until_over())

    async def wait(self) -> str:
        """Wait until it has ended; says how, as the runner ends the same way. Never raises."""
        return await asyncio.shield(self._over)

    def tail(self) -> str:
        """The last lines written since it was started, newline-separated."""
        return "\n".join(self._tail)

    def ended(self) -> bool:
        """Whether it is known to have ended."""
        return self._over.done() or self.runner.child.ended()

    async def end(self, *, patience_s: float) -> str:
        """End the runner, and so the app: the runner itself kills what does not end in time."""
        if not self._over.done():
            await self.runner.child.end(patience_s=patience_s + _GRACE_S)
        return await self.wait()

    async def _until_over(self) -> str:
        with suppress(OSError):  # without a descriptor left, what the runner says must do
            await until_pid_ends(self.pid)
        await self._gone(self.pid)
        while not self.runner.ended():
            if self.runner.status is not None and self.runner.status.pid != self.pid:
                return "another release took its place"
            await self.runner.next_status()  # its end is known before the runner has said what it means
        how = await self.runner.child.wait()
        await self._gone(self.runner.child.pid)
        return how
