"""Connections that were closed before they asked anything are told from those that may still ask."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from struct import pack

from agent.doors.http.arrivals import asks_nothing


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        accepted.setblocking(False)
        with client, accepted:
            yield client, accepted


def test_a_caller_that_has_not_sent_anything_yet_may_still_ask() -> None:
    with connected() as (_, accepted):
        assert not asks_nothing(accepted)


def test_a_caller_that_has_sent_something_asks_even_if_it_has_closed() -> None:
    for end in (lambda _: None, lambda client: client.shutdown(socket.SHUT_WR), socket.socket.close):
        with connected() as (client, accepted):
            client.sendall(b"GET / HTTP/1.1\r\n")
            end(client)
            assert not asks_nothing(accepted)
            assert accepted.recv(3) == b"GET"


def test_a_caller_that_closed_or_reset_without_a_word_asks_nothing() -> None:
    with connected() as (client, accepted):
        client.close()
        assert asks_nothing(accepted)
    with connected() as (client, accepted):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
        client.close()
        assert asks_nothing(accepted)
