"""What following a channel costs an agent that has nothing to do, with NATS as the bell."""

import asyncio
import shutil
import threading
import time
from collections.abc import Iterator
from statistics import median

from tests.bench.listening import listening
from tests.bench.place import APP, Place, Unmeasured
from tests.bench.results import Bench, Result
from tests.nats_cluster import SERVER, Cluster

_MB = 10**6
_MORE_MOST = 3 * _MB
_SETTLED_S = 5


def following(bench: Bench) -> Iterator[Result]:
    """The agent with a channel, NATS with TLS and an nkey, smaps_rollup | the same one that follows none"""
    if not SERVER.exists():
        raise Unmeasured("nats-server is not installed")
    with bench.place("following") as place:
        cluster = Cluster(bench.folder / "following/nats")
        cluster.folder.mkdir()
        cluster.start()
        try:
            asyncio.run(cluster.make_bucket())
            repository = place.root.parent / "repository"
            repository.mkdir()
            place.publish("v1", repository)
            place.send("v1")
            without = [_rest(place) for _ in range(bench.rounds)]
            for file in (cluster.host, cluster.authority):
                shutil.copy(file, place.root / "etc" / file.name)
            place.subscribe(
                repository,
                notify=cluster.addresses,
                notify_credentials_file=f"/etc/{cluster.host.name}",
                ca_file=f"/etc/{cluster.authority.name}",
            )
            with_it = [_rest(place, cluster) for _ in range(bench.rounds)]
        finally:
            cluster.stop()
        for at, what in enumerate(("memory", "memory that it shares with none")):
            one, other = (median(sizes[at] for sizes in found) for found in (with_it, without))
            spread = (min(sizes[at] for sizes in with_it), max(sizes[at] for sizes in with_it))
            yield Result(
                f"an idle agent that listens to NATS: {what}",
                f"{one / _MB:.1f} MB ({spread[0] / _MB:.1f} .. {spread[1] / _MB:.1f})",
                f"without {other / _MB:.1f} MB",
                f"{(one - other) / _MB:.1f} MB more",
                f"<= {_MORE_MOST / _MB:g} MB more",
                one - other <= _MORE_MOST,
            )


def _rest(place: Place, cluster: Cluster | None = None) -> tuple[int, int]:
    """The agent's memory some seconds after it has begun, and with a cluster after it has reported there."""
    if cluster is None:
        place.restart()
    else:
        with listening(cluster) as passing:
            place.restart()
            deadline = time.monotonic() + 30
            while not passing.last:
                if time.monotonic() > deadline:
                    raise Unmeasured(f"{APP} was not reported to NATS")
                threading.Event().wait(0.1)
    time.sleep(_SETTLED_S)
    return place.agent_memory_at_rest()
