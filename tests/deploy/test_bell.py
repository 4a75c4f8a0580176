"""The bell: hosts fetch at once, from the embedded server and from nginx with nchan, as both are shipped."""

import asyncio
import contextlib
import os
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from agent.core.config.app import Subscribe
from agent.doors.channel.bell import Bell
from agent.doors.channel.reading import ChannelReader
from agent.host.channel.mirror import Mirror, Unreachable
from agent.host.channel.web import Web, WebLimits
from agent.repository.objects import Objects
from agent.repository.server import RepositoryServer
from pusher.errors import Unreachable as NoAnswer
from pusher.fleet.inventory import adopt
from pusher.repository.bell import ring
from pusher.wire.channel import bell_name, brake_name, channel_name, report_name
from tests.ports import free_port
from tests.publishing import APP, CHANNEL, Publisher
from tests.reporting import Reporting
from tests.subscribed_host import PatientClock, SubscribedHost, following

REPOSITORY = Path(__file__).parents[2]
BELL = bell_name(APP, CHANNEL)
LIMITS = WebLimits(bell_s=20)
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")


def files(version: str) -> dict[str, str]:
    return {"app.py": version, "requirements.txt": ""}


@pytest.fixture
def publisher(publisher: Publisher) -> Publisher:
    """Its repository is there already: a server serves it before anything is published."""
    publisher.folder.mkdir()
    return publisher


@asynccontextmanager
async def embedded(
    folder: Path, *, bell_s: float = 20, fleet: Path | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    server = RepositoryServer(
        Objects(folder, fleet=fleet), host="127.0.0.1", port=0, tls=tls, bell_s=bell_s, check_s=0.02
    )
    port = await server.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{port}"
    finally:
        await server.stop()


def host_of(publisher: Publisher, address: str) -> SubscribedHost:
    """A host whose polls never come: only the bell makes it read."""
    root = publisher.folder.parent
    return SubscribedHost(
        root / "web1",
        [Web(address, limits=LIMITS)],
        signers=root / "signers",
        clock=PatientClock(),
        settings=Subscribe(repository=[address]),
        reports=True,
        bell=True,
    )


async def live(host: SubscribedHost, version: str) -> None:
    async with asyncio.timeout(15):
        while host.live != version:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


async def test_a_host_fetches_when_the_embedded_server_rings(publisher: Publisher) -> None:
    async with embedded(publisher.folder) as address, following(host_of(publisher, address)) as host:
        for version in ("v1", "v2"):
            await publisher.publish(files(version), version)
            await live(host, version)
        report = publisher.folder / report_name(APP, "web1")
        async with asyncio.timeout(10):
            while not await asyncio.to_thread(report.exists):  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)


async def test_a_bell_waits_and_then_says_that_nothing_has_changed(publisher: Publisher) -> None:
    await publisher.publish(files("v1"), "v1")
    async with embedded(publisher.folder, bell_s=0.2) as address:
        mirror = Web(address, limits=LIMITS)
        assert await mirror.bell(BELL) is True
        began = time.monotonic()
        assert await mirror.bell(BELL) is False
        assert time.monotonic() - began >= 0.2
    async with embedded(publisher.folder) as address:
        mirror = Web(address, limits=LIMITS)
        assert await mirror.bell(BELL) is True
        waiting = asyncio.create_task(mirror.bell(BELL))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await publisher.publish(files("v2"), "v2")
        assert await waiting is True
        with pytest.raises(Unreachable):
            await mirror.bell("bells/no")


async def test_no_change_gets_lost_while_a_question_for_the_bell_begins(tmp_path: Path) -> None:
    class Changing(Objects):
        """Whose document changes after it was first looked at."""

        looks = 0

        def stamp(self, name: str) -> str:
            self.looks += 1
            return '"first"' if self.looks == 1 else '"second"'

    server = RepositoryServer(Changing(tmp_path), host="127.0.0.1", port=0, bell_s=60, check_s=0.01)
    port = await server.start()
    try:
        async with (
            asyncio.timeout(10),
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
            session.get(f"/{BELL}", headers={"If-None-Match": '"first"'}) as answer,
        ):
            assert (answer.status, answer.headers["ETag"]) == (200, '"second"')
    finally:
        await server.stop()


async def test_names_that_nobody_asks_for_any_more_are_forgotten(publisher: Publisher) -> None:
    server = RepositoryServer(Objects(publisher.folder), host="127.0.0.1", port=0, bell_s=0.05, check_s=0.01)
    port = await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            for at in range(20):
                async with session.get(f"/{bell_name(APP, f'made-up-{at}')}") as answer:
                    assert answer.status == 304
        assert server.watched == ()
    finally:
        await server.stop()


async def test_the_embedded_server_serves_what_a_repository_has_and_nothing_else(publisher: Publisher) -> None:
    target = await publisher.publish(files("v1"), "v1")
    (publisher.folder / "secret").write_text("secret")
    (publisher.folder / "channels/flask-demo/.stable.lock").write_text("secret")
    bundle = f"/bundles/{target.bundles[0].sha256}.tar.zst"
    async with embedded(publisher.folder) as address, aiohttp.ClientSession(address) as session:
        async with session.get(f"/{channel_name(APP, CHANNEL)}") as answer:
            assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-cache")
            tag = answer.headers["ETag"]
        async with session.get(f"/{channel_name(APP, CHANNEL)}", headers={"If-None-Match": tag}) as answer:
            assert answer.status == 304
        async with session.get(bundle, headers={"Range": "bytes=10-19"}) as answer:
            assert (answer.status, len(await answer.read())) == (206, 10)
        for path in ("/", "/secret", "/channels/flask-demo/.stable.lock", "/channels/../secret", "/%2e%2e/signers",
                     "/channels/flask-demo", "/bundles/", "/bells/x", "/reports/flask-demo/.."):  # fmt: skip
            async with session.get(path) as answer:
                assert answer.status == 404, path
        async with session.get(f"/{brake_name(APP, CHANNEL)}") as answer:
            assert (answer.status, answer.headers["Cache-Control"]) == (404, "no-cache")
        for method, status in {"POST": 405, "PATCH": 405, "DELETE": 403}.items():
            async with session.request(method, bundle) as answer:
                assert answer.status == status


@pytest.mark.parametrize("target", ["/proc/self/mem", CHANNEL], ids=["not-read", "not-looked-at"])
async def test_a_brake_that_cannot_be_read_is_not_called_absent(publisher: Publisher, target: str) -> None:
    """Out of descriptors, or with a broken disk, the server had said "not found": hosts began in spite of it."""
    brake = brake_name(APP, CHANNEL)
    (publisher.folder / brake).parent.mkdir(parents=True)
    (publisher.folder / brake).symlink_to(target)  # a file that cannot be read; a link that leads to itself
    async with embedded(publisher.folder) as address:
        mirror = Web(address, limits=LIMITS)
        with pytest.raises(Unreachable, match="answered 500"):
            await mirror.exists(brake)
        (publisher.folder / brake).unlink()
        assert await mirror.exists(brake) is False
        await mirror.close()


async def test_the_embedded_server_holds_more_questions_than_a_shell_allows(publisher: Publisher) -> None:
    await publisher.publish(files("v1"), "v1")
    port = free_port()
    argv = (
        sys.executable,
        "-m",
        "agent",
        "repository",
        "serve",
        publisher.folder,
        "--listen",
        f"127.0.0.1:{port}",
    )
    command = f"ulimit -Sn 64; exec {shlex.join(map(str, argv))}"
    server = await asyncio.create_subprocess_exec("sh", "-c", command, stdout=subprocess.PIPE)
    try:
        assert server.stdout
        assert await server.stdout.readline()
        async with AsyncExitStack() as stack:
            for _ in range(100):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                stack.callback(writer.close)
            mirror = Web(f"http://127.0.0.1:{port}", limits=LIMITS)
            assert await mirror.exists(channel_name(APP, CHANNEL))
            await mirror.close()
    finally:
        server.terminate()
        await server.wait()


async def test_a_report_that_comes_twice_at_once_is_whole(publisher: Publisher, tmp_path: Path) -> None:
    """As from a host that had no answer in time, and sends the next one."""
    web1 = await asyncio.to_thread(Reporting, tmp_path, "web1")
    content, objects, name = (
        await asyncio.to_thread(web1.signed),
        Objects(publisher.folder),
        report_name(APP, "web1"),
    )
    many = [asyncio.to_thread(objects.put_report, name, content) for _ in range(200)]
    await asyncio.gather(*many)
    assert (publisher.folder / name).read_bytes() == content


async def test_only_a_host_of_the_fleet_can_write_its_own_report(publisher: Publisher, tmp_path: Path) -> None:
    web1, web2 = [await asyncio.to_thread(Reporting, tmp_path, name) for name in ("web1", "web2")]
    await asyncio.to_thread(adopt, tmp_path / "fleet", await asyncio.to_thread(web1.identity.public))
    good = await asyncio.to_thread(web1.signed)
    forged = await asyncio.to_thread(lambda: web2.signed(host="web1"))
    stranger = await asyncio.to_thread(web2.signed)
    cases = {
        (report_name(APP, "web1"), good): 201,
        (report_name(APP, "web1"), forged): 403,
        (report_name(APP, "web2"), stranger): 403,
        (report_name(APP, "web2"), good): 422,
        (report_name("other", "web1"), good): 422,
        (channel_name(APP, CHANNEL), good): 403,
        ("bundles/" + "0a" * 32 + ".tar.zst", good): 403,
        (report_name(APP, "web1"), b"{}"): 400,
        (report_name(APP, "web1"), b"x" * 20_000): 413,
    }
    async with (
        embedded(publisher.folder, fleet=tmp_path / "fleet") as address,
        aiohttp.ClientSession(address) as session,
    ):
        for (name, content), status in cases.items():
            async with session.put(f"/{name}", data=content) as answer:
                assert answer.status == status, name
    assert [one.name for one in (publisher.folder / "reports/flask-demo").iterdir()] == ["web1"]


class Chatty:
    """A mirror whose bell rings all the time, or is broken."""

    address = "https://chatty.example"

    def __init__(self, *, broken: bool = False, retry_after_s: float = 0) -> None:
        self.broken = broken
        self.retry_after_s = retry_after_s
        self.bug: Exception | None = None
        self.asked = 0

    async def bell(self, name: str) -> bool:
        self.asked += 1
        await asyncio.sleep(0)
        if self.broken:
            raise self.bug or Unreachable("no bell", retry_after_s=self.retry_after_s)
        return True


@pytest.mark.parametrize("broken", [False, True])
async def test_a_bell_that_never_stops_or_never_works_is_asked_less_and_less(broken: bool) -> None:
    mirror, clock, rung = Chatty(broken=broken), PatientClock(), 0

    def ring_it() -> None:
        nonlocal rung
        rung += 1

    mirrors: list[Mirror] = [mirror]  # type: ignore[list-item]
    reader = ChannelReader(APP, CHANNEL, mirrors=mirrors, files=None, subscribed=None, now=clock.now,  # type: ignore[arg-type]
                           shuffle=lambda order: None)  # fmt: skip
    bell = Bell(BELL, reader=reader, clock=clock, chance=lambda: 0.5)
    bell.start(ring_it)
    for _ in range(40):
        await asyncio.sleep(0.002)
        clock.end()
    await bell.stop()
    pauses = [one for one in clock.pauses if one > 0.5]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 900
    assert rung == (0 if broken else pytest.approx(mirror.asked, abs=1))


class Hurried(PatientClock):
    """A clock that can be set forward. No pause lasts."""

    passed = 0.0

    def elapsed(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)


async def test_a_bug_in_a_bell_makes_no_host_deaf() -> None:
    mirror, clock, rung = Chatty(broken=True), PatientClock(), asyncio.Event()
    mirror.bug = RuntimeError("a bug")
    reader = ChannelReader(APP, CHANNEL, mirrors=[mirror], files=None, subscribed=None, now=clock.now,  # type: ignore[arg-type,list-item]
                           shuffle=lambda order: None)  # fmt: skip
    bell = Bell(BELL, reader=reader, clock=clock, chance=lambda: 0.5)
    bell.start(rung.set)
    async with asyncio.timeout(10):
        while not clock.under_way:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.001)
        mirror.broken = False
        while not rung.is_set():
            clock.end()
            await asyncio.sleep(0.001)
    await bell.stop()


async def test_a_bell_that_asks_to_be_left_alone_is_left_alone() -> None:
    mirrors: list[Mirror] = [Chatty(broken=True, retry_after_s=one) for one in (7_200, 1_800)]  # type: ignore[list-item]
    clock = PatientClock()
    reader = ChannelReader(APP, CHANNEL, mirrors=mirrors, files=None, subscribed=None, now=clock.now,  # type: ignore[arg-type]
                           shuffle=lambda order: None)  # fmt: skip
    bell = Bell(BELL, reader=reader, clock=clock, chance=lambda: 0.5)
    bell.start(lambda: None)
    async with asyncio.timeout(10):
        while not clock.pauses:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)
    await bell.stop()
    assert clock.pauses == [1_800 * 1.05]  # that of the one that asks for the least


async def test_a_proxy_that_gives_up_waiting_makes_no_bell_deaf() -> None:
    clock, asked = Hurried(), 0

    class Proxied(Chatty):
        async def bell(self, name: str) -> bool:
            nonlocal asked
            await asyncio.sleep(0)
            asked, clock.passed = asked + 1, clock.passed + 60  # nginx: proxy_read_timeout
            raise Unreachable("504 Gateway Timeout")

    mirrors: list[Mirror] = [Proxied()]  # type: ignore[list-item]
    reader = ChannelReader(APP, CHANNEL, mirrors=mirrors, files=None, subscribed=None, now=clock.now,  # type: ignore[arg-type]
                           shuffle=lambda order: None)  # fmt: skip
    bell = Bell(BELL, reader=reader, clock=clock, chance=lambda: 0.5)
    bell.start(lambda: None)
    async with asyncio.timeout(10):
        while asked < 20:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)
    await bell.stop()
    assert max(clock.pauses) < 2


@pytest.fixture
def nginx(publisher: Publisher, tmp_path: Path) -> Iterator[str]:
    """Debian's nginx with the configuration of the package, except for its folder and its port."""
    if not NCHAN.exists() or not shutil.which("nginx"):
        pytest.skip("nginx with nchan is not installed (apt-get install nginx-light libnginx-mod-nchan)")
    port = free_port()
    site = (REPOSITORY / "packaging/nginx/pusher-repository.conf").read_text()
    assert site.count("/srv/repository") >= 2
    site = site.replace("root /srv/repository;", f"root {publisher.folder};")
    for before, here in (("8180", "127.0.0.1"), ("[::]:8180", "[::1]")):
        assert f"listen {before};" in site
        site = site.replace(f"listen {before};", f"listen {here}:{port};")
    (tmp_path / "site.conf").write_text(site)
    (tmp_path / "nginx.conf").write_text(
        f"load_module {NCHAN};\ndaemon off;\npid {tmp_path}/nginx.pid;\nerror_log {tmp_path}/error.log;\n"
        f"worker_processes 1;\nevents {{ worker_connections 512; }}\nhttp {{ access_log off;\n"
        f"client_body_temp_path {tmp_path}/body;\ninclude {tmp_path}/site.conf; }}\n"
    )
    if os.geteuid() == 0:
        with (tmp_path / "nginx.conf").open("r+") as file:
            text = file.read()
            file.seek(0)
            file.write(f"user root;\n{text}")
    server = subprocess.Popen(("nginx", "-c", str(tmp_path / "nginx.conf")), stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                with contextlib.closing(socket.create_connection(("127.0.0.1", port), 0.2)):
                    break
            except OSError:
                assert server.poll() is None, server.stderr and server.stderr.read()
                assert time.monotonic() < deadline
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)
        if server.stderr:
            server.stderr.close()


async def test_a_host_fetches_when_nginx_rings_and_its_report_arrives(nginx: str, publisher: Publisher) -> None:
    async with following(host_of(publisher, nginx)) as host:
        for version in ("v1", "v2"):
            await publisher.publish(files(version), version)
            await asyncio.to_thread(ring, nginx, APP, CHANNEL)
            await live(host, version)
        report = publisher.folder / report_name(APP, "web1")
        async with asyncio.timeout(10):
            while not await asyncio.to_thread(report.exists):  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)


async def test_nginx_is_there_for_hosts_that_have_no_other_address_than_one_of_ipv6(
    nginx: str, publisher: Publisher
) -> None:
    await publisher.publish(files("v1"), "v1")
    mirror = Web(nginx.replace("127.0.0.1", "[::1]"), limits=LIMITS)
    assert await mirror.exists(channel_name(APP, CHANNEL))
    await mirror.close()


async def test_nginx_serves_a_repository_and_takes_nothing_but_reports(nginx: str, publisher: Publisher) -> None:
    target = await publisher.publish(files("v1"), "v1")
    bundle = f"/bundles/{target.bundles[0].sha256}.tar.zst"
    (publisher.folder / "secret").write_text("secret")
    async with aiohttp.ClientSession(nginx) as session:
        async with session.get(f"/{channel_name(APP, CHANNEL)}") as answer:
            assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-cache")
        async with session.get(f"/{brake_name(APP, CHANNEL)}") as answer:
            assert (answer.status, answer.headers["Cache-Control"]) == (404, "no-cache")
        async with session.get(bundle, headers={"Range": "bytes=10-19"}) as answer:
            assert (answer.status, len(await answer.read())) == (206, 10)
        for path in ("/secret", "/", "/channels/", "/channels/flask-demo/.stable.lock"):
            async with session.get(path) as answer:
                assert answer.status in (403, 404), path
        for path in (bundle, f"/{channel_name(APP, CHANNEL)}", "/brakes/flask-demo/stable", "/secret"):
            async with session.put(path, data=b"x") as answer:
                assert answer.status in (403, 404, 405), path
        async with session.put(f"/{report_name(APP, 'web1')}", data=b"x" * 20_000) as answer:
            assert answer.status == 413


def test_a_bell_that_is_not_there_is_named() -> None:
    with pytest.raises(NoAnswer, match="could not be rung"):
        ring(f"http://127.0.0.1:{free_port()}", APP, CHANNEL)
