"""A web server that takes conditional PUT as RFC 9110 says, except for the faults that a test gives it."""

import hashlib
import threading
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler

from tests.web_server import Silent, WebServer, serving


class Store(WebServer):
    """`objects` by path. `faults` are words that `FaultyHandler` knows; `asked` are methods and paths."""

    def __init__(self) -> None:
        super().__init__(FaultyHandler)
        self.objects: dict[str, bytes] = {}
        self.faults: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.lock = threading.Lock()


class FaultyHandler(Silent, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def parse_request(self) -> bool:
        found = super().parse_request()
        self.path = getattr(self, "path", "").partition("?")[0]
        return found

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path))
        faults, content = self.server.faults, self.server.objects.get(self.path)
        if "drips" in faults:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                self.wfile.write(b"X-More: " + b"x" * 4096 + b"\r\n")
        if "endless" in faults:
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(b"x" * 65536)
        if "away" in faults:
            return self.answer(503)
        if "redirects" in faults:
            return self.answer(302, headers={"Location": "http://169.254.169.254/"})
        if content is None:
            return self.answer(404)
        tag = {} if "no tags" in faults else {"ETag": self.tag(content)}
        if "gzip" in faults:
            tag["Content-Encoding"] = "gzip"
        self.answer(200, content, headers=tag, cut="cuts off" in faults)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def do_PUT(self) -> None:
        self.server.asked.append((self.command, self.path))
        faults, objects = self.server.faults, self.server.objects
        if "refuses early" in faults:
            self.close_connection = True
            return self.answer(403, b'{"title":"No","detail":"you may not"}')
        if "broken" in faults:
            return self.answer(503)
        if "read only" in faults:
            return self.answer(405)
        content = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            for _ in range(2 if "puts twice" in faults else 1):
                status = self.store(content)
        if "loses the answer" in faults and status == 201:
            self.close_connection = True
            return
        if "is overtaken" in faults and "If-None-Match" in self.headers:
            objects[self.path] = b"of another publisher"
        self.answer(status)

    def store(self, content: bytes) -> int:
        faults, objects = self.server.faults, self.server.objects
        there = objects.get(self.path)
        match, none = self.headers.get("If-Match"), self.headers.get("If-None-Match")
        holds = not (match and (there is None or match != self.tag(there))) and not (none and there is not None)
        if (not holds and "ignores conditions" not in faults) or "always changed" in faults:
            return 412
        if "keeps nothing" not in faults:
            objects[self.path] = content[: len(content) // 2] if "halves" in faults else content
        return 201

    def do_DELETE(self) -> None:
        self.server.asked.append((self.command, self.path))
        found = self.server.objects.pop(self.path, None)
        self.answer(404 if found is None else 204)

    def tag(self, content: bytes) -> str:
        text = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        return f"W/{text}" if "weak tags" in self.server.faults else text

    def answer(
        self, status: int, content: bytes = b"", *, headers: dict[str, str] | None = None, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            if not (status == 204 and name == "Content-Length"):
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True


def storing() -> AbstractContextManager[Store]:
    """A store that runs until the block is over."""
    return serving(Store())
