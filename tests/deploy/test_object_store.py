"""A repository in a bucket, over real HTTP: published, fetched, braked, reported to, pruned."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from agent.core.config.app import Subscribe
from agent.host.channel.mirror import Unreachable
from agent.host.channel.object_store import ObjectStore as Mirror
from agent.host.channel.web import WebLimits
from agent.host.storage.partial import Partial
from pusher.errors import Unreachable as NoAnswer
from pusher.errors import Usage
from pusher.fleet.host_key import public_bytes
from pusher.fleet.inventory import Member
from pusher.fleet.reports import read_reports
from pusher.repository.address import open_repository
from pusher.repository.brake import release_brake, set_brake
from pusher.repository.object_store import ObjectStore
from pusher.wire import Code, Problem, Refused
from pusher.wire.channel import channel_name, report_name
from tests.object_store import BUCKET, credentials, storing, variables
from tests.publishing import APP, CHANNEL, Publisher
from tests.subscribed_host import PatientClock, SubscribedHost, following

ADDRESS = f"s3://{BUCKET}/deploy/repository"
NAME = channel_name(APP, CHANNEL)
LIMITS = WebLimits(connect_s=5, stall_s=5, small_s=5)
PUSHER = (sys.executable, "-m", "pusher")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with storing() as address:
        yield address


@pytest.fixture
def repository(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """An empty repository, as a publisher with the usual variables has it."""
    for name, value in variables(endpoint).items():
        monkeypatch.setenv(name, value)
    made = ObjectStore(ADDRESS)
    yield made
    for one in made.names(""):
        made.remove(one.name)


@pytest.fixture
def mirror(endpoint: str, tmp_path: Path) -> Mirror:
    """The same, as a host with a credentials file has it."""
    (tmp_path / "credentials").write_text(credentials(endpoint))
    return Mirror(ADDRESS, limits=LIMITS, credentials=tmp_path / "credentials", environment={})


def files(version: str) -> dict[str, str]:
    return {"app.py": version, "requirements.txt": ""}


def test_it_answers_as_the_port_says(repository: ObjectStore, tmp_path: Path) -> None:
    assert repository.read(NAME, most=10) is None
    assert repository.names("") == []
    repository.replace(NAME, b"x" * 11, tag=None)
    with pytest.raises(Refused, match="too large"):
        repository.read(NAME, most=10)
    found = repository.read(NAME, most=20)
    assert found
    with pytest.raises(Refused, match="changed meanwhile"):
        repository.replace(NAME, b"y", tag=None)
    repository.replace(NAME, b"y", tag=found.tag)
    with pytest.raises(Refused, match="changed meanwhile"):
        repository.replace(NAME, b"z", tag=found.tag)
    (tmp_path / "source").write_bytes(os.urandom(9_000_000))
    assert repository.put("bundles/one", tmp_path / "source")
    assert not repository.put("bundles/one", tmp_path / "source")
    with repository.stream("bundles/one") as pieces:
        assert b"".join(pieces) == (tmp_path / "source").read_bytes()
    with pytest.raises(Refused, match="no bundles/two"), repository.stream("bundles/two"):
        pass
    assert [(one.name, one.size) for one in repository.names("bundles/o")] == [("bundles/one", 9_000_000)]
    repository.remove("bundles/one")
    repository.remove("bundles/one")
    assert [one.name for one in repository.names("")] == [NAME]


def test_a_cache_in_front_of_a_bucket_is_told_what_it_may_keep(
    repository: ObjectStore, mirror: Mirror, tmp_path: Path
) -> None:
    """It would keep a document, or that there is no brake, for as long as it likes."""
    repository.replace(NAME, b"x", tag=None)
    (tmp_path / "source").write_bytes(b"bundle")
    assert repository.put("bundles/one", tmp_path / "source")
    report = report_name(APP, "web1")
    asyncio.run(put_by(mirror, report))
    bucket = S3Store(BUCKET, prefix="deploy/repository", client_options={"allow_http": True})
    said = {name: obstore.get(bucket, name).attributes["Cache-Control"] for name in (NAME, report, "bundles/one")}
    assert said == {NAME: "no-cache", report: "no-cache", "bundles/one": "public, max-age=31536000, immutable"}


async def put_by(mirror: Mirror, name: str) -> None:
    await mirror.put(name, b"report")
    await mirror.close()


def test_of_many_publishers_at_once_one_is_first(repository: ObjectStore) -> None:
    repository.replace(NAME, b"first", tag=None)
    found = repository.read(NAME, most=10)
    assert found
    results: list[bool] = []

    def replace(content: bytes) -> None:
        try:
            ObjectStore(ADDRESS).replace(NAME, content, tag=found.tag)
            results.append(True)
        except Problem:
            results.append(False)

    threads = [threading.Thread(target=replace, args=(bytes([65 + at]) * 5,)) for at in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(results) == [False] * 3 + [True]


async def test_a_host_fetches_from_a_bucket_heeds_its_brake_and_reports_into_it(
    repository: ObjectStore, mirror: Mirror, publisher: Publisher, tmp_path: Path
) -> None:
    publisher.use(repository)
    host = SubscribedHost(
        tmp_path / "web1",
        [mirror],
        signers=tmp_path / "signers",
        clock=PatientClock(),
        settings=Subscribe(repository=[ADDRESS]),
        reports=True,
    )
    async with following(host):
        await host.until("unreachable", code=Code.REPOSITORY_UNREACHABLE)
        await publisher.publish(files("v1"), "v1")
        await host.until("current", version="v1")
        await asyncio.to_thread(set_brake, repository, APP, CHANNEL, why="no")
        await publisher.publish(files("v2"), "v2")
        await host.until("waiting", version="v2", awaited="brake")
        await asyncio.to_thread(release_brake, repository, APP, CHANNEL)
        await host.until("current", version="v2")
        await host.polled(2)
        key = (await asyncio.to_thread(host.identity.public)).split()[1]
        member = Member("web1", public_bytes(key))
        [heard] = await asyncio.to_thread(read_reports, [repository], [member], app=APP, channel=CHANNEL)
        assert heard.report
        assert (heard.report.state, heard.report.live and heard.report.live.version) == ("current", "v2")


async def test_a_mirror_answers_as_the_port_says(mirror: Mirror, repository: ObjectStore, tmp_path: Path) -> None:
    await asyncio.to_thread(repository.replace, NAME, b"x" * 100, tag=None)
    answer = await mirror.read(NAME, most=200)
    assert answer
    assert answer.content == b"x" * 100
    assert len((await mirror.read(NAME, most=10) or answer).content) == 11
    assert await mirror.exists(NAME)
    assert not await mirror.exists("brakes/none")
    part = Partial(tmp_path / "part", size=100)
    await asyncio.to_thread(part.append, b"x" * 40, at=0)
    await mirror.fetch(NAME, part)
    assert (tmp_path / "part").read_bytes() == b"x" * 100
    with pytest.raises(Unreachable, match="no bell"):
        await mirror.bell("bells/x")
    await mirror.close()


def test_a_bucket_is_published_to_and_pruned_by_commands(
    repository: ObjectStore, tmp_path: Path, key: Path
) -> None:
    (tmp_path / "app-src/v1").mkdir(parents=True)
    (tmp_path / "app-src/v1/app.py").write_text("app = 1\n")
    (tmp_path / "pusher.toml").write_text(f'app = "{APP}"\nkey = "{key}"\nrepository = "{ADDRESS}/"\n')
    for words in (
        ("publish", "v1"),
        ("channel", "pause"),
        ("rollout", "pause"),
        ("rollout", "resume"),
        ("channel", "resume"),
        ("repository", "prune"),
    ):
        done = subprocess.run((*PUSHER, *words), cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    assert [one.name.partition("/")[0] for one in repository.names("")] == ["bundles", "channels", "releases"]


def test_without_the_library_the_line_that_installs_it_is_named(tmp_path: Path) -> None:
    script = (
        "import sys\nsys.modules['obstore'] = None\nsys.argv = ['pusher', 'channel', 'show', '--app', 'demo-app',"
        f" '--repository', '{ADDRESS}']\nfrom pusher.__main__ import main\nsys.exit(main())"
    )
    argv = (sys.executable, "-c", script)
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert done.returncode == 2
    assert "pip install 'pusher-agent[s3]'" in done.stderr
    script = (
        "import asyncio, sys\nsys.modules['obstore'] = None\n"
        "from agent.host.channel.object_store import ObjectStore\ntry:\n"
        f"    asyncio.run(ObjectStore('{ADDRESS}').exists('x'))\nexcept Exception as error:\n    print(error)"
    )
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, check=False)
    assert "pip install 'pusher-agent[s3]'" in done.stdout


@pytest.mark.parametrize(
    "address", ["s3://", "s3://A/x", "s3://bucket/../x", "s3://bucket/a b", "s3://u:p@bucket"]
)
def test_an_address_that_is_no_bucket_is_refused(address: str) -> None:
    with pytest.raises(Usage):
        open_repository(address)
    with pytest.raises(ValueError, match="is needed"):
        Subscribe(repository=[address])


def test_a_bucket_that_is_not_there_is_named(repository: ObjectStore, tmp_path: Path) -> None:
    other = ObjectStore("s3://another-bucket/x")
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(Problem, match="NoSuchBucket"):
        other.put("bundles/one", tmp_path / "source")
    with pytest.raises(NoAnswer, match="cannot be listed"):
        other.names("")


def test_credentials_do_not_leave_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables("http://store.example.com").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Usage, match="not used"):
        ObjectStore(ADDRESS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("machine x login y password secret-word\n", "form of AWS"),
        ("[other]\nx = secret-word\n", "form of AWS"),
        (credentials("http://store.example.com"), "in the clear"),
        (credentials("not an address"), "cannot be"),
        (None, "cannot be read"),
    ],
)
async def test_credentials_that_cannot_be_used_are_named_without_their_secrets(
    tmp_path: Path, text: str | None, said: str
) -> None:
    file = tmp_path / "credentials"
    if text is not None:
        file.write_text(text)
    with pytest.raises(Problem, match=said) as caught:
        await Mirror(ADDRESS, credentials=file, environment={}).exists(NAME)
    assert "secret-word" not in str(caught.value)
