"""Deploys and rollbacks that go well, with real keys, uv and gunicorn."""

import asyncio
import json
import os

from tests.host import APP, Host, running, wsgi


async def test_v1_v2_v3_go_live_one_after_the_other_and_two_rollbacks_go_back(host: Host):
    for version in ("v1", "v2", "v3"):
        answer = await host.deploy(wsgi(version), version)
        assert answer["version"] == version
        assert await host.serving() == version
    for version in ("v2", "v1"):
        status, answer = await host.rollback()
        assert (status, answer["outcome"], answer["version"]) == (200, "done", version)
        assert await host.serving() == version


async def test_the_layout_is_the_one_people_know(host: Host):
    release = (await host.deploy(wsgi("v1"), "v1"))["release"]
    assert os.readlink(host.app.current) == f"./releases/{release}"
    folder = host.app.release(release)
    assert (folder / "REVISION").read_text() == "v1\n"
    key = os.path.basename(os.readlink(folder / "venv"))
    assert os.readlink(folder / "venv") == f"../../shared/venvs/{key}"
    assert os.readlink(host.app.shared_venv) == f"venvs/{key}"
    assert os.listdir(host.app.staging) == []
    assert {path.name for path in (folder / ".pusher").iterdir()} == {
        "manifest.json",
        "manifest.json.sig",
        "index.jsonl",
        "signers",
        "run.json",
        "start",
        "sbom.json",
    }


async def test_after_a_rollback_and_v4_the_next_rollback_gives_v2_and_not_v3(host: Host):
    for version in ("v1", "v2", "v3"):
        await host.deploy(wsgi(version), version)
    await host.rollback()
    await host.deploy(wsgi("v4"), "v4")
    _, answer = await host.rollback()
    assert answer["version"] == "v2"
    assert await host.serving() == "v2"


async def test_a_withdrawn_release_comes_back_by_name_and_is_good_again(host: Host):
    v1 = await host.deploy(wsgi("v1"), "v1")
    v2 = await host.deploy(wsgi("v2"), "v2")
    await host.rollback()
    status, _ = await host.rollback(to=v2["release"])
    assert status == 200
    _, listing = await host.request("GET", "/releases")
    assert {one["id"]: one["standing"] for one in listing["releases"]} == {
        v1["release"]: "good",
        v2["release"]: "good",
    }
    _, answer = await host.rollback()
    assert answer["version"] == "v1"


async def test_files_with_equal_size_and_time_but_other_content_are_deployed(host: Host):
    for version in ("v1", "v2"):
        files = wsgi(version)
        folder = host.write("same", files)
        for name in files:
            os.utime(folder / name, (1_000_000_000, 1_000_000_000))
        await host.deploy(files, version)
        assert await host.serving() == version


async def test_code_and_dependencies_come_back_together(host: Host):
    old, new = wsgi("v2"), wsgi("v3")
    old["requirements.txt"] = "gunicorn==22.0.0\nflask==3.0.2\n"
    new["requirements.txt"] = "gunicorn==22.0.0\n-r base.txt\n"
    new["base.txt"] = "flask==3.0.3\n"

    def flask() -> list[str]:
        return sorted(
            path.name for path in host.app.current.resolve().glob("venv/lib/python*/site-packages/[fF]lask-*")
        )

    await host.deploy(old, "v2")
    assert flask() == ["flask-3.0.2.dist-info"]
    await host.deploy(new, "v3")
    assert flask() == ["flask-3.0.3.dist-info"]
    await host.rollback()
    assert flask() == ["flask-3.0.2.dist-info"]
    assert await host.serving() == "v2"


async def test_a_change_in_an_included_requirements_file_makes_another_venv(host: Host):
    files = wsgi("v1") | {"requirements.txt": "-r base.txt\n", "base.txt": "gunicorn==22.0.0\n"}
    await host.deploy(files, "v1")
    await host.deploy(files | wsgi("v2") | {"requirements.txt": "-r base.txt\n"}, "v2")
    assert len(os.listdir(host.app.venvs)) == 1
    await host.deploy(
        files | wsgi("v3") | {"requirements.txt": "-r base.txt\n", "base.txt": "gunicorn==21.2.0\n"}, "v3"
    )
    assert len(os.listdir(host.app.venvs)) == 2


async def test_seven_deploys_keep_five_releases_and_a_pinned_one_survives(host: Host):
    first = await host.deploy(wsgi("v1"), "v1")
    status, _ = await host.request("POST", f"/apps/{APP}/pin?release={first['release']}")
    assert status == 200
    kept = [first["release"]]
    for number in range(2, 9):
        kept.append((await host.deploy(wsgi(f"v{number}"), f"v{number}"))["release"])
    assert sorted(os.listdir(host.app.releases)) == [kept[0], *kept[-5:]]
    await host.request("DELETE", f"/apps/{APP}/pin?release={first['release']}")
    await host.deploy(wsgi("v9"), "v9")
    assert len(os.listdir(host.app.releases)) == 5
    assert len(os.listdir(host.app.venvs)) == 1


async def test_two_apps_on_one_host_do_not_touch_each_other(host_off: Host):
    host_off.add_app("other")
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
        data = await asyncio.to_thread(host.bundle, wsgi("o1"), "o1", app="other")
        status, _ = await host.post(data, app="other")
        assert status == 200
        assert await host.serving(app="other") == "o1"
        status, problem = await host.rollback()
        assert (status, problem["code"]) == (409, "several_apps")
        assert APP in problem["detail"]
        assert "other" in problem["detail"]
        await host.deploy(wsgi("v2"), "v2")
        status, answer = await host.request("POST", f"/apps/{APP}/rollback")
        assert (status, answer["version"]) == (200, "v1")
        assert await host.serving(app="other") == "o1"


async def test_shared_paths_and_files_stay_from_release_to_release(host_off: Host):
    host_off.add_app(APP, shared_paths=["var/uploads"], shared_files=[".env"])
    host_off.app.shared.mkdir(parents=True, exist_ok=True)
    (host_off.app.shared / ".env").write_text("X=1\n")
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
        (host.app.current / "var/uploads/a.txt").write_text("kept")
        await host.deploy(wsgi("v2"), "v2")
        assert (host.app.current / "var/uploads/a.txt").read_text() == "kept"
        assert (host.app.current / ".env").read_text() == "X=1\n"


async def test_a_second_send_of_the_same_bundle_gives_the_result_of_the_first(host: Host):
    data = await asyncio.to_thread(host.bundle, wsgi("v1"), "v1")
    _, first = await host.post(data)
    before = host.state()
    status, second = await host.post(data)
    assert (status, second) == (200, first)
    assert host.state() == before


async def test_events_show_every_step_and_can_be_read_from_any_point(host: Host):
    deployment = (await host.deploy(wsgi("v1"), "v1"))["deployment"]
    events = await host.events(deployment)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["step"] for event in events if event["event"] == "step_done"] == [
        "receive",
        "verify",
        "unpack",
        "link-shared",
        "dependencies",
        "preflight",
        "switch",
        "restart",
        "confirm",
        "processes",
        "cleanup",
    ]
    assert events[-1]["event"] == "finished"
    _, status = await host.request("GET", "/status")
    assert status["live"]["version"] == "v1"
    assert status["running"] is True
    assert status["last"]["deployment"] == deployment


async def test_what_is_live_runs_again_when_the_agent_does(host_off: Host):
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
        await host.deploy(wsgi("v2"), "v2")
    async with running(host_off) as host:
        assert await host.serving() == "v2"
        _, answer = await host.rollback()
        assert answer["version"] == "v1"


async def test_an_agent_that_lost_its_journal_knows_the_live_release_and_reaches_others_by_name(host_off: Host):
    async with running(host_off) as host:
        v1 = await host.deploy(wsgi("v1"), "v1")
        await host.deploy(wsgi("v2"), "v2")
        old = await asyncio.to_thread(host.bundle, wsgi("v0"), "v0", created=1_000, expires=4_000_000_000_000)
    for path in host_off.layout.state.glob("journal.sqlite*"):
        path.unlink()
    async with running(host_off) as host:
        assert await host.serving() == "v2"
        status, problem = await host.rollback()
        assert (status, problem["code"]) == (409, "nothing_to_roll_back_to")
        assert v1["release"] in problem["hint"]
        status, problem = await host.post(old)
        assert (status, problem["code"]) == (409, "older_than_accepted")
        status, answer = await host.rollback(to=v1["release"])
        assert (status, answer["version"]) == (200, "v1")


async def test_only_missing_files_have_to_travel(host: Host):
    await host.deploy(wsgi("v1", static__big="x" * 100_000), "v1")
    data = await asyncio.to_thread(host.bundle, wsgi("v2", static__big="x" * 100_000), "v2")
    status, answer = await host.request("POST", f"/apps/{APP}/missing", data=data)
    assert status == 200
    assert len(answer["missing"]) == 1


async def test_the_journal_is_a_plain_sqlite_file_that_answers_questions(host: Host):
    answer = await host.deploy(wsgi("v1"), "v1")
    process = await asyncio.create_subprocess_exec(
        "python3",
        "-c",
        "import json, sqlite3, sys; print(json.dumps(sqlite3.connect(sys.argv[1])"
        ".execute('select id, phase from deployments').fetchall()))",
        str(host.layout.journal),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert json.loads(out) == [[answer["deployment"], "done"]]
