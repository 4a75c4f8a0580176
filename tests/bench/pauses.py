"""What visitors notice of a change of releases: the longest wait for an answer, and answers that never came.

Invariant: every visitor comes on a fresh connection, at an even pace. How late a visitor came, because the machine
was busy, is not counted as a wait, but it is shown: a machine that cannot keep the pace measures nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.booted import booted
from tests.bench.place import Unmeasured
from tests.bench.results import Bench, Result
from tests.system import versions
from tests.system.load import Visitors

PER_SECOND = 200
_GOAL_S = 0.05
_AROUND_S = 0.5
_ALONE_S = 15
_SLOW = """
import time
time.sleep(3)
"""
_BUSY = """
import time
_until = time.thread_time() + 1
while time.thread_time() < _until:
    pass
"""
_IMPORTS = (("sleeps", "an import that waits for 3 s"), ("computes", "an import that computes for 1 s"))
_SLOWLY = """

@app.get("/slow")
def slow() -> dict[str, str]:
    time.sleep(6)
    return {"version": VERSION}
"""


@dataclass(slots=True)
class _Change:
    """One send or rollback under visitors."""

    longest_s: float
    behind_s: float
    failed: int
    answered: int


def server_pause(bench: Bench) -> Iterator[Result]:
    """pusher send and pusher rollback to a booted host, 200 visitors/s, two kinds of import, a request of 6 s"""
    with booted(bench.folder / "server_pause", cache=bench.cache) as place:
        place.be_patient()
        source = _versions(bench.folder / "server_pause/source")
        for name, what in _IMPORTS:
            place.send(f"{name}1", source=source)

            def send(turn: int, name: str = name) -> None:
                place.send(f"{name}{turn % 2 + 2}", source=source)

            def back(_: int) -> None:
                place.roll_back()

            changes = _changes(place.address, 8000, (send, back), bench.rounds)
            yield from _results(f"server: {what}", changes)


def pause(bench: Bench) -> Iterator[Result]:
    """The same without systemd: pusher send and curl .../rollback, the agent is the parent of the app"""
    with bench.place("pause") as place:
        source = _versions(bench.folder / "pause/source")
        for name, what in _IMPORTS:
            place.send(source / f"{name}1")

            def send(turn: int, name: str = name) -> None:
                place.send(source / f"{name}{turn % 2 + 2}")

            def back(_: int) -> None:
                place.roll_back()

            changes = _changes("127.0.0.1", place.port, (send, back), bench.rounds)
            yield from _results(f"embedded: {what}", changes)


def _versions(folder: Path) -> Path:
    for name, before in (("sleeps", _SLOW), ("computes", _BUSY)):
        for number in (1, 2, 3):
            versions.write(folder, f"{name}{number}", before=before, after=_SLOWLY)
    return folder


def _changes(address: str, port: int, what: Sequence[Callable[[int], None]], rounds: int) -> list[_Change]:
    """What visitors noticed of each change, and last, with the longest of all pauses, of as long without one."""

    async def measure() -> list[_Change]:
        found = []
        for turn in range(rounds):
            for change in what:
                visitors = Visitors(address, port, "/version", per_second=PER_SECOND)
                async with _long_request(address, port), visitors:
                    await asyncio.sleep(_AROUND_S)
                    await asyncio.to_thread(change, turn)
                    await asyncio.sleep(_AROUND_S)
                found.append(_noticed(visitors))
        visitors = Visitors(address, port, "/version", per_second=PER_SECOND)
        async with visitors:
            await asyncio.sleep(_ALONE_S)
        return [*found, _noticed(visitors)]

    return asyncio.run(measure())


def _noticed(visitors: Visitors) -> _Change:
    good = sum(count for ending, count in visitors.endings.items() if ending.startswith("200 "))
    failed = sum(visitors.endings.values()) - good
    return _Change(visitors.longest_s, visitors.behind_s, failed, good)


@asynccontextmanager
async def _long_request(address: str, port: int) -> AsyncIterator[None]:
    """A request of 6 s is under way when the block begins. Raises: Unmeasured, if it is not answered."""
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(b"GET /slow HTTP/1.0\r\nHost: x\r\n\r\n")
    await writer.drain()
    try:
        yield
        answer = await asyncio.wait_for(reader.read(), 30)
        if b'"version"' not in answer:
            raise Unmeasured(f"the request of 6 s got {answer!r}")
    finally:
        writer.close()


def _results(what: str, changes: list[_Change]) -> Iterator[Result]:
    *changes, alone = changes
    longest = sorted(one.longest_s for one in changes)
    failed, answered = sum(one.failed for one in changes), sum(one.answered for one in changes)
    behind = max(one.behind_s for one in changes)
    yield Result(
        f"{what}: longest wait",
        f"{longest[-1] * 1000:.0f} ms (median {median(longest) * 1000:.0f}, least {longest[0] * 1000:.0f})",
        f"without a change {alone.longest_s * 1000:.0f} ms; visitors came {behind * 1000:.0f} ms late at most",
        goal=f"<= {_GOAL_S * 1000:.0f} ms",
        met=longest[-1] <= _GOAL_S,
    )
    measured = f"{failed} of {answered + failed} in {len(changes)} changes"
    yield Result(f"{what}: failed", measured, goal="0", met=not failed)
