"""Hooks: which ones run, in which order, and how they end."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.config.app import AppConfig
from agent.core.layout import HostLayout
from agent.host.run.hooks import EmbeddedHookRunner, Hook, find
from pusher.wire import Code, Failed

ME = pwd.getpwuid(os.geteuid()).pw_name

Write = Callable[[str, str], Path]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    (tmp_path / "release/hooks").mkdir(parents=True)
    return tmp_path / "release"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "host").mkdir()
    return tmp_path / "host"


def script(path: Path, text: str = "#!/bin/sh\n", *, mode: int = 0o755) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("name", ["before-symlink", "rollback-before-symlink"])
def test_the_hosts_hook_is_first_where_something_begins(name: str, release: Path, host: Path) -> None:
    own, theirs = script(host / name), script(release / "hooks" / name)
    assert find(name, release=release, host=host) == [Hook(own, "host"), Hook(theirs, "release")]


@pytest.mark.parametrize("name", ["after-symlink", "rollback-after-symlink"])
def test_the_hosts_hook_is_last_where_something_ends(name: str, release: Path, host: Path) -> None:
    own, theirs = script(host / name), script(release / "hooks" / name)
    assert find(name, release=release, host=host) == [Hook(theirs, "release"), Hook(own, "host")]


def test_without_hooks_there_is_nothing_to_run(tmp_path: Path, release: Path) -> None:
    assert find("before-setup", release=release, host=tmp_path / "none") == []
    assert find("before-setup", release=tmp_path / "none", host=tmp_path / "none") == []


def test_a_hook_may_be_a_link_within_its_release(release: Path, host: Path) -> None:
    script(release / "migrate.sh")
    (release / "hooks/before-symlink").symlink_to("../migrate.sh")
    assert [hook.origin for hook in find("before-symlink", release=release, host=host)] == ["release"]


def refusal(release: Path, host: Path) -> str:
    with pytest.raises(Failed) as caught:
        find("before-symlink", release=release, host=host)
    assert caught.value.code is Code.HOOK_FAILED
    return str(caught.value)


def test_a_hook_that_cannot_be_run_is_not_left_out_in_silence(release: Path, host: Path) -> None:
    hook = script(release / "hooks/before-symlink", mode=0o644)
    assert "it is not executable. chmod +x before-symlink" in refusal(release, host)
    script(hook, "echo hello\n")
    assert "it names no interpreter. Begin it with a line like #!/bin/sh" in refusal(release, host)
    script(hook, "#!/bin/sh\r\necho hello\r\n")
    assert "its lines end as on Windows (CR LF). Save before-symlink" in refusal(release, host)
    hook.unlink()
    hook.symlink_to("/bin/sh")
    assert "it is a link that leaves the release" in refusal(release, host)
    hook.unlink()
    hook.symlink_to("nowhere")
    assert "it cannot be read" in refusal(release, host)
    hook.unlink()
    hook.symlink_to("before-symlink")
    assert "it cannot be read" in refusal(release, host)
    hook.unlink()
    hook.mkdir()
    assert "it is not a regular file" in refusal(release, host)


def test_a_folder_of_hooks_that_the_agent_may_not_enter_is_an_error(as_nobody: Path) -> None:
    release, host = as_nobody / "release", as_nobody / "host"
    (release / "hooks").mkdir(parents=True)
    host.mkdir(mode=0)
    with pytest.raises(Failed) as caught:
        find("before-setup", release=release, host=host)
    assert caught.value.code is Code.HOOK_FAILED
    assert "its folder cannot be read: Permission denied" in caught.value.why
    host.rmdir()
    host.touch()
    assert find("before-setup", release=release, host=host) == []


def test_a_program_is_a_hook_too_and_the_hosts_may_be_a_link(release: Path, host: Path) -> None:
    (host / "before-symlink").symlink_to("/bin/true")
    assert find("before-symlink", release=release, host=host) == [Hook(host / "before-symlink", "host")]


async def run(hook: Path, release: Path, *, deadline_s: float = 20, **settings: object) -> tuple[str, list[str]]:
    config = AppConfig.model_validate({"path": "/opt/demo", "user": ME, **settings})
    lines: list[str] = []
    runner = EmbeddedHookRunner(config, host=HostLayout(release.parent))
    ending = await runner.run(
        hook, folder=release, environment={"PUSHER_APP": "demo"}, deadline_s=deadline_s, line=lines.append
    )
    return ending, lines


async def test_a_hook_runs_in_the_release_with_its_venv_and_its_variables(release: Path) -> None:
    (release.parent / "demo.env").write_text("KEY=secret\n")
    hook = script(release / "hooks/x", '#!/bin/sh\npwd; echo "$PUSHER_APP $KEY ${PATH%%:*}"\n')
    ending, lines = await run(hook, release, environment_file="/demo.env")
    assert (ending, lines) == ("", [str(release), f"demo secret {release}/venv/bin"])


async def test_the_end_of_a_hook_is_described(release: Path) -> None:
    assert await run(script(release / "hooks/x", "#!/bin/sh\necho bad; exit 3\n"), release) == (
        "exit code 3",
        ["bad"],
    )
    assert (await run(script(release / "hooks/y", "#!/bin/sh\nsleep 60\n"), release, deadline_s=0.2))[0] == (
        "no end after 0.2 s"
    )


async def test_a_missing_interpreter_is_described(release: Path) -> None:
    ending, lines = await run(script(release / "hooks/x", "#!/no/such/shell\n"), release)
    assert "the program in its first line (#!), or one it calls, does not exist" in ending
    assert "not found" in lines[0]


async def test_a_hook_that_cannot_be_started_has_an_ending_too(release: Path) -> None:
    assert "this machine has no user of that name" in (await run(release, release, user="nobody-at-all"))[0]
    hook = script(release / "hooks/x")
    config = AppConfig.model_validate({"path": "/opt/demo", "user": ME})
    runner = EmbeddedHookRunner(config, host=HostLayout(release.parent))
    ending = await runner.run(hook, folder=release / "gone", environment={}, deadline_s=20, line=lambda _: None)
    assert ending == "it could not be started (No such file or directory)"
