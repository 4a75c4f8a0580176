"""A scripted HTTP door. It also gives answers that no agent gives; correct ones come from the real door."""

import hashlib
import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from pusher.bundle.archive import read_bundle
from pusher.transport.hosts import Host, parse_address
from pusher.wire import EVENTS_TYPE, PROBLEM_TYPE, Event, Happened, Problem
from tests.web_server import Silent, WebServer


@dataclass(frozen=True, slots=True)
class Request:
    """What came in. `connection` is the same for requests over the same connection."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int


class Exchange(Silent, BaseHTTPRequestHandler):
    """One request; a script reads it and answers."""

    protocol_version = "HTTP/1.1"
    server: "_Server"

    def body(self) -> bytes:
        """All that was sent."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def document(self, document: Any, *, status: int = 200, kind: str = "application/json") -> None:
        """Answer with one JSON document."""
        self.raw(json.dumps(document).encode(), status=status, kind=kind)

    def raw(self, raw: bytes, *, status: int = 200, kind: str = "text/plain") -> None:
        """Answer with these bytes."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def stream(self, lines: Iterable[bytes], *, ended: bool = True) -> None:
        """Answer with lines as they come; if not `ended`, hang up in the middle."""
        self.send_response(200)
        self.send_header("Content-Type", EVENTS_TYPE)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
        if ended:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.hang_up()

    def hang_up(self) -> None:
        """Close the connection without another word."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        script = self.server.door.script(self.command, self.path.partition("?")[0])
        script(self)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the names are the base class's


Script = Callable[[Exchange], None]


class _Server(WebServer):
    door: "ScriptedDoor"


class ScriptedDoor:
    """Answers each request with the next script for its method and path; the last one stays."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._scripts: dict[tuple[str, str], list[Script]] = {}
        self._server = _Server(Exchange)
        self._server.door = self
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        return self._server.address

    @property
    def host(self) -> Host:
        return Host("web1", parse_address(self.address))

    def on(self, method: str, path: str, *scripts: Script) -> None:
        self._scripts[method, path] = list(scripts)

    def script(self, method: str, path: str) -> Script:
        scripts = self._scripts.get((method, path))
        if scripts is None:
            return answer({"title": f"no script for {method} {path}"}, status=404)
        return scripts.pop(0) if len(scripts) > 1 else scripts[0]

    def manifest(self) -> str:
        """The digest of the manifest that was sent, or dropped, last; empty if there was none."""
        for request in reversed(self.requests):
            if "/drops/" in request.path:
                return request.path.rpartition("/")[2]
            if request.body and request.path.endswith("/deployments"):
                with tempfile.NamedTemporaryFile() as file:
                    file.write(request.body)
                    file.flush()
                    with suppress(Problem):  # some tests send anything
                        return hashlib.sha256(read_bundle(Path(file.name)).signed.manifest).hexdigest()
        return ""

    def paths(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.requests]


def note(exchange: Exchange, body: bytes = b"") -> None:
    """Record the request for the test."""
    connection = exchange.client_address[1]
    request = Request(exchange.command, exchange.path, dict(exchange.headers), body, connection)
    exchange.server.door.requests.append(request)


def answer(document: Any, *, status: int = 200, kind: str = "application/json") -> Script:
    """Read the request, and answer with a document."""

    def script(exchange: Exchange) -> None:
        note(exchange, exchange.body())
        exchange.document(document, status=status, kind=kind)

    return script


def refusal(problem: Problem, *, status: int = 409) -> Script:
    """Read the request, and answer with a problem document."""
    return answer(problem.to_document(status=status), status=status, kind=f"{PROBLEM_TYPE}; charset=utf-8")


def events(*found: Event | None, ended: bool = True) -> Script:
    """Stream these events (None: an empty line); if not `ended`, hang up in the middle."""

    def script(exchange: Exchange) -> None:
        note(exchange)
        digest = exchange.server.door.manifest()
        named = (honest(event, digest) if event and digest else event for event in found)
        exchange.stream((event.to_line() if event else b"\n" for event in named), ended=ended)

    return script


def honest(event: Event, digest: str) -> Event:
    """The event as an agent tells it that has deployed the manifest with this digest."""
    if event.event != Happened.FINISHED or event.data.get("outcome") != "done":
        return event
    return replace(event, data={"manifest": digest, **event.data})


def silence(exchange: Exchange) -> None:
    """Close the connection without an answer."""
    note(exchange)
    exchange.hang_up()
