"""What happened can be proved: to a person at the command, and to `pusher-agent check` on the host."""

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.__main__ import main
from pusher.wire import Head
from tests.deploy.shell import Shell
from tests.deploy.simulated_agent import until
from tests.host import APP, Host, make_key, running, wsgi

BEFORE_HISTORIES = (
    "drop table history; drop table marks; drop table step_times; drop index deployments_of_outcome;"
    " drop table notices; drop table notice_ways; pragma user_version = 1"
)
"""Makes a journal one of the first schema."""


def change(host: Host, sql: str) -> None:
    with closing(sqlite3.connect(host.layout.journal)) as db, db:
        db.executescript(sql)


async def check(host: Host) -> int:
    return await asyncio.to_thread(main, ["check", "--root", str(host.root)])


async def test_every_answer_has_the_head_and_the_log_has_it_too(host: Host) -> None:
    with capture_logs() as logs:
        done = await host.deploy(wsgi("v1"), "v1")
    (ended,) = [one for one in logs if one["event"] == "deployment_finished"]
    (committed,) = [one for one in logs if one["event"] == "deployment_committed"]
    for path in ("/status", "/releases", f"/apps/{APP}/status", f"/deployments/{done['deployment']}"):
        _, answer = await host.request("GET", path)
        assert answer["history"] == {"records": ended["records"], "head": ended["history"], "problem": ""}, path
    assert done["history"] == {"records": committed["records"], "head": committed["history"]}


async def test_the_command_follows_the_history_and_names_one_that_was_replaced(
    host: Host, shell: Shell, tmp_path: Path
) -> None:
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    await host.deploy(wsgi("v1"), "v1")
    code, said = await shell.pusher("releases", **state)
    assert code == 0, said
    await host.deploy(wsgi("v2"), "v2")
    code, said = await shell.pusher("status", **state)
    assert code == 0, said
    (file,) = (tmp_path / "state/pusher/history").glob(f"*/{APP}.json")
    _, answer = await host.request("GET", "/status")
    assert json.loads(file.read_text()) == {name: answer["history"][name] for name in ("records", "head")}
    await host.stop()
    host.layout.journal.unlink()
    await host.start()
    for command in ("status", "releases"):
        code, said = await shell.pusher(command, **state)
        assert code == 4
        assert f"The history of {APP} on http://127.0.0.1:{host.door} was changed" in said
        assert "when it was seen last, it had 7" in said
        assert f"remove {file}" in said
        assert "v2" in said  # what is live is shown all the same
    file.unlink()
    code, said = await shell.pusher("status", **state)
    assert code == 0, said


async def test_a_history_that_grew_but_is_another_one_is_named(host: Host, shell: Shell, tmp_path: Path) -> None:
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    await host.deploy(wsgi("v1"), "v1")
    assert (await shell.pusher("status", **state))[0] == 0
    await host.stop()
    host.layout.journal.unlink()
    await host.start()
    for version in ("v2", "v3"):
        await host.deploy(wsgi(version), version)
    code, said = await shell.pusher("releases", "--json", **state)
    assert code == 4
    assert "does not contain the 4 records that were seen last" in said


async def test_a_row_that_was_changed_by_hand_is_named_by_the_command_and_by_check(
    host: Host, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    await host.deploy(wsgi("v1"), "v1")
    assert "its history has 4 records" in (await check(host), capsys.readouterr().out)[1]
    await asyncio.to_thread(change, host, "update deployments set made_by = 'nobody'")
    for command in ("status", "releases"):
        code, said = await shell.pusher(command)
        assert code == 4
        assert "its by is another one" in said
    assert await check(host) == 4
    assert f"BAD   {APP}: its history was changed" in capsys.readouterr().out


async def test_a_journal_from_before_is_adopted_and_the_log_says_so(host_off: Host) -> None:
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
    await asyncio.to_thread(change, host_off, BEFORE_HISTORIES)
    with capture_logs() as logs:
        async with running(host_off) as host:
            _, answer = await host.request("GET", "/status")
    assert {"event": "history_begins", "log_level": "warning", "app": APP, "deployments": 1} in logs
    assert (answer["history"]["records"], answer["history"]["problem"]) == (1, "")


async def test_the_records_can_be_followed_from_any_of_them(host: Host) -> None:
    await host.deploy(wsgi("v1"), "v1")
    _, answer = await host.request("GET", "/status")
    now = Head.from_members(answer["history"])
    for after in range(now.records + 1):
        lines = await records(host, after=after)
        assert len(lines) == now.records - after
    assert Head().leads_to(now, await records(host, after=0))
    assert [json.loads(line)["what"] for line in await records(host, after=0)] == [
        "begins", "begun", "stands", "ended",
    ]  # fmt: skip


async def records(host: Host, *, after: int) -> list[bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", host.door)
    path = f"/apps/{APP}/history?after={after}"
    writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{host.door}\r\n\r\n".encode())
    _, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return body.splitlines()


async def test_a_release_shows_what_was_installed_for_it(host: Host, shell: Shell) -> None:
    release = (await host.deploy(wsgi("v1"), "v1"))["release"]
    code, said = await shell.pusher("releases", "--sbom", release)
    assert code == 0, said
    found = json.loads(said)
    assert "pkg:pypi/gunicorn@22.0.0" in {one["purl"] for one in found["components"]}
    code, said = await shell.pusher("releases", "--sbom", "20200101000000Z")
    assert code == 4
    assert "has no release 20200101000000Z" in said
    code, said = await shell.pusher("releases", "--sbom", release, "--host", "a", "--host", "b")
    assert code == 2


async def test_a_refused_bundle_is_in_the_log_with_its_caller(host: Host) -> None:
    with capture_logs() as logs:
        status, _ = await host.send(wsgi("v1"), "v1", app="other-app")
    assert status == 422
    (refused,) = [one for one in logs if one["event"] == "refused"]
    assert (refused["door"], refused["code"]) == ("http", "wrong_app")
    assert refused["caller"].endswith(")")
    assert refused["path"] == f"/apps/{APP}/deployments"


async def test_a_refused_drop_is_in_the_log_with_the_owner_of_its_file(host: Host) -> None:
    make_key(host.root / "stranger")
    bundle = await asyncio.to_thread(host.bundle, wsgi("v1"), "v1", key=host.root / "stranger")
    with capture_logs() as logs:
        await asyncio.to_thread((host.layout.drop(APP) / "x.tar.zst").write_bytes, bundle)
        await until(lambda: any(one["event"] == "refused" for one in logs))
    (refused,) = [one for one in logs if one["event"] == "refused"]
    assert (refused["door"], refused["code"], refused["app"]) == ("drop", "signer_unknown", APP)
    assert f"uid {os.geteuid()}" in refused["caller"]
    assert refused["name"] == "x.tar.zst"


async def test_the_command_shows_what_happened_newest_first(host: Host, shell: Shell) -> None:
    code, said = await shell.pusher("history")
    assert (code, said) == (0, f"nothing has happened to {APP} yet\n")
    first = await host.deploy(wsgi("v1"), "v1")
    await host.deploy(wsgi("v2"), "v2")
    status, _ = await host.send({**wsgi("v3"), "app.py": "import nothing_like_that\n"}, "v3")
    assert status == 422
    pin = f"/apps/{APP}/pin?release={first['release']}"
    assert (await host.request("POST", pin))[0] == 200
    run = f"/apps/{APP}/commands?run=r1"
    begun = f"{run}&by=alice&release={first['release']}&command=flask%20shell"
    assert (await host.request("POST", begun))[0] == 200
    assert (await host.request("POST", f"{run}&code=3"))[0] == 200
    assert (await host.rollback())[0] == 200
    code, said = await shell.pusher("history", "--json")
    assert code == 0
    happened = json.loads(said)["happened"]
    assert [(one["what"], one["outcome"]) for one in happened] == [
        ("rollback of v1", "done"),
        ("command flask shell", "exit code 3"),
        (f"pinned {first['release']}", "done"),
        ("deploy of v3", "failed"),
        ("deploy of v2", "done"),
        ("deploy of v1", "done"),
    ]
    code, said = await shell.pusher("history", "--lines", "4")
    head, *rows = said.splitlines()
    assert head.split() == ["WHEN", "(UTC)", "WHAT", "OUTCOME", "TOOK", "BY"]
    assert (code, len(rows)) == (0, 4)
    assert "app:app does not import" in rows[3]
