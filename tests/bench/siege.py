"""How fast the agent answers an operator while local users attack it."""

from collections.abc import Iterator

from tests.bench.booted import booted
from tests.bench.results import Bench, Result
from tests.system.siege import ATTACKS, besieged, until_asked

_TIMES = 200
_GOAL_S = 0.1


def server_siege(bench: Bench) -> Iterator[Result]:
    """GET /healthz as root, ten times a second for 20 s, one `pusher send` meanwhile | the same with no attack"""
    with booted(bench.folder / "server_siege", cache=bench.cache) as place:
        for number, name in enumerate(("", *ATTACKS)):
            with besieged(place.server, *([name] if name else [])) as healthz:
                place.send(("v2", "v3")[number % 2])
                until_asked(healthz, _TIMES)
            p99, middle = healthz.percentile(0.99), healthz.percentile(0.5)
            yield Result(
                f"server: /healthz, {name or 'no attack'}: p99 of {len(healthz.seconds)}",
                f"{p99 * 1000:.0f} ms (median {middle * 1000:.0f}, {len(healthz.failures)} failed)",
                goal="< 100 ms",
                met=p99 < _GOAL_S and not healthz.failures,
            )
