"""A repository on another machine, by a real sshd, flock and rsync."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pusher.errors import Unreachable, Usage
from pusher.repository import remote_folder
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


def test_a_host_is_named_by_its_address_too(server: Server, tmp_path: Path) -> None:
    server.admit("")
    # The address of IPv6 is spelled, and 127.0.0.1 is reached, for a machine may have no IPv6.
    ssh = f"{server.ssh} -o HostName=127.0.0.1 -o HostKeyAlias=[127.0.0.1]:{server.port}"
    repository = RemoteFolder(Ssh("::1", USER, server.port, ""), f"{tmp_path}/repo", ssh=ssh)
    assert repository.address == f"ssh://{USER}@[::1]:{server.port}{tmp_path}/repo"
    repository.replace("channels/a", b"x", tag=None)
    (tmp_path / "source").write_bytes(b"content")
    assert repository.put("bundles/one", tmp_path / "source")
    assert (tmp_path / "repo/bundles/one").read_bytes() == b"content"


@pytest.mark.parametrize("folder", ["a b", "it's", "50%", "long" * 30])
def test_temporary_files_may_lie_in_any_folder(server: Server, tmp_path: Path, folder: str) -> None:
    server.admit("")
    (tmp_path / folder).mkdir()
    (tmp_path / "source").write_bytes(b"content")
    script = (
        "import sys\nfrom pathlib import Path\nfrom pusher.transport.hosts import Ssh\n"
        "from pusher.repository.remote_folder import RemoteFolder\nuser, port, repo, ssh, file = sys.argv[1:]\n"
        "there = RemoteFolder(Ssh('127.0.0.1', user, int(port), ''), repo, ssh=ssh)\n"
        "there.put('bundles/one', Path(file))\nprint(there.read('bundles/one', most=10).content)"
    )
    words = (USER, str(server.port), f"{tmp_path}/repo", server.ssh, str(tmp_path / "source"))
    environment = os.environ | {"TMPDIR": str(tmp_path / folder)}
    done = subprocess.run(
        (sys.executable, "-c", script, *words), env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "b'content'\n", done.stderr


def test_what_cannot_be_looked_at_is_not_called_absent(repository: RemoteFolder, tmp_path: Path) -> None:
    (tmp_path / "repo").touch()
    with pytest.raises(Failed, match="Could not list"):
        repository.names("")
    (tmp_path / "repo").unlink()
    repository.replace("channels/a/b", b"x", tag=None)
    (tmp_path / "repo/channels/a/loop").symlink_to(tmp_path / "repo/channels")
    with pytest.raises(Failed, match="Could not list"):
        repository.names("channels/")
    (tmp_path / "repo/channels/a/loop").unlink()
    (tmp_path / "repo/channels/a").rename(tmp_path / "elsewhere")
    (tmp_path / "repo/channels/a").symlink_to(tmp_path / "elsewhere")
    assert [one.name for one in repository.names("channels/")] == ["channels/a/b"]


def test_a_stream_that_cannot_be_read_is_no_empty_one(
    repository: RemoteFolder, server: Server, tmp_path: Path
) -> None:
    repository.replace("channels/a", b"x", tag=None)
    (tmp_path / "repo/bundles/one").mkdir(parents=True)
    with pytest.raises(Failed, match="Could not read"), repository.stream("bundles/one"):
        pass
    nowhere = RemoteFolder(Ssh("127.0.0.1", USER, free_port(), ""), "/repo", ssh=server.ssh)
    with pytest.raises(Unreachable), nowhere.stream("bundles/one"):
        pass


def test_a_connection_that_falls_silent_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a network breaks in the middle of a rollout: nobody closes it then. ssh itself tries another one."""
    server.admit("")
    monkeypatch.setattr(remote_folder, "ALIVE_S", 1)
    repository = RemoteFolder(Ssh("127.0.0.1", USER, server.port, ""), f"{tmp_path}/repo", ssh=server.ssh)
    before = server.sessions()
    repository.replace("channels/a", b"x", tag=None)  # this opens the connection
    [session] = {*server.sessions()} - {*before}
    os.kill(session, signal.SIGSTOP)
    try:
        assert repository.read("channels/flask-demo/stable", most=100) is None
    finally:
        os.kill(session, signal.SIGCONT)


def test_a_shell_that_greets_is_named(server: Server, tmp_path: Path) -> None:
    server.admit("")
    greeting = tmp_path / "ssh"
    greeting.write_text(f'#!/bin/sh\necho Welcome\nexec {server.ssh} "$@"\n')
    greeting.chmod(0o755)
    (tmp_path / "repo/channels/a").mkdir(parents=True)
    (tmp_path / "repo/channels/a/b").touch()
    there = RemoteFolder(Ssh("127.0.0.1", USER, server.port, ""), f"{tmp_path}/repo", ssh=str(greeting))
    with pytest.raises(Failed, match="prints something"):
        there.names("")


def test_no_more_of_a_large_object_is_read_than_was_asked_for(
    repository: RemoteFolder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    repository.replace("channels/a", b"x", tag=None)
    with (tmp_path / "repo/channels/b").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Refused, match="too large"):
        repository.read("channels/b", most=10)


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
