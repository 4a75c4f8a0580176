"""What an attacker on the way, in the repository, or with the channel's key can do: each threat that TUF names.

Nothing here changes what is live. The names of the threats are those of the TUF specification, section 1.5.2.
"""

import asyncio
import json
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agent.core.config.app import Subscribe
from agent.doors.channel import subscription
from agent.host.channel.mirror import Mirror
from agent.host.channel.web import Web, WebLimits
from pusher.bundle.sign import sign
from pusher.wire import Code, canonical
from pusher.wire.channel import (
    CHANNEL_NAMESPACE,
    BundleObject,
    Channel,
    Target,
    channel_name,
    join_signed,
    object_name,
    split_signed,
)
from tests.host import make_key
from tests.hostile.repository_server import Behaviour, RepositoryServer, endless, serving
from tests.publishing import APP, CHANNEL, Publisher
from tests.subscribed_host import PatientClock, SubscribedHost, following

DOCUMENT = channel_name(APP, CHANNEL)
LIMITS = WebLimits(connect_s=2, stall_s=0.3, small_s=2, total_s=3)
YEAR_MS = 365 * 24 * 3600 * 1000


def files(version: str) -> dict[str, str]:
    return {"app.py": version, "requirements.txt": "", "large.txt": "x" * 200_000}


@pytest.fixture
async def server(publisher: Publisher) -> AsyncIterator[RepositoryServer]:
    async with serving(publisher.folder) as one:
        yield one


def host_of(root: Path, *mirrors: Mirror) -> SubscribedHost:
    settings = Subscribe(repository=["https://unused.example"])
    return SubscribedHost(
        root / "web1", mirrors, signers=root / "signers", clock=PatientClock(), settings=settings
    )


@pytest.fixture
async def host(tmp_path: Path, server: RepositoryServer, publisher: Publisher) -> AsyncIterator[SubscribedHost]:
    """A host with v1 live, which reads from the server."""
    async with following(host_of(tmp_path, Web(server.address, limits=LIMITS))) as one:
        await publisher.publish(files("v1"), "v1")
        await one.until("current", version="v1")
        yield one
        assert one.live in ("v1", "v2")


def document(publisher: Publisher) -> bytes:
    return (publisher.folder / DOCUMENT).read_bytes()


def put(publisher: Publisher, raw: bytes) -> None:
    (publisher.folder / DOCUMENT).write_bytes(raw)


async def signed(raw: bytes, key: Path, *, namespace: str = CHANNEL_NAMESPACE) -> bytes:
    signature = await asyncio.to_thread(sign, raw, key=str(key), namespace=namespace)
    return join_signed(raw, signature)


def changed(raw: bytes, **members: object) -> bytes:
    """The document in an object, with other members. It is not signed."""
    return canonical({**json.loads(split_signed(raw)[0]), **members})


def only(name: str, answer: Callable[[], web.StreamResponse]) -> Behaviour:
    """Answers for the objects whose names begin so."""

    async def behave(request: web.Request) -> web.StreamResponse | None:
        return answer() if request.path.removeprefix("/").startswith(name) else None

    return behave


async def stays(host: SubscribedHost, code: Code, *, state: str = "refused") -> None:
    """It refuses, however often it reads, and v1 stays live."""
    await host.until(state, code=code)
    await host.polled(2)
    assert (host.shown()["problem"]["code"], host.live) == (code, "v1")


# --- arbitrary software ---------------------------------------------------------------------------------------


async def test_arbitrary_software_in_the_place_of_a_bundle(host: SubscribedHost, publisher: Publisher) -> None:
    target = await asyncio.to_thread(publisher.put, files("v2"), "v2")
    for one in target.bundles:
        path = publisher.folder / object_name(one.sha256)
        path.write_bytes(bytes(reversed(path.read_bytes())))
    await asyncio.to_thread(publisher.name, target)
    await stays(host, Code.CONTENT_MISMATCH)
    assert not list(host.folder.iterdir())


async def test_arbitrary_software_by_who_holds_only_the_channel_key(
    host: SubscribedHost, publisher: Publisher, tmp_path: Path
) -> None:
    """A stolen channel key chooses among signed releases. It cannot bring one of its own."""
    make_key(tmp_path / "thief")
    thief = Publisher(publisher.folder, key=tmp_path / "thief")
    target = await asyncio.to_thread(thief.put, files("v2"), "v2")
    await asyncio.to_thread(publisher.name, target)
    await stays(host, Code.SIGNER_UNKNOWN)


async def test_a_document_by_a_stranger(host: SubscribedHost, publisher: Publisher, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    raw = changed(document(publisher), created="2030-01-01T00:00:00.000Z")
    put(publisher, await signed(raw, tmp_path / "stranger"))
    await stays(host, Code.SIGNER_UNKNOWN)


async def test_a_document_that_was_signed_as_a_release(
    host: SubscribedHost, publisher: Publisher, key: Path
) -> None:
    """The namespace keeps what was signed for one purpose from being used for another."""
    raw = changed(document(publisher), state="paused")
    put(publisher, await signed(raw, key, namespace="pusher-release"))
    await stays(host, Code.SIGNATURE_INVALID)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda raw: raw.replace(b'"attempt":1', b'"attempt":2'),
        lambda raw: raw[:-40],
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw + b"\n",
        lambda raw: raw + raw.partition(b"\n")[2],
        lambda raw: b"",
        lambda raw: raw.partition(b"\n")[0] + b"\n",
        lambda raw: b" " + raw,
        lambda raw: raw + b"x" * 70_000,
    ],
    ids=["changed", "truncated", "half", "newline", "twice", "empty", "unsigned", "white space", "too large"],
)
async def test_a_document_that_was_tampered_with(
    host: SubscribedHost, publisher: Publisher, tamper: Callable[[bytes], bytes]
) -> None:
    put(publisher, tamper(document(publisher)))
    found = await host.until("refused")
    assert found["problem"]["code"] in (Code.SIGNATURE_INVALID, Code.CHANNEL_MALFORMED)
    assert host.live == "v1"


async def test_a_document_of_the_future_format(host: SubscribedHost, publisher: Publisher, key: Path) -> None:
    put(publisher, await signed(changed(document(publisher), schema=2), key))
    await stays(host, Code.CHANNEL_MALFORMED)


async def test_a_document_that_is_signed_and_not_canonical(
    host: SubscribedHost, publisher: Publisher, key: Path
) -> None:
    raw = split_signed(document(publisher))[0].replace(b",", b", ", 1)
    put(publisher, await signed(raw, key))
    await stays(host, Code.CHANNEL_MALFORMED)


# --- rollback, fast-forward, freeze ---------------------------------------------------------------------------


async def test_rollback_by_an_older_document(host: SubscribedHost, publisher: Publisher) -> None:
    old = document(publisher)
    await publisher.publish(files("v2"), "v2")
    await host.until("current", version="v2")
    put(publisher, old)
    await host.until("refused", code=Code.OLDER_THAN_ACCEPTED)
    await host.restart()
    await host.until("refused", code=Code.OLDER_THAN_ACCEPTED)
    assert host.live == "v2"


async def test_rollback_by_two_documents_of_the_same_time(
    host: SubscribedHost, publisher: Publisher, key: Path
) -> None:
    put(publisher, await signed(changed(document(publisher), state="paused"), key))
    await stays(host, Code.CHANNEL_FORKED)


async def test_fast_forward_by_a_document_of_next_year(
    host: SubscribedHost, publisher: Publisher, key: Path
) -> None:
    good = document(publisher)
    created = f"{time.gmtime().tm_year + 1}-12-31T00:00:00.000Z"
    put(publisher, await signed(changed(good, created=created, expires="2099-01-01T00:00:00.000Z"), key))
    await stays(host, Code.FROM_THE_FUTURE)
    put(publisher, good)
    await host.until("current", version="v1")


async def test_freeze_at_a_document_that_is_never_renewed(host: SubscribedHost, publisher: Publisher) -> None:
    clock = host.clock
    assert isinstance(clock, PatientClock)
    clock.shift = 8 * 24 * 3600 * 1000
    await host.until("stale", version="v1")
    assert host.live == "v1"


async def test_freeze_by_a_server_that_says_nothing_has_changed(
    host: SubscribedHost, server: RepositoryServer, publisher: Publisher
) -> None:
    """A 304 that nobody asked for is no answer. One that was asked for counts until the document expires."""
    server.behaviour = only(DOCUMENT, lambda: web.Response(status=304))
    await publisher.publish(files("v2"), "v2")
    await host.until("unreachable")
    await host.restart()
    await host.until("unreachable")
    assert host.live == "v1"


# --- mix and match, wrong software ----------------------------------------------------------------------------


async def test_mix_and_match_of_two_documents(host: SubscribedHost, publisher: Publisher) -> None:
    first = document(publisher)
    await asyncio.to_thread(
        publisher.name, (await asyncio.to_thread(publisher.put, files("v2"), "v2")), state="paused"
    )
    raw, _ = split_signed(document(publisher))
    put(publisher, join_signed(raw, split_signed(first)[1]))
    await stays(host, Code.SIGNATURE_INVALID)


async def test_mix_and_match_of_a_release_and_the_bundle_of_another(
    host: SubscribedHost, publisher: Publisher
) -> None:
    """The document is signed, but its release and its bundle do not belong together: the digest decides."""
    second = await asyncio.to_thread(publisher.put, files("v2"), "v2")
    third = await asyncio.to_thread(publisher.put, files("v3"), "v3")
    full = next(one for one in second.bundles if not one.base)
    await asyncio.to_thread(publisher.name, Target(third.release, (full,)))
    await stays(host, Code.CONTENT_MISMATCH)


@pytest.mark.parametrize(
    ("members", "code"), [({"hosts": ("web9",)}, Code.WRONG_HOST), ({"app": "other"}, Code.WRONG_APP)]
)
async def test_a_release_that_was_signed_for_another_host_or_app(
    host: SubscribedHost, publisher: Publisher, members: dict[str, Any], code: Code
) -> None:
    """Who holds the channel key may name any release that is signed. It goes only where its own signature says."""
    target = await asyncio.to_thread(publisher.put, files("v2"), "v2", **members)
    await asyncio.to_thread(publisher.name, target)
    await stays(host, code)


async def test_the_document_of_another_app(host: SubscribedHost, publisher: Publisher, key: Path) -> None:
    put(publisher, await signed(changed(document(publisher), app="other"), key))
    await stays(host, Code.WRONG_APP)


async def test_the_document_of_another_channel(host: SubscribedHost, publisher: Publisher, key: Path) -> None:
    put(publisher, await signed(changed(document(publisher), channel="beta"), key))
    await stays(host, Code.WRONG_CHANNEL)


# --- endless data, slow retrieval, servers that lie -----------------------------------------------------------


async def test_endless_data_in_the_place_of_a_document(host: SubscribedHost, server: RepositoryServer) -> None:
    server.behaviour = endless()
    await stays(host, Code.CHANNEL_MALFORMED)


async def test_endless_data_in_the_place_of_a_bundle(
    host: SubscribedHost, server: RepositoryServer, publisher: Publisher
) -> None:
    stream = endless()

    async def behave(request: web.Request) -> web.StreamResponse | None:
        return await stream(request) if "bundles/" in request.path else None

    server.behaviour = behave
    await publisher.publish(files("v2"), "v2")
    await stays(host, Code.LIMIT_EXCEEDED)
    assert sum(one.stat().st_size for one in host.folder.iterdir()) == 0


async def test_slow_retrieval_ends_by_a_deadline(
    host: SubscribedHost, server: RepositoryServer, publisher: Publisher
) -> None:
    async def behave(request: web.Request) -> web.StreamResponse | None:
        if "bundles/" not in request.path:
            return None
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await asyncio.sleep(30)
        return response

    server.behaviour = behave
    await publisher.publish(files("v2"), "v2")
    await host.until("unreachable", code=Code.REPOSITORY_UNREACHABLE)
    assert host.live == "v1"


async def test_a_compressed_bomb_is_not_unpacked(host: SubscribedHost, server: RepositoryServer) -> None:
    server.behaviour = only(DOCUMENT, lambda: web.Response(body=b"x", headers={"Content-Encoding": "gzip"}))
    await host.until("unreachable")
    assert "compressed" in host.shown()["problem"]["title"]


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:1/elsewhere", "file:///etc/passwd", "//other.example/x", "/self"]
)
async def test_a_redirect_is_followed_nowhere(host: SubscribedHost, server: RepositoryServer, target: str) -> None:
    server.behaviour = only("", lambda: web.Response(status=302, headers={"Location": target}))
    await stays(host, Code.REPOSITORY_REDIRECTS)


async def test_no_cache_is_asked_whether_there_is_a_brake(
    host: SubscribedHost, server: RepositoryServer, publisher: Publisher
) -> None:
    """Nor for a document. One on the way may have kept that there was none."""
    await publisher.publish(files("v2"), "v2")
    await host.until("current", version="v2")
    asked = [
        headers["Cache-Control"] for name, headers in server.asked if name.startswith(("brakes/", "channels/"))
    ]
    assert len(asked) > 2
    assert {*asked} == {"no-cache"}


async def test_errors_for_an_hour_are_waited_out(
    host: SubscribedHost, server: RepositoryServer, publisher: Publisher
) -> None:
    server.behaviour = only("", lambda: web.Response(status=500))
    await publisher.publish(files("v2"), "v2")
    await host.until("unreachable", code=Code.REPOSITORY_UNREACHABLE)
    clock = host.clock
    assert isinstance(clock, PatientClock)
    before = len(clock.pauses)
    await host.polled(9)
    assert sum(clock.pauses[before:]) > 1_800
    server.behaviour = None
    await host.until("current", version="v2")


async def test_a_server_that_asks_to_be_left_alone_is_left_alone(
    host: SubscribedHost, server: RepositoryServer
) -> None:
    server.behaviour = only("", lambda: web.Response(status=503, headers={"Retry-After": "7200"}))
    await host.until("unreachable")
    await host.polled()
    clock = host.clock
    assert isinstance(clock, PatientClock)
    assert 7_200 <= clock.pauses[-1] <= 8_000


async def test_of_two_mirrors_the_one_that_asks_to_be_left_alone_is_left_alone(
    tmp_path: Path, publisher: Publisher, server: RepositoryServer
) -> None:
    await publisher.publish(files("v1"), "v1")
    async with serving(publisher.folder) as tired:
        tired.behaviour = only("", lambda: web.Response(status=503, headers={"Retry-After": "7200"}))
        mirrors = [Web(one.address, limits=LIMITS) for one in (tired, server)]
        async with following(host_of(tmp_path, *mirrors)) as host:
            clock = host.clock
            assert isinstance(clock, PatientClock)
            await host.until("current", version="v1")

            def documents() -> int:
                return sum(name == DOCUMENT for name, _ in tired.asked)

            await host.polled(5)
            assert documents() == 1
            tired.behaviour = None
            clock.shift = 7_201_000
            await host.polled(2)
            assert documents() > 1


async def test_a_transfer_that_is_cut_off_goes_on_where_it_ended(
    host: SubscribedHost, server: RepositoryServer, publisher: Publisher
) -> None:
    cuts = 0

    async def behave(request: web.Request) -> web.StreamResponse | None:
        nonlocal cuts
        path = publisher.folder / request.path.removeprefix("/")
        if "bundles/" not in request.path or cuts == 3:
            return None
        cuts += 1
        raw = path.read_bytes()
        at = int(request.headers.get("Range", "bytes=0-")[6:-1])
        response = web.StreamResponse(status=206 if at else 200)
        response.headers["Content-Range"] = f"bytes {at}-{len(raw) - 1}/{len(raw)}"
        response.content_length = len(raw) - at
        await response.prepare(request)
        await response.write(raw[at : at + len(raw) // 5])
        assert request.transport
        request.transport.close()
        return response

    server.behaviour = behave
    await publisher.publish(files("v2") | {"more.bin": "".join(map(str, range(60_000)))}, "v2")
    await host.until("current", version="v2")
    ranges = [headers.get("Range", "") for name, headers in server.asked if name.startswith("bundles/")]
    assert cuts == 3
    assert sum(one != "" for one in ranges) >= 2


@pytest.mark.parametrize("word", ["paused", "back"])
async def test_what_the_channel_takes_back_while_it_is_fetched_is_not_deployed(
    host: SubscribedHost,
    server: RepositoryServer,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
    word: str,
) -> None:
    """On a slow line, a fleet has gone back by then, and released its brake."""
    monkeypatch.setattr(subscription, "MOMENT_S", 0.01)
    first = await asyncio.to_thread(publisher.channels.read, APP, CHANNEL)
    assert first
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def behave(request: web.Request) -> web.StreamResponse | None:
        if "bundles/" in request.path:
            begun.set()
            await goes_on.wait()
        return None

    server.behaviour = behave
    second = await publisher.publish(files("v2"), "v2")
    turning = asyncio.create_task(host.until("fetching", version="v2"))
    await begun.wait()
    if word == "paused":
        await asyncio.to_thread(publisher.name, second, state="paused")
    else:
        await asyncio.to_thread(publisher.name, first.document.target)
    goes_on.set()
    await turning
    if word == "paused":
        await host.until("waiting", version="v2", awaited="pause")
    else:
        await host.until("current", version="v1")
    assert host.deployed == ["v1"]


async def test_what_the_channel_takes_back_while_a_mirror_is_asked_for_its_brake_is_not_deployed(
    host: SubscribedHost, server: RepositoryServer, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is silent costs the time that a connection is waited for."""
    first = await asyncio.to_thread(publisher.channels.read, APP, CHANNEL)
    assert first
    elapsed, waited = host.clock.elapsed, [0.0]
    monkeypatch.setattr(host.clock, "elapsed", lambda: elapsed() + waited[0])

    async def behave(request: web.Request) -> web.StreamResponse | None:
        if "brakes/" in request.path and not waited[0]:
            await asyncio.to_thread(publisher.name, first.document.target)
            waited[0] = 2 * subscription.MOMENT_S
        return None

    await publisher.publish(files("v2"), "v2")
    server.behaviour = behave
    await host.polled()
    assert waited[0]
    assert host.deployed == ["v1"]


@pytest.mark.parametrize("status", [200, 206, 416])
async def test_a_server_that_answers_another_range_is_not_believed(
    host: SubscribedHost, server: RepositoryServer, publisher: Publisher, status: int
) -> None:
    target = await asyncio.to_thread(publisher.put, files("v2"), "v2")
    smallest = min(target.bundles, key=lambda one: one.size)
    host.folder.mkdir(exist_ok=True)
    (host.folder / f"{smallest.sha256}.tar.zst").write_bytes(b"wrong beginning")

    async def behave(request: web.Request) -> web.StreamResponse | None:
        if "Range" not in request.headers:
            return None
        raw = (publisher.folder / request.path.removeprefix("/")).read_bytes()
        return web.Response(status=status, body=raw, headers={"Content-Range": "bytes 3-9/10"})

    server.behaviour = behave
    await asyncio.to_thread(publisher.name, target)
    await host.until("current", version="v2")


async def test_a_beginning_that_somebody_else_wrote_is_thrown_away(
    host: SubscribedHost, publisher: Publisher
) -> None:
    target = await asyncio.to_thread(publisher.put, files("v2"), "v2")
    host.folder.mkdir(exist_ok=True)
    for one in target.bundles:
        (host.folder / f"{one.sha256}.tar.zst").write_bytes(b"y" * (one.size - 1))
    await asyncio.to_thread(publisher.name, target)
    await host.until("current", version="v2")


async def test_a_repository_that_is_half_written_is_waited_for(host: SubscribedHost, publisher: Publisher) -> None:
    target = await asyncio.to_thread(publisher.put, files("v2"), "v2")
    paths = [publisher.folder / object_name(one.sha256) for one in target.bundles]
    contents = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    await asyncio.to_thread(publisher.name, target)
    await host.until("unreachable", code=Code.REPOSITORY_UNREACHABLE)
    assert host.live == "v1"
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    await host.until("current", version="v2")


async def test_a_bundle_that_cannot_fit_is_not_begun(host: SubscribedHost, publisher: Publisher) -> None:
    target = await asyncio.to_thread(publisher.put, files("v2"), "v2")
    await asyncio.to_thread(publisher.name, Target(target.release, (BundleObject("", "0a" * 32, 10**17),)))
    await stays(host, Code.DISK_FULL)


async def test_a_mirror_that_lies_is_passed_over(
    tmp_path: Path, publisher: Publisher, server: RepositoryServer
) -> None:
    async with serving(publisher.folder) as honest:
        server.behaviour = only("bundles/", lambda: web.Response(body=b"lie"))
        mirrors = [Web(one.address, limits=LIMITS) for one in (server, honest)]
        async with following(host_of(tmp_path, *mirrors)) as host:
            await publisher.publish(files("v1"), "v1")
            await host.until("current", version="v1")


async def test_a_mirror_that_is_a_day_behind_is_passed_over(
    tmp_path: Path, publisher: Publisher, server: RepositoryServer
) -> None:
    await publisher.publish(files("v1"), "v1")
    shutil.copytree(publisher.folder, tmp_path / "behind")
    await publisher.publish(files("v2"), "v2")
    async with serving(tmp_path / "behind") as late:
        mirrors = [Web(one.address, limits=LIMITS) for one in (late, server)]
        async with following(host_of(tmp_path, *mirrors)) as host:
            await host.until("current", version="v1")  # it knows no better yet: nobody has told it of v2
            late.behaviour = only("", lambda: web.Response(status=503))
            await host.until("current", version="v2")
            late.behaviour = None
            await host.polled(2)
            assert (host.shown()["state"], host.live) == ("current", "v2")
            server.behaviour = only("", lambda: web.Response(status=503))
            await host.until("refused", code=Code.OLDER_THAN_ACCEPTED)
            assert host.live == "v2"


# --- keys, certificates, proxies, logins ----------------------------------------------------------------------


@pytest.mark.parametrize("purpose", ["pusher-channel", "pusher-release"])
async def test_a_key_that_is_taken_back_counts_no_more(
    host: SubscribedHost, publisher: Publisher, purpose: str
) -> None:
    """A stolen key of a channel, and one of releases whose holder may still name them."""
    lines = host.signers.read_text().splitlines()
    host.signers.write_text("\n".join(line for line in lines if purpose not in line) + "\n")
    await publisher.publish(files("v2"), "v2")
    await stays(host, Code.SIGNER_UNKNOWN)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that only those know who have the file."""
    folder = tmp_path_factory.mktemp("tls")
    argv = (
        *(
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
    )
    subprocess.run(argv, check=True, capture_output=True)
    return folder


async def test_a_server_is_known_by_its_certificate_and_gets_its_login_and_no_other(
    tmp_path: Path, publisher: Publisher, authority: Path
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login web password secret\nmachine other login x password y\n")
    async with serving(publisher.folder, tls=tls) as server:
        stranger = Web(server.address, limits=LIMITS)
        ours = Web(server.address, limits=LIMITS, ca_file=authority / "cert.pem", credentials=netrc)
        await publisher.publish(files("v1"), "v1")
        async with following(host_of(tmp_path, stranger)) as host:
            found = await host.until("unreachable")
            assert "certificate" in found["problem"]["detail"].lower()
        assert not server.asked
        (tmp_path / "second").mkdir()
        (tmp_path / "second/signers").write_text((tmp_path / "signers").read_text())
        async with following(host_of(tmp_path / "second", ours)) as host:
            await host.until("current", version="v1")
        assert all(headers["Authorization"] == "Basic d2ViOnNlY3JldA==" for _, headers in server.asked)


async def test_a_login_is_not_sent_in_the_clear(
    tmp_path: Path, publisher: Publisher, server: RepositoryServer
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login web password secret\n")
    await publisher.publish(files("v1"), "v1")
    async with following(host_of(tmp_path, Web(server.address, limits=LIMITS, credentials=netrc))) as host:
        await host.until("current", version="v1")
    assert not any("Authorization" in headers for _, headers in server.asked)


async def test_a_proxy_is_used_where_the_environment_names_one(
    tmp_path: Path, publisher: Publisher, server: RepositoryServer
) -> None:
    """The proxy is the server itself: it is asked for the whole address."""
    await publisher.publish(files("v1"), "v1")
    mirror = Web("http://repository.invalid/base", limits=LIMITS, environment={"http_proxy": server.address})
    await publisher.publish(files("v1"), "v1")
    answer = await mirror.exists("bundles/none")
    assert answer is False
    await mirror.close()
    assert server.asked[-1][1]["Host"] == "repository.invalid"
    direct = Web(
        server.address, limits=LIMITS, environment={"http_proxy": "http://127.0.0.1:1", "no_proxy": "127.0.0.1"}
    )
    assert await direct.exists(DOCUMENT) is True
    await direct.close()


def test_a_channel_cannot_say_more_than_its_format() -> None:
    assert Channel.__slots__ == ("app", "channel", "created", "expires", "target", "state", "before", "rollout")


async def test_a_tag_that_two_documents_of_a_second_share_is_not_relied_on(
    host: SubscribedHost, server: RepositoryServer, publisher: Publisher
) -> None:
    """nginx makes it of size and seconds. So a fresh one is not named; an old one is."""

    def answer(age_s: int) -> Behaviour:
        async def behave(request: web.Request) -> web.StreamResponse | None:
            if request.path.removeprefix("/") != DOCUMENT:
                return None
            if "If-None-Match" in request.headers:
                return web.Response(status=304)
            times = [
                format_datetime(datetime.now(UTC) - timedelta(seconds=one), usegmt=True) for one in (0, age_s)
            ]
            headers = {"ETag": '"same"', "Date": times[0], "Last-Modified": times[1]}
            return web.Response(body=document(publisher), headers=headers)

        return behave

    server.behaviour = answer(0)
    await host.polled(2)
    await publisher.publish(files("v2"), "v2")
    await host.until("current", version="v2")
    server.behaviour = answer(10)
    await host.polled(3)
    assert host.shown()["state"] == "current"
    assert any("If-None-Match" in headers for _, headers in server.asked)
