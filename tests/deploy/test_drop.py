"""Drops are deployed: bundle files and folders, in any order, and each once."""

import asyncio
import json
import os
import re
import shutil
import sys

import pytest

from pusher.wire import DROP_MARK
from tests.dropping import await_result, drop_folder, load, put, result, rsync, until
from tests.host import APP, Host, running, wsgi

BESIDE = ("tree.index.jsonl", "tree.manifest.json", "tree.manifest.json.sig")


async def drop_bundle(host: Host, version: str) -> str:
    name = f"{APP}-{version}.tar.zst"
    (host.root / name).write_bytes(await asyncio.to_thread(host.bundle, wsgi(version), version))
    await asyncio.to_thread(rsync, host.root / name, f"{host.layout.drop(APP)}/")
    return name


async def test_versions_dropped_as_bundle_files_are_deployed_one_after_the_other(host: Host) -> None:
    for version in ("v1", "v2", "v3"):
        found = await await_result(host, await drop_bundle(host, version))
        assert (found["state"], found["version"]) == ("deployed", version), found
        assert await host.serving() == version
    history = (await host.request("GET", "/releases"))[1]["deployments"]
    assert [(one["version"], one["by"]) for one in history] == [(v, "tester (drop)") for v in ("v3", "v2", "v1")]
    # The same events as those of a deployment over HTTP.
    events = await host.events(found["deployment"])
    assert [one["step"] for one in events if one["event"] == "step_done"][:3] == ["receive", "verify", "unpack"]


async def test_a_folder_is_deployed_and_the_next_version_sends_only_what_changed(host: Host) -> None:
    same = {"data/big.bin": "x" * 300_000}
    for version in ("v1", "v2"):
        one = await asyncio.to_thread(load, host, wsgi(version) | same, version)
        said = await asyncio.to_thread(rsync, f"{one.folder}/", f"{host.layout.drop(APP)}/tree/", "--delete")
        one.put_manifest(host.layout.drop(APP))
        assert (await await_result(host, manifest=one.digest))["state"] == "deployed"
        assert await host.serving() == version
    assert re.search(r"regular files transferred: 1$", said, re.MULTILINE), said


@pytest.mark.parametrize("first", BESIDE)
async def test_manifest_signature_index_and_files_may_arrive_in_any_order(host: Host, first: str) -> None:
    one = await asyncio.to_thread(load, host, wsgi("v1", data__x="1"), "v1")
    where, named = host.layout.drop(APP), one.named()
    put(where / first, named.pop(first))
    assert (await await_result(host, state="waiting"))["awaited"] == "arrival"
    for name, content in named.items():
        put(where / name, content)
    waiting = await until(lambda: "tree/" in (found := result(host)).get("waiting_for", "") and found)
    assert waiting["waiting_for"].startswith("tree/app.py, which is not there")
    await asyncio.to_thread(rsync, f"{one.folder}/", f"{where}/tree/", "--delete")
    assert (await await_result(host))["state"] == "deployed"


async def test_a_drop_that_arrived_while_the_agent_was_stopped_is_deployed_when_it_starts(host_off: Host) -> None:
    one = await asyncio.to_thread(load, host_off, wsgi("v1"), "v1")
    host_off.layout.drop(APP).mkdir(parents=True)
    await asyncio.to_thread(drop_folder, host_off, one)
    async with running(host_off):
        assert (await await_result(host_off))["state"] == "deployed"
        assert await host_off.serving() == "v1"


async def test_a_drop_that_was_deployed_is_not_deployed_again_after_a_rollback_and_a_restart(host: Host) -> None:
    for version in ("v1", "v2"):
        one = await asyncio.to_thread(load, host, wsgi(version), version)
        await asyncio.to_thread(drop_folder, host, one)
        before = await await_result(host, manifest=one.digest)
    assert (await host.rollback())[0] == 200
    os.utime(host.layout.drop(APP) / "tree.manifest.json")
    await host.stop()
    await host.start()
    status, found = await host.request("GET", f"/apps/{APP}/status")
    assert (status, found["live"]["version"], found["drop"]) == (200, "v1", str(host.layout.drop(APP)))
    assert result(host) == before
    assert len((await host.request("GET", "/releases"))[1]["deployments"]) == 3


async def test_a_drop_that_failed_has_its_step_in_its_result_and_is_not_tried_again(host: Host) -> None:
    one = await asyncio.to_thread(load, host, wsgi("v1") | {"app.py": "raise SystemError('no good')"}, "v1")
    await asyncio.to_thread(drop_folder, host, one)
    found = await await_result(host)
    assert (found["state"], found["step"], found["problem"]["code"]) == ("failed", "preflight", "app_exited"), (
        found
    )
    assert "no good" in found["problem"]["output"]
    os.utime(host.layout.drop(APP) / "tree.manifest.json")
    await host.stop()
    (host.layout.drop(APP) / "tree.result.json").unlink()
    await host.start()
    assert (await await_result(host))["deployment"] == found["deployment"]
    assert len((await host.request("GET", "/releases"))[1]["deployments"]) == 1


async def test_of_two_drops_at_once_the_newer_is_deployed_and_the_older_is_refused(host_off: Host) -> None:
    where = host_off.layout.drop(APP)
    where.mkdir(parents=True)
    for version in ("v1", "v2"):
        put(where / f"{version}.tar.zst", await asyncio.to_thread(host_off.bundle, wsgi(version), version))
    async with running(host_off):
        newer, older = await await_result(host_off, "v2.tar.zst"), await await_result(host_off, "v1.tar.zst")
        assert (newer["state"], older["state"]) == ("deployed", "refused")
        assert older["problem"]["code"] == "older_than_accepted"
        assert await host_off.serving() == "v2"


async def test_a_drop_that_arrives_while_another_is_deployed_waits_for_its_turn(host: Host) -> None:
    slow = wsgi("v1") | {
        "hooks/before-symlink": "#!/bin/sh\ntouch began; while [ ! -e ../../go ]; do sleep 0.1; done\n"
    }
    where = host.layout.drop(APP)
    put(where / "v1.tar.zst", await asyncio.to_thread(host.bundle, slow, "v1"))
    first = await await_result(host, "v1.tar.zst", state="waiting")
    await until(lambda: list(host.app.releases.glob("*/began")))
    put(where / "v2.tar.zst", await asyncio.to_thread(host.bundle, wsgi("v2"), "v2"))
    second = await await_result(host, "v2.tar.zst", state="waiting")
    first = await await_result(host, "v1.tar.zst", state="waiting")
    assert (first["awaited"], second["awaited"]) == ("turn", "turn")
    assert first["deployment"] in first["waiting_for"]
    assert "deployment" not in second
    assert "is deploying v1" in second["waiting_for"]
    (host.app.path / "go").touch()
    assert (await await_result(host, "v1.tar.zst"))["state"] == "deployed"
    assert (await await_result(host, "v2.tar.zst"))["state"] == "deployed"
    assert await host.serving() == "v2"


async def test_a_bundle_file_that_is_cut_off_waits_for_the_rest(host: Host) -> None:
    raw = await asyncio.to_thread(host.bundle, wsgi("v1", data="y" * 1000), "v1")
    path = host.layout.drop(APP) / "v1.tar.zst"
    for size in (0, 1, 100, len(raw) // 2, len(raw) - 1):
        put(path, raw[:size])
        found = await until(lambda: (found := result(host, path.name)).get("state") == "waiting" and found)
        assert found["awaited"] == "arrival"
        assert found["waiting_for"].startswith("the rest of v1.tar.zst")
    with path.open("ab") as file:  # as --inplace and --append do
        file.write(raw[len(raw) - 1 :])
    assert (await await_result(host, path.name))["state"] == "deployed"


async def test_a_drop_for_another_app_is_refused_by_its_manifest(host: Host) -> None:
    one = await asyncio.to_thread(load, host, wsgi("v1"), "v1", app="other-app")
    await asyncio.to_thread(drop_folder, host, one)
    found = await await_result(host)
    assert (found["state"], found["problem"]["code"], found["step"]) == ("refused", "wrong_app", "verify")


async def test_results_and_bundle_files_are_kept_by_number(host_off: Host) -> None:
    with host_off.layout.agent_toml.open("a") as file:
        file.write("[drop]\nkeep = 2\n")
    async with running(host_off):
        where = host_off.layout.drop(APP)
        stranger = where / "notes.txt"
        stranger.touch()
        for number in range(4):
            name = f"v{number}.tar.zst"
            bundle = await asyncio.to_thread(host_off.bundle, wsgi("x"), f"v{number}", app="other-app")
            put(where / name, bundle)
            assert (await await_result(host_off, name))["state"] == "refused"
        kept = {f"{name}{end}" for name in ("v2.tar.zst", "v3.tar.zst") for end in ("", ".result.json")}
        await until(lambda: set(os.listdir(where)) == kept | {"notes.txt", DROP_MARK})


async def test_the_door_refuses_to_wait_for_what_is_not_a_digest(host: Host) -> None:
    status, problem = await host.request("GET", f"/apps/{APP}/drops/tree.manifest.json")
    assert (status, problem["code"]) == (400, "bad_request")
    assert "sha256sum" in problem["hint"]


async def test_the_door_reports_on_a_drop_by_its_manifest(host: Host) -> None:
    one = await asyncio.to_thread(load, host, wsgi("v1"), "v1")
    drops = f"/apps/{APP}/drops/{one.digest}"
    await host.request("GET", "/status")
    session = host.session
    assert session is not None
    async with session.get(drops) as answer:
        lines = answer.content
        first = await lines.readline()
        assert b'"awaited":"arrival"' in first
        assert b"a drop with this manifest" in first
        await asyncio.to_thread(drop_folder, host, one)
        rest = [line async for line in lines]
    assert b'"state":"deployed"' in rest[-1]
    assert any(b'"deployment":"' in line and b'"awaited":"turn"' in line for line in rest)


async def test_a_directory_that_was_removed_is_made_again_and_watched(host: Host) -> None:
    where = host.layout.drop(APP)
    for version in ("v1", "v2"):
        put(where / f"{version}.tar.zst", await asyncio.to_thread(host.bundle, wsgi(version), version))
        assert (await await_result(host, f"{version}.tar.zst"))["state"] == "deployed"
        await asyncio.to_thread(shutil.rmtree, where)
        await until(where.exists)  # the agent makes it where it is the parent of the app


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a user namespace, as root")
async def test_without_watches_the_agent_logs_an_error_and_scans_now_and_then(host_off: Host) -> None:
    with host_off.layout.agent_toml.open("a") as file:
        file.write("[drop]\nrescan_s = 0.2\n")
    # In a namespace of its own: the kernel counts by user, and others must not run out.
    script = 'echo 0 >/proc/sys/user/max_inotify_instances; exec "$@"'
    agent = await asyncio.create_subprocess_exec(
        *("unshare", "--user", "--map-root-user", "sh", "-ec", script, "sh"),
        *(sys.executable, "-m", "agent", "serve", "--root", str(host_off.root)),
        stderr=asyncio.subprocess.PIPE,
    )
    assert agent.stderr is not None
    try:
        async with asyncio.timeout(30):
            while b"drop_not_watched" not in (line := await agent.stderr.readline()):
                assert line
        found = json.loads(line)
        assert found["level"] == "error"
        assert "max_user_watches" in found["hint"]
        rest = asyncio.create_task(agent.stderr.read())
        drop_folder(host_off, await asyncio.to_thread(load, host_off, wsgi("v1"), "v1"))
        assert (await await_result(host_off))["state"] == "deployed"
    finally:
        agent.terminate()
        await agent.wait()
    assert b"drop_not_watched" not in await rest
