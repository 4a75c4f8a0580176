"""A bounded pipe from the event loop to a worker thread: an upload goes in, a blocking reader takes it out.

Invariant: no more than `room` bytes (and one chunk) wait in between, and neither side waits for ever. The reader
ends with a problem if nothing comes; the writer learns when the reader wants no more.

Why not a lock or an OS pipe: the loop must never wait for a lock that a thread holds, and a pipe of the system
copies every byte twice more. Only the loop counts the waiting bytes; the thread reports to it what it consumed.
"""

import asyncio
import queue
import time
from collections.abc import Callable

from pusher.wire import Code, Failed, Problem

ROOM = 4 * 1024 * 1024
"""How many bytes may wait between writer and reader."""
_REPORT = 256 * 1024


class Pipe:
    """One writer in the loop, one reader in a thread. Make it in the loop.

    `stall_s` is the longest wait for the next byte, `total_s` the longest time from now to the last one, both in
    seconds. `elapsed` is a clock in seconds that never goes back.
    """

    def __init__(
        self,
        *,
        stall_s: float,
        total_s: float,
        room: int = ROOM,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[bytes | Problem | None] = queue.SimpleQueue()
        self._stall_s, self._total_s, self._room = stall_s, total_s, room
        self._elapsed, self._deadline = elapsed, elapsed() + total_s
        # The loop's side.
        self._held = 0
        self._ended = False
        self._wanted = True
        self._moved = asyncio.Event()
        # The thread's side.
        self._chunk = b""
        self._at = 0
        self._consumed = 0
        self._end: Problem | None = None
        self._at_end = False

    async def feed(self, chunk: bytes) -> bool:
        """Pass a chunk on and wait for room. False: the reader wants no more, and the chunk is dropped."""
        if chunk and self._wanted:
            self._held += len(chunk)
            self._queue.put(chunk)
        while self._wanted and self._held > self._room:
            self._moved.clear()
            await self._moved.wait()
        return self._wanted

    def finish(self) -> None:
        """Everything was fed: the reader comes to a regular end. Idempotent."""
        self._put_end(None)

    def fail(self, problem: Problem) -> None:
        """No more will come: the reader raises `problem` when it has read what was fed."""
        self._put_end(problem)

    def read(self, size: int) -> bytes:
        """At least one and at most `size` bytes; none at the end. For the thread: it blocks.

        Raises: Failed(upload_broken) if nothing came for `stall_s`, Failed(timed_out) after `total_s`, and the
        problem that `fail` was given.
        """
        if self._at >= len(self._chunk) and not self._at_end:
            self._next()
        if self._end is not None:
            raise self._end
        part = self._chunk[self._at : self._at + size]
        self._at += len(part)
        return part

    def close(self) -> None:
        """The reader wants no more: wake the writer. From any thread. Idempotent."""
        self._loop.call_soon_threadsafe(self._stop_wanting)

    def _put_end(self, end: Problem | None) -> None:
        if not self._ended:
            self._ended = True
            self._queue.put(end)

    def _next(self) -> None:
        """The next chunk, or the end. Reports what was consumed before it waits: the writer may wait for that."""
        self._consumed += len(self._chunk)
        self._chunk, self._at = b"", 0
        if self._consumed >= min(_REPORT, self._room) or (self._consumed and self._queue.empty()):
            self._loop.call_soon_threadsafe(self._report, self._consumed)
            self._consumed = 0
        left = self._deadline - self._elapsed()
        try:
            item = self._queue.get(timeout=max(0.0, min(self._stall_s, left)))
        except queue.Empty:
            item = self._stalled() if self._stall_s < left else self._late()
        if left <= 0:
            item = self._late()
        if isinstance(item, bytes):
            self._chunk = item
        else:
            self._end, self._at_end = item, True

    def _stalled(self) -> Failed:
        return Failed(
            Code.UPLOAD_BROKEN,
            "The bundle did not arrive whole",
            why=f"nothing came for {self._stall_s:g} s",
            hint="Send it again",
        )

    def _late(self) -> Failed:
        return Failed(
            Code.TIMED_OUT,
            "The bundle did not arrive in time",
            why=f"it took more than {self._total_s:g} s",
            hint="Send it over a faster connection, or raise limits.total_s in agent.toml",
        )

    def _report(self, consumed: int) -> None:
        self._held -= consumed
        self._moved.set()

    def _stop_wanting(self) -> None:
        self._wanted = False
        self._moved.set()
