"""The real `pusher` command against a running agent: over loopback, the unix socket, and ssh."""

import asyncio
import json
import os
import signal

import pytest

from tests.deploy.shell import Shell
from tests.host import APP, hook, wsgi
from tests.sshd import MISSING, USER, Server


async def test_send_status_rollback_and_releases_report_what_they_did(shell: Shell):
    for version in ("v1", "v2"):
        shell.version(version)
        code, said = await shell.pusher("send", version)
        assert code == 0, said
        assert f"{APP} {version} is live" in said
        assert await shell.host.serving() == version
    code, said = await shell.pusher("rollback")
    assert code == 0
    assert "v1 is live" in said
    code, said = await shell.pusher("status", "--json", PUSHER_HOST=f"unix:{shell.host.layout.api_socket}")
    assert code == 0
    assert json.loads(said)["live"]["version"] == "v1"
    code, said = await shell.pusher("releases")
    assert "withdrawn" in said


async def test_the_last_thing_a_user_sees_of_a_failed_migration_is_its_output(shell: Shell):
    shell.version("v1")
    await shell.pusher("send", "v1")
    migration = hook("echo migrating; echo the table is locked >&2; exit 3")
    shell.version("v2", wsgi("v2") | {"hooks/before-symlink": migration})
    code, said = await shell.pusher("send", "v2")
    assert code == 1
    assert said.rstrip().endswith("migrating\nthe table is locked")
    assert f"{APP} v1 is live" in said
    assert await shell.host.serving() == "v1"


async def test_a_refusal_exits_with_4_and_an_unreachable_host_with_5(shell: Shell):
    code, said = await shell.pusher("rollback")
    assert (code, "nothing to roll back to" in said) == (4, True)
    code, _ = await shell.pusher("status", PUSHER_HOST="http://127.0.0.1:1")
    assert code == 5


async def test_an_interrupted_send_says_how_to_follow_the_deployment(shell: Shell):
    gate = hook("touch ../../started; while [ ! -e ../../go ]; do sleep 0.02; done")
    shell.version("v1", wsgi("v1") | {"hooks/before-symlink": gate})
    process = await shell.start("send", "v1")
    assert process.stdout is not None
    while b"  dependencies" not in await process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    said, _ = await process.communicate()
    assert process.returncode == 130
    assert b"goes on" in said
    words = said.decode().partition("pusher status ")[2].split()
    (shell.host.app.path / "go").touch()
    code, said_later = await shell.pusher("status", *words)
    assert code == 0, said_later
    assert await shell.host.serving() == "v1"


async def test_with_one_file_changed_only_that_file_travels(shell: Shell):
    big = {f"static/{n}": f"{n}" * 40_000 for n in range(20)}
    shell.version("v1", wsgi("v1") | big)
    await shell.pusher("send", "v1")
    shell.version("v2", wsgi("v2") | big | {"static/3": "changed"})
    code, said = await shell.pusher("send", "v2")
    assert code == 0
    assert ": 22 files, " in said
    assert ", of which 2 files, " in said, said
    assert (shell.host.app.current / "static/7").read_text() == "7" * 40_000
    assert (shell.host.app.current / "static/3").read_text() == "changed"


@pytest.mark.skipif(MISSING, reason="runs sshd as root")
async def test_a_key_restricted_to_the_door_by_permitopen_is_enough_over_ssh(shell: Shell, server: Server):
    server.admit(f'restrict,port-forwarding,permitopen="127.0.0.1:{shell.host.door}"')
    (shell.project / "pusher.toml").write_text(
        f'app = "{APP}"\nssh = "{server.ssh}"\n[hosts.web1]\n'
        f'address = "ssh://{USER}@127.0.0.1:{server.port}"\ndoor = "127.0.0.1:{shell.host.door}"\n'
    )
    for version in ("v2", "v3"):
        shell.version(version)
        code, said = await shell.pusher("send", version, "--host", "web1")
        assert code == 0, said
        assert await shell.host.serving() == version
    code, said = await shell.pusher("rollback", "--host", "web1")
    assert code == 0, said
    _, status = await shell.host.request("GET", "/status")
    assert status["last"]["by"] == "root (uid 0)"


async def test_diff_shows_what_a_send_would_change_and_logs_the_apps_log(shell: Shell):
    talking = {
        "app.py": wsgi("v1")["app.py"] + "\nprint('hello from', os.environ['PUSHER_VERSION'], flush=True)\n"
    }
    shell.version("v1", wsgi("v1") | talking)
    assert (await shell.pusher("send", "v1"))[0] == 0
    shell.version("v2", wsgi("v2") | {"requirements.txt": "gunicorn==22.0.0\nclick==8.1.7\n"})
    code, said = await shell.pusher("diff", "v2", "--json")
    assert code == 0, said
    reported = json.loads(said)
    assert [(one["change"], one["path"]) for one in reported["changes"]] == [
        ("changed", "app.py"),
        ("changed", "requirements.txt"),
    ]
    assert reported["requirements_changed"]
    code, said = await shell.pusher("diff", "v1")
    assert (code, "2 the same" in said) == (0, True), said
    code, said = await shell.pusher("diff", "v1", "--release", "20200101000000Z")
    assert (code, "has no release" in said) == (4, True), said
    (shell.host.app.current / ".pusher/index.jsonl").rename(shell.host.root / "index.jsonl")
    code, said = await shell.pusher("diff", "v1")
    assert (code, "index of release" in said) == (4, True), said

    code, said = await shell.pusher("logs")
    assert code == 0, said
    assert {"preflight: hello from v1", "service: hello from v1"} <= {line[21:] for line in said.splitlines()}
    process = await shell.start("logs", "--follow", "--unit", "service", "--lines", "1")
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert b"hello from v1" in await process.stdout.readline()
        os.kill((await shell.host.answer())["pid"], signal.SIGHUP)  # gunicorn loads the app anew
        while b"hello from v1" not in await process.stdout.readline():
            pass
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 130
