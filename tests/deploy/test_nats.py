"""NATS as the bell and for reports: three real servers with TLS and nkeys, of which one dies."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from agent.core.config.app import Subscribe
from agent.host.channel.local_folder import LocalFolder
from agent.host.channel.mirror import Unreachable
from agent.host.channel.nats_bus import NatsBus
from agent.host.channel.nkey import Libcrypto
from pusher.errors import Unreachable as NoAnswer
from pusher.errors import Usage
from pusher.fleet.host_key import public_bytes
from pusher.fleet.inventory import Member, adopt
from pusher.fleet.reports import Heard, read_reports
from pusher.repository.bell import is_bus, ring
from pusher.repository.brake import set_brake
from pusher.repository.nats_bus import fetch_reports
from pusher.repository.object_store import ObjectStore
from pusher.wire import Problem, Refused
from pusher.wire.channel import bell_name, report_name
from pusher.wire.report import REPORT_BYTES, Named
from tests.host import Host, running, wsgi
from tests.nats_cluster import SERVER, Cluster, make_creds, make_seed
from tests.object_store import BUCKET, credentials, storing, variables
from tests.ports import free_port
from tests.publishing import APP, CHANNEL, Publisher
from tests.reporting import Reporting
from tests.subscribed_host import PatientClock, SubscribedHost, following

pytestmark = pytest.mark.skipif(not SERVER.exists(), reason="nats-server is not installed")
BELL = bell_name(APP, CHANNEL)


def files(version: str) -> dict[str, str]:
    return {"app.py": version, "requirements.txt": ""}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("nats"))
    made.start()
    try:
        asyncio.run(made.make_bucket())
        yield made
    finally:
        made.stop()


@pytest.fixture
def trusting(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The servers, as a publisher knows their authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(cluster.authority))
    return cluster


@pytest.fixture
async def bus(cluster: Cluster) -> AsyncIterator[NatsBus]:
    made = NatsBus(cluster.addresses.split(","), ca_file=cluster.authority, credentials=cluster.host)
    yield made
    await made.close()


def alone(port: int, *words: str) -> "subprocess.Popen[bytes]":
    """A server by itself, without TLS and keys."""
    return subprocess.Popen((SERVER, "-a", "127.0.0.1", "-p", str(port), *words), stderr=subprocess.DEVNULL)


def host_of(publisher: Publisher, bus: NatsBus, name: str = "web1") -> SubscribedHost:
    """A host whose polls never come: only the bell makes it read."""
    root = publisher.folder.parent
    return SubscribedHost(
        root / name,
        [LocalFolder(publisher.folder)],
        signers=root / "signers",
        name=name,
        clock=PatientClock(),
        settings=Subscribe(repository=[publisher.folder.as_uri()]),
        reports=True,
        bus=bus,
    )


async def heard(cluster: Cluster, host: SubscribedHost) -> Heard:
    """What the fleet hears of a host by NATS."""
    key = (await asyncio.to_thread(host.identity.public)).split()[1]
    found = await asyncio.to_thread(
        fetch_reports, cluster.addresses, [report_name(APP, host.host)], credentials=str(cluster.publisher)
    )
    member = Member(host.host, public_bytes(key))
    return (await asyncio.to_thread(read_reports, [found], [member], app=APP, channel=CHANNEL))[0]


async def until_heard(cluster: Cluster, host: SubscribedHost, version: str) -> None:
    async with asyncio.timeout(60):
        while True:
            found = (await heard(cluster, host)).report
            if found and found.state == "current" and found.live and found.live.version == version:
                return
            await asyncio.sleep(0.1)


async def live(host: SubscribedHost, version: str) -> None:
    async with asyncio.timeout(60):
        while host.live != version:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


async def rung(cluster: Cluster) -> None:
    await asyncio.to_thread(ring, cluster.addresses, APP, CHANNEL, credentials=str(cluster.publisher))


async def test_a_host_fetches_when_nats_rings_and_reports_there(
    trusting: Cluster, bus: NatsBus, publisher: Publisher
) -> None:
    host = host_of(publisher, bus)
    async with following(host):
        for version in ("v1", "v2"):
            await publisher.publish(files(version), version)
            await rung(trusting)
            await live(host, version)
        await host.until("current", version="v2")
        await until_heard(trusting, host, "v2")
    assert not (publisher.folder / "reports").exists()


async def test_a_brake_that_is_released_rings_too(
    trusting: Cluster, bus: NatsBus, publisher: Publisher, tmp_path: Path
) -> None:
    (tmp_path / "pusher.toml").write_text(
        f'app = "{APP}"\nkey = "{publisher.key}"\nrepository = "repo"\nbell = "{trusting.addresses}"\n'
        f'bell_credentials_file = "{trusting.publisher}"\n'
    )
    host = host_of(publisher, bus)
    await publisher.publish(files("v1"), "v1")
    async with following(host):
        await live(host, "v1")
        await asyncio.to_thread(set_brake, publisher.repository, APP, CHANNEL, why="no")
        await publisher.publish(files("v2"), "v2")
        await host.until("waiting", version="v2", awaited="brake")
        argv = (sys.executable, "-m", "pusher", "rollout", "resume")
        done = await asyncio.to_thread(subprocess.run, argv, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        await live(host, "v2")


async def test_a_node_that_is_killed_costs_no_report_and_no_release(
    tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that leads the bucket, while hosts listen at each of the three."""
    (tmp_path / "cluster").mkdir()
    cluster = Cluster(tmp_path / "cluster")
    monkeypatch.setenv("SSL_CERT_FILE", str(cluster.authority))
    await asyncio.to_thread(cluster.start)
    hosts = []
    try:
        await cluster.make_bucket()
        for at in range(3):
            first = cluster.addresses.split(",")
            bus = NatsBus(first[at:] + first[:at], ca_file=cluster.authority, credentials=cluster.host)
            hosts.append(host_of(publisher, bus, f"web{at}"))
            await hosts[-1].start()
        await publisher.publish(files("v1"), "v1")
        await rung(cluster)
        for host in hosts:
            await live(host, "v1")
            await host.until("current", version="v1")
            await until_heard(cluster, host, "v1")
        await asyncio.to_thread(cluster.kill, await cluster.leader())
        await publisher.publish(files("v2"), "v2")
        await rung(cluster)
        for host in hosts:
            await live(host, "v2")
            await host.until("current", version="v2")
            await until_heard(cluster, host, "v2")
    finally:
        for host in hosts:
            await host.stop()
        await asyncio.to_thread(cluster.stop)


async def test_a_whole_agent_fetches_from_a_bucket_when_nats_rings(
    trusting: Cluster, host_off: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The combination of those who run both: contents in a bucket, the bell and reports in NATS. No poll comes."""
    with storing() as endpoint:
        for name, value in variables(endpoint).items():
            monkeypatch.setenv(name, value)
        await asyncio.to_thread((tmp_path / "aws").write_text, credentials(endpoint))
        address = f"s3://{BUCKET}/fleet"
        publisher = Publisher(tmp_path / "unused", key=host_off.key)
        publisher.use(await asyncio.to_thread(ObjectStore, address))
        # Beneath the host's own root, as all paths of its files.
        for name in ("aws", "cert.pem", "host.nk"):
            source = tmp_path if name == "aws" else trusting.folder
            await asyncio.to_thread(shutil.copy, source / name, host_off.root / name)
        publisher.subscribe(
            host_off,
            address,
            poll_s=80_000,
            credentials_file="/aws",
            ca_file="/cert.pem",
            notify=trusting.addresses,
            notify_credentials_file="/host.nk",
        )
        async with running(host_off):
            for version in ("v1", "v2"):
                await publisher.publish(wsgi(version), version)
                await rung(trusting)
                async with asyncio.timeout(60):
                    while await served(host_off) != version:  # noqa: ASYNC110 - there is no event for it
                        await asyncio.sleep(0.05)
            name = report_name(APP, host_off.name)
            async with asyncio.timeout(60):
                while True:
                    found = await asyncio.to_thread(
                        fetch_reports, trusting.addresses, [name], credentials=str(trusting.publisher)
                    )
                    report = found.read(name, most=REPORT_BYTES)
                    if report and b'"state":"current"' in report.content:
                        break
                    await asyncio.sleep(0.1)


async def served(host: Host) -> str:
    """The version that answers; empty while nobody does."""
    try:
        return await host.serving()
    except (OSError, aiohttp.ClientError):
        return ""


async def test_polls_go_on_where_no_server_answers(publisher: Publisher, tmp_path: Path) -> None:
    bus = NatsBus([f"nats://127.0.0.1:{free_port()}"])
    host = host_of(publisher, bus)
    await publisher.publish(files("v1"), "v1")
    async with following(host):
        await host.until("current", version="v1")
        report = publisher.folder / report_name(APP, "web1")
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(report.exists):  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.05)


async def test_a_host_can_neither_ring_nor_read_what_others_report(cluster: Cluster, bus: NatsBus) -> None:
    with pytest.raises(Unreachable, match="no such bell"):
        await bus.bell("reports/flask-demo/web1")
    with pytest.raises(Problem):
        await asyncio.to_thread(
            fetch_reports, cluster.addresses, [report_name(APP, "web1")], credentials=str(cluster.host)
        )


async def test_a_forged_report_counts_for_nobody(trusting: Cluster, bus: NatsBus, tmp_path: Path) -> None:
    web1, web2 = [await asyncio.to_thread(Reporting, tmp_path, name) for name in ("web1", "web2")]
    name = report_name(APP, "web1")
    for content in (b"{}", await asyncio.to_thread(lambda: web2.signed(host="web1")), b"x" * 100_000):
        await bus.put(name, content)
        found = await asyncio.to_thread(
            fetch_reports, trusting.addresses, [name], credentials=str(trusting.publisher)
        )
        if len(content) > REPORT_BYTES:
            with pytest.raises(Refused, match="too large"):
                found.read(name, most=REPORT_BYTES)
            continue
        [one] = await asyncio.to_thread(read_reports, [found], [web1.member], app=APP, channel=CHANNEL)
        assert one.report is None
        assert one.why
    with pytest.raises(Unreachable, match="no place"):
        await bus.put("reports/flask-demo/web1.", b"x")


@pytest.mark.parametrize("wrong", ["stranger", "no key", "no authority", "bad seed"])
async def test_a_server_that_is_not_the_named_one_or_does_not_know_us_is_not_used(
    cluster: Cluster, tmp_path: Path, wrong: str
) -> None:
    await asyncio.to_thread(make_seed, tmp_path / "stranger")
    (tmp_path / "bad").write_text("SUAXX")
    servers = cluster.addresses.split(",")
    bus = {
        "stranger": NatsBus(servers, ca_file=cluster.authority, credentials=tmp_path / "stranger"),
        "no key": NatsBus(servers, ca_file=cluster.authority),
        "no authority": NatsBus(servers, credentials=cluster.host),
        "bad seed": NatsBus(
            servers, ca_file=cluster.authority, credentials=tmp_path / "bad", libcrypto=no_libcrypto
        ),
    }[wrong]
    with pytest.raises(Unreachable, match="cannot be reached"):
        await bus.bell(BELL)
    await bus.close()


def no_libcrypto() -> Libcrypto:
    """As in an interpreter that has TLS within itself: nats-py signs by another library."""
    raise OSError


@pytest.mark.parametrize("libcrypto", [Libcrypto, no_libcrypto])
@pytest.mark.parametrize("kind", ["nkey", "creds"])
async def test_a_host_shows_who_it_is_with_and_without_libcrypto(
    tmp_path: Path, kind: str, libcrypto: Callable[[], Libcrypto]
) -> None:
    """Also where a server lets in those who say nothing: such a one may not listen to the bell here."""
    config, port = tmp_path / "conf", free_port()
    if kind == "nkey":
        public = await asyncio.to_thread(make_seed, tmp_path / "credentials")
        config.write_text(
            "no_auth_user: nobody\nauthorization { users: [\n"
            f'  {{ nkey: {public}, permissions: {{ subscribe: ["pusher.bells.>"] }} }}\n'
            '  { user: nobody, password: "", permissions: { subscribe: [] } }\n] }\n'
        )
    else:
        config.write_text(make_creds(tmp_path / "credentials"))
    argv = (SERVER, "-a", "127.0.0.1", "-p", str(port), "-c", str(config))
    server = await asyncio.to_thread(subprocess.Popen, argv, stderr=subprocess.DEVNULL)
    bus = NatsBus([f"nats://127.0.0.1:{port}"], credentials=tmp_path / "credentials", libcrypto=libcrypto)
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await bus.bell(BELL)
                    break
                except Unreachable as problem:
                    if "has no such bell" in str(problem):
                        raise
                    await asyncio.sleep(0.05)
    finally:
        await bus.close()
        server.kill()
        server.wait()


async def test_a_server_that_takes_the_encryption_away_is_not_used(trusting: Cluster) -> None:
    """The library goes on in the clear, if the server says that it wants no TLS."""
    server = await asyncio.to_thread(alone, port := free_port())
    try:
        plain = NatsBus([f"nats://localhost:{port}"])
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await plain.bell(BELL)
                    break
                except Unreachable:
                    await asyncio.sleep(0.05)
        await plain.close()
        bus = NatsBus([f"tls://localhost:{port}"], ca_file=trusting.authority, credentials=trusting.host)
        with pytest.raises(Unreachable, match="does not speak TLS"):
            await bus.bell(BELL)
        await bus.close()
        with pytest.raises(NoAnswer, match="does not speak TLS"):
            await asyncio.to_thread(
                ring, f"tls://localhost:{port}", APP, CHANNEL, credentials=str(trusting.publisher)
            )
    finally:
        server.kill()
        server.wait()


async def test_a_file_that_cannot_be_read_is_named(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("SUAXX")
    for authority, given in (("none", None), (None, "none"), (None, "bad")):
        bus = NatsBus(
            ["tls://localhost:1"],
            ca_file=tmp_path / authority if authority else None,
            credentials=tmp_path / given if given else None,
        )
        with pytest.raises(Refused, match="cannot be read"):
            await bus.bell(BELL)
    with pytest.raises(Usage, match="cannot be read"):
        ring(cluster.addresses, APP, CHANNEL, credentials=str(tmp_path / "none"))


async def test_a_bucket_that_is_not_there_is_named(tmp_path: Path) -> None:
    port = free_port()
    server = await asyncio.to_thread(alone, port, "-js", "-sd", str(tmp_path / "store"))
    try:
        bus = NatsBus([f"nats://127.0.0.1:{port}"])
        async with asyncio.timeout(30):
            while True:
                try:
                    await bus.bell(BELL)
                    break
                except Unreachable:
                    await asyncio.sleep(0.05)
        with pytest.raises(Unreachable, match="took no report"):
            await bus.put(report_name(APP, "web1"), b"x")
        with pytest.raises(NoAnswer, match="stream not found"):
            await asyncio.to_thread(fetch_reports, f"nats://127.0.0.1:{port}", [report_name(APP, "web1")])
        await bus.close()
    finally:
        server.kill()
        server.wait()


def test_the_fleet_is_seen_by_nats_and_a_silent_nats_is_named(
    trusting: Cluster, publisher: Publisher, tmp_path: Path
) -> None:
    named = publisher.name(publisher.put(files("v1"), "v1"))
    wanted = Named(named.target.release.manifest, "v1")
    web1 = Reporting(tmp_path, "web1")
    adopt(tmp_path / "fleet.allowed", web1.identity.public())

    async def report() -> None:
        bus = NatsBus(trusting.addresses.split(","), ca_file=trusting.authority, credentials=trusting.host)
        document = await asyncio.to_thread(
            lambda: web1.signed(state="failed", signed=named.created, attempt=1, wanted=wanted)
        )
        await bus.put(report_name(APP, "web1"), document)
        await bus.close()

    asyncio.run(report())
    config = tmp_path / "pusher.toml"
    for bell, code, said in (
        (trusting.addresses, 1, b"failed"),
        (f"tls://localhost:{free_port()}", 5, b"does not answer"),
    ):
        config.write_text(
            f'app = "{APP}"\nkey = "{publisher.key}"\nrepository = "repo"\nbell = "{bell}"\n'
            f'bell_credentials_file = "{trusting.publisher}"\n'
        )
        argv = (sys.executable, "-m", "pusher", "fleet", "status")
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False)
        assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done
    argv = (sys.executable, "-m", "pusher", "channel", "renew")
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0  # a bell is a hint
    assert b"does not answer" in done.stderr


def test_without_the_library_the_line_that_installs_it_is_named(tmp_path: Path) -> None:
    for script in (
        "from pusher.repository.bell import ring\nring('nats://h', 'a', 'b')",
        "import asyncio\nfrom agent.host.channel.nats_bus import NatsBus\nasyncio.run(NatsBus(['nats://h']).bell('bells/a/b'))",
    ):
        argv = (sys.executable, "-c", f"import sys\nsys.modules['nats'] = None\n{script}")
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ})
        assert "pip install 'pusher-agent[nats]'" in done.stderr


@pytest.mark.parametrize(
    "address", ["nats://", "nats://a b", "tls://u:p@h", "nats://h/x", "tls://h,http://x", "ftp://h"]
)
def test_servers_that_are_none_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="are needed"):
        Subscribe(notify=address)
    assert Subscribe(notify="tls://a:1, nats://b").notify == "tls://a:1,nats://b"
    assert not is_bus("https://x")
