"""How a process of a release is started: command, user, environment."""

import os
import pwd
from pathlib import Path

import pytest

from agent.core.config.app import AppConfig
from agent.core.layout import HostLayout
from agent.host.ports import Placed
from agent.host.run import launch
from pusher.wire import Code, Failed, Refused, split_command

ME = pwd.getpwuid(os.geteuid())


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "opt/demo/releases/20261123020055Z"
    programs = folder / "venv/bin"
    programs.mkdir(parents=True)
    for name in ("gunicorn", "flask"):
        (programs / name).touch(mode=0o755)
    (programs / "activate").touch(mode=0o644)
    return folder


def config(**settings: object) -> AppConfig:
    return AppConfig.model_validate({"path": "/opt/demo", "user": ME.pw_name, **settings})


def test_the_start_command_is_found_in_the_venv(release: Path) -> None:
    found = launch.find_start(("gunicorn", "--name", "my app", "app:app"), release=release)
    assert found == (str(release / "venv/bin/gunicorn"), "--name", "my app", "app:app")


@pytest.mark.parametrize("start", ["uvicorn app:app", "ls", "activate", "./gunicorn", "/bin/ls"])
def test_only_programs_of_the_venv_are_started_and_a_refusal_lists_them(release: Path, start: str) -> None:
    with pytest.raises(Failed) as caught:
        launch.find_start(split_command(start), release=release)
    assert caught.value.code is Code.START_NOT_FOUND
    assert "The venv has: flask, gunicorn." in caught.value.hint
    assert ("without a folder" in caught.value.hint) == ("/" in start)


def test_a_refusal_names_an_empty_venv_and_shortens_a_long_list(release: Path) -> None:
    with pytest.raises(Failed, match="The venv has no programs at all"):
        launch.find_start(("gunicorn",), release=release.parent)
    for number in range(40):
        (release / f"venv/bin/tool{number}").touch(mode=0o755)
    with pytest.raises(Failed, match=r"tool1, \.\.\., tool1|tool24, \.\.\."):
        launch.find_start(("nothing",), release=release)
    (release / "venv/bin/zulip").touch(mode=0o755)  # beyond what is listed
    for find in (
        lambda: launch.find_start(("zulp",), release=release),
        lambda: launch.find_program("zulp", release=release),
    ):
        with pytest.raises((Failed, Refused), match=r"Did you mean zulip\?"):
            find()


def test_a_variable_before_the_program_is_told_its_place(release: Path) -> None:
    with pytest.raises(Failed, match="DEBUG belongs into the app's environment_file"):
        launch.find_start(("DEBUG=1", "flask", "run"), release=release)


def test_an_app_runs_in_its_release_and_knows_what_it_is(release: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/demo.env").write_text("KEY=secret\n")
    link = tmp_path / "current"
    link.symlink_to(release)
    prepared = launch.prepare_candidate(
        "demo",
        config(environment_file="/etc/demo.env"),
        Placed(release.name, "v1", link),
        host=HostLayout(tmp_path),
    )
    assert prepared.folder == release
    assert prepared.argv[-3:] == (f"--become={release}", "--process=service", "--loopback=127.0.0.1")
    own = {name: value for name, value in prepared.environment.items() if name.startswith(("PUSHER", "KEY"))}
    assert own == {
        "KEY": "secret",
        "PUSHER_APP": "demo",
        "PUSHER_PREFLIGHT": "1",
    }


def test_an_environment_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file"):
        launch.read_environment_file(tmp_path / "missing.env")
    (tmp_path / "latin.env").write_bytes(b"A=\xe4")
    with pytest.raises(Refused, match="it is not UTF-8"):
        launch.read_environment_file(tmp_path / "latin.env")


def test_the_agents_own_user_needs_no_change() -> None:
    account = launch.find_account(ME.pw_name)
    assert (account.uid, account.home, account.switch) == (ME.pw_uid, ME.pw_dir, False)


def test_a_user_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Refused, match="this machine has no user of that name"):
        launch.find_account("nobody-at-all")


def test_only_root_may_become_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    # Becoming an ordinary user for good would take the test session along.
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with pytest.raises(Refused, match="the agent runs as 12345, and only root may become another user"):
        launch.find_account("root")
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    with pytest.raises(Refused, match=f"the agent runs as {pwd.getpwuid(1).pw_name}"):
        launch.find_account("root")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert launch.find_account("nobody").switch
