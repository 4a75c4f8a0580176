"""What each server makes of a reload under the runner: connections it drops, and the longest wait for an answer.

Invariant: the runner is the product's own, and so is the way it is asked; only the agent is left out.
"""

import contextlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.place import Unmeasured
from tests.bench.results import Bench, Result
from tests.deploy.runner_place import RunnerPlace, alive, until
from tests.deploy.servers import APP, PER_SECOND, SERVERS, Visits, ask, make_servers_venv

_BEFORE = 50  # visitors while the successor starts


def servers(bench: Bench) -> Iterator[Result]:
    """Reloads of the runner with a long request in flight, a row a server | visitors on fresh connections"""
    folder = bench.folder / "servers"
    with contextlib.redirect_stdout(io.StringIO()):
        venv = make_servers_venv(folder, cache=bench.cache)
    for server, command in SERVERS.items():
        root = folder / server.replace(" ", "-")
        root.mkdir()
        place = RunnerPlace(root, venv=venv)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                result = _reloaded(place, server, command, bench.rounds)
        except AssertionError as error:
            raise Unmeasured(f"{server}: {error}") from error
        finally:
            place.close()
        yield result


def _reloaded(place: RunnerPlace, server: str, command: str, rounds: int) -> Result:
    folder = place.root
    slow, begun = folder / "slow", folder / "slow.begun"

    def release(number: int) -> Path:
        gate = folder / f"gate-{number}"
        gate.touch()
        place.release(f"v{number}", app=APP.format(version=f"v{number}", gate=str(gate), slow=str(slow)))
        return gate

    release(0).unlink()
    with place.running(*command.split(), drain=20, deadline=30) as runner:
        until(lambda: ask(place, "/") == "v0")
        visits, slowly = Visits(place), Visits(place)
        with visits.coming(), ThreadPoolExecutor(1) as pool:
            for number in range(1, rounds + 1):
                slow.touch()
                long = pool.submit(slowly.visit, "/slow")
                until(begun.exists)
                before = runner.live()[1]
                gate = release(number)
                reload = runner.ask_to_reload()
                runner.hear("starts as process")
                seen = sum(visits.endings.values())
                until(lambda seen=seen: sum(visits.endings.values()) > seen + _BEFORE)
                gate.unlink()
                runner.hear("READY=1")
                reload.wait()
                slow.unlink()
                begun.unlink()
                long.result()
                until(lambda before=before: not alive(before))
    count = sum(visits.endings.values())
    failed = count - sum(visits.endings[f"v{number}"] for number in range(rounds + 1))
    long_failed = rounds - sum(slowly.endings[f"v{number}"] for number in range(rounds + 1))
    return Result(
        f"servers: {server}",
        f"{failed} of {count} failed, long requests {long_failed} of {rounds}",
        f"longest wait {visits.longest_s * 1000:.0f} ms at {PER_SECOND}/s",
    )
