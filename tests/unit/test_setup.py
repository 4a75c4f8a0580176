"""What `pusher setup` would do, and what `pusher doctor` finds, follows from what a server says."""

import os
import pwd
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pusher.bundle.sign import public_key
from pusher.commands.setup import own_name
from pusher.config import Settings
from pusher.errors import Unreachable, Usage
from pusher.setup.examination import examine
from pusher.setup.facts import PROBE, Facts, parse_facts
from pusher.setup.findings import Finding, of_check, of_host, of_index
from pusher.setup.package import Package, checkout, read_package
from pusher.setup.plan import Wanted, check_possible, plan, script
from pusher.setup.remote import Remote
from pusher.transport.hosts import Host, Ssh, Unix
from pusher.wire import Refused
from tests.host import make_key
from tests.unit.scripted_agent import Run

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEXAMPLEKEYEXAMPLE me@laptop"
PACKAGE = Package(path=Path("/srv/agent.deb"), version="0.2.0", architecture="amd64", python="3.11")
BARE = Facts(
    system="Debian GNU/Linux 12 (bookworm)",
    family=("debian",),
    architecture="amd64",
    python="3.11",
    systemd=252,
    booted=True,
    user="deploy",
    groups=("deploy", "sudo"),
    hostname="web1",
    sudo=True,
    sudo_free=True,
)
UNITS = (("pusher-agent.socket", "active"), ("pusher-agent.service", "active"))
READY = replace(
    BARE,
    installed="0.2.0",
    groups=("deploy", "pusher"),
    signers=(f'me@laptop namespaces="pusher-release" {KEY}',),
    apps=("shop",),
    units=UNITS,
    disks=(("/opt", 40_000_000, 20_000_000),),
    resolvers=1,
    itself="127.0.1.1",
    agent_name="127.0.0.1",
)
WANTED = Wanted(package=PACKAGE, key=KEY, signer="me@laptop", app="shop", options=("--health", "/it's up"))


def refusal(facts: Facts, wanted: Wanted = WANTED, *, may_ask: bool = False) -> str:
    with pytest.raises(Refused) as found:
        check_possible(facts, wanted, host="web1", may_ask=may_ask)
    return str(found.value)


def test_a_bare_server_needs_everything_in_this_order():
    check_possible(BARE, WANTED, host="web1", may_ask=False)
    actions = plan(BARE, WANTED)
    assert [one.words for one in actions] == [
        "install the agent 0.2.0 (agent.deb)",
        f"trust your key ssh-ed25519 ...{KEY.split()[1][-12:]}, as me@laptop",
        "add deploy to group pusher",
        "add the app shop --health '/it'\"'\"'s up'",
    ]
    assert not any(one.done for one in actions)
    text = script(actions, strict=True)
    assert "quiet pusher-agent trust key.pub --as me@laptop\n" in text
    assert "usermod --append --groups pusher deploy\n" in text
    assert "quiet pusher-agent app add shop --health '/it'\"'\"'s up'\n" in text
    assert text.endswith('exit "$code"\n')
    assert script(actions, strict=False).endswith("exit 0\n")
    subprocess.run(("sh", "-n"), input=text, text=True, check=True)


def test_a_server_that_is_ready_needs_nothing():
    actions = plan(READY, WANTED)
    assert all(one.done for one in actions)
    assert [one.words.split(":")[0] for one in actions] == [
        "the agent is installed", "your key is trusted", "deploy is in group pusher",
        "the app shop is there; its file stays as it is",
    ]  # fmt: skip
    assert "usermod" not in script(actions, strict=True)


def test_an_older_agent_is_upgraded_and_a_newer_one_stays():
    older = replace(READY, installed="0.1.0", older=True)
    assert plan(older, WANTED)[0].words == "upgrade the agent from 0.1.0 to 0.2.0 (agent.deb)"
    newer = plan(replace(READY, installed="0.3.0", newer=True), WANTED)[0]
    assert (newer.done, newer.words) == (True, "the agent is installed: 0.3.0, which is newer than 0.2.0")
    without = plan(READY, replace(WANTED, package=None, app=""))
    assert without[0].words == "the agent is installed: 0.2.0"
    assert len(without) == 3
    assert plan(replace(BARE, root=True), WANTED)[2].words == "root may deploy"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"family": ("fedora",), "architecture": "", "system": "Fedora 41"}, "web1 is no Debian: it says"),
        ({"booted": False}, "web1 cannot run the agent's units: it runs another process 1"),
        ({"systemd": 247}, "it runs systemd 247"),
        ({"systemd": 0, "booted": False}, "it runs no systemd"),
        ({"sudo": False, "sudo_free": False}, "deploy cannot become root on web1: it has no sudo"),
        ({"sudo_free": False}, "sudo wants a password, and there is no terminal to ask at"),
        ({"architecture": "arm64"}, "it is for amd64, and web1 is arm64"),
        ({"python": "3.13"}, "it is for Python 3.11, and Debian GNU/Linux 12 (bookworm) has 3.13"),
        ({"python": ""}, "has none in /usr/bin"),
    ],
)  # fmt: skip
def test_what_is_in_the_way_is_named(changes: dict[str, Any], words: str):
    said = refusal(replace(BARE, **changes))
    assert words in said
    assert "Nothing was changed" in said


def test_a_person_at_a_terminal_may_be_asked_for_a_password():
    check_possible(replace(BARE, sudo_free=False), WANTED, host="web1", may_ask=True)
    check_possible(replace(BARE, root=True, sudo=False, sudo_free=False), WANTED, host="web1", may_ask=False)


def test_without_a_package_an_installed_agent_is_enough():
    wanted = replace(WANTED, package=None)
    check_possible(READY, wanted, host="web1", may_ask=False)
    assert "there is no package to install" in refusal(BARE, wanted)


def test_a_key_is_trusted_for_releases_only_by_a_line_for_them():
    assert READY.trusts(KEY)
    assert not BARE.trusts(KEY)
    assert not replace(READY, signers=(f"# {KEY}",)).trusts(KEY)
    assert not replace(READY, signers=(f'me namespaces="pusher-channel" {KEY}',)).trusts(KEY)
    assert not READY.trusts("ssh-ed25519 AAAAOTHER")


def test_the_probe_runs_in_a_posix_shell_and_says_what_is_so_here():
    done = subprocess.run(("sh", "-s", "--", "0.1.0"), input=PROBE, capture_output=True, text=True, check=True)
    facts = parse_facts(done.stdout)
    assert facts.user
    assert facts.time
    assert facts.root == (os.geteuid() == 0)
    assert {place for place, size, room in facts.disks if size and room} >= {"/opt", "/tmp"}


def test_lies_of_a_server_are_text_and_no_facts():
    facts = parse_facts(
        "nonsense\nsystemd=252\ntime=9999999999999999999\ndisk=/opt x\ndisk=/opt a b\nunit=x\n=1\n"
    )
    assert (facts.systemd, facts.time, facts.disks, facts.units) == (252, 0, (("/opt", 0, 0),), (("x", ""),))


UNKNOWN = "and the agent does not know it"


def found(facts: Facts, *, key: str = KEY, ahead_s: float = 0) -> list[Finding]:
    return list(of_host(facts, host="web1", key=key, own="0.2.0", ahead_s=ahead_s))


def bad(facts: Facts, **more: Any) -> list[str]:
    return [one.sentence for one in found(facts, **more) if not one.well]


def test_a_host_that_is_well_has_no_bad_finding_and_each_bad_one_says_what_to_do():
    assert bad(READY) == []
    everything = replace(
        READY, groups=(), signers=(), apps=(), agent_name="192.0.2.1", itself="", resolvers=0, proxy="http://p:3128",
        units=(("pusher-agent.socket", "inactive"), ("other.service", "")), disks=(("/opt", 40_000_000, 10_000),),
    )  # fmt: skip
    assert all(one.todo for one in found(everything, ahead_s=900) if not one.well)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"installed": ""}, "no agent is installed there"),
        ({"older": True, "installed": "0.1.0"}, "its agent is 0.1.0, older than this pusher (0.2.0)"),
        ({"newer": True, "installed": "0.3.0"}, "its agent is 0.3.0, newer than this pusher (0.2.0)"),
        ({"units": (("polkit.service", "masked"),)}, "polkit.service is masked"),
        ({"failed": ("shop.service", "cups.service")}, "shop.service has failed"),
        ({"groups": ()}, "deploy is not in group pusher"),
        ({"signers": ()}, "your key is not trusted there"),
        ({"apps": ()}, "it has no app"),
        ({"agent_name": ""}, "the name agent is not known there"),
        ({"agent_name": "192.0.2.1"}, "the name agent leads to 192.0.2.1"),
        ({"itself": ""}, "its own name web1 is not found"),
        ({"resolvers": 0}, "no name server is in /etc/resolv.conf"),
        ({"disks": (("/opt", 40_000_000, 400_000),)}, "/opt has 0.4 GiB of 38.1 GiB left"),
        ({"proxy": "http://p", "no_proxy": "agent"}, f"people there use the proxy http://p, {UNKNOWN}"),
        ({"proxy": "http://p", "agent_proxy": "http://p"}, "curl agent:9000 goes to the proxy there"),
    ],
)  # fmt: skip
def test_each_thing_that_is_wrong_is_one_finding(changes: dict[str, Any], words: str):
    assert bad(replace(READY, **changes)) == [words]


def test_a_clock_that_differs_is_named_and_one_that_is_late_has_consequences():
    assert bad(READY, ahead_s=20) == []
    assert bad(READY, ahead_s=90) == ["its clock is 90 s ahead of yours"]
    assert bad(READY, ahead_s=-90) == ["its clock is 90 s behind yours"]
    assert bad(READY, ahead_s=-600) == [
        "its clock is 10 min behind yours, so it refuses bundles as from the future"
    ]
    assert bad(READY, ahead_s=86_399.6) == ["its clock is 24 h ahead of yours"]
    assert bad(READY, ahead_s=400 * 86_400) == ["its clock is 400 days ahead of yours"]
    assert bad(READY, key="") == []


def test_the_check_of_the_host_is_repeated_line_by_line():
    assert [one.well for one in of_check("ok    a\nok    b\n", root=True)] == [True]
    lines = list(of_check("ok    a\nBAD   b is gone; make it\nBAD   c\n", root=True))
    assert lines == [
        Finding("b is gone", "make it", well=False),
        Finding("c", "See: sudo pusher-agent check, there", well=False),
    ]
    assert [one.well for one in of_check("sh: not found\n", root=True)] == [False]
    assert "was not asked" in next(iter(of_check("", root=False))).sentence


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("error: dns error", "/etc/resolv.conf"),
        ("invalid peer certificate: UnknownIssuer", "update-ca-certificates"),
        ("tunnel error: connection refused " * 20, "Behind a proxy"),
    ],
)
def test_an_index_that_does_not_answer_is_explained(said: str, words: str):
    one = of_index(said, index="https://index.example.com/simple")
    assert not one.well
    assert one.sentence.startswith("https://index.example.com/simple does not answer there: ")
    assert words in one.todo
    assert len(one.sentence) < 300


def test_an_index_that_answers_is_well():
    assert of_index("ok\n", index="") == Finding("the default package index answers there")
    assert "is not known" in of_index("", index="").sentence


def test_an_index_that_wants_a_login_answers():
    one = of_index("HTTP status client error (401 Unauthorized) for url", index="https://index.example.com/simple")
    assert one.well
    assert one.sentence == "https://index.example.com/simple answers there, and wants a login"
    assert "credentials_file" in one.todo


def test_an_index_that_has_no_pip_answers_all_the_same():
    """An index of one's own has what its apps need, and no more."""
    said = (
        "error: No solution found when resolving dependencies cause: Because pip was not found in the package "
        "registry and you require pip, we can conclude that your requirements are unsatisfiable."
    )
    one = of_index(said, index="https://index.example.com/simple")
    assert one.well
    assert one.sentence == "https://index.example.com/simple answers there, and has no pip"
    assert one.todo.endswith("/simple")


@pytest.mark.parametrize(
    ("lines", "indexes"),
    [
        ("", ("",)),
        ("app=a\nindex=\napp=b\nindex=https://own.example.com\napp=c\nindex=\n", ("", "https://own.example.com")),
        ("app=a\n", ()),
    ],
    ids=["a host without apps will ask the default one", "each once", "an app that asks no index needs none"],
)
def test_the_indexes_of_a_host_are_those_of_its_apps(lines: str, indexes: tuple[str, ...]):
    assert parse_facts(lines).indexes == indexes


def test_a_package_is_what_its_control_file_says(tmp_path: Path):
    control = tmp_path / "tree/DEBIAN/control"
    control.parent.mkdir(parents=True)
    text = "Package: {name}\nVersion: 0.2.0\nArchitecture: amd64\nMaintainer: x <x@y>\nDescription: x\n"
    for name, python in (("pusher-agent", "3.11"), ("other", "")):
        depends = f"Depends: python3 (>= {python}~), systemd (>= 252)\n" if python else ""
        control.write_text(text.format(name=name) + depends)
        for form in ("gzip", "none", "xz"):
            argv = ("dpkg-deb", f"-Z{form}", "--build", tmp_path / "tree", tmp_path / f"{name}-{form}.deb")
            subprocess.run(argv, check=True, capture_output=True)
    for form in ("gzip", "none", "xz"):
        file = tmp_path / f"pusher-agent-{form}.deb"
        assert read_package(file) == Package(path=file, version="0.2.0", architecture="amd64", python="3.11")
    with pytest.raises(Usage, match="is the package 'other'"):
        read_package(tmp_path / "other-gzip.deb")
    heads = (b"control.tar/".ljust(48) + b"99999999999`\n", b"x".ljust(48) + b"-60".ljust(10) + b"`\n")
    for broken in (b"", b"PK", b"!<arch>\n", *(b"!<arch>\n" + head for head in heads)):
        (tmp_path / "broken.deb").write_bytes(broken)
        with pytest.raises(Usage, match="is no Debian package"):
            read_package(tmp_path / "broken.deb")
    with pytest.raises(Usage, match="cannot be read: No such file"):
        read_package(tmp_path / "none.deb")
    assert checkout() == Path(__file__).parents[2]


def remote(folder: Path, script: str) -> Remote:
    """A server whose ssh is a script, which gets the words of ssh."""
    program = folder / "ssh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Remote(Host("web1", Ssh("web1")), ssh=str(program))


LOCAL = 'while [ "$1" != -- ]; do shift; done; shift; exec sh -c "$*"'


def test_files_travel_into_a_folder_of_the_user_alone(tmp_path: Path):
    here = remote(tmp_path, LOCAL)
    assert here.ask('echo "$1"', "it's $HOME") == "it's $HOME\n"
    folder = Path(here.put({"a": b"1", "b": b"2"}))
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == {"a": b"1", "b": b"2"}
    assert folder.stat().st_mode & 0o077 == 0
    for one in (*folder.iterdir(),):
        one.unlink()
    folder.rmdir()


def test_what_a_shell_prints_when_it_starts_is_no_answer(tmp_path: Path):
    chatty = remote(tmp_path, f"echo booted=yes; {LOCAL}")
    assert chatty.ask("echo ok") == "ok\n"
    folder = Path(chatty.put({"a": b"1"}))
    (folder / "a").unlink()
    folder.rmdir()


def test_a_server_that_answers_nonsense_is_not_believed(tmp_path: Path):
    with pytest.raises(Unreachable, match="could not take the files"):
        remote(tmp_path, "cat >/dev/null; echo '/tmp/x; rm -rf /'").put({"a": b"1"})
    with pytest.raises(Unreachable, match="web1 cannot be reached by ssh"):
        remote(tmp_path, "exit 255").ask("true")
    with pytest.raises(Unreachable, match="web1 did not do it"):
        remote(tmp_path, "exit 3").ask("true")
    with pytest.raises(Unreachable, match="did not answer"):
        remote(tmp_path, "exec sleep 30").ask("true", patience_s=0.2)
    with pytest.raises(Usage, match="is not reached by ssh"):
        Remote(Host("here", Unix("/run/x.sock")), ssh="ssh")
    gone = Remote(Host("web1", Ssh("web1")), ssh=str(tmp_path / "no"))
    for call in (lambda: gone.ask("true"), lambda: gone.see(("true",), terminal=False)):
        with pytest.raises(Usage, match="cannot be run"):
            call()


def test_nothing_is_left_on_a_server_where_the_files_find_no_room(tmp_path: Path):
    (tmp_path / "there").mkdir()
    full = remote(tmp_path, f"ulimit -f 1; export TMPDIR={tmp_path}/there; {LOCAL}")
    with pytest.raises(Unreachable, match="web1 did not do it"):
        full.put({"a": b"1" * 10_000})
    assert not [*(tmp_path / "there").iterdir()]


SERVER = """while [ "$1" != -- ]; do shift; done; shift
case "$*" in
'sh -s -- 0.2.0')
    cat >/dev/null
    echo '-- the answer --'
    for fact in family=debian architecture=all systemd=252 booted=yes installed=0.2.0; do echo "$fact"; done
    for fact in user=me sudo=yes sudo_free=yes; do echo "$fact"; done ;;
sudo*) echo 'sudo: 3 incorrect password attempts' >&2; exit 1 ;;
*) TMPDIR={there} exec sh -c "$*" ;;
esac"""


def test_nothing_is_left_on_a_server_where_sudo_refuses(
    tmp_path: Path, project: Path, pusher: Run, capfd: pytest.CaptureFixture[str]
):
    (there := tmp_path / "there").mkdir()
    remote(tmp_path, SERVER.replace("{there}", str(there)))
    control = tmp_path / "tree/DEBIAN/control"
    control.parent.mkdir(parents=True)
    control.write_text(
        "Package: pusher-agent\nVersion: 0.2.0\nArchitecture: all\nMaintainer: x <x@y>\nDescription: x\n"
    )
    subprocess.run(("dpkg-deb", "--build", tmp_path / "tree", tmp_path / "a.deb"), check=True, capture_output=True)
    words = ("--host", "web1", "--ssh", f"{tmp_path}/ssh", "--package", f"{tmp_path}/a.deb", "--yes")
    assert pusher("setup", *words) == 1
    said = capfd.readouterr()
    assert "trust your key" in said.out
    assert "sudo: 3 incorrect password attempts" in said.err
    assert not [*there.iterdir()]


def test_a_server_that_goes_away_in_the_middle_is_a_finding(tmp_path: Path, key: Path):
    """The first question is answered, the others are not."""
    answer = "cat >/dev/null; echo '-- the answer --'; echo installed=9"
    remote(tmp_path, f"case \"$*\" in *'sh -s -- '?*) {answer} ;; *) exit 255 ;; esac")
    settings = Settings(key=str(key), ssh=f"{tmp_path}/ssh")
    last = [*examine(settings, Host("web1", Ssh("web1")))][-1]
    assert (last.well, last.sentence) == (
        False,
        "web1 cannot be reached by ssh: ssh ended with exit status 255; its message is above",
    )


def test_a_user_without_a_name_is_told_to_say_one(monkeypatch: pytest.MonkeyPatch):
    def nobody(uid: int) -> None:
        raise KeyError("uid not found")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(Usage, match=r"You have no name here .*: --as WHO"):
        own_name()


def test_the_public_half_of_the_key_that_signs_is_found(tmp_path: Path):
    key = tmp_path / "id"
    make_key(key)
    public = key.with_suffix(".pub").read_text().strip()
    assert public_key(str(key)) == public
    assert public_key(str(key.with_suffix(".pub"))) == public
    key.with_suffix(".pub").unlink()
    assert public_key(str(key)).split()[:2] == public.split()[:2]
    key.with_suffix(".pub").write_text("nothing\n")
    with pytest.raises(Usage, match=r"The public half of .* is not known"):
        public_key(str(key))
