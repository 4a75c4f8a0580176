"""A release says how it runs: what it builds, what runs before it, how it starts. A rollback keeps to it."""

import asyncio

import pytest

from pusher.wire import RunHealth, RunProcess, RunSection
from tests.host import APP, Host, wsgi

START = "gunicorn -w 1 app:app"
LAZY = {"start": "", "health__version_member": "", "health__deadline_s": 8}


@pytest.fixture
async def free(host_off: Host):
    """An agent whose app's file leaves to the release how it runs."""
    text = await asyncio.to_thread(host_off.layout.app_toml(APP).read_text)
    lines = [line for line in text.splitlines() if not line.startswith(("start", "[health]", "version_member"))]
    await asyncio.to_thread(host_off.layout.app_toml(APP).write_text, "\n".join(lines).replace("deadline_s", "#"))
    await host_off.start()
    yield host_off
    await host_off.stop()


def builds(code: str, *, version: str = "v1", **more: object) -> tuple[dict[str, str], RunSection]:
    run = RunSection(start=START, build=("python make.py",), build_paths=("out", "**/*.mo"), **more)
    return wsgi(version) | {"make.py": code}, run


async def test_what_the_build_steps_make_belongs_to_the_release_and_comes_back_with_it(free: Host) -> None:
    for version in ("v1", "v2"):
        code = (
            "import os\nfrom pathlib import Path\nPath('out').mkdir()\n"
            f"Path('out/a.css').write_text({version!r})\nPath('b.mo').write_text(os.environ['PUSHER_VERSION'])\n"
            "Path('c').mkdir()\nPath('c/run').write_text('x')\nos.rename('c/run', 'out/run')\n"
            "os.chmod('out/a.css', 0o755)\n"
        )
        files, run = builds(code, version=version)
        status, answer = await free.send(files, version, run=run)
        assert status == 200, answer
        release = free.app.release(answer["release"])
        assert (release / "out/a.css").read_text() == version
        assert (release / "out/a.css").stat().st_mode & 0o777 == 0o755
        assert (release / "b.mo").read_text() == version
    events = await free.events(answer["deployment"])
    lines = [one["text"] for one in events if one.get("source") == "build"]
    assert lines == ["$ python make.py", "3 files made"]
    status, answer = await free.rollback()
    assert (status, answer["outcome"]) == (200, "done")
    assert (free.app.current / "out/a.css").read_text() == "v1"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("open('elsewhere', 'w').write('x')", "they changed elsewhere, which build_paths do not name"),
        ("open('app.py', 'a').write('#')", "they changed app.py"),
        ("import os; os.remove('app.py')", "they changed app.py"),
        ("import os; os.mkdir('out'); os.symlink('/etc/passwd', 'out/x')", "they changed out/x"),
        ("print('why'); raise SystemExit(3)", "`python make.py` failed: exit code 3"),
        ("import os; print(os.environ['SECRET'])", "build_environment = true in [run] changes that"),
    ],
)
async def test_build_steps_that_go_astray_fail_before_anything_live_changes(
    free: Host, code: str, said: str
) -> None:
    before = free.state()
    files, run = builds(code)
    status, answer = await free.send(files, "v1", run=run)
    assert (status, answer["code"]) == (422, "build_failed"), answer
    assert said in f"{answer['detail']} {answer['hint']}", answer
    after = free.state()
    assert after | {"venv": None} == before | {"venv": None}


async def test_a_build_step_that_is_not_there_says_so(free: Host) -> None:
    run = RunSection(start=START, build=("npm run build",), build_paths=("out",))
    status, answer = await free.send(wsgi("v1"), "v1", run=run)
    assert (status, answer["code"]) == (422, "build_failed"), answer
    assert "`npm run build` failed: exit code 127" in answer["detail"] or "npm" in answer["detail"], answer


async def test_a_build_step_sees_the_apps_environment_if_the_release_asks_for_it(host_off: Host) -> None:
    secrets = host_off.root / "etc/secrets"
    await asyncio.to_thread(secrets.write_text, "SECRET=x\n")
    host_off.add_app(APP, environment_file="/etc/secrets")
    await host_off.start()
    code = "import os\nos.mkdir('out')\nopen('out/x', 'w').write(os.environ['SECRET'])\n"
    files, run = builds(code, build_environment=True)
    try:
        status, answer = await host_off.send(files, "v1", run=run)
        assert status == 200, answer
        assert (host_off.app.current / "out/x").read_text() == "x"
    finally:
        await host_off.stop()


async def test_the_release_command_runs_by_a_shell_before_the_app_is_tried_out(free: Host) -> None:
    said = free.root / "said"
    run = RunSection(start=START, release=f"echo $PUSHER_VERSION && pwd >{said}")
    status, answer = await free.send(wsgi("v1"), "v1", run=run)
    assert status == 200, answer
    assert said.read_text().strip() == str(free.app.release(answer["release"]))
    run = RunSection(start=START, release="echo no table >&2; exit 3")
    status, answer = await free.send(wsgi("v2"), "v2", run=run)
    assert (status, answer["code"], answer["title"]) == (422, "hook_failed", "The release command failed"), answer
    assert (answer["detail"], answer["output"]) == ("exit code 3", "no table")
    run = RunSection(start=START, release="python -c 'import os; os.environ[\"TOKEN\"]'")
    _, answer = await free.send(wsgi("v3"), "v3", run=run)
    assert answer["detail"] == "exit code 1: KeyError: 'TOKEN'"
    assert "The app's environment has no TOKEN: set it in the `environment_file`" in answer["hint"]
    assert await free.serving() == "v1"


async def test_a_rollback_starts_and_asks_each_release_as_it_was_confirmed(free: Host) -> None:
    first = RunSection(start="gunicorn -w 1 app:app", health=RunHealth(path="/one", version_member="version"))
    second = RunSection(start="gunicorn -w 1 main:app", health=RunHealth(path="/two"))
    assert (await free.send(wsgi("v1"), "v1", run=first))[0] == 200
    files = wsgi("v2")
    files["main.py"] = files.pop("app.py")
    status, answer = await free.send(files, "v2", run=second)
    assert status == 200, answer
    _, status_now = await free.request("GET", "/status")
    assert status_now["start"] == "gunicorn -w 1 main:app"
    assert (await free.rollback())[1]["outcome"] == "done"
    assert await free.serving() == "v1"
    await free.stop()
    await free.start()
    assert await free.serving() == "v1"


async def test_a_process_that_the_host_does_not_know_is_refused_before_the_upload(free: Host) -> None:
    run = RunSection(start=START, processes={"worker": RunProcess(start="celery")})
    status, answer = await free.send(wsgi("v1"), "v1", run=run)
    assert (status, answer["code"]) == (409, "configuration"), answer
    assert "[processes.worker]" in answer["hint"]
    assert free.state()["releases"] == []


async def test_a_host_that_says_otherwise_counts_and_the_deployment_says_so(host: Host) -> None:
    status, answer = await host.send(wsgi("v1"), "v1", run=RunSection(start="uvicorn nothing:there"))
    assert status == 200, answer
    events = await host.events(answer["deployment"])
    [line] = [one["text"] for one in events if one.get("source") == "unpack"]
    assert line.endswith('says "gunicorn -w 1 app:app", which counts; the release says "uvicorn nothing:there"')


async def test_a_file_that_the_app_has_changed_is_told_and_no_rollback_goes_further_back(free: Host) -> None:
    run = RunSection(start=START)
    for version in ("v1", "v2", "v3"):
        status, answer = await free.send(wsgi(version, counter__txt="1"), version, run=run)
        assert status == 200, answer
    [v1, v2, _] = sorted(free.state()["releases"])
    counter = free.app.release(v2) / "counter/txt"
    await asyncio.to_thread(counter.write_text, "2")
    status, answer = await free.rollback()
    assert (status, answer["code"]) == (409, "release_damaged"), answer
    assert answer["detail"] == f"release {v2} (v2) is not as it was sent: counter/txt has changed"
    assert "If the app writes counter/txt, put it into shared_files" in answer["hint"]
    assert f"--to {v1}" in answer["hint"]
    assert await free.serving() == "v3"
    assert (await free.rollback(v1))[1]["outcome"] == "done"
