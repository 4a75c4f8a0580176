"""Publishing to `pusher-agent repository serve` by https: who may, what is taken, and what hosts get of it."""

import asyncio
import base64
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from agent.admin import cli
from agent.core.config.app import Subscribe
from agent.host.channel.web import Web, WebLimits
from agent.host.storage.disk import Disk
from agent.repository.logins import Logins, make_password
from agent.repository.objects import Objects
from agent.repository.publishing import Publishing
from agent.repository.server import RepositoryServer
from pusher.errors import Unreachable
from pusher.repository.brake import is_braked, release_brake, set_brake
from pusher.repository.folder import Folder
from pusher.repository.web_folder import WebFolder
from pusher.wire import Code, Failed, Problem, Refused
from pusher.wire.channel import brake_name, channel_name, object_name
from tests.ports import free_port
from tests.publishing import APP, CHANNEL, Publisher
from tests.subscribed_host import PatientClock, SubscribedHost, following

DOCUMENT, BRAKE = channel_name(APP, CHANNEL), brake_name(APP, CHANNEL)
PUSHER = (sys.executable, "-m", "pusher")
PASSWORD, DIGEST = make_password()


def files(version: str) -> dict[str, str]:
    return {"app.py": version, "requirements.txt": ""}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        check=True,
        capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


@asynccontextmanager
async def server(
    folder: Path, *, publishers: dict[str, str] | None = None, bundle_most: int = 10_000_000, stall_s: float = 5
) -> AsyncIterator[str]:
    made = RepositoryServer(
        Objects(folder),
        host="127.0.0.1",
        port=0,
        check_s=0.02,
        publishing=Publishing(folder, disk=Disk(), bundle_most=bundle_most),
        logins=Logins({"ci": DIGEST} if publishers is None else publishers),
        stall_s=stall_s,
    )
    port = await made.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await made.stop()


def netrc(folder: Path, password: str = PASSWORD) -> Path:
    file = folder / f"netrc-{len(password)}"
    hosts = ("127.0.0.1", "localhost")
    file.write_text("".join(f"machine {host} login ci password {password}\n" for host in hosts))
    return file


def login(name: str = "ci", password: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


def files_in(folder: Path) -> list[str]:
    return sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file())


async def test_what_is_published_by_http_is_fetched_and_braked_and_lies_there_as_in_any_folder(
    publisher: Publisher, served: Path, tmp_path: Path
) -> None:
    async with server(served) as address:
        repository = await asyncio.to_thread(WebFolder, address, credentials=netrc(tmp_path))
        publisher.use(repository)
        host = SubscribedHost(
            tmp_path / "web1",
            [Web(address, limits=WebLimits(bell_s=20))],
            signers=tmp_path / "signers",
            clock=PatientClock(),
            settings=Subscribe(repository=[address]),
            bell=True,
        )
        async with following(host):
            await publisher.publish(files("v1"), "v1")
            await host.until("current", version="v1")
            await asyncio.to_thread(set_brake, repository, APP, CHANNEL, why="no")
            assert await asyncio.to_thread(is_braked, repository, APP, CHANNEL)
            await publisher.publish(files("v2"), "v2")
            await host.until("waiting", version="v2", awaited="brake")
            await asyncio.to_thread(release_brake, repository, APP, CHANNEL)
            await host.until("current", version="v2")
    found = await asyncio.to_thread(files_in, served)
    assert [one for one in found if not one.startswith("bundles/") and "/." not in one] == [
        f"channels/{APP}/{CHANNEL}",
        f"releases/{APP}.json",
    ]
    assert len([one for one in found if one.startswith("bundles/")]) == 3


async def test_nobody_else_writes_a_byte(served: Path, publisher: Publisher) -> None:
    await publisher.publish(files("v1"), "v1")
    document = (publisher.folder / DOCUMENT).read_bytes()
    bundle = b"bundle"
    name = object_name(hashlib.sha256(bundle).hexdigest())
    words = ("Basic", "Basic !!", "Bearer x", "Basic /w==", "Basic Og==")
    wrong = [{}, login("ci", "wrong"), login("root"), login("", ""), *({"Authorization": one} for one in words)]
    bodies = {name: bundle, DOCUMENT: document, BRAKE: b"{}", f"releases/{APP}.json": b"{}"}
    async with server(served) as address, aiohttp.ClientSession(address) as session:
        for auth in wrong:
            for path, body in bodies.items():
                async with session.put(f"/{path}", data=body, headers={"If-None-Match": "*"} | auth) as answer:
                    assert answer.status == 401, path
                async with session.delete(f"/{path}", headers=auth) as answer:
                    assert answer.status == 401, path
    async with (
        server(served, publishers={}) as address,
        aiohttp.ClientSession(address, headers=login()) as session,
        session.put(f"/{name}", data=bundle) as answer,
    ):
        assert answer.status == 403
    assert await asyncio.to_thread(files_in, served) == []


async def test_a_publisher_writes_what_a_repository_has_and_nothing_else(
    served: Path, publisher: Publisher
) -> None:
    await publisher.publish(files("v1"), "v1")
    document = await asyncio.to_thread((publisher.folder / DOCUMENT).read_bytes)
    bundle, digest = b"bundle", hashlib.sha256(b"bundle").hexdigest()
    new = {"If-None-Match": "*"}
    other = object_name(hashlib.sha256(b"other").hexdigest())
    cases = [
        (object_name(digest), b"another", {}, 422),
        (object_name(digest), bundle, {"Content-Encoding": "gzip"}, 400),
        (object_name(digest), bundle, {}, 201),
        (object_name(digest), bundle, {}, 412),
        (other, b"x" * 2_000, {}, 413),
        (other, b"", {}, 400),
        (DOCUMENT, document, {}, 403),
        (DOCUMENT, document, {"If-None-Match": '"x"'}, 403),
        (DOCUMENT, document, {"If-Match": '"x"'}, 412),
        (DOCUMENT, document, {"If-Match": "*"}, 412),
        (DOCUMENT, b"{}", new, 422),
        (DOCUMENT, b"x" * 70_000, new, 413),
        (channel_name("other", CHANNEL), document, new, 422),
        (DOCUMENT, document, new, 201),
        (DOCUMENT, document, new, 412),
        (BRAKE, b"x" * 5_000, new, 413),
        (BRAKE, b"{}", new, 201),
        (f"releases/{APP}.json", b"[]", new, 422),
        (f"releases/{APP}.json", b"{}", new, 201),
        ("secret", b"x", new, 403),
        ("channels/flask-demo/.stable.lock", b"x", new, 403),
        ("channels/flask-demo/..", b"x", new, 403),
        ("%2e%2e/signers", b"x", new, 403),
    ]
    async with (
        server(served, bundle_most=1_000) as address,
        aiohttp.ClientSession(address, headers=login()) as session,
    ):
        for name, body, headers, status in cases:
            async with session.put(f"/{name}", data=body, headers=headers) as answer:
                assert answer.status == status, (name, body[:20], headers)
        async with session.put(f"/{other}", data=chunked()) as answer:
            assert answer.status == 411
        for name, status in {BRAKE: 204, DOCUMENT: 403, object_name(digest): 403, "secret": 403}.items():
            async with session.delete(f"/{name}") as answer:
                assert answer.status == status
        async with session.delete(f"/{BRAKE}") as answer:
            assert answer.status == 204
    assert (served / DOCUMENT).read_bytes() == document
    assert [one.name for one in (served / "bundles").iterdir()] == [f"{digest}.tar.zst"]
    assert not list((served / ".uploads").iterdir())


async def chunked() -> AsyncIterator[bytes]:
    yield b"other"


async def test_an_upload_that_breaks_off_or_stalls_leaves_nothing(served: Path) -> None:
    name = object_name("0a" * 32)
    (served / ".uploads").mkdir()
    (served / ".uploads/left.part").write_bytes(b"from before a crash")
    async with server(served, stall_s=0.2) as address:
        assert not list((served / ".uploads").iterdir())
        port = int(address.rpartition(":")[2])
        word = login()["Authorization"]
        head = f"PUT /{name} HTTP/1.1\r\nHost: x\r\nAuthorization: {word}\r\nContent-Length: 100\r\n\r\nbeginning"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode())
        assert b"400" in await reader.readline()
        writer.close()
        cut, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode())
        await writer.drain()
        writer.close()
        async with asyncio.timeout(10):
            while list((served / ".uploads").iterdir()):  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)
        del cut
    assert not (served / name).exists()


def test_a_bundle_of_which_a_part_was_removed_meanwhile_is_not_put_in_place(tmp_path: Path) -> None:
    """As by a second server of the same folder, which clears at its start what uploads have left."""
    content = b"x" * 1000
    name = object_name(hashlib.sha256(content).hexdigest())
    publishing = Publishing(tmp_path, disk=Disk(), bundle_most=10_000)
    incoming = publishing.begin(name, len(content))
    assert incoming
    incoming.append(content[:600])
    Publishing(tmp_path, disk=Disk(), bundle_most=10_000).clear()
    incoming.append(content[600:])
    with pytest.raises(Failed, match="not kept whole"):
        incoming.finish()
    incoming.abandon()
    assert not (tmp_path / name).exists()


async def test_publishers_by_http_and_in_the_folder_do_not_lose_each_others_word(
    served: Path, tmp_path: Path
) -> None:
    name = f"releases/{APP}.json"
    async with server(served) as address:
        logins = await asyncio.to_thread(netrc, tmp_path)
        repositories = [await asyncio.to_thread(WebFolder, address, credentials=logins) for _ in range(3)]
        everybody = [*repositories, Folder(served), Folder(served), Folder(served)]
        ready, counts = threading.Barrier(len(everybody)), [0] * len(everybody)

        def count(at: int) -> None:
            ready.wait()
            for _ in range(15):
                found = everybody[at].read(name, most=1000)
                number = json.loads(found.content)["at"] if found else 0
                made = json.dumps({"at": number + 1, "by": at}).encode()
                try:
                    everybody[at].replace(name, made, tag=found.tag if found else None)
                    counts[at] += 1
                except Problem:
                    continue

        await asyncio.gather(*(asyncio.to_thread(count, at) for at in range(len(everybody))))
    # Each word is the one before plus one: one that was lost would be missing from the last.
    assert 0 < sum(counts) <= json.loads((served / name).read_bytes())["at"]


def test_a_repository_is_served_and_published_to_by_commands(
    tmp_path: Path, served: Path, authority: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "cert.pem"))
    port = free_port()
    (tmp_path / "server.toml").write_text(
        f'folder = "{served}"\nlisten = "127.0.0.1:1"\ncertificate = "{authority}/cert.pem"\n'
        f'certificate_key = "{authority}/key.pem"\n[publishers]\n"ci" = "{DIGEST}"\n'
    )
    (tmp_path / "app-src/v1").mkdir(parents=True)
    (tmp_path / "app-src/v1/app.py").write_text("app = 1\n")
    (tmp_path / "pusher.toml").write_text(
        f'app = "{APP}"\nkey = "{key}"\nrepository = "https://localhost:{port}"\n'
        f'credentials_file = "{netrc(tmp_path).name}"\n'
    )
    serve = (sys.executable, "-m", "agent", "repository", "serve", "--config", str(tmp_path / "server.toml"),
             "--listen", f"127.0.0.1:{port}")  # fmt: skip
    with serving(serve):
        for words, code in (
            (("publish", "v1"), 0),
            (("channel", "show"), 0),
            (("rollout", "pause"), 0),
            (("rollout", "resume"), 0),
            (("channel", "renew"), 0),
            (("repository", "prune"), 2),
        ):
            done = subprocess.run((*PUSHER, *words), cwd=tmp_path, capture_output=True, check=False)
            assert done.returncode == code, done.stderr
        monkeypatch.delenv("SSL_CERT_FILE")
        done = subprocess.run((*PUSHER, "channel", "show"), cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 5
        assert b"SSL_CERT_FILE" in done.stderr
    assert (served / DOCUMENT).exists()
    assert not (served / BRAKE).exists()


class serving:  # noqa: N801 - used as a function
    """The command runs during the block, and has said where it listens."""

    def __init__(self, argv: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def __enter__(self) -> None:
        assert self._process.stdout
        assert b"serving at" in self._process.stdout.readline()

    def __exit__(self, *args: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout
        self._process.stdout.close()


def test_a_login_is_made_for_both_sides(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["repository", "login", "ci", "--machine", "deploy.example.com"]) == 0
    told = capsys.readouterr().out
    password = told.split()[-1]
    assert f'"ci" = "sha256:{hashlib.sha256(password.encode()).hexdigest()}"' in told
    assert f"machine deploy.example.com login ci password {password}" in told
    with pytest.raises(Refused):
        cli.run(["repository", "login", "a b"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('listen = "0.0.0.0:8180"\n[publishers]\nci = "%s"', "in the clear"),
        ('[publishers]\nci = "secret"', "publishers.ci"),
        ('folder = "x"', "absolute"),
        ('foldr = "/x"', "folder"),
        ('listen = "unix:/run/x"\nfolder = "/tmp"', "port"),
        ("", "No folder"),
        ('folder = "/nowhere"', "no folder"),
    ],
)
def test_a_server_that_cannot_be_as_its_file_says_is_not_started(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "server.toml").write_text(text.replace("%s", DIGEST))
    with pytest.raises(Refused, match=said) as caught:
        cli.run(["repository", "serve", "--config", str(tmp_path / "server.toml")])
    assert caught.value.code is Code.CONFIGURATION
    with pytest.raises(Refused):
        cli.run(["repository", "serve", "--config", str(tmp_path / "none.toml")])


async def test_a_server_that_went_away_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        await asyncio.to_thread(WebFolder(f"http://127.0.0.1:{free_port()}").read, DOCUMENT, most=1)
