"""Messages at three in the morning: whole, each with its host and what to do."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.__main__ import main as agent
from agent.host.bundle import signers
from pusher.bundle.sign import sign
from pusher.config import load
from pusher.errors import Unreachable
from pusher.transport.client import Client
from pusher.wire import Code, Event, Failed, Happened, LogLine, LogUnit, Refused
from tests.ports import free_port
from tests.unit.scripted_agent import ABOUT, EVENTS, STATUS, STEP, Run
from tests.unit.scripted_door import Exchange, ScriptedDoor, answer, events, note

AT = 1_795_399_255_000
OUTPUT = """\
  File "app.py", line 10, in <module>
    import shop
ModuleNotFoundError: No module named 'shop'"""


def run(pusher: Run, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    capsys.readouterr()
    code = pusher(*argv)
    return code, capsys.readouterr().err


def test_a_command_that_there_is_not(pusher: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """I mistyped."""
    assert run(pusher, capsys, "stauts") == (
        2,
        "pusher: pusher has no command 'stauts'\n  Did you mean `pusher status`?\n",
    )


def test_a_command_of_the_agent_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    """I mistyped, as root."""
    with pytest.raises(SystemExit) as caught:
        agent(["chekc"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "pusher-agent: pusher-agent has no command 'chekc'\n  Did you mean `pusher-agent check`?\n"
    )


def test_a_file_that_is_no_key(project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """I named the wrong file; I do not want to know about libcrypto."""
    (project / "notes").write_text("not a key")
    assert run(pusher, capsys, "pack", "v3", "--key", "notes") == (
        2,
        "pusher: notes is no private key: it is in no form that ssh-keygen writes\n"
        "  Name a key with --key, PUSHER_KEY or key in pusher.toml. To make one: ssh-keygen -t ed25519\n",
    )


def test_no_pusher_toml(
    tmp_path: Path, pusher: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I am in the wrong folder."""
    (tmp_path / "app-src/v3").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert run(pusher, capsys, "pack", "v3") == (
        2,
        f"pusher: No app is named: there is no pusher.toml from {tmp_path} upwards\n"
        '  Name it with --app, PUSHER_APP, or app = "..." in pusher.toml. `pusher init` writes one\n',
    )
    assert run(pusher, capsys, "status", "--app", "shop") == (
        2,
        f"pusher: No host is named: there is no pusher.toml from {tmp_path} upwards\n"
        "  Name one with --host or PUSHER_HOST, or write it into pusher.toml. For example: --host web1\n",
    )


def test_no_agent_runs_on_this_machine(pusher: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """I forgot to start the agent that I had made with `init`."""
    where = f"http://127.0.0.1:{free_port()}"
    assert run(pusher, capsys, "status", "--host", where) == (
        5,
        f"pusher: No agent answers for {where} at {where}: Connection refused\n"
        "  If it does not run, start it there: sudo systemctl start pusher-agent. One that `pusher-agent init` "
        "has set up: pusher-agent serve --root DIR\n",
    )


SSH = """#!/bin/sh
echo "{said}" >&2
exit 255
"""


def reach(folder: Path, said: str, *, name: str = "web9", may_ask: bool = False) -> str:
    """What is said about a host that ssh says this of."""
    ssh = folder / "ssh"
    ssh.write_text(SSH.format(said=said))
    ssh.chmod(0o755)
    (folder / "pusher.toml").write_text('[hosts.web1]\naddress = "ssh://a"\n[hosts.db]\naddress = "ssh://b"\n')
    (host,) = load({"host": [name]}, environment={}, start=folder).chosen
    client = Client(host, ssh=str(ssh), may_ask=may_ask)
    with pytest.raises(Unreachable) as caught:
        client.status("shop")
    client.close()
    return str(caught.value)


def test_ssh_works_but_no_agent_listens(tmp_path: Path) -> None:
    """The agent is down, and ssh is fine: I am told which command starts it, and where."""
    said = "channel 0: open failed: connect failed: Connection refused"
    assert reach(tmp_path, said, name="web1") == (
        "No agent listens on web1: ssh reached it, and nothing listens there at 127.0.0.1:290. "
        "Start it on web1: sudo systemctl start pusher-agent.socket pusher-agent"
    )


def test_a_host_that_the_file_does_not_know(tmp_path: Path) -> None:
    """I mistyped the name of a host, and ssh does not know it either."""
    said = "ssh: Could not resolve hostname web9: Name or service not known"
    text = reach(tmp_path, said)
    assert text.startswith(
        "web9 cannot be reached: ssh: Could not resolve hostname web9: Name or service not known. pusher.toml "
        "does not know web9. Did you mean web1? "
    )


def test_what_still_serves_is_said_with_its_host(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """First of all: is the site up?"""
    problem = Failed(
        Code.APP_EXITED,
        "app:app does not import",
        why="ModuleNotFoundError: No module named 'shop' (app.py:10)",
        hint="Is shop in the release, or among its dependencies?",
        output=OUTPUT,
    )
    live = {"release": "20261123020000Z", "version": "v2"}
    data = {**ABOUT, "outcome": "failed", "problem": problem.to_document(), "live": live}
    last = Event(3, 0, Happened.FINISHED, data)
    door.on("GET", EVENTS, events(STEP, last))
    capsys.readouterr()
    assert pusher("send", "v3", "--host", door.address) == 1
    said = capsys.readouterr()
    assert f"nothing was changed on {door.address}: flask-demo v2 is live, release 20261123020000Z\n" in said.out
    assert said.err == (
        "pusher: app:app does not import: ModuleNotFoundError: No module named 'shop' (app.py:10)\n"
        "  Is shop in the release, or among its dependencies?\n"
        "\n"
        '  File "app.py", line 10, in <module>\n'
        "    import shop\n"
        "ModuleNotFoundError: No module named 'shop'\n"
    )
    switched = Event(3, 0, Happened.STEP_DONE, {"step": "switch", "ms": 1})
    door.on("GET", EVENTS, events(STEP, switched, replace(last, seq=4)))
    assert pusher("send", "v3", "--host", door.address) == 1
    assert f"flask-demo v2 is live again on {door.address}, release 20261123020000Z\n" in capsys.readouterr().out


def test_never_deployed_here(door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A new server: I am told what comes next."""
    door.on("GET", "/apps/flask-demo/status", answer({**STATUS, "live": None, "last": None, "running": False}))
    assert pusher("status", "--host", door.address) == 0
    assert "  live       nothing yet. To deploy: pusher send\n" in capsys.readouterr().out


def test_the_key_has_expired(tmp_path: Path, key: Path) -> None:
    """It worked yesterday. I am told that my key ended, and when."""
    text = key.with_name(f"{key.name}.pub").read_text()
    listed = tmp_path / "allowed_signers"
    listed.write_text(f'me@example.com namespaces="pusher-release",valid-before="20261101Z" {text}')
    with pytest.raises(Refused) as caught:
        signers.verify(b"{}", sign(b"{}", key=str(key)), allowed_signers=listed, deadline_s=20)
    assert caught.value.what == "The key that signed this bundle has expired"
    assert caught.value.why.endswith(" of me@example.com sign until 2026-11-01 00:00 UTC")
    assert caught.value.hint == "Sign with another key; or let root put a later valid-before into its line"


def test_a_log_has_one_time_a_line_and_no_sleeping_candidate(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """I read what my app wrote."""
    stamp = "[2026-11-27 15:41:05 +0000] [16759] "
    lines = (
        LogLine(AT, LogUnit.PREFLIGHT, f"{stamp}[INFO] Handling signal: term", 6, 42),
        LogLine(AT, LogUnit.PREFLIGHT, f"{stamp}[INFO] Worker exiting (pid: 16768)", 6, 42),
        LogLine(AT, LogUnit.PREFLIGHT, f"{stamp}[INFO] Shutting down: Master", 6, 42),
        LogLine(AT, LogUnit.SERVICE, f"{stamp}[ERROR] Error handling request /", 6, 43),
        LogLine(AT, LogUnit.SERVICE, f"{stamp}[INFO] Handling signal: term", 6, 43),
    )

    def script(exchange: Exchange) -> None:
        note(exchange)
        exchange.stream([line.to_line() for line in lines])

    door.on("GET", "/apps/flask-demo/logs", script)
    assert pusher("logs", "--host", door.address) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2026-11-23 02:00:55Z service[43]: [ERROR] Error handling request /",
        "2026-11-23 02:00:55Z service[43]: [INFO] Handling signal: term",
    ]
    assert pusher("logs", "--host", door.address, "--json") == 0
    assert len(capsys.readouterr().out.splitlines()) == len(lines)
