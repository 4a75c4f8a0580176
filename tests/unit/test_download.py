"""Files of packages, fetched to the sender: from where a lock says, with a login for that place alone."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from pusher.dependencies.download import download
from pusher.errors import Usage
from tests.web_server import Silent, WebServer, serving

CONTENT = b"an archive"
HASHES = [f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"]
LOGIN = "Basic " + b64encode(b"me:s3cr@t").decode()


class Store(WebServer):
    """Answers with a file, or leads to `elsewhere`; `logins` came with the requests."""

    def __init__(self) -> None:
        super().__init__(_Answers)
        self.elsewhere = ""
        self.logins: list[str | None] = []


class _Answers(Silent, BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        self.server.logins.append(self.headers.get("Authorization"))
        leads = self.server.elsewhere and self.path != "/file"
        self.send_response(302 if leads else 200)
        if leads:
            self.send_header("Location", self.server.elsewhere)
        self.send_header("Content-Length", "0" if leads else str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(b"" if leads else CONTENT)


@pytest.fixture
def stores() -> Iterator[list[Store]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(Store())) for _ in range(2)]


def test_a_login_does_not_go_to_where_an_index_leads(stores: list[Store], tmp_path: Path) -> None:
    index, store = stores
    index.elsewhere = f"{store.address}/file"
    download(f"http://me:s3cr%40t@127.0.0.1:{index.server_port}/a.whl", tmp_path / "a.whl", hashes=HASHES)
    assert (tmp_path / "a.whl").read_bytes() == CONTENT
    assert (index.logins, store.logins) == ([LOGIN], [None])


def test_a_login_goes_along_within_one_server(stores: list[Store], tmp_path: Path) -> None:
    index = stores[0]
    index.elsewhere = "/file"
    download(f"http://me:s3cr%40t@127.0.0.1:{index.server_port}/a.whl", tmp_path / "a.whl", hashes=HASHES)
    assert index.logins == [LOGIN, LOGIN]


@pytest.mark.parametrize(
    "place", ["127.0.0.1:1/a.whl", "127.0.0.1:1/a b.whl", "127.0.0.1:none/a.whl", "[::1/a.whl"]
)
def test_what_cannot_be_fetched_is_named_without_the_login(place: str, tmp_path: Path) -> None:
    with pytest.raises(Usage, match=r"a\.whl cannot be fetched") as refused:
        download(f"http://me:s3cr@t@{place}", tmp_path / "a.whl", hashes=HASHES)
    assert "s3cr" not in str(refused.value)
    assert refused.value.hint == f"From http://{place}"


def test_a_file_with_another_digest_is_removed(stores: list[Store], tmp_path: Path) -> None:
    with pytest.raises(Usage, match="its digest is not the one in the lock"):
        download(f"{stores[0].address}/a.whl", tmp_path / "a.whl", hashes=["sha256:0"])
    assert not (tmp_path / "a.whl").exists()
