"""Publishing to a web server that lies, breaks off or does not compare: nobody's word is lost, none is forged."""

import asyncio
import os
import threading
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agent.host.channel.object_store import ObjectStore as Mirror
from agent.host.channel.web import WebLimits
from agent.host.storage.partial import Partial
from pusher.errors import Unreachable, Usage
from pusher.repository.address import open_repository
from pusher.repository.object_store import ObjectStore
from pusher.repository.web_folder import WebFolder
from pusher.wire import Code, Problem, Refused
from tests.hostile.web_store import Store, storing
from tests.object_store import credentials, variables
from tests.web_server import Silent, WebServer, serving

NAME = "channels/flask-demo/stable"


@pytest.fixture
def store() -> Iterator[Store]:
    with storing() as made:
        yield made


@pytest.fixture
def repository(store: Store) -> WebFolder:
    return WebFolder(f"{store.address}/base")


def there(store: Store, name: str = NAME) -> bytes | None:
    return store.objects.get(f"/base/{name}")


def test_a_server_that_compares_is_published_to(repository: WebFolder, store: Store, tmp_path: Path) -> None:
    assert repository.read(NAME, most=10) is None
    repository.replace(NAME, b"x" * 11, tag=None)
    with pytest.raises(Refused, match="too large"):
        repository.read(NAME, most=10)
    found = repository.read(NAME, most=20)
    assert found
    for tag in (None, "another"):
        with pytest.raises(Refused, match="changed meanwhile"):
            repository.replace(NAME, b"y", tag=tag)
    repository.replace(NAME, b"y", tag=found.tag)
    (tmp_path / "source").write_bytes(b"content" * 100_000)
    assert repository.put("bundles/one", tmp_path / "source")
    assert not repository.put("bundles/one", tmp_path / "source")
    with repository.stream("bundles/one") as pieces:
        assert b"".join(pieces) == b"content" * 100_000
    with repository.stream("bundles/one") as pieces:
        assert next(pieces)
    with pytest.raises(Refused, match="no bundles/two"), repository.stream("bundles/two"):
        pass
    repository.remove("bundles/one")
    repository.remove("bundles/one")
    with pytest.raises(Usage, match="cannot be listed"):
        repository.names("")
    assert there(store) == b"y"


@pytest.mark.parametrize("before", [None, b"first"])
def test_a_server_that_ignores_conditions_is_not_published_to(
    repository: WebFolder, store: Store, before: bytes | None
) -> None:
    if before is not None:
        store.objects[f"/base/{NAME}"] = before
    found = repository.read(NAME, most=100)
    store.faults.add("ignores conditions")
    with pytest.raises(Refused, match="ignores If-Match"):
        repository.replace(NAME, b"mine", tag=found.tag if found else None)
    assert there(store) == before


def test_the_brake_is_set_also_where_nothing_else_can_be_written(repository: WebFolder, store: Store) -> None:
    store.faults.add("ignores conditions")
    repository.replace("brakes/flask-demo/stable", b"{}", tag=None)
    assert there(store, "brakes/flask-demo/stable") == b"{}"


@pytest.mark.parametrize("fault", ["no tags", "weak tags"])
def test_a_tag_that_compares_nothing_is_not_relied_on(repository: WebFolder, store: Store, fault: str) -> None:
    repository.replace(NAME, b"first", tag=None)
    found = repository.read(NAME, most=100)
    assert found
    store.faults.add(fault)
    with pytest.raises(Refused, match="ETag"):
        repository.replace(NAME, b"second", tag=found.tag)
    assert there(store) == b"first"


def test_of_many_publishers_at_once_one_is_first(store: Store) -> None:
    store.objects[f"/base/{NAME}"] = b"first"
    results: list[bool] = []
    ready = threading.Barrier(6)

    def replace(content: bytes) -> None:
        mine = WebFolder(f"{store.address}/base")
        found = mine.read(NAME, most=10)
        assert found
        ready.wait()
        try:
            mine.replace(NAME, content, tag=found.tag)
            results.append(True)
        except Problem:
            results.append(False)

    threads = [threading.Thread(target=replace, args=(bytes([65 + at]) * 5,)) for at in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(results) == [False] * 5 + [True]


@pytest.mark.parametrize("fault", ["puts twice", "loses the answer"])
def test_what_is_in_place_is_success_whatever_became_of_the_answer(
    repository: WebFolder, store: Store, tmp_path: Path, fault: str
) -> None:
    store.faults.add(fault)
    repository.replace(NAME, b"mine", tag=None)
    assert there(store) == b"mine"
    (tmp_path / "source").write_bytes(b"content")
    repository.put("bundles/one", tmp_path / "source")
    assert there(store, "bundles/one") == b"content"


@pytest.mark.parametrize("fault", ["keeps nothing", "halves", "is overtaken"])
def test_a_yes_that_is_not_kept_is_noticed(
    repository: WebFolder, store: Store, tmp_path: Path, fault: str
) -> None:
    store.faults.add(fault)
    with pytest.raises(Problem, match="not what was put there"):
        repository.replace(NAME, b"mine", tag=None)
    (tmp_path / "source").write_bytes(b"content")
    with pytest.raises(Problem, match="not what was put there"):
        repository.put("bundles/one", tmp_path / "source")


def test_a_bundle_that_was_cut_off_is_put_anew(repository: WebFolder, store: Store, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"content")
    store.objects["/base/bundles/one"] = b"cont"
    assert repository.put("bundles/one", tmp_path / "source")
    assert there(store, "bundles/one") == b"content"


@pytest.mark.parametrize("fault", ["endless", "drips", "cuts off", "redirects", "gzip"])
def test_answers_without_an_end_or_from_elsewhere_are_not_read(
    repository: WebFolder, store: Store, tmp_path: Path, fault: str
) -> None:
    store.objects[f"/base/{NAME}"] = b"x" * 1000
    store.faults.add(fault)
    with pytest.raises(Problem) as caught:
        repository.read(NAME, most=2000)
    assert caught.value.code in (Code.INTERRUPTED, Code.REPOSITORY_REDIRECTS, Code.LIMIT_EXCEEDED)
    if fault in ("cuts off", "redirects"):
        with pytest.raises(Problem), repository.stream(NAME) as pieces:
            list(pieces)
    assert not [path for method, path in store.asked if method == "PUT"]


@pytest.mark.parametrize(
    ("fault", "said"), [("refuses early", "you may not"), ("broken", "503"), ("read only", "405")]
)
def test_a_refusal_is_told_also_in_the_middle_of_a_bundle(
    repository: WebFolder, store: Store, tmp_path: Path, fault: str, said: str
) -> None:
    store.faults.add(fault)
    (tmp_path / "large").write_bytes(os.urandom(8_000_000))
    with pytest.raises(Problem, match=said):
        repository.put("bundles/one", tmp_path / "large")
    with pytest.raises(Problem, match=said):
        repository.replace(NAME, b"mine", tag=None)
    assert store.objects == {}


@pytest.mark.parametrize(
    "address",
    [
        "http://deploy.example.com/repo",
        "https://user:word@host/repo",
        "https://host/a b",
        "https://host/../x",
        "https://host:99999/x",
        "https://[:]/x",
        "https:///x",
        "https://host/x?y=1",
        "http://127.0.0.1.evil.example/x",
    ],
)
def test_an_address_that_would_send_a_login_in_the_clear_or_is_none_is_not_used(address: str) -> None:
    with pytest.raises(Usage):
        open_repository(address)


def test_a_login_goes_to_its_host_alone(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="cannot be read"):
        open_repository("https://h/x", credentials=str(tmp_path / "none"))
    (tmp_path / "bad").write_text("machine h login secret-word\nnonsense")
    with pytest.raises(Usage) as caught:
        open_repository("https://h/x", credentials=str(tmp_path / "bad"))
    assert "secret-word" not in str(caught.value)


def test_many_threads_share_a_few_connections(repository: WebFolder, store: Store) -> None:
    store.objects[f"/base/{NAME}"] = b"x" * 1000
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: repository.read(NAME, most=1000), range(300)))
    assert [len(one.content) for one in found if one] == [1000] * 300


def test_what_the_reader_of_a_bundle_raises_is_not_the_servers_fault(repository: WebFolder, store: Store) -> None:
    store.objects[f"/base/{NAME}"] = b"x" * 1000

    def read() -> None:
        with repository.stream(NAME) as pieces:
            assert next(pieces)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        read()


def test_nobody_there_is_unreachable(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = store.address
    store.shutdown()
    store.server_close()
    with pytest.raises(Unreachable):
        WebFolder(gone).read(NAME, most=1)
    monkeypatch.setenv("https_proxy", "socks5://me:s3cr@t@127.0.0.1:1")
    with pytest.raises(Unreachable, match=r"The proxy socks5://127\.0\.0\.1:1 is not used: only http:// proxies"):
        WebFolder("https://deploy.example.com").read(NAME, most=1)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with pytest.raises(Unreachable, match="does not answer"):
        WebFolder("https://deploy.example.com").read(NAME, most=1)


def test_a_proxy_gets_its_own_login(monkeypatch: pytest.MonkeyPatch) -> None:
    class Proxy(Silent, BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append((self.path, self.headers.get("Proxy-Authorization")))
            self.send_error(503)

    asked: list[tuple[str, str | None]] = []
    with serving(WebServer(Proxy)) as server:
        for login in ("me:s3cr%40t@", ""):
            monkeypatch.setenv("https_proxy", f"http://{login}127.0.0.1:{server.server_port}")
            with pytest.raises(Unreachable, match=r"does not answer: .*503"):
                WebFolder("https://deploy.example.com").read(NAME, most=1)
    word = b64encode(b"me:s3cr@t").decode()
    assert asked == [("deploy.example.com:443", f"Basic {word}"), ("deploy.example.com:443", None)]


# --- a bucket is a web server, too ----------------------------------------------------------------------------


@pytest.fixture
def bucket(store: Store, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    for name, value in variables(store.address).items():
        monkeypatch.setenv(name, value)
    return ObjectStore("s3://bucket/base")


def test_a_store_that_ignores_conditions_is_not_published_to(bucket: ObjectStore, store: Store) -> None:
    store.faults.add("ignores conditions")
    with pytest.raises(Refused, match="ignores If-Match"):
        bucket.replace(NAME, b"mine", tag=None)
    assert [path for path in store.objects if "channels" in path] == []


@pytest.mark.parametrize("fault", ["endless", "drips", "cuts off", "redirects", "broken"])
async def test_a_store_that_lies_is_read_within_bounds_and_followed_nowhere(
    bucket: ObjectStore, store: Store, tmp_path: Path, fault: str
) -> None:
    path = f"/bucket/base/{NAME}"
    (tmp_path / "credentials").write_text(credentials(store.address))
    mirror = Mirror(
        "s3://bucket/base",
        limits=WebLimits(connect_s=5, stall_s=1, small_s=2),
        credentials=tmp_path / "credentials",
        environment={},
    )
    store.faults.add(fault)
    with pytest.raises(Problem) as caught:
        await asyncio.to_thread(bucket.replace, NAME, b"mine", tag=None)
    problems = [str(caught.value)]
    if fault != "broken":
        store.objects[path] = b"x" * 1000
        part = Partial(tmp_path / "part", size=500)
        with pytest.raises(Problem) as caught:
            await mirror.fetch(NAME, part)
        problems.append(str(caught.value))
        assert await asyncio.to_thread(part.arrived) <= 500
    else:
        with pytest.raises(Problem) as caught:
            await mirror.put(NAME, b"report")
        problems.append(str(caught.value))
    await mirror.close()
    assert not [one for one in problems if "Amz" in one or "secret" in one]
    assert all(one.startswith("/bucket/base/") for _, one in store.asked)


def test_a_server_without_https_is_not_called_untrusted(store: Store) -> None:
    with pytest.raises(Unreachable, match=r"does not answer: .*SSL"):
        WebFolder(store.address.replace("http:", "https:")).read(NAME, most=1)


def test_an_address_without_https_is_shown_with_it() -> None:
    with pytest.raises(Usage, match=r"Use https://web\.example\.com:8180/base, or ssh://"):
        WebFolder("http://web.example.com:8180/base")
