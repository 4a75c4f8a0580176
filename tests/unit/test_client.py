"""The client uses one connection, and every failure is a problem."""

import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from functools import partial
from pathlib import Path

import pytest

from pusher.errors import Unreachable, Usage
from pusher.fleet.background import Background
from pusher.transport import connection
from pusher.transport.client import Client
from pusher.transport.hosts import Host, Loopback, Ssh
from pusher.wire import Code, Event, Failed, Happened, Refused
from tests.unit.scripted_door import Exchange, ScriptedDoor, answer, events, note, refusal, silence

FIRST = Event(1, 0, Happened.STARTED, {"deployment": "d"})
NAME = "app-20261123020055Z"
LAST = Event(2, 0, Happened.FINISHED, {"outcome": "done"})


@pytest.fixture
def door() -> Iterator[ScriptedDoor]:
    made = ScriptedDoor()
    yield made
    made.close()


@pytest.fixture
def client(door: ScriptedDoor) -> Iterator[Client]:
    made = Client(door.host)
    yield made
    made.close()


def test_every_request_uses_the_documented_route(door: ScriptedDoor, client: Client) -> None:
    started = answer({"deployment": NAME, "app": "app"}, status=202)
    for path in ("/status", "/releases", "/apps/app/status", "/apps/app/releases", "/deployments/d"):
        door.on("GET", path, answer({"path": path}))
    for path in ("/rollback", "/apps/app/rollback", "/apps/app/deployments"):
        door.on("POST", path, started)
    door.on("POST", "/apps/app/missing", answer({"missing": ["ab" * 32]}))
    door.on("POST", "/apps/app/pin", answer({}))
    door.on("DELETE", "/apps/app/pin", answer({}))
    door.on("GET", "/deployments/d/events", events(FIRST, None, LAST))

    assert client.status() == {"path": "/status"}
    assert client.status("app") == {"path": "/apps/app/status"}
    assert client.releases() == {"path": "/releases"}
    assert client.releases("app") == {"path": "/apps/app/releases"}
    assert client.deployment("d") == {"path": "/deployments/d"}
    assert client.rollback() == NAME
    assert client.rollback("app", to="r1", leaving="r2") == NAME
    assert client.rollback("app", to="20261123020055Z") == NAME
    assert client.missing("app", [b"signed"], files=1) == {"ab" * 32}
    assert client.deploy("app", [b"one", b"", b"two"]) == NAME
    client.pin("app", "r")
    client.unpin("app", "r")
    assert list(client.events("d", after=0)) == [FIRST, None, LAST]

    assert door.paths()[5:] == [
        "POST /rollback",
        "POST /apps/app/rollback?to=r1&from=r2",
        "POST /apps/app/rollback?to=20261123020055Z",
        "POST /apps/app/missing",
        "POST /apps/app/deployments",
        "POST /apps/app/pin?release=r",
        "DELETE /apps/app/pin?release=r",
        "GET /deployments/d/events?after=0",
    ]
    upload = door.requests[9]
    assert upload.body == b"onetwo"
    assert upload.headers["Content-Type"] == "application/zstd"
    assert upload.headers["Prefer"] == "respond-async"
    assert {request.headers["Host"] for request in door.requests} == {door.address.removeprefix("http://")}
    assert len({request.connection for request in door.requests}) == 1


def test_names_cannot_leave_their_place_in_a_path(door: ScriptedDoor, client: Client) -> None:
    door.on("GET", "/deployments/..%2Fhealthz%3Fx", answer({}))
    client.deployment("../healthz?x")
    assert door.paths() == ["GET /deployments/..%2Fhealthz%3Fx"]


def test_a_problem_of_the_agent_is_raised_as_itself(door: ScriptedDoor, client: Client) -> None:
    problem = Refused(Code.BUSY, "alice is deploying v2", why="one at a time", hint="Wait", output="line\n")
    door.on("GET", "/status", refusal(problem))
    door.on("GET", "/deployments/d/events", refusal(problem))
    with pytest.raises(Refused, match=r"alice is deploying v2: one at a time\. Wait") as caught:
        client.status()
    assert (caught.value.code, caught.value.output) == (Code.BUSY, "line\n")
    with pytest.raises(Refused, match="alice is deploying"):
        list(client.events("d"))


@pytest.mark.parametrize(
    "script",
    [
        answer({"title": "Not Found"}, status=404),
        answer({}, status=302),
        answer([]),
        lambda exchange: exchange.raw(b"<html>"),
        lambda exchange: exchange.raw(b"\xff", status=500, kind="application/problem+json"),
        lambda exchange: exchange.raw(b"[]", status=500, kind="application/problem+json"),
    ],
)
def test_an_answer_that_is_not_an_agents_is_reported_as_such(
    door: ScriptedDoor, client: Client, script: partial[None]
) -> None:
    door.on("GET", "/status", script)
    with pytest.raises(Unreachable, match="The answer from web1 is not from an agent: it is"):
        client.status()


def test_an_incomplete_answer_is_not_an_agents(door: ScriptedDoor, client: Client) -> None:
    door.on("POST", "/rollback", answer({}, status=202))
    door.on("POST", "/apps/app/missing", answer({"missing": "all"}))
    door.on("GET", "/deployments/d/events", lambda exchange: exchange.stream([b"{}\n"]))
    with pytest.raises(Unreachable, match="its answer names no deployment"):
        client.rollback()
    with pytest.raises(Unreachable, match="its answer does not list"):
        client.missing("app", [], files=1)
    with pytest.raises(Unreachable, match="is not from an agent: 'seq' is missing"):
        list(client.events("d"))


def test_a_connection_lost_before_the_first_answer_is_unreachable(door: ScriptedDoor, client: Client) -> None:
    door.on("GET", "/status", silence)
    with pytest.raises(Unreachable, match="web1 cannot be reached: Remote end closed"):
        client.status()


def test_a_connection_closed_meanwhile_is_opened_again(door: ScriptedDoor, client: Client) -> None:
    closed = threading.Event()

    def answer_and_close(exchange: Exchange) -> None:
        answer({"n": 1})(exchange)
        exchange.hang_up()
        closed.set()

    door.on("GET", "/status", answer_and_close, answer({"n": 2}))
    assert client.status() == {"n": 1}
    assert closed.wait(5)
    assert client.status() == {"n": 2}


def test_connection_close_is_respected(door: ScriptedDoor, client: Client) -> None:
    def last(exchange: Exchange) -> None:
        note(exchange)
        exchange.send_response(200)
        exchange.send_header("Connection", "close")
        exchange.send_header("Content-Length", "2")
        exchange.end_headers()
        exchange.wfile.write(b"{}")

    door.on("GET", "/status", last)
    assert [client.status(), client.status()] == [{}, {}]
    assert len({request.connection for request in door.requests}) == 2


def endless(sent: list[int]) -> Iterator[bytes]:
    while True:
        sent.append(1)
        assert len(sent) < 10_000, "the early answer was not seen"
        yield b"x" * 65536


def test_an_answer_before_the_end_of_the_upload_is_read(door: ScriptedDoor, client: Client) -> None:
    def refuse_at_once(exchange: Exchange) -> None:
        exchange.rfile.read(100_000)
        problem = Refused(Code.SIGNER_UNKNOWN, "Nobody knows this key")
        exchange.document(problem.to_document(status=403), status=403, kind="application/problem+json")
        exchange.close_connection = True

    door.on("POST", "/apps/app/deployments", refuse_at_once)
    sent: list[int] = []
    with pytest.raises(Refused, match="Nobody knows this key"):
        client.deploy("app", endless(sent))
    door.on("GET", "/status", answer({"n": 1}))
    assert client.status() == {"n": 1}


def test_an_early_success_ends_the_upload(door: ScriptedDoor, client: Client) -> None:
    def done_before(exchange: Exchange) -> None:
        exchange.rfile.read(10)
        exchange.document({"deployment": NAME}, status=202)
        exchange.rfile.read(1_000_000)

    door.on("POST", "/apps/app/deployments", done_before)
    assert client.deploy("app", endless([])) == NAME


def test_an_upload_that_is_cut_off_is_unreachable(door: ScriptedDoor, client: Client) -> None:
    def vanish(exchange: Exchange) -> None:
        exchange.rfile.read(1000)
        exchange.hang_up()

    door.on("POST", "/apps/app/deployments", vanish)
    with pytest.raises(Unreachable, match="web1 cannot be reached"):
        client.deploy("app", endless([]))


def test_an_upload_that_stalls_ends_at_its_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        client = Client(Host("web1", Loopback("127.0.0.1", deaf.getsockname()[1])), answer_s=0.2)
        with pytest.raises(Unreachable, match="web1 cannot be reached: no answer in time"):
            client.deploy("app", endless([]))
        with pytest.raises(Unreachable, match="web1 cannot be reached: no answer in time"):
            client.status()
        client.close()


def test_who_gets_no_answer_through_ssh_is_told_how_to_see_whether_the_agent_starts(tmp_path: Path) -> None:
    deaf = tmp_path / "ssh"
    deaf.write_text("#!/bin/sh\nexec sleep 60\n")
    deaf.chmod(0o755)
    client = Client(Host("web1", Ssh(host="web1")), ssh=str(deaf), answer_s=0.2)
    with pytest.raises(Unreachable, match="no answer in time") as caught:
        client.status()
    client.close()
    assert "systemctl status pusher-agent" in caught.value.hint


def test_an_error_while_packing_ends_the_upload_unfinished(door: ScriptedDoor, client: Client) -> None:
    read: list[bytes] = []

    def until_cut(exchange: Exchange) -> None:
        while chunk := exchange.rfile.read1():
            read.append(chunk)
        done.set()

    def breaking() -> Iterator[bytes]:
        yield b"first"
        raise Failed(Code.CONTENT_MISMATCH, "it changed")

    done = threading.Event()
    door.on("POST", "/apps/app/deployments", until_cut)
    with pytest.raises(Failed, match="it changed"):
        client.deploy("app", breaking())
    assert done.wait(5)
    assert not b"".join(read).endswith(b"0\r\n\r\n")


def test_a_bundle_that_vanishes_while_it_is_sent_is_no_lost_connection(
    door: ScriptedDoor, client: Client, tmp_path: Path
) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"begins"
        yield (tmp_path / "gone").read_bytes()

    def until_cut(exchange: Exchange) -> None:
        while exchange.rfile.read1():
            pass

    door.on("POST", "/apps/app/deployments", until_cut)
    with pytest.raises(Usage, match=r"cannot be read any more: .*gone: No such file or directory"):
        client.deploy("app", pieces())


def test_a_stream_of_events_that_is_cut_is_lost_after_what_came(door: ScriptedDoor, client: Client) -> None:
    door.on("GET", "/deployments/d/events", events(FIRST, ended=False))
    stream = client.events("d")
    assert next(stream) == FIRST
    with pytest.raises(Unreachable, match="The connection to web1 was lost"):
        next(stream)


def test_a_cut_event_is_not_returned(door: ScriptedDoor, client: Client) -> None:
    door.on("GET", "/deployments/d/events", lambda exchange: exchange.stream([FIRST.to_line()[:-10]]))
    with pytest.raises(Unreachable, match="The connection to web1 was lost"):
        list(client.events("d"))


def test_a_line_without_an_end_is_not_kept_in_memory(door: ScriptedDoor, client: Client) -> None:
    door.on("GET", "/deployments/d/events", lambda exchange: exchange.stream(endless([])))
    with pytest.raises(Unreachable, match="is not from an agent: it sends a line without an end"):
        list(client.events("d"))


def test_waiting_in_silence_has_a_limit(door: ScriptedDoor, client: Client) -> None:
    over = threading.Event()

    def hold(exchange: Exchange) -> None:
        exchange.stream([FIRST.to_line()], ended=False)

    def say_nothing(exchange: Exchange) -> None:
        exchange.send_response(200)
        exchange.end_headers()
        exchange.wfile.write(FIRST.to_line())
        over.wait(5)

    door.on("GET", "/deployments/d/events", say_nothing, hold)
    stream = client.events("d", silence_s=0.1)
    assert next(stream) == FIRST
    with pytest.raises(Unreachable, match="was lost: no answer in time"):
        next(stream)
    over.set()


def test_after_leaving_a_stream_another_request_is_possible(door: ScriptedDoor, client: Client) -> None:
    door.on("GET", "/deployments/d/events", events(FIRST, LAST, ended=False))
    door.on("GET", "/status", answer({"n": 1}))
    stream = client.events("d")
    assert next(stream) == FIRST
    stream.close()  # type: ignore[attr-defined]
    assert client.status() == {"n": 1}


def test_an_answer_that_is_not_http_is_not_an_agents(door: ScriptedDoor, client: Client) -> None:
    def babble(exchange: Exchange) -> None:
        exchange.wfile.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        exchange.hang_up()

    door.on("GET", "/status", babble)
    with pytest.raises(Unreachable, match=r"web1 is not from an agent: 'SSH-2\.0-OpenSSH_9\.2p1' is not HTTP"):
        client.status()


def test_an_abandoned_client_ends_its_waits_and_begins_nothing_more(door: ScriptedDoor, client: Client) -> None:
    asked, hung_up = threading.Event(), threading.Event()

    def never(exchange: Exchange) -> None:
        asked.set()
        exchange.rfile.read(1)
        hung_up.set()

    door.on("GET", "/status", never)
    waiting = Background(client.status)
    assert asked.wait(20)
    client.abandon()
    with pytest.raises(KeyboardInterrupt):
        waiting.result()
    assert hung_up.wait(20)
    for wait in (client.status, partial(client.rest, 20)):
        with pytest.raises(KeyboardInterrupt):
            wait()


def test_patience_can_be_shorter_than_usual(door: ScriptedDoor, client: Client) -> None:
    def never(exchange: Exchange) -> None:
        exchange.rfile.read(1)

    door.on("GET", "/status", never)
    with pytest.raises(Unreachable, match="no answer in time"):
        client.status(patience_s=0.05)


def test_a_connection_may_have_any_number(door: ScriptedDoor, client: Client) -> None:
    door.on("GET", "/status", answer({"app": "flask-demo"}))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert client.status() == client.status() == {"app": "flask-demo"}
    finally:
        for one in others:
            os.close(one)
        client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("date", "ahead_s"),
    [
        ("Sat, 28 Nov 2026 02:00:00 GMT", 7200),
        ("Fri, 27 Nov 2026 22:00:00 GMT", -7200),
        ("", 0),
        ("yesterday", 0),
        ("Sat, 99 Nov 99999 02:00:00 GMT", 0),
    ],
)
def test_how_far_a_clock_is_ahead_is_read_from_its_answers_and_nothing_else_is(date: str, ahead_s: float) -> None:
    assert connection.ahead_s(date, now_s=1_795_824_000.5) == ahead_s


def test_a_client_knows_how_far_the_clock_of_its_host_is_ahead(door: ScriptedDoor, client: Client) -> None:
    def tomorrow(exchange: Exchange) -> None:
        exchange.date_time_string = lambda timestamp=None: formatdate(time.time() + 86_400, usegmt=True)  # type: ignore[method-assign]
        exchange.document({})

    door.on("GET", "/status", tomorrow)
    assert client.ahead_s == 0
    client.status()
    assert abs(client.ahead_s - 86_400) < 60
