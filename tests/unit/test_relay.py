"""The relay, in this process: what it carries, and when it lets go."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from agent.host.run.relay import Relay, Server, accepted, inode, listed

PATIENCE_S = 10.0


class Place:
    """A public socket, a server's own, and the process that counts as the server."""

    def __init__(self, *, drain_s: float | None = 5.0, family: socket.AddressFamily = socket.AF_INET) -> None:
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self.public = socket.create_server(("127.0.0.1", 0))
        self.server = socket.create_server((host, 0), family=family)
        self.server.settimeout(PATIENCE_S)
        self.process = subprocess.Popen(("sleep", "600"))
        self._opened: list[socket.socket] = []
        self.address = self.public.getsockname()
        self._stop, self._told = os.pipe()
        self.public.setblocking(False)
        self.relay = Relay(
            self.public, Server(host, self.server.getsockname()[1], self.process.pid), drain_s=drain_s
        )
        self.thread = threading.Thread(target=self.relay.run, args=(self._stop,), daemon=True)
        self.thread.start()

    def accepted(self) -> socket.socket:
        """The next connection to the server."""
        found, _ = self.server.accept()
        found.settimeout(PATIENCE_S)
        self._opened.append(found)
        return found

    def try_it(self) -> None:
        """Accept the connection by which the relay learns that the server accepts."""
        assert self.accepted().recv(1) == b""

    def visit(self) -> socket.socket:
        visitor = socket.create_connection(self.address, timeout=PATIENCE_S)
        self._opened.append(visitor)
        return visitor

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """A visitor, and what the server has of it."""
        visitor = self.visit()
        return visitor, self.accepted()

    def stop(self) -> None:
        os.write(self._told, b".")

    def ended(self) -> bool:
        self.thread.join(PATIENCE_S)
        return not self.thread.is_alive()

    def told(self) -> bool:
        """Whether the server was told to end, in time."""
        try:
            return self.process.wait(PATIENCE_S) == -signal.SIGTERM
        except subprocess.TimeoutExpired:
            return False

    def close(self) -> None:
        for one in self._opened:
            one.close()
        self.stop()
        self.process.kill()
        self.process.wait()
        ended = self.ended()
        self.server.close()
        self.public.close()
        assert ended
        os.close(self._stop)
        os.close(self._told)


@contextmanager
def open_place(**options: object) -> Iterator[Place]:
    place = Place(**options)  # type: ignore[arg-type]
    try:
        yield place
    finally:
        place.close()


@pytest.fixture
def place() -> Iterator[Place]:
    with open_place() as one:
        yield one


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.01)


def received(sock: socket.socket) -> bytes:
    """All that comes, to its end."""
    found = b""
    while piece := sock.recv(1 << 20):
        found += piece
    return found


def test_bytes_pass_both_ways_each_to_its_own_end(place: Place) -> None:
    place.try_it()
    visitor, server = place.pair()
    visitor.sendall(b"a question")
    visitor.shutdown(socket.SHUT_WR)
    assert received(server) == b"a question"
    server.sendall(b"an answer")
    server.close()
    assert received(visitor) == b"an answer"
    visitor.close()
    until(lambda: not place.relay.ends)


def test_nothing_is_accepted_before_the_server_accepts(place: Place) -> None:
    visitor = place.visit()
    visitor.sendall(b"early")
    assert select.select([place.public], [], [], PATIENCE_S)[0], "it waits in the queue"
    place.try_it()
    assert place.accepted().recv(100) == b"early"
    visitor.close()


def test_a_server_on_ipv6_alone_is_reached() -> None:
    with open_place(family=socket.AF_INET6) as place:
        place.try_it()
        visitor, server = place.pair()
        visitor.sendall(b"x")
        assert server.recv(10) == b"x"


def test_a_candidate_is_tried_by_the_connection_of_its_first_visitor() -> None:
    with open_place(drain_s=None) as place:
        visitor = place.visit()
        visitor.sendall(b"the only one")
        assert place.accepted().recv(100) == b"the only one"
        other, second = place.pair()
        other.sendall(b"another")
        assert second.recv(100) == b"another"


def test_much_passes_though_nobody_receives_for_a_while(place: Place) -> None:
    place.try_it()
    visitor, server = place.pair()
    much = os.urandom(1000) * 20_000
    sender = threading.Thread(target=lambda: (server.sendall(much), server.close()), daemon=True)
    sender.start()
    other, its = place.pair()
    other.sendall(b"meanwhile")
    assert its.recv(100) == b"meanwhile"
    assert received(visitor) == much
    sender.join()


def test_a_broken_connection_ends_both_ends(place: Place) -> None:
    place.try_it()
    for broken in (0, 1):
        ends = place.pair()
        ends[broken].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        ends[broken].close()  # with a reset
        with contextlib.suppress(ConnectionError):
            assert ends[1 - broken].recv(100) == b""
        until(lambda: not place.relay.ends)


def test_told_to_end_it_waits_for_answers_and_then_tells_the_server(place: Place) -> None:
    place.try_it()
    asking, asked = place.pair()
    idle, idle_there = place.pair()
    idle.sendall(b"?")
    idle_there.recv(10)
    idle_there.sendall(b"!")
    assert idle.recv(10) == b"!"
    asking.sendall(b"a long question")
    assert asked.recv(100)
    place.stop()
    until(lambda: not place.relay.accepting)
    assert place.process.poll() is None, "a visitor still waits for an answer"
    asked.sendall(b"the answer")
    assert asking.recv(100) == b"the answer"
    assert place.told()
    assert place.thread.is_alive(), "both are still connected"
    idle_there.close()
    asked.close()
    assert received(idle) == b""
    assert place.ended()


def test_after_the_drain_the_server_is_told_in_any_case() -> None:
    with open_place(drain_s=0.1) as place:
        place.try_it()
        asking, asked = place.pair()
        asking.sendall(b"for ever")
        assert asked.recv(100)
        place.stop()
        assert place.told()
        asked.close()
        assert place.ended()


def test_with_nothing_under_way_it_ends_at_once(place: Place) -> None:
    place.try_it()
    until(lambda: place.relay.accepting)
    place.stop()
    assert place.told()
    assert place.ended()


def test_told_to_end_before_the_server_accepts_it_ends_both(place: Place) -> None:
    place.stop()
    assert place.told()
    assert place.ended()


def test_told_to_end_while_it_asks_whether_the_server_accepts_it_lets_go_of_it(place: Place) -> None:
    assert select.select([place.server], [], [], PATIENCE_S)[0]
    place.stop()
    assert place.told()
    assert place.ended()
    assert place.accepted().recv(1) == b""


def test_it_does_not_outlive_its_server(place: Place) -> None:
    place.try_it()
    visitor, server = place.pair()
    place.process.kill()
    until(lambda: not place.relay.accepting)
    server.close()
    assert received(visitor) == b""
    assert place.ended()


@pytest.mark.parametrize("listening", ["127.0.0.1", "::1", "::"])
def test_the_kernel_says_whether_a_server_has_accepted_a_connection(listening: str) -> None:
    family = socket.AF_INET6 if ":" in listening else socket.AF_INET
    host = "127.0.0.1" if listening == "::" else listening
    with socket.create_server((listening, 0), family=family, dualstack_ipv6=listening == "::") as server:
        address = (host, server.getsockname()[1])
        with socket.create_connection(address) as visitor:
            by = visitor.getsockname()[:2]
            assert (inode(address, by), accepted(address, by), listed(address[1], by[1])) == (0, False, False)
            with server.accept()[0] as found:
                assert inode(address, by) == os.fstat(found.fileno()).st_ino
                assert (accepted(address, by), listed(address[1], by[1])) == (True, True)


def test_a_connection_that_is_not_there_has_not_been_accepted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with pytest.raises(OSError, match="no such connection"):
            inode(address, ("127.0.0.1", 1))
        assert not accepted(address, ("127.0.0.1", 1))
