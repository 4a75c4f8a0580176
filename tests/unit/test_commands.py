"""The commands of `pusher-agent`: init, trust, app list, check, and the errors of serve."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.admin import NAMES, cli
from agent.core.layout import HostLayout
from agent.host.setup.config_files import read_agent, read_apps, set_apart


@pytest.fixture
def key(tmp_path: Path) -> Path:
    subprocess.run(
        ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "alice@example.com", "-f", str(tmp_path / "key")),
        check=True,
    )
    return tmp_path / "key.pub"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def run(*words: object) -> int:
    return main([str(word) for word in words])


def tree(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_new_root_is_ready_for_a_first_deployment_and_passes_the_check(root: Path, key: Path, capsys):
    assert run("init", "--root", root, "--trust", key, "--app", "flask-demo", "--listen", "127.0.0.1:8000") == 0
    layout = HostLayout(root)
    assert read_agent(layout).service == "embedded"
    app = read_apps(layout).usable["flask-demo"]
    assert (app.path, app.listen, app.start, app.keep_releases) == (
        "/opt/flask-demo",
        "127.0.0.1:8000",
        "",  # the release says it
        5,
    )
    assert layout.allowed_signers.read_text().startswith(
        'alice@example.com namespaces="pusher-release" ssh-ed25519 '
    )
    capsys.readouterr()
    assert run("check", "--root", root) == 0
    assert "BAD" not in capsys.readouterr().out
    assert run("app", "list", "--root", root) == 0
    assert capsys.readouterr().out.startswith("flask-demo  ")


def test_init_run_again_changes_no_existing_file(root: Path, key: Path):
    run("init", "--root", root, "--trust", key, "--app", "one-app")
    before = tree(root)
    assert run("init", "--root", root, "--trust", key) == 0
    assert tree(root) == before
    assert run("init", "--root", root, "--app", "two-app", "--listen", "unix:/run/two.sock", "--keep", "3") == 0
    assert sorted(read_apps(HostLayout(root)).usable) == ["one-app", "two-app"]
    assert run("init", "--root", root, "--app", "one-app") == 4
    assert run("init", "--root", root, "--local", "127.0.0.1:9999") == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--trust", "/nonexistent.pub"), "could not be read"),
        (("--app", "Not An App"), "not an app's name"),
        (("--app", "flask-demo", "--listen", "8000"), "an address like"),
        (("--app", "flask-demo", "--keep", "0"), "keep_releases"),
        (("--app", "flask-demo", "--health", "version"), "health.path"),
        (("--local", "0.0.0.0:9000"), "door.address"),
    ],
)
def test_bad_options_write_nothing_and_say_what_is_wrong(root: Path, words: tuple[str, ...], said: str, capsys):
    assert run("init", "--root", root, *words) == 4
    assert said in capsys.readouterr().err
    assert not root.exists()


def test_trust_writes_a_literal_signer_once(root: Path, key: Path, capsys):
    assert run("trust", key, "--as", "bob", "--root", root) == 4
    assert "does not exist" in capsys.readouterr().err
    run("init", "--root", root)
    for _ in range(2):
        assert run("trust", key, "--as", "bob", "--root", root) == 0
    lines = HostLayout(root).allowed_signers.read_text().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith('bob namespaces="pusher-release"')
    assert run("trust", key, "--as", "b*b", "--root", root) == 4
    assert run("trust", key.with_suffix(""), "--as", "bob", "--root", root) == 4


def test_apps_that_share_an_address_or_folder_are_refused_except_by_check_and_list(root: Path, capsys):
    run("init", "--root", root, "--app", "one-app")
    assert run("init", "--root", root, "--app", "two-app") == 4
    said = capsys.readouterr().err
    assert "one-app and two-app cannot listen at 0.0.0.0:8000 and " in said
    assert "Give two-app an address of its own with --listen, or change /" in said  # it has no file yet
    run("init", "--root", root, "--app", "two-app", "--listen", "127.0.0.1:8001")
    layout = HostLayout(root)
    text = layout.app_toml("two-app").read_text()
    layout.app_toml("two-app").write_text(text.replace("/opt/two-app", "/opt/one-app/two"))
    apps = set_apart(read_apps(layout), layout)
    assert (sorted(apps.usable), sorted(apps.unusable)) == ([], ["one-app", "two-app"])
    assert "cannot have the folders" in str(apps.unusable["one-app"])
    capsys.readouterr()
    assert run("check", "--root", root) == 4
    assert "BAD   one-app and two-app cannot have the folders" in capsys.readouterr().out
    assert run("app", "list", "--root", root) == 0
    assert run("init", "--root", root, "--app", "three", "--listen", "127.0.0.1:8003") == 0


def test_an_unusable_file_of_one_app_does_not_block_others(root: Path, capsys):
    run("init", "--root", root, "--app", "one-app")
    layout = HostLayout(root)
    file = layout.app_toml("one-app")
    file.write_text("lisen = 1\n")
    (layout.apps / ".#two.toml").symlink_to("somebody@somewhere.123")  # an editor's
    capsys.readouterr()
    assert run("init", "--root", root, "--app", "three") == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert warnings == [
        f"warning: {file}: unknown key 'lisen'. Did you mean listen?",
        "warning: three may have the same address, folder or user as one-app: this cannot be checked",
    ]
    assert run("app", "list", "--root", root) == 0
    one, three = capsys.readouterr().out.splitlines()
    assert one == f"one-app  cannot be used: {file}: unknown key 'lisen'. Did you mean listen?"
    assert three.startswith("three  ")
    assert run("init", "--root", root, "--app", "one-app") == 4


def test_a_file_with_any_name_is_listed_and_blocks_no_app(root: Path, capsys):
    run("init", "--root", root, "--app", "one-app")
    Path(os.fsdecode(os.fsencode(HostLayout(root).apps) + b"/\xff.toml")).touch()
    capsys.readouterr()
    assert run("app", "list", "--root", root) == 0
    strange, one = capsys.readouterr().out.splitlines()
    assert strange.startswith(f"\\udcff  cannot be used: {HostLayout(root).apps}/\\udcff.toml is not named after")
    assert one.startswith("one-app  ")


def test_an_unreadable_folder_of_apps_is_an_error(root: Path, capsys):
    run("init", "--root", root)
    layout = HostLayout(root)
    layout.apps.rmdir()
    layout.apps.write_text("no folder")
    assert run("serve", "--root", root) == 4
    assert f"The apps in {layout.apps} could not be read" in capsys.readouterr().err


def test_serve_names_the_file_and_key_of_a_wrong_configuration(root: Path, capsys):
    assert run("serve", "--root", root) == 4
    assert "pusher-agent init" in capsys.readouterr().err
    run("init", "--root", root)
    agent = HostLayout(root).agent_toml
    agent.write_text('nam = "web1"\n')
    assert run("serve", "--root", root) == 4
    said = capsys.readouterr().err
    assert f"{agent}: unknown key 'nam'. Did you mean name?" in said
    agent.write_bytes(b"\xff\xfe")
    assert run("serve", "--root", root) == 4
    assert "could not be read" in capsys.readouterr().err


def test_our_own_bug_exits_with_3_and_keeps_its_traceback(monkeypatch, capsys):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("one by zero")

    monkeypatch.setattr("agent.__main__.run", broken)
    assert run("app", "list") == 3
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "pusher-agent: This is a bug." in said


def test_an_interrupted_command_exits_with_130(monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("agent.__main__.run", interrupted)
    assert run("app", "list") == 130


def test_wrong_usage_exits_with_2_and_version_with_0(capsys):
    with pytest.raises(SystemExit) as caught:
        run("serve", "--rot", "x")
    assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        run("--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("pusher-agent 0.")


def test_the_root_may_be_a_relative_path(tmp_path: Path):
    done = subprocess.run(
        (sys.executable, "-m", "agent", "init", "--root", "a/../b"), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == f"wrote {tmp_path}/b/etc/pusher-agent/agent.toml\n"
    assert stat.S_IMODE(os.stat(tmp_path / "b/etc/pusher-agent/agent.toml").st_mode) == 0o644


def test_every_command_is_declared_in_the_file_of_its_name():
    assert [cli.command(name).name for name in NAMES] == list(NAMES)
    assert all(cli.command(name).help and cli.command(name).description for name in NAMES)


@pytest.mark.parametrize("words", [("check", "--help"), ("app", "list", "--help")])
def test_a_command_imports_nothing_of_the_daemon(words: tuple[str, ...]):
    program = (
        f"import sys; from agent.__main__ import main\ntry: main({words})\n"
        "finally: print('aiohttp' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"
