"""Hosts in groups, a changed mind, and what scripts read."""

import json
from pathlib import Path

import pytest

from pusher import __version__
from pusher.config import load
from pusher.errors import Usage
from pusher.fleet.skew import skew
from pusher.wire import Code, Failed, Refused
from tests.unit.scripted_agent import DEPLOYMENT, EVENTS, STATUS, UPLOAD, Run, ended
from tests.unit.scripted_door import ScriptedDoor, answer, events, refusal

TABLES = '[hosts.web1]\naddress = "ssh://a"\n[hosts.web2]\naddress = "ssh://b"\n[hosts.db]\naddress = "ssh://c"\n'
GROUPS = '[groups]\nweb = ["web1", "web2"]\n'


def chosen(folder: Path, text: str, *hosts: str) -> list[str]:
    (folder / "pusher.toml").write_text(text)
    return [host.name for host in load({"host": [*hosts]}, environment={}, start=folder).chosen]


def test_hosts_and_groups_of_the_file_are_names(tmp_path: Path) -> None:
    """I name my servers once."""
    text = TABLES + GROUPS
    assert chosen(tmp_path, text, "web") == ["web1", "web2"]
    assert chosen(tmp_path, text, "all") == chosen(tmp_path, text) == ["web1", "web2", "db"]
    assert chosen(tmp_path, text, "web", "web1", "other") == ["web1", "web2", "other"]
    assert chosen(tmp_path, f'{text}default = ["web1"]\n') == ["web1"]
    names = 'hosts = ["web1", "deploy@web2"]\n'
    assert chosen(tmp_path, names) == chosen(tmp_path, names, "all") == ["web1", "deploy@web2"]
    assert chosen(tmp_path, f'{names}[groups]\nblue = ["web1"]\n', "blue") == ["web1"]


@pytest.mark.parametrize(
    ("text", "hosts", "message"),
    [
        ("hosts = [1]\n", (), "'hosts' is [1]: it must be a list of names"),
        ('hosts = "web1"\n', (), "'hosts' is 'web1': it must be a list of names, or tables [hosts.NAME]"),
        ('[groups]\nweb = "web1"\n', (), "groups.web is 'web1': it must be a list of hosts"),
        ("[groups]\nweb = []\n", (), "groups.web is []: it must be a list of hosts"),
        (f'{TABLES}[groups]\ndb = ["web1"]\n', (), "a group cannot be called db: a host has that name"),
        ('[groups]\nall = ["web1"]\n', (), "a group cannot be called all: it stands for every host in this file"),
        ("", ("all",), "--host all names no host: no pusher.toml with hosts was found"),
    ],
)
def test_a_group_that_cannot_be_is_named(tmp_path: Path, text: str, hosts: tuple[str, ...], message: str) -> None:
    """A mistake in my file is a sentence."""
    with pytest.raises(Usage) as caught:
        chosen(tmp_path, text, *hosts)
    assert message in str(caught.value)


def test_cancel_ends_what_is_not_live_yet(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """I sent the wrong version: `pusher cancel`, and nothing of it goes live."""
    door.on("POST", "/cancel", answer({"deployment": DEPLOYMENT, "app": "flask-demo"}, status=202))
    door.on("POST", "/apps/flask-demo/cancel", answer({"deployment": DEPLOYMENT, "app": "flask-demo"}, status=202))
    cancelled = Failed(Code.INTERRUPTED, "alice cancelled the deployment", why="nothing live had been changed")
    door.on("GET", EVENTS, events(ended(cancelled)))
    assert pusher("cancel", "--host", door.address) == 0
    assert capsys.readouterr().out.endswith(f"cancelled on {door.address}: deployment {DEPLOYMENT}\n")
    late = Refused(Code.TOO_LATE, "flask-demo v3 cannot be cancelled any more", why="it is going live")
    door.on("POST", "/apps/flask-demo/cancel", refusal(late, status=409))
    assert pusher("cancel", "--host", door.address) == 4
    assert "flask-demo v3 cannot be cancelled any more: it is going live" in capsys.readouterr().err


def test_send_tells_scripts_what_came_of_it(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """My CI reads one JSON document, and nothing around it."""
    failed = Failed(Code.APP_EXITED, "Release 20261123020055Z ended by itself", why="exit code 3")
    door.on("GET", EVENTS, events(ended(failed)))
    assert pusher("send", "v3", "--host", door.address, "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["outcome"], document["problem"]["code"]) == ("failed", "app_exited")
    assert document["address"] == door.address
    door.on("POST", UPLOAD, refusal(Refused(Code.BUSY, "alice is deploying v9"), status=409))
    assert pusher("send", "v3", "--host", door.address, "--json") == 4
    assert json.loads(capsys.readouterr().out)["problem"]["title"] == "alice is deploying v9"
    assert pusher("send", "v9", "--host", door.address, "--json") == 2
    document = json.loads(capsys.readouterr().out)
    assert (document["outcome"], document["address"]) == ("usage", None)


def test_different_versions_are_a_line_with_what_to_do(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """I see that I forgot to upgrade one side, and which."""
    assert [*skew(__version__)] == [*skew(None)] == [*skew("unknown")] == []
    assert [*skew("0.1.0", own="0.2.0", host="web1")] == [
        "versions: the agent is 0.1.0, this pusher is 0.2.0; both work together, but upgrade the package "
        "pusher-agent on web1"
    ]
    door.on("GET", "/apps/flask-demo/status", answer({**STATUS, "agent": "9.10.0"}))
    pusher("status", "--host", door.address)
    assert "the agent is 9.10.0" in capsys.readouterr().out
    pusher("send", "v3", "--host", door.address)
    assert "but upgrade pusher on this machine\n" in capsys.readouterr().out
