"""Another user of this machine answers in the agent's place: nothing is sent there, and nothing is deleted."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pusher.errors import Unreachable
from pusher.transport import drop_place
from pusher.transport.client import Client
from pusher.transport.hosts import Host, Loopback, Ssh, Unix, connect
from pusher.wire import DROP_MARK, DROP_ROOT, Refused, drop_mark

STRANGER = 12_345
APP = "flask-demo"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
pytestmark = pytest.mark.root


@contextmanager
def as_stranger() -> Iterator[None]:
    """What is made meanwhile is another user's."""
    os.seteuid(STRANGER)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def listening(address: str | tuple[str, int], family: socket.AddressFamily) -> Iterator[socket.socket]:
    with socket.socket(family) as sock:
        sock.bind(address)
        sock.listen()
        sock.setblocking(False)
        yield sock


def heard(sock: socket.socket) -> bytes:
    """What came to a listener by now."""
    try:
        visitor, _ = sock.accept()
    except BlockingIOError:
        return b""
    with visitor:
        return visitor.recv(100)


@as_root
def test_to_another_users_socket_nothing_is_said(tmp_path: Path) -> None:
    with as_stranger(), listening(("127.0.0.1", 0), socket.AF_INET) as tcp:
        port = tcp.getsockname()[1]
        os.seteuid(0)
        client = Client(Host("web1", Loopback("127.0.0.1", port)))
        with pytest.raises(
            Unreachable, match=f"is not the agent of web1: it is run by uid {STRANGER}, and not by"
        ):
            client.status()
        assert heard(tcp) == b""
    tmp_path.chmod(0o777)
    for above in tmp_path.parents[:3]:
        above.chmod(above.stat().st_mode | 0o011)
    with as_stranger(), listening(str(tmp_path / "s"), socket.AF_UNIX) as unix:
        os.seteuid(0)
        with pytest.raises(Unreachable, match=f"is run by uid {STRANGER}"):
            Client(Host("web1", Unix(str(tmp_path / "s")))).status()
        assert heard(unix) == b""


@as_root
def test_a_user_who_is_named_as_the_owner_of_the_agent_may_be_it() -> None:
    os.seteuid(1)  # daemon
    try:
        with listening(("127.0.0.1", 0), socket.AF_INET) as tcp:
            os.seteuid(0)
            port = tcp.getsockname()[1]
            connect(Host("web1", Loopback("127.0.0.1", port, "daemon")), ssh="ssh").close()
            with pytest.raises(Unreachable, match="is run by daemon"):
                connect(Host("web1", Loopback("127.0.0.1", port)), ssh="ssh")
    finally:
        os.seteuid(0)


def folder(root: Path) -> Path:
    """A drop directory as an embedded agent makes it beneath a root."""
    made = root / DROP_ROOT.lstrip("/") / APP
    made.mkdir(parents=True)
    (made / DROP_MARK).write_bytes(drop_mark(APP))
    return made


HERE = Host("web1", Loopback("127.0.0.1", 9000))
THERE = Host("web1", Ssh("web1"))


def test_a_drop_goes_to_the_folder_that_an_agent_has_marked(tmp_path: Path) -> None:
    made = folder(tmp_path)
    assert drop_place.place(HERE, APP, str(made)) == str(made)
    (tmp_path / "link").symlink_to(tmp_path)
    assert drop_place.place(HERE, APP, f"{tmp_path}/link{DROP_ROOT}/{APP}") == str(made)
    assert drop_place.place(THERE, APP, None) == drop_place.place(THERE, APP, f"{DROP_ROOT}/{APP}")
    assert drop_place.place(Host("web1", Ssh("web1"), "/srv/drop"), APP, f"/srv/drop/{APP}") == f"/srv/drop/{APP}"


@pytest.mark.parametrize(
    "named",
    ["/", "/home/operator", "/root", f"{DROP_ROOT}/other", f"{DROP_ROOT}/{APP}/../../../../root", DROP_ROOT, "//",
     f"{DROP_ROOT}/{APP}/tree", f"{DROP_ROOT}/{APP}/", f"/tmp/x{DROP_ROOT}/{APP}"],
)  # fmt: skip
def test_a_server_elsewhere_names_no_other_folder(named: str) -> None:
    with pytest.raises(Refused, match="Nothing is dropped on web1: it names"):
        drop_place.place(THERE, APP, named)


@pytest.mark.parametrize("name", ["", "Documents", f"var/lib/pusher-agent/drop/{APP}x", "drop"])
def test_a_server_here_names_no_folder_of_the_operators(name: str, tmp_path: Path) -> None:
    victim = tmp_path / name
    victim.mkdir(parents=True, exist_ok=True)
    (victim / DROP_MARK).write_bytes(drop_mark(APP))
    with pytest.raises(Refused, match="Nothing is dropped on web1"):
        drop_place.place(HERE, APP, str(victim))


def test_a_path_that_only_looks_like_a_drop_directory_is_none(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / DROP_MARK).write_bytes(drop_mark(APP))
    lure = tmp_path / "lure" / DROP_ROOT.lstrip("/")
    lure.mkdir(parents=True)
    (lure / APP).symlink_to(tmp_path / "victim")
    with pytest.raises(Refused, match="leads to"):
        drop_place.place(HERE, APP, str(lure / APP))


def test_a_folder_without_the_mark_of_its_app_is_left_alone(tmp_path: Path) -> None:
    made = folder(tmp_path)
    mark = made / DROP_MARK
    for text in (drop_mark("other"), b"", drop_mark(APP) + b"x"):
        mark.write_bytes(text)
        with pytest.raises(Refused, match="not the mark of an agent"):
            drop_place.place(HERE, APP, str(made))
    mark.unlink()
    with pytest.raises(Unreachable, match=r"no drop directory of flask-demo on web1: .*pusher-drop is not there"):
        drop_place.place(HERE, APP, str(made))
    (tmp_path / "elsewhere").write_bytes(drop_mark(APP))
    mark.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="Too many levels of symbolic links"):
        drop_place.place(HERE, APP, str(made))
    mark.unlink()
    os.mkfifo(mark)
    with pytest.raises(Refused, match="not the mark of an agent"):
        drop_place.place(HERE, APP, str(made))


@as_root
def test_a_folder_that_another_user_made_or_may_replace_is_left_alone(tmp_path: Path) -> None:
    made = folder(tmp_path)
    for place, why in (
        (made / DROP_MARK, "not the mark"),
        (made, "belongs to"),
        (made.parent.parent, "be changed"),
    ):
        os.chown(place, STRANGER, STRANGER)
        with pytest.raises(Refused, match=why):
            drop_place.place(HERE, APP, str(made))
        os.chown(place, 0, 0)
    made.parent.chmod(0o777)
    with pytest.raises(Refused, match="can be changed by others"):
        drop_place.place(HERE, APP, str(made))
    made.parent.chmod(0o1777)
    assert drop_place.place(HERE, APP, str(made)) == str(made)
