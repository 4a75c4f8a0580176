"""Reports as they pass through NATS, for a bench: to ask the servers again and again would be measured as well."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nats.aio.client import Client

from tests.nats_cluster import Cluster, quiet

SUBJECTS = "$KV.reports.>"


class Passing:
    """What was published last, by subject."""

    def __init__(self) -> None:
        self.last: dict[str, bytes] = {}

    async def listen(self, cluster: Cluster, at: int, *, ready: threading.Event, end: asyncio.Event) -> None:
        """At one server, which may not be killed: what listens is work for the servers, which is measured."""

        async def heard(message: Any) -> None:
            self.last[message.subject] = message.data

        client = Client()
        await client.connect(
            f"tls://localhost:{cluster.ports[at]}",
            tls=ssl.create_default_context(cafile=str(cluster.authority)),
            nkeys_seed_str=cluster.watcher.read_text(),
            allow_reconnect=False,
            error_cb=quiet,
        )
        await client.subscribe(SUBJECTS, cb=heard)
        await client.flush()
        ready.set()
        await end.wait()
        await client.close()


@contextmanager
def listening(cluster: Cluster, at: int = 0) -> Iterator[Passing]:
    """The reports that pass while the block runs, as this server hears of them."""
    passing, ready, end = Passing(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    def run() -> None:
        loop.run_until_complete(passing.listen(cluster, at, ready=ready, end=end))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        if not ready.wait(30):
            raise RuntimeError("NATS does not answer")
        yield passing
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
        loop.close()
