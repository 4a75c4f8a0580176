"""The log as entries of the journal: its fields, and a journal that accepts nothing."""

import array
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.host.log import journald
from agent.host.log.journald import Journald, encode, entry, field_name, is_journal


def fields_of(raw: bytes) -> list[tuple[str, str]]:
    """An entry as journald reads it."""
    found = []
    while raw:
        name, _, rest = raw.partition(b"\n")
        (length,) = struct.unpack_from("<Q", rest)
        found.append((name.decode(), rest[8 : 8 + length].decode()))
        assert rest[8 + length : 9 + length] == b"\n"
        raw = rest[9 + length :]
    return found


def written(**event: object) -> dict[str, str]:
    return dict(fields_of(entry(None, "info", event)))


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(tmp_path / "socket"))
        yield sock


def test_an_event_is_a_line_for_people_and_a_field_for_each_key() -> None:
    fields = written(deployment="shop-1", app="shop", ms=12, event="deployment_finished", level="error", live=None)
    assert fields == {
        "MESSAGE": "deployment_finished deployment=shop-1 app=shop ms=12 live=None",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "pusher-agent",
        "EVENT": "deployment_finished",
        "DEPLOYMENT": "shop-1",
        "APP": "shop",
        "MS": "12",
    }


def test_a_list_is_a_field_with_several_values() -> None:
    raw = entry(None, "info", {"event": "ready", "apps": ["a", "b"]})
    assert [value for name, value in fields_of(raw) if name == "APPS"] == ["a", "b"]
    assert dict(fields_of(raw))["MESSAGE"] == "ready apps=a,b"


def test_a_traceback_follows_the_line() -> None:
    assert written(event="internal_error", exception="Traceback:\n  here")["MESSAGE"] == (
        "internal_error\nTraceback:\n  here"
    )


def test_no_value_becomes_another_field_and_none_of_ours_is_overwritten() -> None:
    hostile = "x\nPRIORITY=0\n_UID=0\nMESSAGE\n" + "\0" * 8
    fields = fields_of(entry(None, "info", {"event": "request", "path": hostile, "message": "m", "priority": 0}))
    assert [name for name, _ in fields] == ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "EVENT", "PATH"]
    assert dict(fields)["PATH"] == hostile
    assert "\n" not in dict(fields)["MESSAGE"]
    assert encode([("A", "\ud800")]).endswith(b"\\ud800\n")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("app", "APP"),
        ("pause_s", "PAUSE_S"),
        ("_pid", "PID"),
        ("1a-b é", "A_B__"),
        ("x" * 99, "X" * 64),
        ("_", "FIELD"),
    ],
)
def test_any_key_becomes_a_name_that_the_journal_takes(key: str, name: str) -> None:
    assert field_name(key) == name


def test_an_entry_that_the_journal_does_not_accept_is_sent_before_the_next_one(tmp_path: Path) -> None:
    log = Journald(tmp_path / "socket")
    log.info(b"first")
    log.error(b"second")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(tmp_path / "socket"))
        log.info(b"third")
        assert [sock.recv(100) for _ in range(3)] == [b"first", b"second", b"third"]


def test_a_journal_that_reads_nothing_blocks_nothing(listening: socket.socket) -> None:
    log = Journald(Path(listening.getsockname()))
    for number in range(2_000):
        log.info(b"%d" % number)
    kept: list[int] = []
    while 1_999 not in kept:
        log.info(b"2000")
        with suppress(BlockingIOError):
            while True:
                kept.append(int(listening.recv(100)))
    numbers = [one for one in kept if one < 2_000]
    assert numbers == sorted(numbers)
    assert len(numbers) > 200  # the newest waited, the oldest of those that waited were dropped


def test_a_large_entry_travels_as_a_sealed_file(listening: socket.socket) -> None:
    log = Journald(Path(listening.getsockname()))
    large = encode([("MESSAGE", "x" * 3_000_000)])
    log.error(large)
    data, ancillary, _, _ = listening.recvmsg(1, socket.CMSG_SPACE(4))
    assert data == b""
    file = array.array("i", ancillary[0][2])[0]
    assert os.pread(file, len(large) + 1, 0) == large
    with pytest.raises(PermissionError):
        os.pwrite(file, b"y", 0)
    os.close(file)


def test_only_a_stream_that_the_journal_reads_is_one(tmp_path: Path) -> None:
    file = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
    stat = os.fstat(file)
    assert is_journal(file, {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"})
    assert not is_journal(file, {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino + 1}"})
    assert not is_journal(file, {})
    os.close(file)
    assert not is_journal(file, {"JOURNAL_STREAM": "1:1"})
    assert str(journald.SOCKET) == "/run/systemd/journal/socket"
