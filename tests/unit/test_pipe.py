"""The pipe holds little and loses nothing, and no side waits for ever."""

import asyncio
import random
import threading
from collections.abc import Callable

import pytest

from agent.host.bundle.pipe import Pipe
from pusher.wire import Code, Failed, Problem


def _pipe(*, room: int = 1000, stall_s: float = 20, total_s: float = 60, **how: Callable[[], float]) -> Pipe:
    return Pipe(stall_s=stall_s, total_s=total_s, room=room, **how)


def _drain(pipe: Pipe, size: int = 100) -> bytes:
    parts = []
    while part := pipe.read(size):
        assert len(part) <= size
        parts.append(part)
    return b"".join(parts)


async def test_everything_fed_is_read_in_order_by_reads_of_any_size() -> None:
    pipe = _pipe()
    chance = random.Random(7)
    content = chance.randbytes(200_000)
    reading = asyncio.create_task(asyncio.to_thread(_drain, pipe, 77))
    at = 0
    while at < len(content):
        size = chance.choice([0, 1, 10, 999, 1000, 1001, 5000])
        assert await pipe.feed(content[at : at + size])
        at += size
    pipe.finish()
    assert await reading == content
    assert await asyncio.to_thread(pipe.read, 10) == b"", "the end stays the end"


async def test_a_writer_waits_while_there_is_no_room() -> None:
    pipe = _pipe(room=1000)
    assert await pipe.feed(b"x" * 1000)
    feeding = asyncio.create_task(pipe.feed(b"y" * 500))
    await asyncio.sleep(0)
    assert not feeding.done()
    assert await asyncio.to_thread(pipe.read, 2000) == b"x" * 1000
    assert await asyncio.to_thread(pipe.read, 2000) == b"y" * 500
    assert await asyncio.wait_for(feeding, 20)


async def test_no_more_than_the_room_and_a_chunk_is_ever_held() -> None:
    pipe = _pipe(room=10_000)
    fed = taken = most = 0
    pause = threading.Semaphore(0)

    def slow() -> None:
        nonlocal taken
        while part := pipe.read(500):
            taken += len(part)
            pause.acquire(timeout=0.0001)

    reading = asyncio.create_task(asyncio.to_thread(slow))
    for _ in range(200):
        fed += 1000
        await pipe.feed(bytes(1000))
        most = max(most, fed - taken)
    pipe.finish()
    await reading
    assert most <= 10_000 + 1000
    assert taken == fed


async def test_a_reader_that_wants_no_more_wakes_the_writer() -> None:
    pipe = _pipe(room=10)
    feeding = asyncio.create_task(pipe.feed(b"x" * 100))
    await asyncio.sleep(0)
    assert not feeding.done()
    await asyncio.to_thread(pipe.close)
    assert await asyncio.wait_for(feeding, 20) is False
    assert await pipe.feed(b"more") is False
    pipe.close()
    pipe.finish()


async def test_a_failure_reaches_the_reader_after_the_bytes_before_it() -> None:
    pipe = _pipe()
    await pipe.feed(b"abc")
    pipe.fail(Failed(Code.UPLOAD_BROKEN, "gone"))
    pipe.finish()  # too late to say otherwise
    assert await asyncio.to_thread(pipe.read, 10) == b"abc"
    for _ in range(2):
        with pytest.raises(Failed, match="gone"):
            await asyncio.to_thread(pipe.read, 10)


async def test_a_stalled_upload_ends_for_the_reader() -> None:
    pipe = _pipe(stall_s=0.05)
    await pipe.feed(b"abc")
    with pytest.raises(Failed) as caught:
        await asyncio.to_thread(_drain, pipe)
    assert caught.value.code is Code.UPLOAD_BROKEN
    assert caught.value.why == "nothing came for 0.05 s"


async def test_an_upload_that_trickles_for_ever_is_ended_by_the_clock() -> None:
    now = 0.0
    pipe = _pipe(total_s=60, elapsed=lambda: now)
    for second in (1.0, 59.0):
        now = second
        await pipe.feed(b"x")
        assert await asyncio.to_thread(pipe.read, 1) == b"x"
    now = 60.0
    await pipe.feed(b"x")
    with pytest.raises(Failed) as caught:
        await asyncio.to_thread(pipe.read, 1)
    assert caught.value.code is Code.TIMED_OUT
    assert "limits.total_s" in caught.value.hint


async def test_a_wait_is_cut_at_the_total_deadline() -> None:
    pipe = _pipe(stall_s=20, total_s=0.05)
    problem: Problem | None = None
    try:
        await asyncio.to_thread(pipe.read, 1)
    except Problem as error:
        problem = error
    assert problem is not None
    assert problem.code is Code.TIMED_OUT
