"""A fleet's inventory and reports: who is believed, who is missed, and what a script may rely on."""

import asyncio
import json
import shutil
import subprocess
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from agent.core.config.app import Subscribe
from agent.host.channel.identity import Identity
from agent.host.channel.local_folder import LocalFolder
from agent.host.storage.disk import Disk
from pusher.config import Settings
from pusher.errors import Usage
from pusher.fleet import host_key
from pusher.fleet.host_key import is_signed, public_bytes
from pusher.fleet.inventory import Member, adopt, read_inventory
from pusher.fleet.reports import Heard
from pusher.fleet.standing import Place, exit_code, is_unwell
from pusher.fleet.survey import survey
from pusher.wire import Code, Failed
from pusher.wire.channel import Rollout, join_signed, report_name
from pusher.wire.report import REPORT_NAMESPACE, Named
from tests.host import make_key
from tests.publishing import APP, Publisher
from tests.reporting import NOW, Reporting, check_report
from tests.subscribed_host import PatientClock, SubscribedHost, following
from tests.unit.scripted_agent import Run

V2 = "0b" * 32


@pytest.fixture(scope="module")
def web1(tmp_path_factory: pytest.TempPathFactory) -> Reporting:
    return Reporting(tmp_path_factory.mktemp("hosts"), "web1")


@pytest.fixture(scope="module")
def web2(tmp_path_factory: pytest.TempPathFactory) -> Reporting:
    return Reporting(tmp_path_factory.mktemp("hosts"), "web2")


@pytest.fixture
def publisher(project: Path, key: Path) -> Publisher:
    """A repository with v1, and the project's settings for it."""
    with (project / "pusher.toml").open("a") as file:
        file.write('repository = "repo"\n')
    return Publisher(project / "repo", key=key)


def put(publisher: Publisher, host: Reporting, content: bytes) -> None:
    path = publisher.folder / report_name(APP, host.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_hosts_key_is_made_once_and_signs_reports_alone(tmp_path: Path) -> None:
    host = Reporting(tmp_path, "web9")
    before = host.identity.public()
    host.identity.ensure()
    assert host.identity.public() == before
    assert before.split()[2] == "web9"
    assert (tmp_path / "web9").stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*.fresh*"))
    signature = host.identity.sign(b"document")
    assert is_signed(b"document", signature, key=host.member.key)
    with pytest.raises(Failed, match="no key of its own"):
        Identity(tmp_path / "none", host="x", disk=Disk()).public()
    with pytest.raises(Failed, match="could not be used"):
        Identity(tmp_path / "none", host="x", disk=Disk()).sign(b"")


@pytest.mark.parametrize("library", ["the system's", "PyNaCl's", "libcrypto", "none"])
def test_only_the_signature_of_this_key_over_this_document_counts(
    web1: Reporting, web2: Reporting, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With each library, and without any."""
    bundled = find_spec("nacl._sodium")
    assert bundled
    files = {"the system's": "libsodium.so.23", "PyNaCl's": bundled.origin}
    monkeypatch.setattr(host_key, "sodium_files", lambda: [files.get(library, "libnone.so")])
    if library == "none":
        monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    host_key.forget_library()
    document = b'{"a":1}'
    good = web1.identity.sign(document)
    assert is_signed(document, good, key=web1.member.key)
    for raw in (document + b" ", b""):
        assert not is_signed(raw, good, key=web1.member.key)
    assert not is_signed(document, good, key=web2.member.key)
    assert not is_signed(document, web2.identity.sign(document), key=web1.member.key)
    for wrong in (
        b"",
        good[:-1],
        good + b"\n",
        good + good,
        good.replace(b"A", b"B", 3),
        good[:60] + good[61:],
        b"x",
    ):
        assert not is_signed(document, wrong, key=web1.member.key)
    host_key.forget_library()


def test_a_signature_for_another_purpose_does_not_count(tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    key = public_bytes((tmp_path / "key.pub").read_text().split()[1])
    for namespace, counts in ((REPORT_NAMESPACE, True), ("pusher-release", False)):
        argv = ("ssh-keygen", "-Y", "sign", "-q", "-n", namespace, "-f", str(tmp_path / "key"))
        made = subprocess.run(argv, input=b"x", capture_output=True, check=True).stdout
        assert is_signed(b"x", made, key=key) is counts


def test_a_host_is_adopted_by_the_line_that_it_prints(tmp_path: Path, web1: Reporting, web2: Reporting) -> None:
    file = tmp_path / "fleet.allowed"
    assert "belongs to the fleet" in adopt(file, web1.identity.public())
    assert "already" in adopt(file, web1.identity.public())
    adopt(file, web2.identity.public(), name="other")
    assert [one.name for one in read_inventory(file)] == ["other", "web1"]
    with pytest.raises(Usage, match="another key"):
        adopt(file, web2.identity.public(), name="web1")


@pytest.mark.parametrize(
    "public", ["", "ssh-rsa AAAA web1", "ssh-ed25519 AAAA web1", "ssh-ed25519 !!!! web1", "ssh-ed25519"]
)
def test_what_is_no_hosts_key_is_not_adopted(tmp_path: Path, public: str) -> None:
    with pytest.raises(Usage):
        adopt(tmp_path / "fleet.allowed", public)
    assert not (tmp_path / "fleet.allowed").exists()


@pytest.mark.parametrize(
    "text",
    ["", "# nobody\n", "web1\n", 'web1 namespaces="pusher-release" ssh-ed25519 KEY\n', "web1 ssh-ed25519 KEY\n",
     'web1 namespaces="pusher-report" ssh-ed25519 AAAA\n', '../x namespaces="pusher-report" ssh-ed25519 KEY\n',
     "TWICE"],
)  # fmt: skip
def test_an_inventory_that_cannot_be_used_is_no_empty_fleet(tmp_path: Path, web1: Reporting, text: str) -> None:
    key = web1.identity.public().split()[1]
    line = f'web1 namespaces="pusher-report" ssh-ed25519 {key}\n'
    (tmp_path / "fleet").write_text(line * 2 if text == "TWICE" else text.replace("KEY", key))
    with pytest.raises(Usage):
        read_inventory(tmp_path / "fleet")


@pytest.mark.parametrize(
    "members", [{"host": "web2"}, {"app": "other"}, {"channel": "beta"}], ids=["host", "app", "channel"]
)
def test_a_report_about_something_else_does_not_count(web1: Reporting, members: dict[str, str]) -> None:
    assert check_report(web1.signed(**members), web1.member, app=APP, channel="stable").report is None
    assert check_report(web1.signed(), web1.member, app=APP, channel="stable").report


@pytest.mark.parametrize("content", [b"", b"{}", b"{}\n{}", b"x" * 20_000])
def test_what_is_no_report_does_not_count(web1: Reporting, content: bytes) -> None:
    assert check_report(content, web1.member, app=APP, channel="stable").why


def test_a_signed_report_of_another_form_does_not_count(web1: Reporting) -> None:
    content = join_signed(b'{"schema":2}', web1.identity.sign(b'{"schema":2}'))
    assert "cannot be read" in check_report(content, web1.member, app=APP, channel="stable").why


@pytest.fixture
def adopted(project: Path, web1: Reporting, web2: Reporting) -> Path:
    file = project / "fleet.allowed"
    for one in (web1, web2):
        (project / f"{one.name}.pub").write_text(one.identity.public())
        adopt(file, one.identity.public())
    return file


def status(pusher: Run, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = pusher("fleet", "status", *words)
    return code, capsys.readouterr().out


def test_the_status_counts_every_host_of_the_inventory(
    pusher: Run,
    publisher: Publisher,
    adopted: Path,
    web1: Reporting,
    web2: Reporting,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = publisher.put({"app.py": "v1", "requirements.txt": ""}, "v1")
    publisher.name(target, rollout=Rollout(waves=(("web1",), 100)))
    wanted = Named(target.release.manifest, "v1")
    good = {"live": wanted, "wanted": wanted, "attempt": 1}
    code, out = status(pusher, capsys)
    assert code == 5
    assert "silent (2):" in out
    assert "web1  it never reported" in out
    put(publisher, web1, web1.signed(**good))
    put(publisher, web2, web2.signed(**good, state="waiting", awaited="wave"))
    code, out = status(pusher, capsys)
    assert code == 1
    assert "flask-demo stable: v1, wave 1 of 2 is open" in out
    put(publisher, web2, web2.signed(**good))
    assert status(pusher, capsys)[0] == 0
    problem = {"code": "app_exited", "title": "It ended", "detail": "exit code 3"}
    put(publisher, web2, web2.signed(**good | {"live": None}, state="failed", problem=problem))
    code, out = status(pusher, capsys)
    assert code == 1
    assert "web2  It ended: exit code 3" in out
    put(publisher, web2, web2.signed(**good, state="held"))
    assert status(pusher, capsys)[0] == 4
    put(publisher, web2, web2.signed(**good | {"wanted": Named(V2, "v0")}))
    code, out = status(pusher, capsys)
    assert (code, "unseen" in out) == (1, True)
    put(publisher, web2, web2.signed(**good, created=NOW - 7_200_000))
    code, out = status(pusher, capsys, "--state", "silent")
    assert code == 5
    assert "for 2 h\n" in out
    late = {"state": "refused", "problem": {"title": "Signed in the future", "detail": "here it is 2025"}}
    put(publisher, web2, web2.signed(**good | late, created=NOW - 7_200_000))
    assert "for 2 h; at last refused: Signed in the future: here it is 2025" in status(pusher, capsys)[1]
    put(publisher, web2, web1.signed(**good))
    code, out = status(pusher, capsys, "--json")
    assert code == 4
    first, second = map(json.loads, out.splitlines())
    assert (first["host"], first["state"], first["version"]) == ("web1", "current", "v1")
    assert (second["host"], second["state"]) == ("web2", "unproved")


async def test_a_host_that_cannot_use_the_newest_document_is_not_called_unseen(
    publisher: Publisher, project: Path, tmp_path: Path
) -> None:
    """It has seen it, and says why it does not follow. Exit code 4, and not the 1 of one that is on its way."""
    settings = Settings(app=APP, repository=str(publisher.folder), fleet=str(project / "fleet"))
    host = SubscribedHost(
        tmp_path / "web1",
        [LocalFolder(publisher.folder)],
        signers=tmp_path / "signers",
        clock=PatientClock(),
        settings=Subscribe(repository=["https://unused.example"]),
        reports=True,
    )

    def distrust() -> None:
        (tmp_path / "signers").write_text(f"x {(tmp_path / 'stranger.pub').read_text()}")

    def prepare() -> None:
        host.root.mkdir()
        host.identity.ensure()
        adopt(project / "fleet", host.identity.public())
        make_key(tmp_path / "stranger")
        distrust()

    await asyncio.to_thread(prepare)

    async def seen() -> Place:
        await host.polled(2)
        [place] = (await asyncio.to_thread(survey, settings, "stable")).places
        return place

    async with following(host):
        await publisher.publish({"app.py": "v1", "requirements.txt": ""}, "v1")
        await host.until("refused")
        place = await seen()
        assert (place.state, exit_code([place]), is_unwell(place)) == ("refused", 4, True)
        assert "; it knows no document" in place.why
        await asyncio.to_thread(publisher.trust, tmp_path / "signers")
        await host.until("current", version="v1")
        await asyncio.to_thread(distrust)
        await publisher.publish({"app.py": "v2", "requirements.txt": ""}, "v2")
        await host.until("refused")
        place = await seen()
        assert (place.state, place.version, exit_code([place])) == ("refused", "v1", 4)
        assert "; it knows an earlier document" in place.why
        await asyncio.to_thread(shutil.move, publisher.folder / "channels", tmp_path)
        await host.until("unreachable")
        await host.polled()
        await asyncio.to_thread(shutil.move, tmp_path / "channels", publisher.folder)
        [place] = (await asyncio.to_thread(survey, settings, "stable")).places
        assert (place.state, exit_code([place])) == ("unreachable", 5)


def test_a_status_without_a_channel_says_what_hosts_say(
    pusher: Run, publisher: Publisher, adopted: Path, web1: Reporting, capsys: pytest.CaptureFixture[str]
) -> None:
    put(publisher, web1, web1.signed())
    code, out = status(pusher, capsys)
    assert code == 5
    assert "current" in out


def test_hosts_that_are_adopted_at_the_same_time_are_all_there(tmp_path: Path, web1: Reporting) -> None:
    key = web1.identity.public().split()[1]
    file, start = tmp_path / "fleet.allowed", threading.Barrier(16)

    def add(at: int) -> None:
        start.wait()
        adopt(file, f"ssh-ed25519 {key} web{at}")

    threads = [threading.Thread(target=add, args=(at,)) for at in range(16)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(read_inventory(file)) == 16
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["fleet.allowed"]


def test_hosts_are_adopted_by_the_command(pusher: Run, project: Path, web1: Reporting) -> None:
    (project / "web1.pub").write_text(web1.identity.public())
    assert pusher("fleet", "adopt") == 2
    assert pusher("fleet", "status", "web1.pub") == 2
    assert pusher("fleet", "adopt", "none.pub") == 2
    assert pusher("fleet", "adopt", "web1.pub", "--name", "first") == 0
    assert [one.name for one in read_inventory(project / "fleet.allowed")] == ["first"]
    assert pusher("fleet", "status") == 2  # no repository is named


def test_a_thousand_hosts_fit_on_one_screen(
    pusher: Run, publisher: Publisher, project: Path, web1: Reporting, capsys: pytest.CaptureFixture[str]
) -> None:
    key = web1.identity.public().split()[1]
    lines = (f'web{at} namespaces="pusher-report" ssh-ed25519 {key}\n' for at in range(1_000))
    (project / "fleet.allowed").write_text("".join(lines))
    publisher.name(publisher.put({"app.py": "v1", "requirements.txt": ""}, "v1"))
    code, out = status(pusher, capsys)
    assert code == 5
    assert len(out.splitlines()) < 25
    assert "and 985 more" in out


async def test_a_host_reports_each_change_and_then_from_time_to_time(project: Path, publisher: Publisher) -> None:
    publisher.trust(project / "signers")
    host = SubscribedHost(
        project / "web1",
        [LocalFolder(publisher.folder)],
        signers=project / "signers",
        clock=PatientClock(),
        settings=Subscribe(repository=["https://unused.example"], labels={"zone": "eu"}, report_s=900),
        reports=True,
    )
    file = publisher.folder / report_name(APP, "web1")
    async with following(host):
        await publisher.publish({"app.py": "v1", "requirements.txt": ""}, "v1")
        await host.until("current", version="v1")
        await host.polled()
        key = public_bytes((await asyncio.to_thread(host.identity.public)).split()[1])

        async def reported() -> Heard:
            content = file.read_bytes()
            return await asyncio.to_thread(check_report, content, Member("web1", key), app=APP, channel="stable")

        heard = await reported()
        assert heard.report
        assert (heard.report.state, heard.report.labels) == ("current", {"zone": "eu"})
        assert heard.report.live == heard.report.wanted
        first = file.read_bytes()
        await host.polled(2)
        assert file.read_bytes() == first
        clock = host.clock
        assert isinstance(clock, PatientClock)
        clock.shift = 901_000
        await host.polled()
        assert file.read_bytes() != first
        host.bad = {"v2": Code.APP_UNHEALTHY}
        await publisher.publish({"app.py": "v2", "requirements.txt": ""}, "v2")
        await host.until("failed", version="v2")
        await host.polled()
        heard = await reported()
        assert heard.report
        assert heard.report.problem["code"] == "app_unhealthy"
        assert heard.report.live
        assert heard.report.live.version == "v1"


async def test_a_repository_that_takes_no_reports_keeps_nobody_from_deploying(
    project: Path, publisher: Publisher
) -> None:
    publisher.trust(project / "signers")
    host = SubscribedHost(
        project / "web1",
        [LocalFolder(publisher.folder)],
        signers=project / "signers",
        clock=PatientClock(),
        reports=True,
    )
    publisher.folder.mkdir()
    (publisher.folder / "reports").write_text("not a folder")
    async with following(host):
        await publisher.publish({"app.py": "v1", "requirements.txt": ""}, "v1")
        await host.until("current", version="v1")
        await host.polled()
        (publisher.folder / "reports").unlink()
        await host.polled()
        assert (publisher.folder / report_name(APP, "web1")).exists()
