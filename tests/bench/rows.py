"""What is measured: a function a row, each on a host of its own.

Invariant: a ratio compares two things that were measured in turn, a pair a round, so that whatever else the
machine does falls on both.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from tests.bench.booted import booted
from tests.bench.following import following
from tests.bench.looks import looks
from tests.bench.pauses import pause, server_pause
from tests.bench.place import BIN, Place, run
from tests.bench.ports import port
from tests.bench.results import Bench, Result
from tests.bench.servers import servers
from tests.bench.siege import server_siege

_MB = 10**6
_LARGE_FILES, _LARGE_BYTES = 4, 250 * _MB
_STATIC_FILES, _STATIC_BYTES = 100, 2 * _MB
_MANY_FOLDERS, _MANY_FILES, _MANY_BYTES = 100, 100, 20_000
# Nobody rolls back before a candidate has gone.
_AFTERWARDS_S = 3
_PAST_DEPLOYMENTS = 10_000
_AT_REST = 60 * _MB
# The watchdog is fed every 10 to 15 s, with a wake-up or two.
_SETTLED_S, _REST_S, _WAKES_MOST = 15, 60, 12


def send(bench: Bench) -> Iterator[Result]:
    """pusher send v2, dependencies unchanged | gunicorn -w 2 -b 127.0.0.1:PORT app:app, to its first answer"""
    with bench.place("send") as place:
        place.send("v1")
        place.gunicorn()

        def one(turn: int) -> float:
            return place.send(("v2", "v3")[turn % 2]).seconds

        yield _compared(
            "send, dependencies unchanged", one, "gunicorn alone", lambda _: place.gunicorn(), 4, bench.rounds
        )


def rollback(bench: Bench) -> Iterator[Result]:
    """curl -X POST http://127.0.0.1:PORT/rollback | gunicorn -w 2 -b 127.0.0.1:PORT app:app, to its first one"""
    with bench.place("rollback") as place:
        place.send("v1")
        place.gunicorn()

        def one(_: int) -> float:
            place.send("v2")
            return place.roll_back().seconds

        yield _compared("rollback", one, "gunicorn alone", lambda _: place.gunicorn(), 2.5, bench.rounds)


def large(bench: Bench) -> Iterator[Result]:
    """pusher send FOLDER, 1 GB of random bytes in 4 files | VmHWM of the agent; ru_maxrss of the CLI"""
    with bench.place("large") as place:
        place.send("v1")
        tree = _tree(place, "large")
        for number in range(_LARGE_FILES):
            with (tree / f"blob{number}").open("wb") as file:
                for _ in range(_LARGE_BYTES // _MB):
                    file.write(os.urandom(_MB))
        place.forget_agent_peak()
        cost = place.send("large")
        peak = place.agent_memory("VmHWM")
        size = f"{_LARGE_FILES * _LARGE_BYTES / 10**9:g} GB"
        yield Result(
            f"a release of {size}: the agent's memory", _size(peak), goal="< 100 MB", met=peak < 100 * _MB
        )
        cli = cost.peak_bytes
        yield Result(f"a release of {size}: the CLI's memory", _size(cli), goal="< 150 MB", met=cli < 150 * _MB)
        yield Result(f"a release of {size}: time", f"{cost.seconds:.1f} s")


def many(bench: Bench) -> Iterator[Result]:
    """pusher send FOLDER, 10,000 files of 20 KB, one of them changed since | cp -a TREE COPY && sync -f COPY"""
    with bench.place("many") as place:
        tree = _tree(place, "many")
        for folder in range(_MANY_FOLDERS):
            (tree / f"d{folder:02}").mkdir()
            for number in range(_MANY_FILES):
                (tree / f"d{folder:02}/f{number:02}").write_bytes(os.urandom(_MANY_BYTES))
        place.send("many")

        def one(turn: int) -> float:
            (tree / f"d{turn % _MANY_FOLDERS:02}/f00").write_bytes(os.urandom(_MANY_BYTES))
            run("sync", "-f", tree)
            return place.send("many").seconds

        def other(_: int) -> float:
            copy = bench.folder / "many/copy"
            run("sync", "-f", tree)
            seconds = run("cp", "-a", tree, copy).seconds + run("sync", "-f", copy).seconds
            shutil.rmtree(copy)
            return seconds

        what = "10,000 files, one changed"
        yield _compared(f"{what}: time", one, "cp -a, sync", other, 2.5, bench.rounds)
        (tree / "d00/f01").write_bytes(os.urandom(_MANY_BYTES))
        with place.counted() as (address, count):
            place.send("many", to=address)
            travelled = count()
        most = _MANY_BYTES + place.index_bytes()
        total = _MANY_FOLDERS * _MANY_FILES * _MANY_BYTES
        yield Result(
            f"{what}: bytes that travel", f"{_size(travelled)} of {_size(total)}",
            goal="that file, index", met=travelled < most,
        )  # fmt: skip


def science(bench: Bench) -> Iterator[Result]:
    """pusher send, first time: numpy, pandas, scikit-learn, 200 MB of files | uv pip install, cp -a, sync"""
    # In turn, each with an empty cache of packages: what a first send downloads, the other downloads too.
    with bench.place("science") as place:
        place.send("v1")
        tree = _tree(place, "science")
        (tree / "requirements.txt").write_text("flask\ngunicorn\nnumpy\npandas\nscikit-learn\n")
        (tree / "static").mkdir()
        for number in range(_STATIC_FILES):
            (tree / f"static/{number}").write_bytes(os.urandom(_STATIC_BYTES))
        other, cache = bench.folder / "science/other", bench.folder / "science/cache"
        uv = (BIN / "uv", "--cache-dir", cache, "--no-config", "--quiet")
        run(*uv, "venv", "--python", "/usr/bin/python3", other)
        packages = ("pip", "install", "--python", other / "bin/python", "--link-mode", "copy", "-r")
        seconds = run(*uv, *packages, tree / "requirements.txt").seconds
        copying = run("cp", "-a", tree, bench.folder / "science/copy").seconds + run("sync").seconds
        place.forget_packages()
        cost = place.send("science")
        ratio = cost.seconds / (seconds + copying)
        yield Result(
            "first send of numpy, pandas, scikit-learn and 200 MB", f"{cost.seconds:.1f} s",
            f"uv pip install {seconds:.1f} s, cp -a, sync {copying:.1f} s",
            f"{ratio:.1f} x", "<= 1.1 x", ratio <= 1.1,
        )  # fmt: skip
        (tree / "app.py").write_text((tree / "app.py").read_text() + "# changed\n")
        with place.counted() as (address, count):
            place.send("science", to=address)
            travelled = count()
        yield Result(
            "the same with one file changed: bytes that travel", f"{travelled / 1000:.1f} kB",
            goal="< 10 kB", met=travelled < 10_000,
        )  # fmt: skip


def version(bench: Bench) -> Iterator[Result]:
    """pusher --version | python -c pass"""
    run(BIN / "pusher", "--version")
    yield _compared(
        "pusher --version", lambda _: run(BIN / "pusher", "--version").seconds,
        "python -c pass", lambda _: run(BIN / "python", "-c", "pass").seconds, 4, 3 * bench.rounds,
    )  # fmt: skip


def rest(bench: Bench) -> Iterator[Result]:
    """VmRSS of the agent, one app live, nothing going on"""
    with bench.place("rest") as place:

        def now(when: str) -> Result:
            memory = place.agent_memory("VmRSS")
            return Result(
                f"the agent's memory at rest: {when}",
                _size(memory),
                goal=f"< {_size(_AT_REST)}",
                met=memory < _AT_REST,
            )

        yield now("just started")
        place.send("v1")
        place.send("v2")
        yield now("after two deployments")


def scrape(bench: Bench) -> Iterator[Result]:
    """GET /metrics with 10,000 deployments in the journal; VmRSS before and after"""
    with bench.place("scrape") as place:
        place.send("v1")
        place.remember(_PAST_DEPLOYMENTS)
        before = place.agent_memory("VmRSS")
        yield Result("the first scrape of an agent", _spread([place.scrape()]))
        yield Result(f"a scrape, {_PAST_DEPLOYMENTS} deployments", _spread([place.scrape() for _ in range(100)]))
        after = place.agent_memory("VmRSS")
        yield Result(
            "the agent's memory before the first scrape, and after 100", f"{_size(before)}, {_size(after)}"
        )


def server_send(bench: Bench) -> Iterator[Result]:
    """pusher send v2, by SSH to a booted host | rsync, pip install -r, ln, mv, systemctl restart, poll"""
    with booted(bench.folder / "server_send", cache=bench.cache) as place:

        def one(turn: int) -> float:
            return place.send(("v2", "v3")[turn % 2])

        def other(turn: int) -> float:
            return place.push(("v2", "v3")[turn % 2])

        yield _compared("server: send over SSH", one, "a script", other, 1.2, bench.rounds)


def server_rollback(bench: Bench) -> Iterator[Result]:
    """pusher rollback, by SSH to a booted host; then with `preflight = false` | ln, mv, systemctl restart, poll"""
    with booted(bench.folder / "server_rollback", cache=bench.cache) as place:

        def one(_: int) -> float:
            place.send("v2")
            time.sleep(_AFTERWARDS_S)
            return place.roll_back()

        def other(_: int) -> float:
            place.push("v2")
            time.sleep(_AFTERWARDS_S)
            return place.pull_back()

        yield _compared("server: rollback over SSH", one, "a script", other, 1.2, bench.rounds)
        place.skip_preflight()
        yield _compared("server: the same, no preflight", one, "a script", other, 1.2, bench.rounds)


def server_rest(bench: Bench) -> Iterator[Result]:
    """The agent of a booted host, an app live and nothing going on: VmRSS, voluntary_ctxt_switches in a minute"""
    with booted(bench.folder / "server_rest", cache=bench.cache) as place:
        place.send("v2")
        time.sleep(_SETTLED_S)
        before, asleep = place.agent("voluntary_ctxt_switches"), place.runner("voluntary_ctxt_switches")
        time.sleep(_REST_S)
        woken = place.agent("voluntary_ctxt_switches") - before
        runner_woken = place.runner("voluntary_ctxt_switches") - asleep
        memory = place.agent("VmRSS") * 1024
        yield Result(
            "server: the agent's memory at rest", _size(memory), goal=f"< {_size(_AT_REST)}", met=memory < _AT_REST
        )
        yield Result(
            f"server: wake-ups at rest in {_REST_S} s",
            str(woken),
            goal=f"< {_WAKES_MOST}",
            met=woken < _WAKES_MOST,
        )
        memory = place.runner("VmRSS") * 1024
        yield Result("server: the runner's memory", _size(memory), goal="< 12 MB", met=memory < 12 * _MB)
        woken_text = str(runner_woken)
        yield Result(f"server: its wake-ups in {_REST_S} s", woken_text, goal="0", met=not runner_woken)


def server_connection(bench: Bench) -> Iterator[Result]:
    """pusher status with keep_open_s = 60, by SSH to a booted host | the same with a connection of its own"""
    with booted(bench.folder / "server_connection", cache=bench.cache) as place:
        place.ask(keep_open_s=60)
        kept, own = (lambda _: place.ask(keep_open_s=60)), (lambda _: place.ask(keep_open_s=0))
        yield _compared("server: status, connection kept open", kept, "its own", own, 1, bench.rounds)


def server_boot(bench: Bench) -> Iterator[Result]:
    """Reboot a host with an app that is live: from the start of process 1 to the first answer of the app"""
    with booted(bench.folder / "server_boot", cache=bench.cache) as place:
        seconds = [place.first_answer() for _ in range(bench.rounds)]
        yield Result("server: first answer after a reboot", _spread(seconds))


ROWS: dict[str, Callable[[Bench], Iterator[Result]]] = {
    row.__name__: row
    for row in (
        send,
        rollback,
        large,
        many,
        science,
        version,
        rest,
        scrape,
        following,
        looks,
        pause,
        servers,
        port,
        server_send,
        server_rollback,
        server_rest,
        server_connection,
        server_boot,
        server_pause,
        server_siege,
    )
}


def _compared(
    what: str, one: Callable[[int], float], than: str, other: Callable[[int], float], goal: float, rounds: int
) -> Result:
    """Measure both in turn; the goal is held against the median of the rounds' ratios."""
    pairs = [(one(turn), other(turn)) for turn in range(rounds)]
    ratios = [mine / theirs for mine, theirs in pairs]
    return Result(
        what,
        _spread([mine for mine, _ in pairs]),
        f"{than} {_spread([theirs for _, theirs in pairs])}",
        f"{median(ratios):.1f} x ({min(ratios):.1f} .. {max(ratios):.1f})",
        f"<= {goal:g} x",
        median(ratios) <= goal,
    )


def _spread(seconds: list[float]) -> str:
    unit, by = ("s", 1) if median(seconds) >= 0.1 else ("ms", 1000)
    digits = 2 if by == 1 else 0
    middle, least, most = (f"{one * by:.{digits}f}" for one in (median(seconds), min(seconds), max(seconds)))
    return f"{middle} {unit} ({least} .. {most})"


def _size(size: int) -> str:
    return f"{size / _MB:.1f} MB"


def _tree(place: Place, name: str) -> Path:
    """A copy of the sample app that says `name` is its version, for more files to be laid into."""
    tree = place.sources / name
    shutil.copytree(place.sources / "v1", tree)
    app = tree / "app.py"
    app.write_text(app.read_text().replace('"v1"', f'"{name}"'))
    return tree
