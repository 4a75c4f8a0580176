"""A server that lies to the command line: whatever it says, the command ends, stays small, and deletes nothing."""

import itertools
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pusher.errors import Unreachable
from pusher.transport.client import Client
from pusher.wire import Event, Happened
from tests.host import make_key
from tests.hostile.liar import CHUNKED, OK, Liar, chunk, document, lying

PATIENT_S, HASTY_S = 5.0, 0.3
REPOSITORY = Path(__file__).parent.parent.parent
NOTHING = threading.Event()
PAUSE_S = 0.02
PLENTY = 256 * 1024**2
"""What an attack may send at most: one that is not stopped before has got through."""


@contextmanager
def asking(
    answer: Callable[[bytes], Iterable[bytes]], *, within_s: float = PATIENT_S
) -> Iterator[tuple[Client, Liar]]:
    with lying(answer) as liar:
        client = Client(liar.host, answer_s=within_s, whole_s=within_s)
        try:
            yield client, liar
        finally:
            client.close()


def endless(piece: bytes, *, first: bytes = b"") -> Callable[[bytes], Iterable[bytes]]:
    """The same again and again, after something else; in large portions, so that the test is quick."""
    portion = piece * max(1, 65536 // len(piece))
    return lambda head: itertools.chain([first], itertools.repeat(portion, PLENTY // len(portion)))


def dripping(piece: bytes, *, first: bytes = b"") -> Callable[[bytes], Iterable[bytes]]:
    """One small piece at a time, each long before anybody gives up on the connection."""

    def pieces(head: bytes) -> Iterator[bytes]:
        yield first
        for _ in range(int(20 / PAUSE_S)):
            yield piece
            NOTHING.wait(PAUSE_S)

    return pieces


ENDLESS = {
    "100 Continue": endless(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "100 Continue with headers": endless(b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n"),
    "a status line": endless(b"x", first=b"HTTP/1.1 200 "),
    "headers": endless(b"X-Header: value\r\n", first=OK),
    "one header": endless(b"x", first=OK + b"X-Header: "),
    "a continued header": endless(b" more\r\n", first=OK + b"X-Header: a\r\n"),
    "a chunk's extension": endless(b"x", first=CHUNKED + b"1;"),
    "chunks' extensions": endless(chunk(b" ", extension=b";" + b"x" * 60_000), first=CHUNKED),
    "chunks": endless(chunk(b" "), first=CHUNKED),
    "one chunk": endless(b" ", first=CHUNKED + b"ffffffffffff\r\n"),
    "a negative chunk": endless(b" ", first=CHUNKED + b"-1\r\n"),
    "a trailer": endless(b"X-Trailer: value\r\n", first=CHUNKED + chunk(b"{}") + b"0\r\n"),
    "a body": endless(b" ", first=OK + b"\r\n"),
    "a body of a length": endless(b" ", first=OK + b"Content-Length: 99999999999999\r\n\r\n"),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_an_answer_without_an_end_is_given_up(what: str) -> None:
    with asking(ENDLESS[what]) as (client, liar), pytest.raises(Unreachable):
        client.status()
    assert liar.sent < 32 * 1024**2


DRIPPING = {
    "100 Continue": dripping(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers": dripping(b"X: y\r\n", first=OK),
    "a chunk's extension": dripping(b"x", first=CHUNKED + b"1;"),
    "a trailer": dripping(b"X: y\r\n", first=CHUNKED + chunk(b"{}") + b"0\r\n"),
    "a body": dripping(b" ", first=OK + b"Content-Length: 1000000\r\n\r\n"),
}


@pytest.mark.timeout(15)
@pytest.mark.parametrize("what", DRIPPING)
def test_an_answer_that_comes_drop_by_drop_is_given_up(what: str) -> None:
    with (
        asking(DRIPPING[what], within_s=HASTY_S) as (client, _),
        pytest.raises(Unreachable, match="no answer in time"),
    ):
        client.status()


@pytest.mark.timeout(15)
@pytest.mark.parametrize("what", ["a line", "a chunk's extension", "headers"])
def test_a_line_of_a_stream_that_comes_drop_by_drop_is_given_up(what: str) -> None:
    answers = {**DRIPPING, "a line": dripping(chunk(b" "), first=CHUNKED)}
    with (
        asking(answers[what], within_s=HASTY_S) as (client, _),
        pytest.raises(Unreachable, match="no answer in time"),
    ):
        list(client.events("d", silence_s=0.3))


BIG = {
    "empty lists": b"[" + b"[]," * (20 * 1024**2 // 3) + b"[]]",
    "empty lists in an object": b'{"a":[' + b"[]," * (3 * 1024**2 // 3) + b"[]]}",
    "numbers": b'{"a":[' + b"1," * (3 * 1024**2 // 2) + b"1]}",
    "deep lists": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "members": b"{" + b",".join(b'"%d":0' % one for one in range(300_000)) + b"}",
}


@pytest.mark.parametrize("what", BIG)
def test_a_document_that_would_fill_the_memory_is_refused(what: str) -> None:
    with asking(lambda head: [document(BIG[what])], within_s=20) as (client, _):
        tracemalloc.start()
        try:
            with pytest.raises(Unreachable, match="not from an agent"):
                client.status()
            assert tracemalloc.get_traced_memory()[1] < 32 * 1024**2
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [
        b'{"live":null,"live":{"release":"r"}}',
        b'{"live":{"a":1,"a":2}}',
        b'{"ms":NaN}',
        b'{"ms":Infinity}',
        b'{"ms":-Infinity}',
        b'{"ms":1e999}',
        b'{"ms":' + b"9" * 4_000 + b"}",
        b'{"ms":-' + b"9" * 50 + b"}",
        b'{"live":' + b"[" * 60 + b"]" * 60 + b"}",
        b'{"live":\xff}',
    ],
    ids=lambda body: repr(body[:30]),
)
def test_json_that_two_readers_could_read_differently_is_refused(body: bytes) -> None:
    with (
        asking(lambda head: [document(body)]) as (client, _),
        pytest.raises(Unreachable, match="not from an agent"),
    ):
        client.status()
    line = body[:-1] + b',"seq":1,"time":"2026-11-23T02:00:55.000Z","event":"finished"}\n'
    stream = CHUNKED + chunk(line) + chunk(b"")
    with asking(lambda head: [stream]) as (client, _), pytest.raises(Unreachable, match="not from an agent"):
        list(client.events("d"))


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 100\r\n\r\n{}",
        OK + b"Content-Length: 1\r\n\r\n{}",
        OK + b"Content-Length: -5\r\nConnection: close\r\n\r\n[]",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{",
        CHUNKED + b"5\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
        OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n{}",
        b"HTTP/2.0 200 OK\r\n\r\n{}",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
    ids=repr,
)
def test_lies_about_the_length_or_the_form_of_an_answer_end_it(answer: bytes) -> None:
    def once(head: bytes) -> Iterator[bytes]:
        yield answer
        raise OSError  # and hangs up

    with asking(once) as (client, _), pytest.raises(Unreachable):
        client.status()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    with lying(lambda head: [document(b"{}")]) as other:
        location = f"HTTP/1.1 {status} Moved\r\nLocation: {other.address}/status\r\nContent-Length: 0\r\n\r\n"
        moved = pytest.raises(Unreachable, match=f"not from an agent: it is {status}")
        with asking(lambda head: [location.encode()]) as (client, _), moved:
            client.status()
        assert other.heads == []


def event(seq: int, happened: str = Happened.OUTPUT, **data: object) -> bytes:
    return chunk(Event(seq, 0, happened, {"source": "hook x", "text": "x", **data}).to_line())


STREAMS = {
    "empty lines": endless(chunk(b"\n"), first=CHUNKED),
    "empty lines in one piece": endless(chunk(b"\n" * 4096), first=CHUNKED),
    "events": lambda head: [CHUNKED, *(chunk(_outputs(at)) for at in range(0, 30_000, 1_000))],
}


def _outputs(after: int) -> bytes:
    line = b'{"event":"output","seq":%d,"time":"2026-11-23T02:00:55.000Z"}\n'
    return b"".join(line % seq for seq in range(after + 1, after + 1_001))


@pytest.mark.parametrize("what", STREAMS)
def test_a_stream_of_events_has_an_end(what: str) -> None:
    with asking(STREAMS[what]) as (client, liar), pytest.raises(Unreachable, match="not from an agent"):
        for _ in client.events("d"):
            pass
    assert liar.sent < 32 * 1024**2


def test_a_line_without_an_end_is_given_up_in_time_that_grows_with_its_length_alone() -> None:
    for one in (chunk(b"x" * 64), chunk(b"x" * 4096)):
        with (
            asking(endless(one, first=CHUNKED)) as (client, liar),
            pytest.raises(Unreachable, match="not from an agent"),
        ):
            list(client.events("d"))
        assert liar.sent < PLENTY / 2


@pytest.mark.parametrize("second", [1, 0, 10**17])
def test_events_that_do_not_count_upwards_are_no_agents(second: int) -> None:
    stream = CHUNKED + event(1) + event(second)
    with asking(lambda head: [stream]) as (client, _), pytest.raises(Unreachable, match="not from an agent"):
        list(client.events("d"))


@pytest.mark.parametrize(
    "name",
    ["", "../../healthz", "d/events?after=0", "--help", "a b", "x\x1b[2J", "é", "a" * 200, "flask-demo",
     "other-20261123020055Z"],
)  # fmt: skip
def test_a_deployment_with_a_name_that_no_agent_gives_is_asked_for_nowhere(name: str) -> None:
    body = json.dumps({"deployment": name}).encode()
    with asking(lambda head: [document(body)]) as (client, liar):
        for begin in (client.rollback, lambda app: client.deploy(app, [b"bundle"])):
            with pytest.raises(Unreachable, match="names no deployment"):
                begin("flask-demo")
            client.close()
    assert {head.split()[0] for head in liar.heads if head.startswith((b"GET", b"POST"))} == {b"POST"}


def test_more_digests_than_files_were_named_are_no_agents() -> None:
    body = json.dumps({"missing": ["ab" * 32] * 4}).encode()
    with asking(lambda head: [document(body)]) as (client, _):
        assert client.missing("a", [], files=4) == {"ab" * 32}
        with pytest.raises(Unreachable, match="not from an agent"):
            client.missing("a", [], files=3)
    for digest in ("x", "ab" * 33, 7, None, ["a"]):
        body = document(json.dumps({"missing": [digest]}).encode())
        refused = pytest.raises(Unreachable, match="not from an agent")
        with asking(lambda head, body=body: [body]) as (client, _), refused:
            client.missing("a", [], files=3)


def test_a_drop_into_the_operators_own_folder_deletes_nothing(tmp_path: Path) -> None:
    victim, source = tmp_path / "victim", tmp_path / "app-src/v3"
    (victim / "tree").mkdir(parents=True)
    (victim / "tree/thesis").write_text("three years")
    source.mkdir(parents=True)
    (source / "app.py").touch()
    make_key(tmp_path / "key")
    status = json.dumps({"app": "flask-demo", "host": "web1", "drop": str(victim), "newest_created": None})
    with lying(lambda head: [document(status.encode())]) as liar:
        done = subprocess.run(
            (sys.executable, "-m", "pusher", "drop", "v3", "--host", liar.address, "--app", "flask-demo"),
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "PUSHER_KEY": str(tmp_path / "key")},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 4, done.stderr
    assert "Nothing is dropped on http://127.0.0.1" in done.stderr
    assert [one.read_text() for one in victim.rglob("*") if one.is_file()] == ["three years"]
