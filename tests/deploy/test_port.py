"""Servers that only know a port: the runner and its relay, with real processes."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.deploy.runner_place import RUNNER, RunnerPlace, alive, until
from tests.deploy.servers import Visits

SLOW = """
def respond(visitor):
    while Path({gate!r}).exists():
        time.sleep(0.005)
"""

LIMITED = """
import os, sys
fork, forks = os.fork, []
def limited():
    forks.append(1)
    if len(forks) > {most}:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork, sys.argv[0] = limited, {runner!r}
with open({runner!r}) as file:
    exec(compile(file.read(), {runner!r}, "exec"))
"""
"""The runner on a host that gives it only so many processes (TasksMax=, or `ulimit -u`)."""


@pytest.fixture(params=[False, True], ids=["tcp", "unix"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunnerPlace]:
    one = RunnerPlace(tmp_path, port=True, unix=request.param)
    yield one
    one.close()


@pytest.fixture
def tcp(tmp_path: Path) -> Iterator[RunnerPlace]:
    one = RunnerPlace(tmp_path, port=True)
    yield one
    one.close()


def test_the_app_gets_a_port_of_its_own_and_nothing_else(place: RunnerPlace) -> None:
    place.release("v1")
    with place.running("python", "app.py", "--port", "$PORT", "at=$PORT") as runner:
        found = place.ask()
        port = found["env"]["PORT"]
        assert found["argv"] == ["--port", port, f"at={port}"]
        assert found["fds"] == [0, 1, 2]
        assert [name for name in found["env"] if name.startswith("LISTEN_")] == []
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
        assert not low <= int(port) <= high
        assert runner.live()[1] == found["pid"]


def test_the_successor_takes_over_when_it_accepts_and_not_before(place: RunnerPlace) -> None:
    place.release("v1")
    with place.running() as runner:
        first = place.ask()
        gate = place.root / "gate"
        gate.touch()
        second = place.release("v2", prelude=f"gate({str(gate)!r})\n")
        reload = runner.ask_to_reload()
        runner.hear("starts as process")
        assert [place.ask()["pid"] for _ in range(5)] == 5 * [first["pid"]]
        assert reload.poll() is None
        gate.unlink()
        assert reload.wait() == 0
        assert {place.ask()["version"] for _ in range(5)} == {"v2"}
        runner.hear("READY=1")
        assert runner.live() == (second, place.ask()["pid"])
        until(lambda: not alive(first["pid"]))


def test_a_socket_that_listens_before_its_server_accepts_does_not_count(tcp: RunnerPlace) -> None:
    tcp.release("v1")
    with tcp.running() as runner:
        first = tcp.ask()["pid"]
        gate = tcp.root / "gate"
        gate.touch()
        # This one listens at once, and accepts late.
        tcp.release("v2", way="late", prelude=f"LATE = {str(gate)!r}\ndef wait(): gate(LATE)\n")
        reload = runner.ask_to_reload()
        runner.hear("starts as process")
        assert [tcp.ask()["pid"] for _ in range(5)] == 5 * [first]
        gate.unlink()
        assert reload.wait() == 0
        assert tcp.ask()["version"] == "v2"


def test_a_successor_that_ends_while_it_starts_changes_nothing(place: RunnerPlace) -> None:
    place.release("v1")
    with place.running() as runner:
        first = place.ask()["pid"]
        second = place.release("v2", prelude="sys.exit(3)")
        assert runner.reload() == 1
        assert place.ask()["pid"] == first
        assert f"STATUS={second} was not started: exit code 3; " in runner.hear("READY=1")
        until(lambda: len(Path(f"/proc/{runner.pid}/task/{runner.pid}/children").read_text().split()) == 2)


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_successor_that_can_have_no_relay_changes_nothing_and_does_not_stay(tcp: RunnerPlace) -> None:
    """Its server is the last process that there may be."""
    limited = tcp.root / "limited.py"
    limited.write_text(LIMITED.format(runner=str(RUNNER), most=3))
    tcp.release("v1")
    with tcp.running(runner=limited) as runner:
        first = tcp.ask()["pid"]
        tcp.release("v2")
        assert runner.reload() == 1
        assert "Resource temporarily unavailable" in runner.hear("READY=1")
        until(lambda: len(children(runner.pid)) == 2)
        assert tcp.ask()["pid"] == first


def test_the_runner_ends_as_its_app_did(tcp: RunnerPlace) -> None:
    tcp.release("v1")
    with tcp.running() as runner:
        os.kill(tcp.ask()["pid"], signal.SIGKILL)
        assert runner.wait() == -signal.SIGKILL


def test_a_relay_that_dies_takes_the_app_with_it_so_that_both_are_started_anew(tcp: RunnerPlace) -> None:
    tcp.release("v1")
    with tcp.running() as runner:
        app = tcp.ask()["pid"]
        (relay,) = (pid for pid in children(runner.pid) if pid != str(app))
        os.kill(int(relay), signal.SIGKILL)
        assert runner.wait() == 78
        assert not alive(app)


def test_nobody_notices_reloads_at_100_visitors_a_second(tcp: RunnerPlace) -> None:
    tcp.release("v0")
    with tcp.running() as runner:
        visits = Visits(tcp)
        with visits.coming():
            for number in range(1, 4):
                tcp.release(f"v{number}")
                assert runner.reload() == 0
                seen = visits.endings[f"v{number}"]
                until(lambda number=number, seen=seen: visits.endings[f"v{number}"] > seen + 20)
        assert {*visits.endings} <= {"v0", "v1", "v2", "v3"}


def test_a_request_in_flight_is_finished_though_its_server_would_drop_it(tcp: RunnerPlace) -> None:
    gate, begun = tcp.root / "gate", tcp.root / "begun"
    gate.touch()
    wait = f"Path({str(begun)!r}).touch()\n    gate({str(gate)!r})\n"
    slow = f"def facts():\n    {wait}    return {{'version': VERSION}}\n"
    tcp.release("v1", prelude=slow)
    with tcp.running(drain=20) as runner, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(tcp.ask)
        until(begun.exists)
        tcp.release("v2")
        assert runner.reload() == 0
        assert tcp.ask()["version"] == "v2"
        assert not asked.done()
        gate.unlink()
        assert asked.result()["version"] == "v1"


def test_a_request_that_has_no_end_is_cut_off_after_the_drain(tcp: RunnerPlace) -> None:
    begun = tcp.root / "begun"
    tcp.release("v1", prelude=f"def facts():\n    Path({str(begun)!r}).touch()\n    time.sleep(600)\n")
    with tcp.running(drain=0.5) as runner, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(tcp.ask)
        until(begun.exists)
        tcp.release("v2")
        assert runner.reload() == 0
        with pytest.raises((OSError, ValueError)):
            asked.result()


def test_large_bodies_pass_both_ways_and_a_slow_visitor_keeps_no_one_waiting(tcp: RunnerPlace) -> None:
    size = 10_000_000
    echo = """
def serve():
    import threading
    while True:
        visitor, _ = listening.accept()
        threading.Thread(target=answer, args=(visitor,)).start()

def answer(visitor):
    got = b""
    while chunk := visitor.recv(1 << 20):
        got += chunk
    visitor.sendall(got[::-1])
    visitor.close()

serve()
"""
    tcp.release("v1", prelude=f"listening.setblocking(True){echo}")
    sent = os.urandom(1000) * (size // 1000)

    def exchange() -> bytes:
        with socket.create_connection(tcp.socket.getsockname()) as visitor:
            threading.Thread(target=lambda: (visitor.sendall(sent), visitor.shutdown(socket.SHUT_WR))).start()
            got = b""
            while chunk := visitor.recv(1 << 20):
                got += chunk
        return got

    with tcp.running(), ThreadPoolExecutor(3) as pool:
        slow = socket.create_connection(tcp.socket.getsockname())
        threading.Thread(target=lambda: (slow.sendall(sent), slow.shutdown(socket.SHUT_WR)), daemon=True).start()
        assert [one.result() == sent[::-1] for one in [pool.submit(exchange) for _ in range(3)]] == [True] * 3
        slow.close()
