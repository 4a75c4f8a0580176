"""What a look at a fleet takes, whose hosts have reported into a folder."""

import shutil
from collections.abc import Iterator
from statistics import median

from pusher.wire.channel import Rollout
from tests.bench.place import BIN, ENVIRONMENT, run
from tests.bench.results import Bench, Result
from tests.browser.fleets import Fleet
from tests.host import make_key
from tests.publishing import Publisher

_HOSTS = 10_000
_ZONES = 5
_SILENT_S = 24 * 3600
_MOST_S = 1.0


def looks(bench: Bench) -> Iterator[Result]:
    """pusher fleet status, 10,000 hosts with a key each, all current: nothing remembered; again at once"""
    folder, state = bench.folder / "looks", bench.folder / "looks/state"
    folder.mkdir()
    make_key(folder / "key")
    publisher = Publisher(folder / "repository", key=folder / "key")
    fleet = Fleet(folder, publisher, Rollout(silent_s=_SILENT_S))
    names = [f"web{at:05}" for at in range(_HOSTS)]
    fleet.adopt(*names)
    current = {"state": "current", "live": fleet.wanted, "agent": "1.0.0"}
    fleet.report({name: {**current, "labels": {"zone": f"z{at % _ZONES}"}} for at, name in enumerate(names)})

    def look() -> float:
        words = (*fleet.words, "--fleet", str(folder / "fleet.allowed"))
        environment = ENVIRONMENT | {"XDG_STATE_HOME": str(state)}
        return run(BIN / "pusher", "fleet", "status", *words, environment=environment).seconds

    first, later = list[float](), list[float]()
    for _ in range(bench.rounds):
        shutil.rmtree(state, ignore_errors=True)
        first.append(look())
        later.append(look())
    for what, found in (("the first look", first), ("another look", later)):
        yield Result(
            f"{what} at a fleet of {_HOSTS:,}",
            f"{median(found):.2f} s ({min(found):.2f} .. {max(found):.2f})",
            goal=f"<= {_MOST_S:g} s",
            met=median(found) <= _MOST_S,
        )
