"""How a version runs: what pusher.toml says, then its Procfile, then what is found in its code."""

import warnings
from pathlib import Path

import pytest

from pusher.errors import Usage
from pusher.run.build import find_build
from pusher.run.found import find_run
from pusher.run.procfile import read_procfile
from pusher.run.section import run_section
from pusher.run.servers import listening
from pusher.run.table import parse_section
from pusher.wire import RunHealth, RunProcess, RunSection, WireError, split_command

FLASK = "from flask import Flask\napp = Flask(__name__)\n"
FACTORY = "from flask import Flask\ndef create_app(config=None):\n    app = Flask(__name__)\n    return app\n"
FASTAPI = "from fastapi import FastAPI\napi: FastAPI = FastAPI()\n"
MANAGE = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site_.conf.production')\n"


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("command", "words", "via"),
    [
        ("gunicorn app:app --bind 0.0.0.0:$PORT -w 3", "gunicorn app:app -w 3", "socket"),
        ("gunicorn -b 0.0.0.0:${PORT:-8000} app:app", "gunicorn app:app", "socket"),
        ("gunicorn --bind=:5000 app:app -b:80", "gunicorn app:app", "socket"),
        ("gunicorn -k gevent 'app:create_app()'", "gunicorn -k gevent app:create_app()", "socket"),
        ("uvicorn main:app --host 0.0.0.0 --port $PORT --reload", "uvicorn main:app --fd 3", "socket"),
        ("uvicorn main:app --fd 3", "uvicorn main:app --fd 3", "socket"),
        ("python -m uvicorn main:app --port=80", "python -m uvicorn main:app --fd 3", "socket"),
        ("hypercorn app:app -b 0.0.0.0:80", "hypercorn app:app --bind fd://3", "socket"),
        ("daphne -b 0.0.0.0 -p $PORT x.asgi:application", "daphne --fd 3 x.asgi:application", "socket"),
        ("waitress-serve --port=$PORT a:b", "waitress-serve --listen=127.0.0.1:$PORT a:b", "port"),
        ("granian --interface asgi a:b", "granian --interface asgi a:b --port $PORT --host 127.0.0.1", "port"),
        ("fastapi run app/main.py --port 80", "fastapi run app/main.py --port $PORT --host 127.0.0.1", "port"),
        ("flask run -h 0.0.0.0 -p 80", "flask run --port $PORT --host 127.0.0.1", "port"),
        (
            "streamlit run a.py --server.port=80 --server.headless=true",
            "streamlit run a.py --server.headless=true --server.port $PORT --server.address 127.0.0.1",
            "port",
        ),
        (
            "streamlit hello --server.port $PORT",
            "streamlit hello --server.port $PORT --server.address 127.0.0.1 --server.headless true",
            "port",
        ),
        ("python server.py --listen ${PORT}", "python server.py --listen $PORT", "port"),
        ("python server.py", "python server.py", "socket"),
    ],
)
def test_a_known_server_gets_the_socket_if_it_can_and_a_port_if_not(command: str, words: str, via: str) -> None:
    found = listening(split_command(command))
    assert (" ".join(found.words), found.via) == (words, via)


@pytest.mark.parametrize(
    ("files", "packages", "start"),
    [
        ({"app.py": FLASK}, ["gunicorn"], "gunicorn -w 2 app:app"),
        ({"app.py": FLASK}, ["waitress"], "waitress-serve '--listen=127.0.0.1:$PORT' app:app"),
        ({"shop/__init__.py": FACTORY}, ["gunicorn"], "gunicorn -w 2 'shop:create_app()'"),
        ({"src/shop/__init__.py": "", "src/shop/web.py": FLASK}, ["gunicorn"], "gunicorn -w 2 shop.web:app"),
        (
            {"microblog.py": "from app import create_app\napp = create_app()\n", "app/__init__.py": FACTORY},
            ["gunicorn"],
            "gunicorn -w 2 microblog:app",
        ),
        (
            {
                "wsgi.py": "from shop import create_app\nshop = create_app()\n",
                "celery_worker.py": "from shop import create_app\napp = create_app()\n",
                "shop/__init__.py": FACTORY,
            },
            ["gunicorn"],
            "gunicorn -w 2 wsgi:shop",
        ),
        ({"main.py": FASTAPI}, ["uvicorn", "gunicorn"], "uvicorn main:api --fd 3"),
        ({"app/main.py": FASTAPI}, ["uvicorn"], "uvicorn app.main:api --fd 3"),
        ({"main.py": FASTAPI}, ["hypercorn"], "hypercorn main:api --bind fd://3"),
        ({"main.py": FASTAPI}, ["daphne"], "daphne --fd 3 main:api"),
        ({"main.py": FASTAPI}, ["granian"], "granian --interface asgi main:api --port '$PORT' --host 127.0.0.1"),
        (
            {"manage.py": MANAGE, "site_/wsgi.py": "", "site_/asgi.py": ""},
            ["gunicorn"],
            "gunicorn -w 2 site_.wsgi:application",
        ),
        (
            {"manage.py": MANAGE, "site_/wsgi.py": "", "site_/asgi.py": ""},
            ["uvicorn"],
            "uvicorn site_.asgi:application --fd 3",
        ),
        (
            {"streamlit_app.py": "import streamlit as st\n"},
            ["streamlit"],
            "streamlit run streamlit_app.py --server.port '$PORT' --server.address 127.0.0.1 "
            "--server.headless true",
        ),
    ],
)
def test_an_application_is_found_by_its_frameworks_rules(
    files: dict[str, str], packages: list[str], start: str, tmp_path: Path
) -> None:
    found = find_run(written(tmp_path, files), packages)
    assert found.section.start == start
    assert found.why


@pytest.mark.parametrize(
    ("files", "packages", "why"),
    [
        ({"app.py": FLASK}, ["flask"], "no web server: add gunicorn"),
        ({"main.py": FASTAPI}, ["gunicorn"], "no web server: add uvicorn"),
        ({"app.py": "print('hello')\n"}, ["gunicorn"], "no Flask, Django, FastAPI or other application"),
        ({"app.py": "app = Flask(\n"}, ["gunicorn"], "no Flask"),
        ({"app.py": "def create_app(config):\n    return Flask(config)\n"}, ["gunicorn"], "no Flask"),
        ({"manage.py": "nothing"}, ["gunicorn"], "no Flask"),
    ],
)
def test_what_is_not_certain_is_not_guessed(
    files: dict[str, str], packages: list[str], why: str, tmp_path: Path
) -> None:
    found = find_run(written(tmp_path, files), packages)
    assert not found.section
    assert why in found.why


@pytest.mark.parametrize(
    ("files", "lacking", "then"),
    [
        ({"shop/__init__.py": FACTORY}, "gunicorn", "gunicorn -w 2 'shop:create_app()'"),
        ({"main.py": FASTAPI}, "uvicorn", "uvicorn main:api --fd 3"),
        ({"main.py": "web.run_app(app)\n"}, "gunicorn", ""),
    ],
)
def test_where_only_a_server_is_missing_it_is_said_how_that_would_be_started(
    files: dict[str, str], lacking: str, then: str, tmp_path: Path
) -> None:
    said = run_section(written(tmp_path, files), RunSection(), packages=["flask"])
    assert (said.lacking, said.then) == (lacking, then)


def test_a_procfile_says_what_serves_what_runs_before_and_what_runs_beside(tmp_path: Path) -> None:
    text = "# x\nweb: gunicorn a:b -b :$PORT\nrelease: flask db upgrade && echo\nworker: celery -A a worker\n"
    section = read_procfile(written(tmp_path, {"Procfile": text}))
    assert section == RunSection(
        start="gunicorn a:b",
        release="flask db upgrade && echo",
        processes={"worker": RunProcess(start="celery -A a worker")},
    )
    assert read_procfile(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("web: A=1 gunicorn x:y", "Put it into the app's environment file"),
        ("web: gunicorn x:y | tee log", "'|' needs one"),
        ("web: a | b && gunicorn x:y", "'|' needs one"),
        ("web: gunicorn $APP", "'$' needs one"),
        ("web: gunicorn 'x", "No closing quotation"),
        ("Worker_1: x", "Call it 'worker-1'"),
        ("1: x", "small letters"),
        ("worker: celery # all queues", "a line of its own"),
        ("release: date # now\nweb: flask x && gunicorn x:y", "a line of its own"),
        ("worker: flower --port=$PORT", "only `web` is given a port"),
        ("worker: flower --port=${PORT:-5555}", "only `web` is given a port"),
        ("no colon", "a line is NAME: COMMAND"),
    ],
)
def test_a_line_that_would_mean_something_else_is_refused(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(Usage) as refused:
        read_procfile(written(tmp_path, {"Procfile": f"{line}\n"}))
    assert said in f"{refused.value.what} {refused.value.why} {refused.value.hint}"
    assert "line 1 cannot be used" in refused.value.what


def test_a_line_for_a_shell_that_needs_none_is_understood(tmp_path: Path) -> None:
    text = "worker: exec celery -A a worker\r\nbeat: celery --title '# 1' a#b \\#c\r\n"
    section = read_procfile(written(tmp_path, {"Procfile": f"{text}release: date # now\n"}))
    assert section is not None
    assert section.release == "date # now"  # this one a shell runs
    assert section.processes["worker"].start == "celery -A a worker"
    assert split_command(section.processes["beat"].start) == ("celery", "--title", "# 1", "a#b", "#c")


def test_what_comes_before_the_server_runs_once_or_is_built(tmp_path: Path) -> None:
    text = "web: flask db upgrade; flask translate compile; exec gunicorn x:y\nrelease: date\n"
    assert read_procfile(written(tmp_path, {"Procfile": text})) == RunSection(
        start="gunicorn x:y",
        release="date && flask db upgrade",
        build=("flask translate compile",),
        build_paths=("**/*.mo",),
    )


def test_a_server_that_nobody_knows_listens_at_the_port_as_a_procfile_promises(tmp_path: Path) -> None:
    section = read_procfile(written(tmp_path, {"Procfile": "web: python server.py\n"}))
    assert section is not None
    assert section.listen_via == "port"


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("BASE_DIR / 'static' / 'all'", "static/all"),
        ("os.path.join(BASE_DIR, 'staticfiles')", "staticfiles"),
        ("str(BASE_DIR / 'made')", "made"),
        ("BASE_DIR.parent / 'static'", ""),
        ("'/var/www/static'", ""),
        ("os.path.join(BASE_DIR, NAME)", ""),
    ],
)
def test_static_files_of_django_are_collected_where_its_settings_say(
    setting: str, path: str, tmp_path: Path
) -> None:
    written(tmp_path, {"manage.py": MANAGE, "site_/settings.py": f"STATIC_ROOT = {setting}\n"})
    steps = find_build(tmp_path)
    assert steps.paths == ((path,) if path else ())
    assert steps.commands == (("python manage.py collectstatic --noinput",) if path else ())


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        ("B = Path(__file__).resolve().parent.parent\nSTATIC_ROOT = B / 'made'", "site_/made"),
        ("B = Path(__file__).parents[2]\nSTATIC_ROOT = B.joinpath('made', 'all')", "made/all"),
        (
            "import os\nB = os.path.dirname(os.path.abspath(__file__))\nSTATIC_ROOT = os.path.join(B, 'm')",
            "site_/settings/m",
        ),
        ("P = dirname(__file__)\nB = os.path.dirname(P)\nSTATIC_ROOT = os.path.join(B, '../made')", ""),
        ("B = os.path.dirname(os.path.dirname(__file__))\nSTATIC_ROOT = os.path.join(B, '../made')", "made"),
        ("STATIC_ROOT = Path(__file__).parents[99] / 'made'", ""),
        ("STATIC_ROOT = Path(__file__).parents[2]", ""),
        ("A = B\nB = A\nSTATIC_ROOT = A / 'made'", ""),
        ("STATIC_ROOT = BASE_DIR / 7", ""),
    ],
)
def test_the_folder_of_static_files_is_looked_up_from_where_the_settings_are(
    lines: str, path: str, tmp_path: Path
) -> None:
    written(tmp_path, {"manage.py": MANAGE, "site_/settings/base.py": f"{lines}\n"})
    assert find_build(tmp_path).paths == ((path,) if path else ())


def test_what_python_warns_of_in_the_code_of_a_version_is_not_said_to_who_sends_it(tmp_path: Path) -> None:
    """Since Python 3.12, an escape sequence that is none is warned of, once for each look."""
    code = 'from flask import Flask\nPATTERN = "\\d"\napp = Flask("/")\napp.route("/")\n'
    (tmp_path / "app.py").write_text(code)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert run_section(tmp_path, RunSection(), packages=["gunicorn"]).section.start == "gunicorn -w 2 app:app"
    assert not said


def test_each_key_comes_from_the_first_that_says_it(tmp_path: Path) -> None:
    written(tmp_path, {"app.py": FLASK, "Procfile": "web: waitress-serve a:b\nrelease: x\n"})
    mine = RunSection(start="gunicorn mine:app")
    said = run_section(tmp_path, mine, packages=["gunicorn"])
    assert (said.section.start, said.section.release) == ("gunicorn mine:app", "x")
    assert said.note == "start: gunicorn mine:app (pusher.toml)"
    assert run_section(tmp_path, RunSection(), packages=[]).section.listen_via == "port"
    (tmp_path / "Procfile").unlink()
    said = run_section(tmp_path, RunSection(python="3.12"), packages=["gunicorn"])
    assert (said.section.start, said.section.python, said.found) == ("gunicorn -w 2 app:app", "3.12", False)
    assert "found: app.py makes `app`, a Flask application" in said.note
    assert run_section(tmp_path, RunSection(), packages=["gunicorn"]).found


DJANGO_URLS = '''"""
Function views
    2. Add a URL to urlpatterns:  path('', views.home, name='home')
"""
urlpatterns = [
    path('admin/', admin.site.urls),
]
'''


@pytest.mark.parametrize(
    ("files", "missing_is_good", "host"),
    [
        ({"app.py": "@app.get('/')\n"}, False, None),
        ({"urls.py": "urlpatterns = [path('', home)]\n"}, False, None),
        ({"urls.py": "urlpatterns = [re_path(r'^$', home)]\n"}, False, None),
        ({"app.py": "app = Application([('/', Home)])\n"}, False, None),
        ({"app.py": "app.add('/', home\n"}, False, None),
        ({"urls.py": DJANGO_URLS}, True, None),
        ({"app.py": "# app.get('/')\nparts = path.split('/')\n"}, True, None),
        ({"app.py": "@app.get('/version')\n", "tests/test_a.py": "ask('/')\n"}, True, None),
        ({"settings.py": "ALLOWED_HOSTS = ['.example.org', 'b']\n"}, True, "example.org"),
        ({"settings.py": "ALLOWED_HOSTS = ['localhost', 'b']\n"}, True, None),
        ({"settings.py": "ALLOWED_HOSTS = [os.environ['X']]\n"}, True, None),
    ],
)
def test_without_a_question_any_answer_but_an_error_is_good(
    files: dict[str, str], missing_is_good: bool, host: str | None, tmp_path: Path
) -> None:
    written(tmp_path, files)
    said = RunSection(start="gunicorn a:b")
    health = run_section(tmp_path, said, packages=[]).section.health
    assert {200, 302, 401} <= {*health.status}
    assert 500 not in health.status
    assert (404 in health.status, health.host) == (missing_is_good, host)
    asked = RunSection(start="gunicorn a:b", health=RunHealth(bake_s=1))
    assert run_section(tmp_path, asked, packages=[]).section == asked


def test_a_start_with_a_port_listens_there() -> None:
    assert parse_section({"start": "x --port $PORT"}, file="f").listen_via == "port"
    assert parse_section({"start": "x --port $PORT", "listen_via": "socket"}, file="f").listen_via == "socket"


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"strat": "x"}, "'strat' is not known here; known are start"),
        ({"start": "a 'b"}, "No closing quotation"),
        ({"start": ["a"]}, "'start' is not a text"),
        ({"start": "'a\tb'"}, "'start' is not a text of one line"),
        ({"python": "4"}, 'a version like "3.13"'),
        ({"listen_via": "pipe"}, "it is one of socket, port"),
        ({"build": ["x"]}, "'build' needs 'build_paths'"),
        ({"build_paths": ["x"]}, "without 'build'"),
        ({"build": ["x"], "build_paths": ["../x"]}, "no path of the release"),
        ({"health": {"status": [True]}}, "not a list of status codes"),
        ({"health": {"deadline_s": 1.5}}, "whole number of seconds"),
        ({"health": {"headers": {"a b": "x"}}}, "no header"),
        ({"health": {"headers": []}}, "not a table"),
        ({"health": {"path": "x"}}, 'a path like "/health"'),
        ({"processes": {"w": {}}}, "'processes.w.start' is missing"),
        ({"processes": {"W": {"start": "x"}}}, "small letters"),
        ({"timers": {"t": {"start": "x", "schedule": "y"}}}, "'timers.t.schedule' is not known"),
        ({"hook_deadline_s": -1}, "whole number of seconds"),
        ({"processes": {f"w{number}": {"start": "x"} for number in range(65)}}, "more than 64"),
        ({"build": ["x"] * 33, "build_paths": ["x"]}, "at most 32"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_its_key(members: dict[str, object], said: str) -> None:
    with pytest.raises(WireError) as refused:
        RunSection.from_members(members)
    assert said in str(refused.value)
    with pytest.raises(Usage, match=r"\[run\] cannot be used"):
        parse_section(members, file="pusher.toml")


def test_a_section_is_written_as_it_was_read() -> None:
    members = {
        "start": "a b",
        "release": "x && y",
        "listen_via": "port",
        "python": "3.13",
        "hook_deadline_s": 5,
        "build": ["c"],
        "build_paths": ["out", "**/*.mo"],
        "build_environment": True,
        "health": {"path": "/x", "host": "", "status": [200], "headers": {"A": "b"}, "deadline_s": 0, "bake_s": 1},
        "processes": {"w": {"start": "d", "health": "e"}},
        "timers": {"t": {"start": "f"}},
    }
    assert RunSection.from_members(members).members() == members
    assert not RunSection.from_members({})
