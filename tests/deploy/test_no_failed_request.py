"""While releases change under load, no request on a fresh connection fails."""

import asyncio
import contextlib
from collections import Counter

import aiohttp

from tests.host import APP, Host, running, wsgi


class Load:
    """Requests on fresh connections, evenly spread, each counted by how it ended."""

    def __init__(self, url: str, *, per_second: int) -> None:
        self.endings: Counter[str] = Counter()
        self._url = url
        self._pause = 1 / per_second
        self._over = asyncio.Event()

    async def __aenter__(self) -> "Load":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self._task

    async def _run(self) -> None:
        asked: set[asyncio.Task[None]] = set()
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            while not self._over.is_set():
                task = asyncio.create_task(self._ask(session))
                asked.add(task)
                await asyncio.wait([asyncio.create_task(self._over.wait())], timeout=self._pause)
            await asyncio.gather(*asked)

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        try:
            async with session.get(self._url) as answer:
                await answer.read()
                self.endings[str(answer.status)] += 1
        except aiohttp.ClientError as error:
            self.endings[type(error).__name__] += 1


async def test_while_sends_and_rollbacks_run_under_50_requests_a_second_no_request_fails(host_off: Host):
    host_off.add_app(APP, start="gunicorn -w 2 app:app")
    async with running(host_off) as host:
        bundles = [await asyncio.to_thread(host.bundle, wsgi(f"v{n}"), f"v{n}") for n in range(1, 5)]
        assert (await host.post(bundles[0]))[0] == 200
        async with Load(f"http://127.0.0.1:{host.ports[APP]}/", per_second=50) as load:
            for data in bundles[1:]:
                assert (await host.post(data))[0] == 200
                assert (await host.rollback())[0] == 200
        assert load.endings.keys() == {"200"}
        assert load.endings["200"] > 50


async def test_a_request_of_8_s_in_flight_is_given_drain_s_and_others_do_not_wait_for_it(host_off: Host):
    host_off.add_app(APP, drain_s=30)
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
        data = await asyncio.to_thread(host.bundle, wsgi("v2"), "v2")
        long = asyncio.create_task(host.answer("/sleep/8"))
        sending = asyncio.create_task(host.post(data))
        while await asyncio.wait_for(host.serving(), timeout=30) == "v1":
            assert not sending.done()
        assert not long.done()
        assert (await long)["version"] == "v1"
        assert (await sending)[0] == 200


async def test_a_request_that_takes_longer_than_drain_s_is_cut_off_and_the_deployment_goes_on(host_off: Host):
    host_off.add_app(APP, drain_s=1)
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
        data = await asyncio.to_thread(host.bundle, wsgi("v2"), "v2")
        # By hand, for a client that asks again after being cut off would keep the new release's one worker busy.
        reader, writer = await asyncio.open_connection("127.0.0.1", host.ports[APP])
        writer.write(b"GET /sleep/30 HTTP/1.0\r\n\r\n")
        await writer.drain()
        assert (await host.post(data))[0] == 200
        assert await host.serving() == "v2"
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
