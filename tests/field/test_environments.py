"""Staging and production: each with its hosts, and nobody changes production by leaving a word out."""

import os
import sys
from pathlib import Path

import pytest

from pusher.config import load
from pusher.errors import Usage
from tests.terminal import Terminal
from tests.unit.scripted_agent import DONE, EVENTS, STARTED, UPLOAD, Run
from tests.unit.scripted_door import ScriptedDoor, answer, events

RELEASE = "20261123020000Z"
TABLES = """
app = "shop"
key = "keys/staging"
[hosts.web1]
address = "ssh://a"
[hosts.web2]
address = "ssh://b"
[hosts.test1]
address = "ssh://t"
[groups]
web = ["web1", "web2"]
[env.staging]
hosts = ["test1"]
app = "shop-staging"
[env.production]
hosts = ["web"]
key = "keys/production"
confirm = true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pusher.toml").write_text(TABLES)
    return tmp_path


def names(folder: Path, *hosts: str, env: str = "", **variables: str) -> list[str]:
    found = load({"host": [*hosts], "env": env}, environment=variables, start=folder)
    return [host.name for host in found.chosen]


def test_an_environment_has_its_hosts_and_what_differs_there(folder: Path) -> None:
    """I keep staging and production in one file."""
    production = load({"env": "production"}, environment={}, start=folder)
    assert [host.name for host in production.chosen] == ["web1", "web2"]
    assert (production.app, production.key) == ("shop", str(folder / "keys/production"))
    staging = load({"env": "staging"}, environment={}, start=folder)
    assert (staging.app, staging.key) == ("shop-staging", str(folder / "keys/staging"))
    assert load({"env": "staging", "app": "mine"}, environment={}, start=folder).app == "mine"
    assert names(folder, PUSHER_ENV="staging") == ["test1"]
    assert names(folder, "web2", env="production") == ["web2"]


def test_without_an_environment_no_host_is_meant(folder: Path) -> None:
    """I forgot --env, and production stays as it is."""
    assert names(folder) == []
    assert names(folder, "all") == ["web1", "web2", "test1"]
    (folder / "pusher.toml").write_text(TABLES.replace("[groups]", '[groups]\ndefault = ["test1"]'))
    assert names(folder) == ["test1"]


def test_a_host_of_production_is_confirmed_however_it_is_named(folder: Path) -> None:
    """I named the server itself, and am asked all the same."""
    for hosts, env, confirm in (
        (["web1"], "", "production"),
        (["ssh://b"], "", "production"),
        (["all"], "", "production"),
        ([], "production", "production"),
        ([], "staging", ""),
        (["test1"], "", ""),
    ):
        assert load({"host": hosts, "env": env}, environment={}, start=folder).confirm == confirm


@pytest.mark.parametrize(
    ("env", "hosts", "message"),
    [
        ("prodution", (), "has no environment prodution. Did you mean production?"),
        ("qa", (), "has no environment qa. It has staging, production"),
        ("production", ("test1",), "test1 does not belong to production: [env.production] has web"),
    ],
)
def test_an_environment_that_does_not_fit_is_a_sentence(
    folder: Path, env: str, hosts: tuple[str, ...], message: str
) -> None:
    """A slip of my fingers is told, with the right word."""
    with pytest.raises(Usage) as caught:
        names(folder, *hosts, env=env)
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("env = 3", "'env' is 3: it must be a table"),
        ("[env]\nqa = 3", "env.qa is not a table"),
        ("[env.qa]\nhost = []", "unknown key 'env.qa.host'. Did you mean 'env.qa.hosts'?"),
        ("[env.qa]\nhosts = [3]", "'env.qa.hosts' is [3]: it must be a list of hosts"),
        ('[env.qa]\nconfirm = "yes"', "'env.qa.confirm' is 'yes': it must be true or false"),
        ('[env.qa]\nhosts = ["a", "ssh://a"]', "a and ssh://a are the same host"),
    ],
)
def test_a_table_that_cannot_be_is_named(tmp_path: Path, text: str, message: str) -> None:
    """A mistake in my file is a sentence."""
    (tmp_path / "pusher.toml").write_text(text)
    with pytest.raises(Usage) as caught:
        load({"env": "qa"}, environment={}, start=tmp_path)
    assert message in str(caught.value)


def test_without_any_environment_the_line_to_write_is_told(tmp_path: Path) -> None:
    """I have not written one yet."""
    with pytest.raises(Usage) as caught:
        load({"env": "qa"}, environment={}, start=tmp_path)
    assert str(caught.value) == 'pusher.toml has no environment qa. Write [env.qa] and hosts = ["web1"]'


@pytest.fixture
def guarded(door: ScriptedDoor, project: Path) -> ScriptedDoor:
    """A door that is production, which wants to be confirmed."""
    with (project / "pusher.toml").open("a") as file:
        file.write(f'[env.production]\nhosts = ["{door.address}"]\nconfirm = true\n')
    return door


def uploads(door: ScriptedDoor) -> int:
    return sum(request.path == UPLOAD for request in door.requests)


def test_a_program_must_say_yes(guarded: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """My nightly job cannot type."""
    for command in (("send", "v3"), ("drop", "v3"), ("rollback",)):
        assert pusher(*command, "--env", "production") == 2
        assert capsys.readouterr().err == (
            "pusher: production must be confirmed: there is no terminal to ask at\n"
            "  A program that may do it without a person says --yes\n"
        )
    assert uploads(guarded) == 0
    assert pusher("send", "v3", "--env", "production", "--yes") == 0
    assert uploads(guarded) == 1


def test_whatever_changes_production_asks_first(
    guarded: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """I pinned a release in the wrong terminal."""
    for command in (("pin", RELEASE), ("unpin", RELEASE)):
        assert pusher(*command, "--env", "production") == 2
        assert "production must be confirmed" in capsys.readouterr().err
    assert not guarded.requests
    guarded.on("POST", "/apps/flask-demo/pin", answer({}))
    assert pusher("pin", RELEASE, "--env", "production", "--yes") == 0


def test_a_command_in_production_asks_first(
    project: Path, pusher: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """I ran the migration of staging in production."""
    ran = tmp_path / "ran"
    with (project / "pusher.toml").open("a") as file:
        file.write('[env.production]\nhosts = ["ssh://db1"]\nconfirm = true\n')
    ssh = ("--ssh", f"touch {ran}")
    assert pusher("run", "--env", "production", *ssh, "--", "flask", "db", "downgrade") == 2
    assert "production must be confirmed" in capsys.readouterr().err
    assert not ran.exists()
    argv = (sys.executable, "-m", "pusher", "run", "--env", "production", *ssh, "--", "flask", "db", "downgrade")
    terminal = Terminal(argv, {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    try:
        terminal.until("This runs `flask db downgrade` in production (ssh://db1). To go on, type production: ")
        terminal.type("staging\n")
        assert terminal.wait() == 2
    finally:
        terminal.close()
    assert not ran.exists()


def test_what_stops_a_deployment_does_not_wait_for_a_name(guarded: ScriptedDoor, pusher: Run) -> None:
    """My colleague sends the wrong version; I have seconds."""
    guarded.on("POST", "/apps/flask-demo/cancel", STARTED)
    guarded.on("GET", EVENTS, events(DONE))
    pusher("cancel", "--env", "production")
    assert guarded.paths()[0] == "POST /apps/flask-demo/cancel"


def test_no_host_is_a_question_of_the_environment(
    guarded: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """What must I type?"""
    assert pusher("status") == 2
    said = capsys.readouterr().err
    assert said == "pusher: No host is named\n  Name an environment: --env production\n"


@pytest.mark.parametrize(
    ("typed", "code", "sent"), [("production\n", 0, 1), ("yes\n", 2, 0), ("\n", 2, 0), ("\x04", 2, 0)]
)
def test_a_person_types_the_name(guarded: ScriptedDoor, typed: str, code: int, sent: int) -> None:
    """A `y` is typed without reading; a name is not."""
    argv = (sys.executable, "-m", "pusher", "send", "v3", "--env", "production")
    terminal = Terminal(argv, {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    try:
        question = f"This sends v3 in production ({guarded.address}). To go on, type production: "
        terminal.until(question)
        terminal.type(typed)
        assert terminal.wait() == code
        assert ("Nothing was changed in production: its name was not typed" in terminal.said) is not sent
    finally:
        terminal.close()
    assert uploads(guarded) == sent
