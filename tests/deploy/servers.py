"""The servers that people use, each with an app that starts when it is told to, and visitors at an even pace."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import make_venv
from tests.deploy.runner_place import RunnerPlace

REQUIREMENTS = """\
gunicorn==22.0.0
gevent==26.9.0
uvicorn==0.54.0
hypercorn==0.18.0
granian==2.8.9
waitress==3.0.2
"""
APP = """
import asyncio, json, os, time

while os.path.exists({gate!r}):  # what importing it waits for
    time.sleep(0.01)

BODY = json.dumps({{"version": {version!r}}}).encode()

def begins(path):
    if path == "/slow":
        open({slow!r} + ".begun", "w").close()
    return path == "/slow"

def app(environ, start_response):
    slow = begins(environ["PATH_INFO"])
    while slow and os.path.exists({slow!r}):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [BODY]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    slow = begins(scope["path"])
    while slow and os.path.exists({slow!r}):
        await asyncio.sleep(0.01)
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": BODY}})

if __name__ == "__main__":  # servers that take a socket only from a program
    import socket, sys
    if sys.argv[1] == "waitress":
        import waitress
        waitress.serve(app, sockets=[socket.socket(fileno=3)])
    elif sys.argv[1] == "granian":
        from granian import Granian
        from granian._granian import SocketHolder

        class Handed(Granian):
            def _init_shared_socket(self):
                self._shd, self._sfd, self._ssp = SocketHolder(3, False, 1024), 3, None
                self._sso = socket.socket(fileno=3)
                self._sso.set_inheritable(True)

        Handed("app:asgi", interface="asgi").serve()
"""
SERVERS = {
    "sync": "gunicorn -w 2 app:app",
    "gthread": "gunicorn -w 2 -k gthread --threads 4 app:app",
    "gevent": "gunicorn -w 2 -k gevent app:app",
    "uvicorn": "uvicorn --fd 3 app:asgi",
    "uvicorn with workers": "uvicorn --fd 3 --workers 2 app:asgi",
    "hypercorn": "hypercorn -b fd://3 app:asgi",
    "waitress": "python app.py waitress",
    "granian": "python app.py granian",
}
DROPS = {"gthread", "hypercorn", "uvicorn", "uvicorn with workers", "waitress"}
"""They close connections that they have accepted, when they are told to end; hypercorn seldom, under load."""
PER_SECOND = 100


def make_servers_venv(folder: Path, *, cache: Path) -> Path:
    """A venv that has the servers, beneath `folder`."""
    source, app = folder / "source", folder / "app"
    for one in (source, app):
        one.mkdir(parents=True)
    (source / "requirements.txt").write_text(REQUIREMENTS)
    return make_venv(source, cache=cache, app=app)


class Visits:
    """Visitors at an even pace while the block lasts: what they got, and how long the slowest waited."""

    def __init__(self, place: RunnerPlace) -> None:
        self.endings: Counter[str] = Counter()
        self.longest_s = 0.0
        self._place = place

    def visit(self, path: str = "/") -> None:
        came = time.monotonic()
        try:
            ending = ask(self._place, path)
        except (OSError, ValueError) as error:
            ending = f"{type(error).__name__}: {error}"
        if path == "/":
            self.longest_s = max(self.longest_s, time.monotonic() - came)
        self.endings[ending] += 1

    @contextmanager
    def coming(self) -> Iterator[None]:
        over = threading.Event()
        with ThreadPoolExecutor(64) as visitors:

            def come() -> None:
                due = time.monotonic()
                while not over.is_set():
                    visitors.submit(self.visit)
                    due += 1 / PER_SECOND
                    over.wait(max(0, due - time.monotonic()))

            thread = threading.Thread(target=come)
            thread.start()
            try:
                yield
            finally:
                over.set()
                thread.join()


def ask(place: RunnerPlace, path: str) -> str:
    with socket.socket() as visitor:
        visitor.settimeout(30)
        visitor.connect(place.socket.getsockname())
        visitor.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        answer = b""
        while chunk := visitor.recv(65536):
            answer += chunk
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["version"])
