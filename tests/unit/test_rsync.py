"""The arguments of rsync are right: by equality, and with the real rsync."""

from pathlib import Path

import pytest

from pusher.bundle.tree import read_tree
from pusher.errors import Unreachable, Usage
from pusher.transport import rsync
from pusher.transport.hosts import Host, Loopback, Ssh, Unix
from pusher.wire import DROP_MARK, Failed, Refused

OPTIONS = ("rsync", "-rlp", "--checksum", "--chmod=D2775,F664", "--stats", "--no-human-readable")


def test_its_arguments_are_those_of_the_documentation() -> None:
    argv = rsync.tree_argv(Path("/tmp/x/tree"), "web1:/drop", shell="ssh -p 22", hidden=Path("/tmp/h"))
    assert argv == (
        *(*OPTIONS, "--relative", "--delete", "--from0", "--filter=merge /tmp/h"),
        *("-e", "ssh -p 22", "--", "/tmp/x/./tree/", "web1:/drop/"),
    )
    mark = rsync.mark_argv("web1:/drop", shell="ssh -p 22")
    assert mark == ("rsync", "--list-only", "-e", "ssh -p 22", "--", "web1:/drop/.pusher-drop")
    assert rsync.files_argv([Path("a"), Path("-b")], "/drop", shell="") == (*OPTIONS, "--", "a", "-b", "/drop/")


@pytest.mark.parametrize(
    ("address", "target", "shell"),
    [
        (Ssh("web1"), "web1:/drop/x", "ssh -F c"),
        (Ssh("web1", "deploy", 2222), "deploy@web1:/drop/x", "ssh -F c -p 2222"),
        (Ssh("2001:db8::1"), "[2001:db8::1]:/drop/x", "ssh -F c"),
        (Unix("/run/x.sock"), "/drop/x", ""),
        (Loopback("127.0.0.1", 9000), "/drop/x", ""),
    ],
)
def test_a_host_is_named_as_rsync_and_ssh_do(address: Ssh | Unix | Loopback, target: str, shell: str) -> None:
    host = Host("web1", address)
    assert rsync.target(host, "/drop/x") == target
    assert rsync.remote_shell(host, ssh="ssh -F c", may_ask=True) == shell
    silent = rsync.remote_shell(host, ssh="ssh", may_ask=False)
    assert ("BatchMode=yes" in silent) is isinstance(address, Ssh)


@pytest.mark.parametrize("path", ["drop", "/drop/$(reboot)", "/drop x", "/drop;x", "-e", ""])
def test_a_path_with_a_meaning_to_a_shell_is_refused(path: str) -> None:
    with pytest.raises(Usage, match="not a plain absolute path"):
        rsync.target(Host("web1", Ssh("web1")), path)


def test_ignored_files_are_hidden_whatever_their_names(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    names = ("a*b", "a[x]", "back\\slash", "back\\sl[a]sh", " lead", "new\nline", "plain", "deep/er/plain", "ü")
    for name in names:
        for kind, there in (("goes", "in"), ("stays", "out")):
            path = source / kind / name / there
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            (path.parent / "x.pyc").write_text("stays")
        (source / f"{name.replace('/', '-')}.pyc").write_text("stays")
    (source / ".pusherignore").write_text("/stays/\n")
    tree = read_tree(source)
    (target / "tree/stays").mkdir(parents=True)
    (target / "tree/stays/old").touch()
    (target / "tree/gone").touch()
    (target / "beside").touch()
    rules = tmp_path / "rules"
    rules.write_bytes(b"".join(rsync.hidden(source, [entry.path for entry in tree.entries], name="tree")))
    argv = rsync.tree_argv(named(source, tmp_path), str(target), shell="", hidden=rules)
    travelled = rsync.run(argv, Host("here", Unix("/x")))
    assert travelled.files == len(tree.entries) >= len(names)
    assert travelled.sent > 0
    lying = {str(one.relative_to(target)) for one in target.rglob("*") if one.is_file()}
    assert lying == {"beside", *(f"tree/{entry.path}" for entry in tree.entries)}
    assert rsync.run(argv, Host("here", Unix("/x"))).files == 0


def named(source: Path, folder: Path) -> Path:
    """A link to what travels, with the name that it is to have."""
    (folder / "tree").symlink_to(source)
    return folder / "tree"


def test_a_link_in_the_place_of_the_folder_is_replaced_and_not_followed(tmp_path: Path) -> None:
    for folder in ("source", "drop", "victim"):
        (tmp_path / folder).mkdir()
    (tmp_path / "source/app.py").touch()
    (tmp_path / "victim/thesis").touch()
    (tmp_path / "drop/tree").symlink_to(tmp_path / "victim")
    (tmp_path / "none").touch()
    argv = rsync.tree_argv(
        named(tmp_path / "source", tmp_path), str(tmp_path / "drop"), shell="", hidden=tmp_path / "none"
    )
    rsync.run(argv, Host("here", Unix("/x")))
    assert [one.name for one in (tmp_path / "victim").iterdir()] == ["thesis"]
    assert [one.name for one in (tmp_path / "drop/tree").iterdir()] == ["app.py"]


def test_without_a_mark_nothing_is_dropped(tmp_path: Path) -> None:
    host = Host("web1", Ssh("web1"))
    with pytest.raises(Refused, match="Nothing is dropped on web1: the drop directory there has no mark"):
        rsync.check_mark(rsync.mark_argv(str(tmp_path), shell=""), host)
    (tmp_path / DROP_MARK).touch()
    rsync.check_mark(rsync.mark_argv(str(tmp_path), shell=""), host)
    with pytest.raises(Unreachable, match="rsync cannot reach web1"):
        rsync.check_mark(rsync.mark_argv("web1:/x", shell="false"), host)


def test_a_shell_that_prints_something_is_not_taken_for_a_missing_mark(tmp_path: Path) -> None:
    chatty = tmp_path / "shell"
    chatty.write_text('#!/bin/sh\necho Welcome to web1!\nshift\nexec "$@"\n')
    chatty.chmod(0o755)
    with pytest.raises(Unreachable, match="something there writes before rsync does"):
        rsync.check_mark(rsync.mark_argv("web1:/x", shell=str(chatty)), Host("web1", Ssh("web1")))


def test_the_exit_status_of_rsync_decides_the_error(tmp_path: Path) -> None:
    host = Host("web1", Ssh("web1"))
    with pytest.raises(Failed, match="exit status 23"):
        rsync.run(rsync.files_argv([tmp_path / "nothing"], str(tmp_path), shell=""), host)
    (tmp_path / "file").touch()
    with pytest.raises(Unreachable, match="rsync cannot reach web1"):
        rsync.run(rsync.files_argv([tmp_path / "file"], "web1:/x", shell="false"), host)
    with pytest.raises(Usage, match="cannot be run"):
        rsync.run(("/nothing/rsync",), host)
    assert rsync.run(("true",), host) == (0, 0)
