"""How a release runs belongs to the release: on a server, a rollback starts it as it was confirmed."""

import asyncio
import platform
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import make_venv
from tests.system import versions
from tests.system.load import Visitors
from tests.system.server import APP, Server

TOML = f"/etc/pusher-agent/apps/{APP}.toml"
ASGI = """
import json
VERSION = {version!r}
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    body = json.dumps({{"version": VERSION}}).encode()
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": body}})
"""
SYSCONFIG = "# system configuration generated and used by the sysconfig module\n"
PROCFILE = (
    "web: gunicorn -w 1 app:app\nrelease: echo released by $(id -un) >>/opt/flask-demo/shared/uploads/said\n"
)


UVICORN = "uvicorn==0.54.0\n"


@pytest.fixture(scope="module")
def uvicorn(server: Server, uv_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The server, which has no way out, has uvicorn where it would download it to."""
    source = tmp_path_factory.mktemp("source")
    (source / "requirements.txt").write_text(UVICORN)
    make_venv(source, cache=uv_cache, app=tmp_path_factory.mktemp("app"))
    there = server.machine.root / "var/cache/private/pusher-build" / APP
    subprocess.run(("rsync", "--archive", f"{uv_cache}/", f"{there}/"), check=True)


@pytest.fixture
def free(server: Server, uvicorn: None) -> Iterator[Server]:
    """The server, whose app's file leaves to the release how it runs."""
    server.share_uploads()
    before = server.machine.says("cat", TOML)
    yield server
    server.machine.run("sh", "-c", f"printf %s {shlex.quote(before)} >{TOML}")
    server.machine.run("pusher-agent", "app", "apply", APP)
    server.deploy("v1")


def change(server: Server, old: str, new: str) -> None:
    """Change the app's file, and apply it."""
    text = server.machine.says("cat", TOML)
    assert old in text, text
    server.machine.run("sh", "-c", f"printf %s {shlex.quote(text.replace(old, new))} >{TOML}")
    server.machine.run("pusher-agent", "app", "apply", APP)


def asgi(source: Path, version: str) -> Path:
    versions.write(source, version, Procfile="web: uvicorn app:app --port $PORT\n")
    (source / version / "app.py").write_text(ASGI.format(version=version))
    (source / version / "requirements.txt").write_text(UVICORN)
    return source


def started(server: Server) -> str:
    return str(server.curl("/status")["start"])


def test_from_gunicorn_to_uvicorn_and_back_without_a_word_of_roots(free: Server, tmp_path: Path) -> None:
    free.deploy("g1", source=versions.write(tmp_path, "g1", Procfile=PROCFILE))
    assert started(free) == "gunicorn -w 1 app:app"
    assert "released by flask-demo" in free.machine.says("cat", "/opt/flask-demo/shared/uploads/said")
    free.deploy("u2", source=asgi(tmp_path, "u2"))
    assert (free.version(), started(free)) == ("u2", "uvicorn app:app --fd 3")
    assert free.rollback()["outcome"] == "done"
    assert (free.version(), started(free)) == ("g1", "gunicorn -w 1 app:app")
    # A crash and a reboot start it as it was confirmed, whatever the file says by now.
    change(free, "[health]", 'start = "uvicorn app:app --fd 3"\n[health]')
    main = free.main()
    free.machine.run("kill", "-9", str(free.runner()))
    free.machine.until(lambda: free.main() not in (0, main), seconds=20)
    assert free.version() == "g1"
    free.machine.reboot()
    free.machine.until(lambda: free.curl("/status")["running"], seconds=30)
    assert free.version() == "g1"


async def test_a_server_that_only_knows_a_port_serves_and_changes_over_like_any_other(
    free: Server, tmp_path: Path
) -> None:
    for version in ("w1", "w2"):
        versions.write(tmp_path, version, Procfile="web: flask run --port=$PORT\n")
    await asyncio.to_thread(free.deploy, "w1", source=tmp_path)
    assert started(free) == "flask run --port '$PORT' --host 127.0.0.1"
    async with Visitors(free.machine.address, 8000, "/version", per_second=50) as visitors:
        await asyncio.to_thread(free.deploy, "w2", source=tmp_path)
        assert (await asyncio.to_thread(free.rollback))["outcome"] == "done"
    print(visitors.endings, f"longest {visitors.longest_s * 1000:.1f} ms")
    assert visitors.endings.keys() <= {"200 w1", "200 w2"}, visitors.endings
    runner, main = free.runner(), free.main()
    free.machine.run("kill", "-9", str(main))
    free.machine.until(lambda: free.runner() not in (0, runner), seconds=20)
    assert free.version() == "w1"
    children = free.machine.says("sh", "-c", f"cat /proc/{free.runner()}/task/*/children").split()
    assert len(children) == 2, "the server and its relay"


def test_a_python_that_root_adds_is_used_by_the_agent_the_build_unit_and_the_app(
    free: Server, tmp_path: Path
) -> None:
    machine = free.machine
    system = machine.says("readlink", "-f", "/usr/bin/python3").strip()
    version = machine.says(system, "-c", "import platform; print(platform.python_version())").strip()
    name = f"cpython-{version}+20261127-{platform.machine()}-unknown-linux-gnu-install_only.tar.gz"
    folder = machine.root / "root/python"
    minor = version.rpartition(".")[0]
    # A copy of the system's interpreter finds its library where it was built for.
    for path, text in (
        (f"lib/python{minor}/_sysconfigdata_.py", f"{SYSCONFIG}build_time_vars = {{}}\n"),
        (f"bin/python{minor}", None),
    ):
        (folder / path).parent.mkdir(parents=True)
        if text is None:
            machine.run("cp", system, f"/root/python/{path}")
        else:
            (folder / path).write_text(text)
    machine.run("tar", "-C", "/root", "-czf", f"/root/{name}", "python")
    digest = machine.says("sha256sum", f"/root/{name}").split()[0]
    said = machine.says("pusher-agent", "python", "add", minor, "--from", f"/root/{name}", "--digest", digest)
    assert f"added Python {version}" in said, said
    versions.write(tmp_path, "p1", Procfile="web: gunicorn -w 1 app:app\n", **{".python-version": minor})
    free.deploy("p1", source=tmp_path)
    exe = machine.says("readlink", f"/proc/{free.main()}/exe")
    assert exe.startswith("/opt/pusher-agent/pythons/cpython-"), exe
    assert f"needed by release {free.curl('/status')['live']['release']}" in machine.says(
        "pusher-agent", "python", "list"
    )
    assert "cannot be removed" in machine.run("pusher-agent", "python", "remove", minor, check=False).stderr
    versions.write(tmp_path, "p2", **{".python-version": "3.99"})
    answer = free.send("p2", source=tmp_path)
    assert answer["code"] == "dependencies_failed", answer
    assert "`sudo pusher-agent python add 3.99`" in answer["hint"], answer


def test_each_release_answers_the_question_it_was_confirmed_with(free: Server, tmp_path: Path) -> None:
    strict = """
@app.before_request
def only_for_its_own_name():
    from flask import abort, request
    if request.host != HOST:
        abort(400)
"""
    toml = free.machine.says("cat", TOML)
    change(free, toml[toml.index("[health]") :], "")
    for version, host in (("h1", "one.example"), ("h2", "two.example")):
        versions.write(tmp_path, version, after=strict.replace("HOST", repr(host)))
        (tmp_path / version / "pusher.toml").write_text(
            f'[run]\nstart = "gunicorn -w 1 app:app"\n[run.health]\npath = "/version"\nhost = "{host}"\n'
        )
        free.deploy(version, source=tmp_path)
    assert free.rollback()["outcome"] == "done"
    name = free.curl("/status")["live"]["version"]
    assert name == "h1"


def test_a_rollback_brings_the_assets_of_its_own_release_back(free: Server, tmp_path: Path) -> None:
    page = """
@app.get("/style")
def style():
    from pathlib import Path
    return Path("static/made/style.css").read_text()
"""
    make = "from pathlib import Path\nPath('static/made').mkdir(parents=True)\n"
    for version in ("a1", "a2"):
        body = f"{make}Path('static/made/style.css').write_text('style of {version}')\n"
        versions.write(tmp_path, version, after=page, **{"make.py": body})
        (tmp_path / version / "pusher.toml").write_text(
            '[run]\nstart = "gunicorn -w 1 app:app"\nbuild = ["python make.py"]\nbuild_paths = ["static/made"]\n'
        )
        free.deploy(version, source=tmp_path)
    assert style(free) == "style of a2"
    assert free.rollback()["outcome"] == "done"
    assert style(free) == "style of a1"
    live = free.curl("/status")["live"]["release"]
    made = free.machine.root / f"opt/{APP}/releases/{live}/static/made/style.css"
    assert made.stat().st_uid == made.parent.parent.stat().st_uid
    # What the build made is sealed with the release.
    free.deploy("a2", source=tmp_path)
    made.write_text("style of somebody else")
    answer = free.rollback()
    assert answer["outcome"] != "done", answer
    assert "static/made/style.css, which its build steps made, has changed" in str(answer), answer


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("open('elsewhere', 'w').write('x')", "they changed elsewhere, which build_paths do not name"),
        ("raise SystemExit(3)", "`python make.py` failed: exit code 3"),
        ("import os; assert os.environ['SECRET']", "build_environment = true in [run] changes that"),
        ("import os; print(os.listdir('/opt/flask-demo/shared'))", "PermissionError"),
        ("open('/opt/flask-demo/x', 'w')", "Read-only file system"),
    ],
)
def test_a_build_step_that_goes_astray_changes_nothing(free: Server, tmp_path: Path, code: str, said: str) -> None:
    if free.units()[f"{APP}.service"] != "active":
        free.deploy("v1")
    before = free.version()
    versions.write(tmp_path, "bad", **{"make.py": f"{code}\n"})
    (tmp_path / "bad/pusher.toml").write_text('[run]\nbuild = ["python make.py"]\nbuild_paths = ["out"]\n')
    answer = free.send("bad", source=tmp_path)
    assert (answer["code"], answer["outcome"]) == ("build_failed", "failed"), answer
    assert said in f"{answer['detail']} {answer['hint']} {answer.get('output', '')}", answer
    assert free.version() == before


def style(server: Server) -> str:
    return server.machine.says("curl", "-sS", "--noproxy", "*", "http://127.0.0.1:8000/style")
