"""A server's bytes as answers to `pusher`, over a real socket. The server sends them whatever it is asked."""

import itertools
import socket
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from pusher.transport.client import Client
from pusher.transport.hosts import Host, Unix

_ANSWER_S = 10.0


class Server:
    """Sends `said` to each who connects, and hangs up. The socket is in a folder that goes with the process."""

    def __init__(self) -> None:
        self.said = b""
        self._folder = TemporaryDirectory(prefix="pusher-fuzz-")
        path = Path(self._folder.name, "socket")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self.host = Host("web1", Unix(str(path)))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            visitor, _ = self._listener.accept()
            with visitor:
                try:
                    visitor.sendall(self.said)
                    visitor.shutdown(socket.SHUT_WR)
                    while visitor.recv(65536):
                        pass
                except OSError:
                    continue  # the client has hung up


_servers: list[Server] = []


def ask(said: bytes) -> None:
    """`pusher status`, and the beginning of a deployment. Raises: Problem."""
    client = _client(said)
    try:
        client.status("demo")
        client.close()
        client.deploy("demo", ())
    finally:
        client.close()


def follow(said: bytes) -> None:
    """The events of a deployment, and the index of a release. Raises: Problem."""
    client = _client(said)
    try:
        for _ in itertools.islice(client.events("demo-20261123020055Z"), 100):
            pass
        client.close()
        for _ in itertools.islice(client.index("demo", "20261123020055Z"), 100):
            pass
    finally:
        client.close()


def _client(said: bytes) -> Client:
    if not _servers:
        _servers.append(Server())
    _servers[0].said = said
    return Client(_servers[0].host, answer_s=_ANSWER_S, whole_s=_ANSWER_S)
