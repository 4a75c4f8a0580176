"""The server on loopback: judges each request, then serves a file of the page, or what a row of a table says."""

import os
import socketserver
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from typing import Any

from pusher.dashboard.guards import Guard, Headers
from pusher.dashboard.routes import Routes, find, parameters, problem_line
from pusher.transport import listener
from pusher.wire import EVENTS_TYPE, PROBLEM_TYPE, Code, Problem, Refused, WireError, canonical
from pusher.wire.page import DASHBOARD_FILES, DASHBOARD_START, PAGE_HEADERS, START_TYPE
from pusher.wire.text import parse_object

_BODY_BYTES = 4096
_IDLE_S = 30.0
_STATUS = {Code.BAD_REQUEST: 400, Code.NOT_ALLOWED: 403, Code.UNKNOWN_APP: 404, Code.UNKNOWN_RELEASE: 404,
           Code.UNKNOWN_DEPLOYMENT: 404}  # fmt: skip


class Dashboard(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves `routes` at a loopback port (0: one that the kernel chooses) as soon as `serve_forever` is called.

    `note` gets a line for each request that was refused. Raises: OSError, if the port cannot be had.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, port: int, routes: Routes, *, note: Callable[[str], None]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.routes = routes
        self.note = note
        self.guard = Guard(int(self.server_address[1]))

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether the connection is this user's, or root's: the kernel says so, before a byte of it is read."""
        own = str(self.server_address[0]), int(self.server_address[1])
        try:
            uid = listener.connected_by(client_address[:2], own)
        except OSError:
            return True  # a system that does not tell; there the secret alone decides
        if uid in (0, os.geteuid()):
            return True
        self.note(f"refused a connection of {'nobody' if uid is None else listener.user(uid)}")
        return False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that hung up; everything else is a bug of ours."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Dashboard
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "pusher", ""
    timeout = _IDLE_S

    def do_GET(self) -> None:
        self._serve(changes=False)

    def do_POST(self) -> None:
        self._serve(changes=True)

    def log_message(self, format: str, *arguments: Any) -> None:
        return  # what is served is not worth a line; what is refused gets one from `_serve`

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The answer to what is not HTTP, or has another method."""
        self.close_connection = True
        self._send(
            problem_document(Refused(Code.BAD_REQUEST, message or "This cannot be read"), code), PROBLEM_TYPE, code
        )

    def _serve(self, *, changes: bool) -> None:
        headers = self._headers()
        try:
            self.server.guard.check_source(headers, changes=changes)
            path, _, query = self.path.partition("?")
            if not changes and path == "/" and query:
                cookie = self.server.guard.admit(parameters(query, known=("secret",)).get("secret", ""))
                return self._send(b"", START_TYPE, 303, {"Location": "/", "Set-Cookie": cookie})
            self.server.guard.check_cookie(headers)
            if not changes and path == "/":
                return self._file(DASHBOARD_START, START_TYPE)
            name = path.removeprefix("/page/")
            if not changes and name != path and (kind := DASHBOARD_FILES.get(name)):
                return self._file(name, kind)
            row, asked = find(self.command, self.path)
            if changes:
                asked = type(asked)(asked.names, asked.query, self._members())
            answer = row.action(self.server.routes, asked)
            if isinstance(answer, dict):
                return self._send(canonical(answer) + b"\n", "application/json")
            self._stream(answer)
        except KeyboardInterrupt:
            self.close_connection = True  # the command ends
        except Problem as problem:
            # What was sent with it is not read: the connection would be out of step.
            self.close_connection = self.close_connection or changes
            status = _STATUS.get(problem.code, 409 if isinstance(problem, Refused) else 502)
            if problem.code is Code.NOT_ALLOWED:
                self.server.note(f"refused {self.command}: {problem.why}")
            self._send(problem_document(problem, status), PROBLEM_TYPE, status)

    def _headers(self) -> Headers:
        def each(name: str) -> list[str]:
            return [str(one) for one in self.headers.get_all(name, [])]

        return Headers(
            hosts=each("Host"),
            origins=each("Origin"),
            sites=each("Sec-Fetch-Site"),
            cookies=each("Cookie"),
            kinds=each("Content-Type"),
        )

    def _members(self) -> dict[str, Any]:
        """The JSON object in the body. Raises: Refused(bad_request)."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal() and len(length) < 6 and int(length) <= _BODY_BYTES):
            raise Refused(Code.BAD_REQUEST, f"The request has no body of up to {_BODY_BYTES} bytes")
        try:
            return parse_object(self.rfile.read(int(length)), "the request")
        except WireError as error:
            raise Refused(Code.BAD_REQUEST, "The request cannot be read", why=str(error)) from error

    def _file(self, name: str, kind: str) -> None:
        self._send((files("pusher.wire.page") / name).read_bytes(), kind)

    def _send(self, body: bytes, kind: str, status: int = 200, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**PAGE_HEADERS, **(more or {}), "Content-Type": kind}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, lines: Iterator[bytes]) -> None:
        """Send lines as they come. The answer has no length, so its end is that of the connection."""
        self.close_connection = True
        self.send_response(200)
        for name, value in {**PAGE_HEADERS, "Content-Type": EVENTS_TYPE, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for line in lines:
                self.wfile.write(line)
        except Problem as problem:
            with suppress(ConnectionError):
                self.wfile.write(problem_line(problem))
        except KeyboardInterrupt:
            return  # the command ends, and with it all that it has asked
        finally:
            lines.close()  # type: ignore[attr-defined]  # a generator: what it has borrowed is given back


def problem_document(problem: Problem, status: int) -> bytes:
    """A problem as the body of an answer."""
    return canonical(problem.to_document(status=status)) + b"\n"
