"""An option overrides a variable, which overrides pusher.toml, which overrides the default. Mistakes are named."""

import os
import pwd
from pathlib import Path

import pytest

from pusher.config import find, load
from pusher.errors import Usage
from pusher.transport.hosts import Host, Loopback, Ssh, Unix

TOML = """
app = "from-file"
source = "versions"
key = "keys/id"
ssh = "ssh -4"

[hosts.web1]
address = "ssh://deploy@web1.example.com:2222"
door = "127.0.0.1:9100"

[hosts.here]
address = "unix:/run/pusher-agent/api.sock"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "pusher.toml"
    made.write_text(TOML)
    return made


def test_everything_has_a_default(tmp_path: Path) -> None:
    settings = load({}, environment={}, start=tmp_path)
    assert (settings.app, settings.source, settings.key, settings.ssh) == ("", Path("app-src"), "", "ssh")
    assert (settings.hosts, settings.chosen) == ({}, ())


def test_pusher_toml_is_found_upwards_and_its_paths_are_relative_to_it(file: Path) -> None:
    inner = file.parent / "a/b"
    inner.mkdir(parents=True)
    settings = load({}, environment={}, start=inner)
    assert settings.app == "from-file"
    assert settings.source == file.parent / "versions"
    assert settings.key == str(file.parent / "keys/id")
    assert settings.ssh == "ssh -4"
    assert settings.hosts == {
        "web1": Host("web1", Ssh("web1.example.com", "deploy", 2222, "127.0.0.1:9100")),
        "here": Host("here", Unix("/run/pusher-agent/api.sock")),
    }


def test_a_variable_overrides_the_file_and_an_option_overrides_both(file: Path) -> None:
    environment = {"PUSHER_APP": "from-variable", "PUSHER_KEY": "~/k", "PUSHER_SSH": "x", "PUSHER_SOURCE": "s"}
    flags = {"app": "from-flag", "config": None, "ssh": None}
    settings = load(flags, environment=environment, start=file.parent)
    assert (settings.app, settings.ssh, settings.source) == ("from-flag", "x", Path("s"))
    assert settings.key == os.path.expanduser("~/k")


def test_hosts_are_names_of_the_file_or_addresses(file: Path) -> None:
    settings = load({"host": ["web1", "db.example.com", "web1"]}, environment={}, start=file.parent)
    assert [host.name for host in settings.chosen] == ["web1", "db.example.com"]
    assert settings.chosen[0] == settings.hosts["web1"]
    assert settings.chosen[1].address == Ssh("db.example.com")


def test_two_names_for_one_host_are_refused(file: Path) -> None:
    with pytest.raises(Usage, match=r"here and unix:/run/pusher-agent/api\.sock are the same host"):
        load({"host": ["here", "unix:/run/pusher-agent/api.sock"]}, environment={}, start=file.parent)


def test_a_variable_can_name_several_hosts(tmp_path: Path) -> None:
    environment = {"PUSHER_HOST": "web1  http://127.0.0.1:9000"}
    settings = load({"host": None}, environment=environment, start=tmp_path)
    assert [host.address for host in settings.chosen] == [Ssh("web1"), Loopback("127.0.0.1", 9000)]


def test_another_file_can_be_named(tmp_path: Path, file: Path) -> None:
    for flags, environment in (({"config": str(file)}, {}), ({}, {"PUSHER_CONFIG": str(file)})):
        assert load(flags, environment=environment, start=tmp_path / "..").app == "from-file"
    with pytest.raises(Usage, match=r"none\.toml cannot be read: No such file"):
        load({"config": str(tmp_path / "none.toml")}, environment={})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ap = 'x'", r"unknown key 'ap'\. Did you mean 'app'\?"),
        ("sources = 'x'", r"unknown key 'sources'\. Did you mean 'source'\?"),
        (
            "zzz = 'x'",
            r"unknown key 'zzz'\. Known keys here: app, source, root, key, ssh, keep_open_s, repository",
        ),
        ("address = 'x'", r"unknown key 'address'\. It belongs into a table \[hosts\.NAME\]"),
        (
            "[hosts.web1]\nadress = 'x'",
            r"unknown key 'hosts\.web1\.adress'\. Did you mean 'hosts\.web1\.address'\?",
        ),
        (
            "[hosts.web1]\nssh = 'x'",
            r"unknown key 'hosts\.web1\.ssh'\. It belongs before the first \[hosts\.NAME\]",
        ),
        ("[hosts.web1]\ndoor = '127.0.0.1:9000'", r"\[hosts\.web1\] has no address\. For example"),
        ("[hosts.web1]\naddress = '-x'", r"hosts\.web1: '-x' is not a valid address of a host"),
        ("[hosts.web1]\naddress = 'x'\ndoor = '0.0.0.0:1'", r"hosts\.web1: door '0\.0\.0\.0:1' is not a loopback"),
        ("[hosts]\nweb1 = 'x'", r"hosts\.web1 is not a table\. Write \[hosts\.web1\]"),
        ("app = 1", r"'app' is 1: it must be text in quotes"),
        ("hosts = 'web1'", r"'hosts' is 'web1': it must be a list of names"),
        ("app = ", "is not TOML"),
        ("app = '\xff'", "is not TOML"),
        (f"app = {'[' * 9999}", "is not TOML"),
        ('ssh = "a\\u0000b"', r"'ssh' is 'a\\x00b': a path, command or address cannot contain NUL"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pusher.toml").write_text(text, "latin-1")
    with pytest.raises(Usage, match=rf"pusher\.toml.*{message}"):
        load({}, environment={}, start=tmp_path)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to somebody else")
def test_a_file_of_another_user_is_not_used(tmp_path: Path) -> None:
    inner = tmp_path / "mine"
    inner.mkdir()
    file = tmp_path / "pusher.toml"
    file.write_text('ssh = "touch owned"')
    os.chown(file, 12345, 12345)
    with pytest.raises(Usage, match=r"pusher\.toml is not used: it belongs to another user \(uid 12345\)"):
        find(inner)
    # In a folder of another user, that user's file is used.
    os.chown(inner, 12345, 12345)
    assert find(inner) == file


def test_an_unreadable_folder_has_no_file(as_nobody: Path) -> None:
    inner = as_nobody / "closed/inner"
    inner.mkdir(parents=True)
    (as_nobody / "pusher.toml").write_text(TOML)
    (as_nobody / "closed").chmod(0)
    # As `sudo -u deploy pusher status` in a folder of root's.
    assert find(inner) == as_nobody / "pusher.toml"
    (as_nobody / "closed").chmod(0o755)


def test_a_deleted_working_directory_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(
        Usage, match=r"The working directory does not exist any more: No such file.* with --config"
    ):
        load({}, environment={})


def test_a_connection_is_kept_open_only_if_the_settings_say_for_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder that ssh takes for `~`, which is never $HOME."""
    (tmp_path / "other/.ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    own = pwd.struct_passwd(("me", "x", os.getuid(), 0, "", str(tmp_path), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: own)
    (tmp_path / "pusher.toml").write_text("ssh = 'ssh -F x'\n")
    assert load({}, environment={}, start=tmp_path).ssh == "ssh -F x"
    (tmp_path / "pusher.toml").write_text("ssh = 'ssh -F x'\nkeep_open_s = 60\n")
    assert load({}, environment={}, start=tmp_path).ssh == "ssh -F x"  # there is no ~/.ssh
    (tmp_path / ".ssh").mkdir()
    kept = "-o ControlMaster=auto -o ControlPath=~/.ssh/pusher-%C -o ControlPersist=60"
    assert load({}, environment={}, start=tmp_path).ssh == f"ssh -F x {kept}"
    assert load({}, environment={"PUSHER_KEEP_OPEN_S": "0"}, start=tmp_path).ssh == "ssh -F x"


@pytest.mark.parametrize("value", ["-1", "86401", "1.5", "x", "٣"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(Usage, match="a whole number from 0 to 86400"):
        load({}, environment={"PUSHER_KEEP_OPEN_S": value}, start=tmp_path)


@pytest.mark.parametrize("value", ["true", "'60'", "6.5"])
def test_a_time_in_the_file_must_be_a_whole_number(tmp_path: Path, value: str) -> None:
    (tmp_path / "pusher.toml").write_text(f"keep_open_s = {value}\n")
    with pytest.raises(Usage, match="it must be a whole number"):
        load({}, environment={}, start=tmp_path)
