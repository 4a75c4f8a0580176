"""Small applications, one for each shape that real ones have. Each says its version at /version.

Invariant: a shape is what its owner would send unmodified: no shape knows of this project.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Files = Mapping[str, str]

_DJANGO_SETTINGS = """
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "for a test"
DEBUG = False
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
INSTALLED_APPS = ["django.contrib.staticfiles", "site_"]
ROOT_URLCONF = "site_.urls"
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "shared.sqlite3"}}
"""
_DJANGO_URLS = """
from pathlib import Path
from django.conf import settings
from django.http import JsonResponse
from django.urls import path
def version(request):
    collected = (Path(settings.STATIC_ROOT) / "style.css").read_text()
    return JsonResponse({"version": VERSION, "style": collected.strip()})
urlpatterns = [path("version", version)]
"""
_MANAGE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
_FLASK = """
from flask import Flask
app = Flask(__name__)
@app.get("/version")
def version():
    return {"version": VERSION}
"""
_FASTAPI = """
from fastapi import FastAPI
app = FastAPI()
@app.get("/version")
def version() -> dict[str, str]:
    return {"version": VERSION}
"""
_STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
def version(request):
    return JSONResponse({"version": VERSION})
app = Starlette(routes=[Route("/version", version)])
"""
_RQ_WEB = """
import os
import time
from flask import Flask
from redis import Redis
from rq import Queue
import jobs
app = Flask(__name__)
queue = Queue(connection=Redis.from_url(os.environ["REDIS_URL"]))
@app.get("/version")
def version():
    return {"version": VERSION}
@app.get("/work")
def work():
    job = queue.enqueue(jobs.version)
    until = time.monotonic() + 10
    while (done := job.return_value()) is None and time.monotonic() < until:
        time.sleep(0.05)
    return {"version": done}
"""
_RQ_WORKER = """
import os
from redis import Redis
from rq import Worker
Worker(["default"], connection=Redis.from_url(os.environ["REDIS_URL"])).work()
"""
_PIPFILE = """
[packages]
flask = "*"
gunicorn = "*"
[dev-packages]
pytest = "*"
[requires]
python_version = "3.11"
"""
_POETRY = """
[tool.poetry]
name = "tale"
version = "0.1.0"
description = ""
authors = ["Somebody <somebody@example.com>"]
[tool.poetry.dependencies]
python = "^3.11"
flask = "^3.0"
gunicorn = "*"
[tool.poetry.group.dev.dependencies]
pytest = "*"
[build-system]
requires = ["poetry-core"]
build-backend = "poetry.core.masonry.api"
"""
_POETRY_LOCK = """
import sys
from poetry.console.application import main
from poetry.repositories.legacy_repository import LegacyRepository
from poetry.repositories.pypi_repository import PyPiRepository
# Mirrors have the pages of an index, and not its JSON for each version.
PyPiRepository._get_release_info = LegacyRepository._get_release_info
sys.argv = ["poetry", "lock"]
sys.exit(main())
"""
_PORT_SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"version": VERSION}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """An application: its files for a version, and what its owner would type besides `pusher init`.

    `toml` is added to the pusher.toml that `init` wrote, `app_toml` to the app's file on the host. `lock` is what
    makes its lock file, once. With `redis` the host has one, and REDIS_URL in the app's environment names it; then
    /work says the version of the worker.
    """

    name: str
    files: Callable[[str], Files]
    toml: str = ""
    app_toml: str = ""
    lock: tuple[str, ...] = ()
    redis: bool = False


def _plain(**files: str) -> Callable[[str], Files]:
    """The files, with the version in place of VERSION; `__` in a name is a slash, a final `_py` is `.py`."""
    named = {_path(name): text for name, text in files.items()}
    return lambda version: {name: text.replace("VERSION", repr(version)) for name, text in named.items()}


def _path(name: str) -> str:
    stem, _, end = name.rpartition("_")
    known = {"py": ".py", "txt": ".txt", "toml": ".toml", "css": ".css"}
    return f"{stem.replace('__', '/')}{known[end]}" if end in known else name.replace("__", "/")


def _pyproject(name: str, needs: str, *, build: bool = True, more: str = "") -> str:
    backend = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n' if build else ""
    needed = ", ".join(f'"{one}"' for one in needs.split())
    return (
        f'{backend}[project]\nname = "{name}"\nversion = "0.1"\nrequires-python = ">=3.11"\n'
        f"dependencies = [{needed}]\n{more}"
    )


_FACTORY = _FLASK.replace("app = Flask", "def create_app():\n    app = Flask").replace("\n@app", "\n    @app")
_FACTORY = _FACTORY.replace("\ndef version():\n    return {", "\n    def version():\n        return {")
_FACTORY += "    return app\n"

_WORKSPACE = (
    '[project]\nname = "everything"\nversion = "0"\nrequires-python = ">=3.11"\n'
    '[tool.uv.workspace]\nmembers = ["packages/*", "services/*"]\n'
)
_MEMBER = (
    "[tool.uv.sources]\nshop-core = { workspace = true }\n"
    '[tool.hatch.build.targets.wheel]\npackages = ["src/api"]\n'
)

SHAPES = (
    Shape("flask", _plain(app_py=_FLASK, requirements_txt="flask\ngunicorn\n")),
    Shape(
        "flask factory, pyproject",
        lambda version: {
            "pyproject.toml": _pyproject("tale", "flask gunicorn"),
            "tale/__init__.py": _FACTORY.replace("VERSION", repr(version)),
        },
    ),
    Shape(
        "django, collectstatic, migrations",
        lambda version: {
            "manage.py": _MANAGE,
            "site_/__init__.py": "",
            "site_/settings.py": _DJANGO_SETTINGS,
            "site_/urls.py": _DJANGO_URLS.replace("VERSION", repr(version)),
            "site_/wsgi.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site_.settings')\n"
            "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
            "site_/static/style.css": f"style of {version}\n",
            "requirements.txt": "django\ngunicorn\n",
            "Procfile": "web: gunicorn site_.wsgi --bind 0.0.0.0:$PORT\nrelease: python manage.py check && date\n",
        },
    ),
    Shape("fastapi", _plain(main_py=_FASTAPI, requirements_txt="fastapi\nuvicorn\n")),
    Shape(
        "fastapi, uvicorn workers",
        _plain(
            main_py=_FASTAPI, requirements_txt="fastapi\nuvicorn\n", Procfile="web: uvicorn main:app --workers 2\n"
        ),
    ),
    Shape(
        "src layout",
        lambda version: {
            "pyproject.toml": _pyproject("inside", "flask gunicorn"),
            "src/inside/__init__.py": "",
            "src/inside/app.py": _FLASK.replace("VERSION", repr(version)),
        },
    ),
    Shape(
        "gunicorn gevent",
        _plain(
            app_py=_FLASK,
            requirements_txt="flask\ngunicorn[gevent]\n",
            Procfile="web: gunicorn -k gevent app:app\n",
        ),
    ),
    Shape(
        "poetry",
        lambda version: {
            "pyproject.toml": _POETRY,
            "tale/__init__.py": _FACTORY.replace("VERSION", repr(version)),
        },
        lock=("uv", "run", "--no-project", "--with", "poetry==2.5.1", "python", "-c", _POETRY_LOCK),
    ),
    Shape(
        "pipenv",
        _plain(app_py=_FLASK, Pipfile=_PIPFILE),
        lock=("uv", "tool", "run", "pipenv@2026.10.3", "lock"),
    ),
    Shape(
        "fastapi, uv workspace",
        lambda version: {
            "pyproject.toml": _WORKSPACE,
            "packages/core/pyproject.toml": _pyproject("shop-core", "httpx"),
            "packages/core/src/shop_core/__init__.py": f"NAME = {version!r}\n",
            "services/api/pyproject.toml": _pyproject("api", "fastapi uvicorn shop-core", more=_MEMBER),
            "services/api/src/api/__init__.py": "",
            "services/api/src/api/main.py": "from shop_core import NAME\n" + _FASTAPI.replace("VERSION", "NAME"),
            "Procfile": "web: uvicorn api.main:app --host 0.0.0.0 --port $PORT\n",
        },
        toml='\n[dependencies]\npackage = "api"\n',
        lock=("uv", "lock"),
    ),
    Shape(
        "rq worker",
        _plain(
            app_py=_RQ_WEB,
            jobs_py="def version():\n    return VERSION\n",
            worker_py=_RQ_WORKER,
            requirements_txt="flask\ngunicorn\nredis\nrq\n",
            Procfile="web: gunicorn -w 2 app:app\nworker: python worker.py\n",
        ),
        app_toml="\n[processes.worker]\n",
        redis=True,
    ),
    Shape("hypercorn", _plain(main_py=_STARLETTE, requirements_txt="starlette\nhypercorn\n")),
    Shape("daphne", _plain(main_py=_STARLETTE, requirements_txt="starlette\ndaphne\n")),
    Shape("granian", _plain(main_py=_STARLETTE, requirements_txt="starlette\ngranian\n")),
    Shape("waitress", _plain(app_py=_FLASK, requirements_txt="flask\nwaitress\n")),
    Shape(
        "a server that knows a port",
        _plain(server_py=_PORT_SERVER, requirements_txt="six\n", Procfile="web: python server.py $PORT\n"),
    ),
    Shape(
        "quart",
        _plain(
            app_py=_FLASK.replace("flask", "quart")
            .replace("Flask", "Quart")
            .replace("def version", "async def version"),
            requirements_txt="quart\nhypercorn\n",
        ),
    ),
    Shape(
        "flask-socketio",
        _plain(
            app_py=_FLASK.replace("import Flask", "import Flask\nfrom flask_socketio import SocketIO").replace(
                "(__name__)\n", "(__name__)\nsocketio = SocketIO(app)\n"
            ),
            requirements_txt="flask\nflask-socketio\ngunicorn\nsimple-websocket\n",
            Procfile="web: gunicorn --threads 8 app:app\n",
        ),
    ),
)
"""Every shape. All but one need nothing but Python packages."""
