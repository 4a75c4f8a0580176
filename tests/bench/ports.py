"""What the relay costs servers that only know a port: requests a second through it, and without it.

Invariant: it is the same server process that answers both, in turn.
"""

import contextlib
import io
import json
import select
import socket
import time
from collections.abc import Iterator
from statistics import median

from tests.bench.place import Unmeasured
from tests.bench.results import Bench, Result
from tests.deploy.runner_place import RunnerPlace, until
from tests.deploy.servers import APP, ask, make_servers_venv

SERVERS = {
    "waitress": "waitress-serve --listen=127.0.0.1:$PORT app:app",
    "granian": "granian --interface wsgi --host 127.0.0.1 --port $PORT app:app",
    "uvicorn, as datasette has it": "uvicorn --port $PORT --no-access-log app:asgi",
}
_VISITORS, _SECONDS, _GOAL = 8, 1.5, 0.8
_REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def port(bench: Bench) -> Iterator[Result]:
    """Requests a second of eight visitors, connections kept alive, through the relay | the same server directly"""
    folder = bench.folder / "port"
    with contextlib.redirect_stdout(io.StringIO()):
        venv = make_servers_venv(folder, cache=bench.cache)
    for server, command in SERVERS.items():
        root = folder / server.partition(",")[0]
        root.mkdir()
        place = RunnerPlace(root, venv=venv, port=True)
        place.release("v0", app=APP.format(version="v0", gate=str(root / "gate"), slow=str(root / "slow")))
        try:
            with contextlib.redirect_stdout(io.StringIO()), place.running(*command.split()) as runner:
                until(lambda place=place: ask(place, "/") == "v0")
                public, direct = place.socket.getsockname()[1], _port_of(runner.live()[1])
                pairs = [(_rate(public), _rate(direct)) for _ in range(bench.rounds)]
        except AssertionError as error:
            raise Unmeasured(f"{server}: {error}") from error
        finally:
            place.close()
        ratios = [through / without for through, without in pairs]
        yield Result(
            f"port: {server}",
            f"{median(through for through, _ in pairs):.0f}/s",
            f"directly {median(without for _, without in pairs):.0f}/s",
            f"{median(ratios):.2f} x ({min(ratios):.2f} .. {max(ratios):.2f})",
            f">= {_GOAL:g} x",
            median(ratios) >= _GOAL,
        )


def _port_of(pid: int) -> int:
    with open(f"/proc/{pid}/environ", "rb") as file:
        found = dict(word.split(b"=", 1) for word in file.read().split(b"\0") if word)
    return int(found[b"PORT"])


def _rate(port: int) -> float:
    """Answers a second that `_VISITORS` visitors get, each asking again when it has its answer."""
    poll, visitors, got = select.epoll(), {}, {}
    for _ in range(_VISITORS):
        visitor = socket.create_connection(("127.0.0.1", port))
        visitor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        visitors[visitor.fileno()], got[visitor.fileno()] = visitor, b""
        poll.register(visitor, select.EPOLLIN)
        visitor.sendall(_REQUEST)
    began, answers = time.monotonic(), 0
    while time.monotonic() < began + _SECONDS:
        for fd, _ in poll.poll(1):
            got[fd] += visitors[fd].recv(65536)
            if _whole(got[fd]):
                answers += 1
                got[fd] = b""
                visitors[fd].sendall(_REQUEST)
    seconds = time.monotonic() - began
    for visitor in visitors.values():
        visitor.close()
    return answers / seconds


def _whole(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    if b"chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    try:
        return bool(json.loads(body))
    except ValueError:
        return False
