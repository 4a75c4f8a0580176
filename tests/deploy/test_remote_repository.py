"""A repository on another machine, by a real sshd, flock and rsync."""

import threading
from pathlib import Path

import pytest

from pusher.errors import Unreachable, Usage
from pusher.repository.address import open_repository
from pusher.repository.remote_folder import RemoteFolder
from pusher.transport.hosts import Ssh
from pusher.wire import Failed, Refused
from tests.host import make_key
from tests.ports import free_port
from tests.publishing import APP, Publisher
from tests.sshd import MISSING, USER, Server

pytestmark = pytest.mark.skipif(MISSING, reason="sshd can only be run by root")


@pytest.fixture
def repository(server: Server, tmp_path: Path) -> RemoteFolder:
    server.admit("")
    return RemoteFolder(Ssh("127.0.0.1", USER, server.port, ""), f"{tmp_path}/repo", ssh=server.ssh)


def test_it_answers_as_the_port_says(repository: RemoteFolder, tmp_path: Path) -> None:
    assert repository.read("channels/a", most=10) is None
    assert repository.names("") == []
    repository.replace("channels/a", b"x" * 11, tag=None)
    with pytest.raises(Refused, match="too large"):
        repository.read("channels/a", most=10)
    found = repository.read("channels/a", most=20)
    assert found
    with pytest.raises(Refused, match="changed meanwhile"):
        repository.replace("channels/a", b"y", tag=None)
    repository.replace("channels/a", b"y", tag=found.tag)
    with pytest.raises(Refused, match="changed meanwhile"):
        repository.replace("channels/a", b"z", tag=found.tag)
    (tmp_path / "source").write_bytes(b"content" * 100_000)
    assert repository.put("bundles/one", tmp_path / "source")
    assert not repository.put("bundles/one", tmp_path / "source")
    with repository.stream("bundles/one") as pieces:
        assert b"".join(pieces) == b"content" * 100_000
    with repository.stream("bundles/one") as pieces:
        assert next(pieces)
    with pytest.raises(Refused, match="no bundles/two"), repository.stream("bundles/two"):
        pass
    assert [(one.name, one.size) for one in repository.names("bundles/")] == [("bundles/one", 700_000)]
    repository.remove("bundles/one")
    repository.remove("bundles/one")
    assert [one.name for one in repository.names("")] == ["channels/a"]


def test_it_tells_what_was_left_of_writes_that_were_cut_off(repository: RemoteFolder, tmp_path: Path) -> None:
    assert repository.unfinished() == []
    repository.replace("channels/a/b", b"x", tag=None)
    name = f"{'0a' * 32}.tar.zst"
    left = [f"bundles/.{name}.123", f"bundles/.{name}.aBcDeF", f"bundles/.partial/{name}", "channels/a/.b.new"]
    for one in left:
        (tmp_path / "repo" / one).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repo" / one).write_bytes(b"xy")
    (tmp_path / "repo/bundles/.htaccess").touch()
    assert [(one.name, one.size) for one in repository.unfinished()] == [(one, 2) for one in left]
    assert [one.name for one in repository.names("")] == ["channels/a/b"]
    repository.remove(left[2])
    assert [one.name for one in repository.unfinished()] == [left[0], left[1], left[3]]


def test_of_many_publishers_at_once_one_is_first(repository: RemoteFolder) -> None:
    repository.replace("channels/b", b"first", tag=None)
    found = repository.read("channels/b", most=10)
    assert found
    results: list[bool] = []

    def replace(content: bytes) -> None:
        try:
            repository.replace("channels/b", content, tag=found.tag)
            results.append(True)
        except Refused:
            results.append(False)

    threads = [threading.Thread(target=replace, args=(bytes([65 + at]) * 5,)) for at in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(results) == [False] * 3 + [True]


def test_an_object_that_did_not_arrive_whole_replaces_nothing(
    repository: RemoteFolder, server: Server, tmp_path: Path
) -> None:
    repository.replace("channels/c", b"what was there", tag=None)
    found = repository.read("channels/c", most=100)
    assert found
    broken = tmp_path / "ssh"
    broken.write_text(f'#!/bin/sh\nhead -c 10 | {server.ssh} "$@"\n')
    broken.chmod(0o755)
    cut_off = RemoteFolder(Ssh("127.0.0.1", USER, server.port, ""), f"{tmp_path}/repo", ssh=str(broken))
    with pytest.raises(Failed, match="did not arrive whole"):
        cut_off.replace("channels/c", b"what should be there", tag=found.tag)
    assert repository.read("channels/c", most=100) == found


def test_a_release_is_published_there(repository: RemoteFolder, tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    publisher = Publisher(tmp_path / "repo", key=tmp_path / "key")
    publisher.use(repository)
    first = publisher.put({"app.py": "v1", "requirements.txt": ""}, "v1")
    publisher.name(first)
    publisher.name(publisher.put({"app.py": "v2", "requirements.txt": ""}, "v2"))
    assert (tmp_path / f"repo/channels/{APP}/stable").stat().st_size > 500
    assert len(list((tmp_path / "repo/bundles").iterdir())) == 3


def test_what_cannot_be_written_or_reached_is_named(server: Server, tmp_path: Path) -> None:
    server.admit("")
    (tmp_path / "file").touch()
    there = RemoteFolder(Ssh("127.0.0.1", USER, server.port, ""), f"{tmp_path}/file", ssh=server.ssh)
    with pytest.raises(Failed, match="Could not"):
        there.replace("channels/a", b"x", tag=None)
    nowhere = RemoteFolder(Ssh("127.0.0.1", USER, free_port(), ""), "/repo", ssh=server.ssh)
    with pytest.raises(Unreachable):
        nowhere.read("a", most=1)
    for address in ("ssh://host", "ssh://host/a b", "ssh://host/../x", "ssh://host/$(id)"):
        with pytest.raises(Usage):
            open_repository(address)
