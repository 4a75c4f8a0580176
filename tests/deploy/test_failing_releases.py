"""Bad releases: refused or taken back, with everything live exactly as before."""

import asyncio
import shutil
from typing import Any

import pytest

from tests.host import APP, Host, hook, running, wsgi

BAD = {
    "does not import": (
        "app_exited",
        {"app.py": "raise ValueError('no such table: users')\n"},
        "no such table: users",
    ),
    "answers 500": (
        "app_unhealthy",
        {"app.py": "def app(environ, start):\n    start('500 Oops', [])\n    return [b'sorry about that']\n"},
        "sorry about that",
    ),
    "says another version": ("app_unhealthy", wsgi("v1"), "version"),
    "never answers": (
        "app_unhealthy",
        {"app.py": "import time\ndef app(environ, start):\n    time.sleep(60)\n"},
        "",
    ),
    "needs what does not exist": (
        "dependencies_failed",
        {"requirements.txt": "gunicorn==22.0.0\nno-such-package-anywhere-at-all==1.0\n"},
        "no-such-package-anywhere-at-all",
    ),
    "has requirements nobody can read": (
        "dependencies_failed",
        {"requirements.txt": "gunicorn=22 ???\n"},
        "gunicorn=22",
    ),
    "includes requirements that are not there": (
        "dependencies_failed",
        {"requirements.txt": "-r missing.txt\n"},
        "missing.txt",
    ),
    "has a start command that is not in its venv": (
        "start_not_found",
        {"requirements.txt": "click==8.1.7\n"},
        "gunicorn",
    ),
    "fails its migration": (
        "hook_failed",
        {"hooks/before-symlink": hook("echo migrating; echo 'table is locked' >&2; exit 3")},
        "table is locked",
    ),
    "has a hook that cannot be run": (
        "hook_failed",
        {"hooks/after-setup": "#!/no/such/shell\n"},
        "does not exist",
    ),
}


async def snapshot(host: Host) -> dict[str, Any]:
    """Everything that must be the same after a deployment that fails."""
    _, releases = await host.request("GET", "/releases")
    _, status = await host.request("GET", "/status")
    return {
        **host.state(),
        "answer": await host.answer(),
        "known": releases["releases"],
        "fallback": status["previous"],
    }


@pytest.mark.parametrize(("code", "files", "said"), BAD.values(), ids=BAD.keys())
async def test_after_a_bad_release_everything_is_as_before(
    host: Host, code: str, files: dict[str, str], said: str
):
    host.add_app(APP, health__deadline_s=3)
    await host.stop()
    await host.start()
    await host.deploy(wsgi("v1"), "v1")
    await host.deploy(wsgi("v2"), "v2")
    before = await snapshot(host)
    status, problem = await host.send(wsgi("v3") | files, "v3")
    assert (status, problem["code"]) == (422, code), problem
    assert said in " ".join(str(problem.get(part, "")) for part in ("title", "detail", "hint", "output"))
    assert await snapshot(host) == before
    status, answer = await host.rollback()
    assert (status, answer["version"]) == (200, "v1")


@pytest.mark.parametrize(("code", "files", "said"), [BAD["does not import"], BAD["fails its migration"]])
async def test_a_first_deployment_that_fails_leaves_no_current_and_nothing_running(host: Host, code, files, said):
    status, problem = await host.send(wsgi("v1") | files, "v1")
    assert (status, problem["code"]) == (422, code)
    assert host.state() == {"current": None, "venv": None, "releases": [], "staging": []}
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", host.ports[APP])
    await host.deploy(wsgi("v2"), "v2")


async def test_a_release_that_answers_in_the_preflight_but_not_in_public_is_taken_back(host: Host):
    """It is kept for inspection, and does not count as good."""
    bad = wsgi("v2")
    bad["app.py"] = (
        "import os\nassert os.environ.get('PUSHER_PREFLIGHT'), 'only good in rehearsal'\n" + bad["app.py"]
    )
    await host.deploy(wsgi("v0"), "v0")
    await host.deploy(wsgi("v1"), "v1")
    before = await snapshot(host)
    status, problem = await host.send(bad, "v2")
    assert (status, problem["code"]) == (422, "app_exited")
    assert "only good in rehearsal" in problem["output"]
    after = await snapshot(host)
    failed = [one for one in after["known"] if one["version"] == "v2"]
    assert [one["standing"] for one in failed] == ["failed"]
    assert after["answer"]["version"] == "v1"
    assert {
        **after,
        "known": before["known"],
        "releases": before["releases"],
        "answer": before["answer"],
    } == before
    _, answer = await host.rollback()
    assert answer["version"] == "v0"
    _, problem = await host.rollback()
    assert [what for what in ("(v1, withdrawn)", "(v2, failed)") if what not in problem["hint"]] == []


async def test_an_app_whose_folder_was_deleted_by_hand_continues_after_a_bad_release(host: Host):
    v1 = await host.deploy(wsgi("v1"), "v1")
    await asyncio.to_thread(shutil.rmtree, host.app.release(v1["release"]))
    status, problem = await host.send(wsgi("v2") | {"app.py": "import nothing_of_that_name\n"}, "v2")
    assert (status, problem["outcome"]) == (422, "failed")
    assert await host.serving() == "v1"
    await host.deploy(wsgi("v3"), "v3")


async def test_a_venv_is_kept_while_the_link_to_it_cannot_be_read(host: Host):
    v1 = await host.deploy(wsgi("v1"), "v1")
    link = host.app.release(v1["release"]) / "venv"
    venv = host.app.venvs / link.readlink().name
    await asyncio.to_thread(link.unlink)
    await host.deploy({**wsgi("v2"), "requirements.txt": "gunicorn==22.0.0\nclick==8.1.7\n"}, "v2")
    assert venv.is_dir()


async def test_a_first_release_that_fails_in_public_leaves_nothing_listening(host: Host):
    bad = wsgi("v1")
    bad["app.py"] = "import os\nassert os.environ.get('PUSHER_PREFLIGHT')\n" + bad["app.py"]
    status, problem = await host.send(bad, "v1")
    assert (status, problem["code"]) == (422, "app_exited")
    assert host.state()["current"] is None
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", host.ports[APP])


async def test_a_release_that_dies_while_it_is_watched_is_taken_back(host_off: Host):
    host_off.add_app(APP, health__bake_s=4, preflight=False)
    dying = wsgi("v2", hooks__noop="") | {
        "app.py": wsgi("v2")["app.py"]
        + "\nimport signal, threading\nthreading.Timer(1, os.kill, (os.getppid(), signal.SIGKILL)).start()\n"
    }
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
        status, problem = await host.send(dying, "v2")
        assert (status, problem["code"]) == (422, "app_exited")
        assert await host.serving() == "v1"


async def test_a_start_command_that_ignores_the_socket_is_reported_as_such(host_off: Host):
    host_off.add_app(APP, start="python idle.py", health__deadline_s=1.5)
    async with running(host_off) as host:
        status, problem = await host.send(wsgi("v1", **{"idle.py": "import time\ntime.sleep(60)\n"}), "v1")
        assert (status, problem["code"]) == (422, "socket_not_taken")
        assert "app.run() never uses it" in problem["hint"]


async def test_a_port_that_another_process_has_is_refused(host: Host):
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", host.ports[APP])
    async with server:
        status, problem = await host.send(wsgi("v1"), "v1")
    assert problem["code"] == "port_taken"
    assert status == 409
    assert str(host.ports[APP]) in problem["title"] + problem["detail"]
    assert host.state()["releases"] == []


async def test_a_missing_shared_file_is_an_error_that_says_where_to_put_it(host_off: Host):
    host_off.add_app(APP, shared_files=[".env"])
    async with running(host_off) as host:
        _, problem = await host.send(wsgi("v1"), "v1")
        assert problem["code"] == "shared_file_missing"
        assert str(host.app.shared / ".env") in problem["detail"]


async def test_rolling_back_with_nothing_to_go_back_to_is_refused(host: Host):
    status, problem = await host.rollback()
    assert (status, problem["code"]) == (409, "nothing_to_roll_back_to")
    await host.deploy(wsgi("v1"), "v1")
    before = await snapshot(host)
    for to, code in (
        ("", "nothing_to_roll_back_to"),
        ("20200101000000Z", "unknown_release"),
        ("../../etc", "unknown_release"),
    ):
        status, problem = await host.rollback(to=to)
        assert problem["code"] == code
        assert status in (404, 409)
    assert await snapshot(host) == before


async def test_a_rollback_onto_dependencies_that_were_changed_is_refused(host: Host):
    v1 = await host.deploy(wsgi("v1"), "v1")
    await host.deploy(wsgi("v2"), "v2")
    (module,) = (host.app.release(v1["release"]) / "venv").glob("lib/*/site-packages/gunicorn/__init__.py")
    module.write_text("changed = True\n")
    status, problem = await host.rollback(to=v1["release"])
    assert (status, problem["code"]) == (409, "release_damaged")
    assert "gunicorn/__init__.py was changed in its venv" in problem["detail"]
    assert await host.serving() == "v2"


async def test_a_release_that_does_not_start_in_public_leaves_the_process_before_it_serving(host: Host):
    await host.deploy(wsgi("v1"), "v1")
    bad = wsgi("v2")
    bad["app.py"] = "import os\nassert os.environ.get('PUSHER_PREFLIGHT')\n" + bad["app.py"]
    _, before = await host.request("GET", "/status")
    status, problem = await host.send(bad, "v2")
    assert (status, problem["outcome"], problem["code"]) == (422, "failed", "app_exited")
    assert "AssertionError" in problem["output"]
    assert await host.serving() == "v1"
    _, after = await host.request("GET", "/status")
    assert (after["running"], after["live"]) == (True, before["live"])


async def test_if_the_previous_release_does_not_come_back_the_newest_intact_one_does(host_off: Host):
    host_off.add_app(APP, overlap=False)  # else the previous release has never ended
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
        v2 = await host.deploy(wsgi("v2"), "v2")
        bad = wsgi("v3")
        bad["app.py"] = "import os\nassert os.environ.get('PUSHER_PREFLIGHT')\n" + bad["app.py"]
        (host.app.release(v2["release"]) / "app.py").write_text("damaged = True\n")
        _, problem = await host.send(bad, "v3")
        assert problem["outcome"] == "failed"
        assert await host.serving() == "v1"


async def test_if_nothing_comes_back_the_deployment_is_stuck_and_the_release_before_stays_current(host_off: Host):
    host_off.add_app(APP, overlap=False)  # else the previous release has never ended
    async with running(host_off) as host:
        flag = host.root / "flag"
        flag.touch()
        needs_it, needs_none = f"import os\nassert os.path.exists({str(flag)!r})\n", "import os\n"
        for version in ("v1", "v2"):
            files = wsgi(version)
            await host.deploy(files | {"app.py": needs_it + files["app.py"]}, version)
        v1, v2 = sorted(path.name for path in host.app.releases.iterdir())
        flag.unlink()
        bad = wsgi("v3")
        bad["app.py"] = needs_none + "assert os.environ.get('PUSHER_PREFLIGHT')\n" + bad["app.py"]
        status, problem = await host.send(bad, "v3")
        assert (status, problem["outcome"], problem["code"]) == (500, "stuck", "not_undone")
        assert problem["detail"].startswith(f"{v2} was brought back, and app:app does not import")
        assert v1 not in problem["detail"]
        assert host.app.current.readlink().name == v2
        await host.deploy(wsgi("v4"), "v4")
        assert await host.serving() == "v4"


async def test_a_failed_bundle_may_be_sent_again_and_an_older_one_may_not(host: Host):
    older = await asyncio.to_thread(host.bundle, wsgi("v0"), "v0")
    flag = host.root / "flag"
    files = wsgi("v1") | {"hooks/before-symlink": hook(f"test -e {flag}")}
    data = await asyncio.to_thread(host.bundle, files, "v1")
    status, _ = await host.post(data)
    assert status == 422
    flag.touch()
    status, _ = await host.post(data)
    assert status == 200
    status, problem = await host.post(older)
    assert (status, problem["code"]) == (409, "older_than_accepted")
    assert "ign again" in problem["hint"]
