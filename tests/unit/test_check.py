"""`pusher-agent check` reports what is wrong with a host, and how to fix it."""

import os
import pwd
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from agent.__main__ import main
from agent.admin import agent_unit
from agent.core.layout import AppLayout, HostLayout
from agent.core.polkit import render_rule
from agent.core.units import Units
from agent.host.setup import polkit_rule, rights
from agent.host.setup.config_files import read_apps
from agent.host.storage.disk import Disk
from agent.host.storage.journal import SCHEMAS
from agent.host.systemd.unit_files import rendered


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


def test_check_names_everything_that_is_missing(root: Path, key: Path, capsys):
    run("init", "--root", root, "--app", "flask-demo")
    file = HostLayout(root).app_toml("flask-demo")
    file.write_text(
        'user = "nobody-of-that-name"\nshared_files = [".env"]\nenvironment_file = "/etc/flask-demo.env"\n'
        '[dependencies]\npython = "/usr/bin/python9"\n'
    )
    capsys.readouterr()
    assert run("check", "--root", root) == 4
    bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    assert len(bad) == 5
    assert "pusher-agent trust" in bad[0]
    assert f"its environment file {root}/etc/flask-demo.env does not exist" in bad[3]
    file.write_text("keep_release = 1\n")
    assert run("check", "--root", root) == 4
    assert "Did you mean keep_releases?" in capsys.readouterr().out
    file.rename(file.with_name("Bad Name.toml"))
    assert run("check", "--root", root) == 4
    assert "is not named after an app" in capsys.readouterr().out


def test_check_counts_only_what_is_a_key(root: Path, key: Path, capsys):
    run("init", "--root", root, "--trust", key, "--app", "flask-demo")
    file = HostLayout(root).allowed_signers
    file.write_text(f"# ours\n  # too\n{file.read_text()}bob ssh-ed25519 AAAA\n")
    capsys.readouterr()
    assert run("check", "--root", root) == 4
    said = capsys.readouterr().out
    assert f"ok    {file}: 1 key(s)" in said
    assert f"BAD   {file}: the line 'bob ssh-ed25519 AAAA' trusts nobody: it ends early" in said
    file.write_text("garbage\n")
    assert run("check", "--root", root) == 4
    assert f"BAD   {file}: no key is trusted yet" in capsys.readouterr().out


def test_check_says_that_nothing_removes_a_release_without_a_manifest(root: Path, key: Path, capsys):
    run("init", "--root", root, "--trust", key, "--app", "flask-demo")
    (root / "opt/flask-demo/releases/20261123020055Z").mkdir(parents=True)
    capsys.readouterr()
    assert run("check", "--root", root) == 4
    bad, nothing = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    assert "release 20261123020055Z is unknown" in bad
    assert "delete it by hand" in bad
    assert "no release is current" in nothing


def test_check_lets_nobody_delete_what_a_newer_agent_has_deployed(root: Path, key: Path, capsys):
    run("init", "--root", root, "--trust", key, "--app", "flask-demo")
    layout = HostLayout(root)
    with closing(sqlite3.connect(layout.journal)) as db:
        db.execute(f"pragma user_version = {len(SCHEMAS) + 1}")
    releases = root / "opt/flask-demo/releases"
    (releases / "20261123020055Z").mkdir(parents=True)
    (releases / "20261123020056Z/.pusher").mkdir(parents=True)
    (releases / "20261123020056Z/.pusher/manifest.json").write_text('{"schema":9}')
    (root / "opt/flask-demo/current").symlink_to("./releases/20261123020055Z")
    capsys.readouterr()
    assert run("check", "--root", root) == 4
    said = capsys.readouterr().out
    assert f"{layout.journal}: a newer agent has written it" in said
    assert said.count("its manifest cannot be read; a newer agent may have written it") == 2
    assert "delete it by hand" not in said


@pytest.mark.parametrize(
    ("shown", "bad"),
    [
        ("ActiveState=active\nSubState=running\n", False),
        ("ActiveState=activating\nSubState=start-pre\n", False),
        ("ActiveState=inactive\nSubState=dead\n", False),
        ("ActiveState=activating\nSubState=auto-restart\n", True),
        ("ActiveState=failed\nSubState=failed\n", True),
        ("", False),
    ],
)
def test_an_agent_that_does_not_start_is_a_finding_and_one_that_was_stopped_is_none(shown: str, bad: bool):
    assert any("journalctl -u pusher-agent" in found for found in agent_unit.findings(shown)) is bad


def test_check_compares_the_units_with_the_files_of_the_apps(root: Path, key: Path, capsys):
    run("init", "--root", root, "--trust", key, "--app", "flask-demo")
    layout = HostLayout(root)
    layout.agent_toml.write_text('service = "systemd"\n')
    for folder in (layout.units, layout.polkit_rules.parent):
        folder.mkdir(parents=True)
    for name, text in rendered("flask-demo", read_apps(layout).usable["flask-demo"], host=layout).items():
        (layout.units / name).write_text(text)
    polkit_rule.write_rule(layout, Disk())
    capsys.readouterr()
    assert run("check", "--root", root) == 0
    assert "ok    flask-demo: its units agree with its file" in capsys.readouterr().out
    (layout.units / "flask-demo.socket").write_text("[Socket]\n")
    assert run("check", "--root", root) == 4
    (bad,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    assert "flask-demo.socket does not agree with" in bad
    assert "`pusher-agent app apply flask-demo`, as root" in bad


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_check_finds_what_decides_about_the_host_and_is_not_roots_alone(root: Path, key: Path, capsys):
    run("init", "--root", root, "--trust", key, "--app", "flask-demo")
    layout = HostLayout(root)
    layout.agent_toml.write_text('service = "systemd"\n')
    os.chown(layout.app_toml("flask-demo"), 65534, 0)
    layout.allowed_signers.chmod(0o664)
    capsys.readouterr()
    assert run("check", "--root", root) == 4
    said = capsys.readouterr().out
    assert f"run `chown root {layout.app_toml('flask-demo')}` as root" in said
    assert f"run `chmod go-w {layout.allowed_signers}` as root" in said
    assert f"{layout.agent_toml} is not" not in said


def test_check_reports_a_missing_or_incomplete_polkit_rule_and_its_fix(root: Path, key: Path, capsys):
    run("init", "--root", root, "--trust", key, "--app", "flask-demo")
    layout = HostLayout(root)
    layout.agent_toml.write_text('service = "systemd"\n')
    for folder in (layout.units, layout.polkit_rules.parent):
        folder.mkdir(parents=True)
    for name, text in rendered("flask-demo", read_apps(layout).usable["flask-demo"], host=layout).items():
        (layout.units / name).write_text(text)

    def found() -> str:
        capsys.readouterr()
        assert run("check", "--root", root) == 4
        (bad,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
        return bad

    file, todo = layout.polkit_rules, "run `pusher-agent app apply flask-demo`, as root"
    lack = "so the agent may not start"
    assert found() == f"BAD   {file} does not exist, {lack} the units of flask-demo; {todo}"
    file.write_text(render_rule(Units.of("flask-demo").all).replace("flask-demo-hook.service", "other.service"))
    assert found() == f"BAD   {file} does not name flask-demo-hook.service, {lack} them; {todo}"
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("")  # so that even root cannot read a rule in it
    assert run("check", "--root", root) == 0


def test_the_rule_names_what_root_has_rendered_whether_its_file_can_be_used_or_not(root: Path):
    run("init", "--root", root, "--app", "flask-demo")
    run("init", "--root", root, "--app", "new", "--listen", "127.0.0.1:1")
    layout = HostLayout(root)
    layout.app_toml("ssh").write_text("")  # its units belong to another program
    for folder in (layout.units, layout.polkit_rules.parent):
        folder.mkdir(parents=True)
    (layout.units / "ssh.service").write_text("[Service]\n")
    for name, text in rendered("flask-demo", read_apps(layout).usable["flask-demo"], host=layout).items():
        (layout.units / name).write_text(text)
    layout.app_toml("flask-demo").write_text("=")
    polkit_rule.write_rule(layout, Disk())
    users = [config.user for config in read_apps(layout).usable.values()]
    assert layout.polkit_rules.read_text() == render_rule(Units.of("flask-demo").all, users=users)


def test_what_systemd_says_tells_which_units_the_agent_may_drive():
    units = ["a.socket", "a.service", "b.service"]
    said = (
        "Failed to restart a.socket: --job-mode=triggering is only valid for stop.\n"
        "See system logs and 'systemctl status a.socket' for details.\n"
        "Failed to restart a.service: Interactive authentication required.\n"
        "Failed to restart b.service: Unit polkit.service is masked.\n"
    )
    assert polkit_rule.read_denials(units, said) == {
        "a.service": "Interactive authentication required",
        "b.service": "Unit polkit.service is masked",
    }
    lost = "Failed to connect to bus: No such file or directory\n"
    assert set(polkit_rule.read_denials(units, lost).values()) == {lost.strip()}
    assert set(polkit_rule.read_denials(units, "").values()) == {"systemd said nothing"}


def test_check_reports_an_unusable_file_and_checks_the_other_apps(root: Path, key: Path, capsys):
    run("init", "--root", root, "--trust", key, "--app", "flask-demo")
    run("init", "--root", root, "--app", "blog", "--listen", "127.0.0.1:8001")
    layout = HostLayout(root)
    layout.app_toml("blog").write_text("keep_releases = 0\n")
    capsys.readouterr()
    assert run("check", "--root", root) == 4
    out = capsys.readouterr().out
    assert f"BAD   blog: {layout.app_toml('blog')}: 'keep_releases' is 0: Input should be greater" in out
    assert "Correct it, then start the agent again" in out
    assert "ok    flask-demo: user" in out
    layout.agent_toml.write_text('service = "systemd"\n')
    run("check", "--root", root)
    assert "Correct it, then run `pusher-agent app apply blog` as root" in capsys.readouterr().out
    layout.app_toml("blog").write_text("user = 'a\\nb'\n".replace("'", '"'))
    run("check", "--root", root)
    assert "a unit cannot hold line breaks" in capsys.readouterr().out


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that everybody may enter, which `tmp_path` is not."""
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_what_an_apps_user_could_not_read_or_write_is_found_by_its_bits(open_folder: Path):
    file, folder = open_folder / "a b", open_folder / "uploads"
    file.touch()
    folder.mkdir()
    for path, mode, said in (
        (file, 0o604, ""),
        (file, 0o600, f"nobody may not read {file} (-rw-------"),
        (file, 0o600, f"chmod g+r '{file}'` as root"),
        (folder, 0o703, ""),
        (folder, 0o705, f"nobody may not write to {folder} (drwx---r-x"),
        (folder, 0o702, f"chmod g+rwx {folder}` as root"),
    ):
        path.chmod(mode)
        found = rights.hindrance(path, user="nobody")
        assert said in found, (oct(mode), found)
        assert bool(found) == bool(said), (oct(mode), found)
    (folder / "inner").mkdir(mode=0o777)
    folder.chmod(0o700)
    found = rights.hindrance(folder / "inner", user="nobody")
    assert f"nobody may not enter {folder} (drwx------" in found
    assert f"`chmod o+x {folder}`" in found
    assert rights.hindrance(open_folder / "none", user="nobody") == ""
    (open_folder / "loop").symlink_to("loop")
    assert rights.hindrance(open_folder / "loop", user="nobody") == ""
    with pytest.raises(KeyError):
        rights.hindrance(file, user="nobody-of-that-name")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_whom_a_folder_belongs_to_is_told_to_open_it_to_himself(open_folder: Path):
    nobody = pwd.getpwnam("nobody")
    os.chown(open_folder, nobody.pw_uid, 0)
    open_folder.chmod(0o577)
    assert f"`chmod u+w {open_folder}` as root" in rights.hindrance(open_folder, user="nobody")
    os.chown(open_folder, 12_345, nobody.pw_gid)
    open_folder.chmod(0o757)
    assert f"{open_folder} (drwxr-xrwx 12345:" in rights.hindrance(open_folder, user="nobody")
    assert f"`chmod g+w {open_folder}` as root" in rights.hindrance(open_folder, user="nobody")
    assert rights.hindrance(open_folder, user="root") == ""
    os.chown(open_folder, 0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="the app's user has to be somebody else")
def test_check_reports_shared_files_that_the_app_cannot_use(open_folder: Path, key: Path, capsys):
    root = open_folder / "root"
    run("init", "--root", root, "--trust", key, "--app", "flask-demo")
    layout = HostLayout(root)
    layout.app_toml("flask-demo").write_text(
        'user = "nobody"\nshared_files = [".env"]\nshared_paths = ["uploads", "later"]\n'
    )
    shared = AppLayout(layout.beneath("/opt/flask-demo")).shared
    (shared / "uploads").mkdir(parents=True)
    (shared / ".env").touch(mode=0o640)
    capsys.readouterr()
    assert run("check", "--root", root) == 4
    uploads, env = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    assert (
        f"flask-demo: uploads: nobody may not write to {shared}/uploads (drwxr-xr-x root:root); run `chgrp"
        in uploads
    )
    assert f"flask-demo: .env: nobody may not read {shared}/.env (-rw-r----- root:root); run `chgrp nogroup" in env


def test_check_prints_nothing_that_a_terminal_or_a_shell_would_obey(root: Path, key: Path):
    run("init", "--root", root, "--trust", key, "--app", "flask-demo")
    file, layout = HostLayout(root).app_toml("flask-demo"), HostLayout(root)
    file.write_text(f'user = "{pwd.getpwuid(os.geteuid()).pw_name}"\nshared_paths = ["uploads"]\n')
    shared = AppLayout(layout.beneath("/opt/flask-demo")).shared
    shared.mkdir()
    # The folder is the app's, so its user chooses where the link leads.
    (shared / "uploads").symlink_to("/nowhere; id\x1b[2J\x1b]0;owned\x07\n\u202edeb")
    done = subprocess.run(
        (sys.executable, "-m", "agent", "check", "--root", str(root)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "mkdir -p '/nowhere; id" in done.stdout
    assert not {"\x1b", "\x07", "\u202e"} & {*done.stdout}


def test_check_without_a_root_points_to_init(root: Path, capsys):
    assert run("check", "--root", root) == 4
    out = capsys.readouterr().out
    assert f"pusher-agent init --root {root}" in out
    assert "no app yet" in out


def test_check_names_what_would_keep_notices_from_being_sent(root: Path, key: Path, capsys):
    run("init", "--root", root, "--trust", key, "--as", "alice", "--app", "flask-demo")
    layout = HostLayout(root)
    with layout.agent_toml.open("a") as file:
        file.write(
            '[notify]\nurl_file = "/etc/notify.url"\nsecret_file = "/etc/notify.secret"\nca_file = "/etc/ca"\n'
        )
    (root / "etc/notify.url").write_text("https://hooks.example.com\n")
    (root / "etc/notify.url").chmod(0o644)
    (root / "etc/ca").write_text("")
    capsys.readouterr()
    assert run("check", "--root", root) == 4
    bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    assert bad == [
        f"BAD   {root}/etc/notify.url: everybody can read it; run `chgrp pusher-agent {root}/etc/notify.url; "
        f"chmod 640 {root}/etc/notify.url`, as root",
        f"BAD   {root}/etc/notify.secret: No such file or directory; `secret_file` in [notify] names it",
    ]
    text = layout.agent_toml.read_text().replace('service = "embedded"', 'service = "systemd"')
    layout.agent_toml.write_text(f'{text}email = "ops@example.org"\n')
    run("check", "--root", root)
    assert "systemctl enable --now pusher-agent-mail.socket" in capsys.readouterr().out
