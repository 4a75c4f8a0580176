"""A web server for tests of what comes of a repository that stops in the middle of an answer."""

import threading
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.web_server import Silent, WebServer, serving


class Web(WebServer):
    """Serves a folder and keeps reports. `stalls` is where an answer stops: a method, and how a name begins.

    `part` of the content comes before that.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(StallingHandler)
        self.folder = folder
        self.stalls = ("", "")
        self.part = 0.5
        self.reached = threading.Event()
        self.asked: list[tuple[str, str]] = []
        self.reports: dict[str, bytes] = {}


class StallingHandler(Silent, BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        name, begin = self.path[1:], self.headers.get("Range", "")
        self.server.asked.append((name, begin))
        path = self.server.folder / name
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        at = int(begin[6:-1]) if begin else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - at))
        if begin:
            self.send_header("Content-Range", f"bytes {at}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.is_stalled("GET"):
            self.wfile.write(content[at : at + int(len(content) * self.server.part)])
            self.stall()
        self.wfile.write(content[at:])

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.reports[self.path[1:]] = content
        if self.is_stalled("PUT"):
            self.stall()
        self.send_response(201)
        self.end_headers()

    def is_stalled(self, method: str) -> bool:
        wanted, name = self.server.stalls
        return wanted == method and self.path[1:].startswith(name)

    def stall(self) -> None:
        self.server.reached.set()
        self.rfile.read(1)  # until the client is gone


def stalling_web(folder: Path) -> AbstractContextManager[Web]:
    """A server that runs until the block is over."""
    return serving(Web(folder))
