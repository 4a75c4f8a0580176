"""Publishing into a folder: bundles first, the channel last, and nobody's word is lost."""

import json
import logging
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pusher.bundle.archive import write_bundle
from pusher.bundle.sign import sign
from pusher.commands import repository as repository_command
from pusher.config import load
from pusher.errors import Unreachable, Usage
from pusher.fleet.inventory import adopt
from pusher.fleet.survey import survey
from pusher.repository import channel as channel_module
from pusher.repository.address import open_repository
from pusher.repository.bell import ring
from pusher.repository.channel import Channels
from pusher.repository.folder import Folder
from pusher.repository.nats_bus import fetch_reports
from pusher.repository.releases import find_release, put_releases, read_releases
from pusher.repository.store import Found
from pusher.wire import Refused
from pusher.wire.channel import CHANNEL_NAMESPACE, Channel, join_signed, object_name, split_signed
from tests.host import make_key
from tests.hostile.web_store import FaultyHandler, storing
from tests.ports import free_port
from tests.publishing import Publisher
from tests.reporting import Reporting
from tests.unit.scripted_agent import Run

REPO = "repo"
DAY_S = 24 * 3600


@pytest.fixture
def repository(project: Path) -> Folder:
    """An empty repository beside a project with three versions, which share a file."""
    for version in ("v1", "v2", "v3"):
        folder = project / "app-src" / version
        folder.mkdir(exist_ok=True)
        (folder / "app.py").write_text(f"app = {version!r}\n")
        (folder / "large.bin").write_bytes(os.urandom(20_000) if version == "v1" else b"")
    large = (project / "app-src/v1/large.bin").read_bytes()
    for version in ("v2", "v3"):
        (project / "app-src" / version / "large.bin").write_bytes(large)
    return Folder(project / REPO)


def document(repository: Folder, channel: str = "stable") -> Channel:
    found = repository.read(f"channels/flask-demo/{channel}", most=65536)
    assert found
    return Channel.from_bytes(split_signed(found.content)[0])


def channels(repository: Folder, *, now: int | None = None, signers: Path | None = None) -> Channels:
    memory = repository_path(repository).parent / "memory"
    return Channels(repository, memory=memory, signers=signers, now=lambda: now or int(time.time() * 1000))


def repository_path(repository: Folder) -> Path:
    return Path(repository.address)


def test_a_publish_names_a_full_bundle_and_one_for_hosts_with_the_release_before(
    pusher: Run, repository: Folder
) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    first = document(repository)
    assert pusher("publish", "v2", "--to", REPO) == 0
    second = document(repository)
    assert [one.base for one in second.target.bundles] == ["", first.target.release.manifest]
    full, delta = second.target.bundles
    assert full.size > 20_000 > 5_000 > delta.size
    assert second.before == first.target
    for one in second.target.bundles:
        assert (repository_path(repository) / object_name(one.sha256)).stat().st_size == one.size


def test_only_the_newest_releases_have_a_delta(pusher: Run, repository: Folder) -> None:
    for version in ("v1", "v2", "v3", "v1", "v2"):
        assert pusher("publish", version, "--to", REPO) == 0
    assert len(document(repository).target.bundles) == 4
    assert len(read_releases(repository, "flask-demo").releases) == 5


def test_waves_and_their_rules_are_in_the_document(pusher: Run, repository: Folder) -> None:
    words = ("--waves", "web1+web2,10%,100%", "--spread", "60", "--max-failed", "3", "--good-for", "2")
    assert pusher("publish", "v1", "--to", REPO, *words) == 0
    found = document(repository)
    assert found.rollout.waves == (("web1", "web2"), 10, 100)
    assert (found.rollout.open, found.rollout.spread_s, found.rollout.max_failed) == (1, 60, 3)
    assert found.expires - found.created == 2 * DAY_S * 1000


@pytest.mark.parametrize("waves", ["web1", "10%", "10%,5%,100%", "a b,100%", "", "100%,100%", "101%"])
def test_waves_that_make_no_sense_are_wrong_usage(pusher: Run, repository: Folder, waves: str) -> None:
    with pytest.raises(SystemExit) as ended:
        pusher("publish", "v1", "--to", REPO, "--waves", waves)
    assert ended.value.code == 2
    assert not repository_path(repository).exists()


def test_a_bundle_that_was_packed_before_can_be_published(pusher: Run, repository: Folder, project: Path) -> None:
    assert pusher("pack", "v1", "-o", "old.tar.zst") == 0
    assert pusher("publish", "v2", "--to", REPO) == 0
    assert pusher("pack", "v3", "-o", "new.tar.zst") == 0
    assert pusher("publish", "new.tar.zst", "--to", REPO) == 0
    assert document(repository).target.release.version == "v3"
    assert pusher("publish", "old.tar.zst", "--to", REPO) == 4
    assert document(repository).target.release.version == "v3"


def test_it_is_said_how_long_a_bundle_can_be_deployed_that_was_packed_to_be_sent(
    pusher: Run, repository: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("pack", "v1", "-o", "short.tar.zst") == 0
    assert pusher("pack", "v2", "-o", "long.tar.zst", "--days", "365") == 0
    said = []
    for what in ("short.tar.zst", "long.tar.zst", "v3"):
        capsys.readouterr()
        assert pusher("publish", what, "--to", REPO) == 0
        said.append("No host can deploy it after" in capsys.readouterr().out)
    assert said == [True, False, False]


def test_a_closed_wave_leaves_new_hosts_with_the_release_that_all_may_have(
    pusher: Run, repository: Folder
) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    for version in ("v2", "v3"):
        assert pusher("publish", version, "--to", REPO, "--waves", "web1,100%") == 0
    before = document(repository).before
    assert before
    assert before.release.version == "v1"


def test_a_channel_is_paused_renewed_and_resumed(pusher: Run, repository: Folder) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    first = document(repository)
    assert pusher("channel", "pause", "--repository", REPO) == 0
    assert document(repository).state == "paused"
    assert pusher("channel", "renew", "--repository", REPO, "--good-for", "30") == 0
    renewed = document(repository)
    assert renewed.state == "paused"
    assert renewed.created > first.created
    assert renewed.expires - renewed.created == 30 * DAY_S * 1000
    assert pusher("channel", "resume", "--repository", REPO) == 0
    assert document(repository).state == "going"


def test_what_a_person_has_paused_is_not_resumed_by_who_publishes(
    pusher: Run, repository: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    assert pusher("channel", "pause", "--repository", REPO) == 0
    capsys.readouterr()
    assert pusher("publish", "v2", "--to", REPO) == 0
    assert (document(repository).state, document(repository).target.release.version) == ("paused", "v2")
    assert "The channel is paused: no host begins. To go on: pusher channel resume" in capsys.readouterr().out
    assert pusher("channel", "resume", "--repository", REPO) == 0
    assert document(repository).state == "going"


def test_a_document_that_no_host_would_read_replaces_nothing(
    pusher: Run, repository: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"host-{at:05}.example.com" for at in range(4_000)]
    assert pusher("publish", "v1", "--to", REPO) == 0
    before = document(repository)
    assert pusher("publish", "v2", "--to", REPO, "--waves", f"{'+'.join(names)},100%") == 4
    assert "too large" in capsys.readouterr().err
    assert document(repository) == before
    assert pusher("publish", "v2", "--to", REPO, "--waves", f"{'+'.join(names[:100])},100%") == 0
    assert "host-00007.example.com and 92 more" in capsys.readouterr().out


def test_a_channel_is_shown_with_its_signer(
    pusher: Run, repository: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("channel", "show", "--repository", REPO) == 4
    assert pusher("publish", "v1", "--to", REPO, "--waves", "web1,100%") == 0
    assert pusher("publish", "v2", "--to", REPO, "--waves", "web1,100%") == 0
    capsys.readouterr()
    assert pusher("channel", "show", "--repository", REPO) == 0
    shown = capsys.readouterr().out
    assert "flask-demo stable: v2" in shown
    assert "web1 (open), 100%" in shown
    assert "before    v1" in shown
    assert pusher("channel", "show", "--repository", REPO, "--json") == 0
    members = json.loads(capsys.readouterr().out)
    assert members["signer"]["fingerprint"].startswith("SHA256:")


def test_the_second_of_two_publishers_is_told_to_look_again(pusher: Run, repository: Folder, key: Path) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    mine = channels(repository)
    before = mine.read("flask-demo", "stable")
    assert before
    assert pusher("channel", "pause", "--repository", REPO) == 0
    with pytest.raises(Refused, match="changed meanwhile"):
        mine.put(before.document, key=str(key), before=before, days=7)
    assert document(repository).state == "paused"


def test_publishers_of_one_group_share_a_folder(pusher: Run, repository: Folder) -> None:
    before = os.umask(0o002)
    try:
        assert pusher("publish", "v1", "--to", REPO) == 0
    finally:
        os.umask(before)
    top = repository_path(repository)
    locks = list(top.rglob(".*.lock"))
    assert len(locks) == 2
    for one in (*locks, *(one.parent for one in locks)):
        assert one.stat().st_mode & 0o020, one


def test_a_network_filesystem_that_does_not_answer_is_unreachable(
    pusher: Run, repository: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    file = repository_path(repository) / "channels/flask-demo/stable"
    file.unlink()
    file.symlink_to("/proc/self/mem")  # an input/output error
    assert pusher("channel", "show", "--repository", REPO) == 5
    assert "Could not read channels/flask-demo/stable" in capsys.readouterr().err


def test_a_document_that_cannot_be_used_is_removed_and_made_anew(
    pusher: Run, repository: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the message says to do next helps."""
    assert pusher("publish", "v1", "--to", REPO) == 0
    file, before = repository_path(repository) / "channels/flask-demo/stable", document(repository)
    file.write_bytes(b"half")
    assert pusher("publish", "v2", "--to", REPO) == 4
    assert "Remove it from the repository, and publish again" in capsys.readouterr().err
    file.unlink()
    assert pusher("publish", "v2", "--to", REPO) == 0
    assert document(repository).created > before.created


def test_of_many_publishers_at_once_one_is_first(repository: Folder) -> None:
    results: list[bool] = []

    def replace_it(content: bytes) -> None:
        try:
            repository.replace("channels/a/b", content, tag=None)
            results.append(True)
        except Refused:
            results.append(False)

    threads = [threading.Thread(target=replace_it, args=(bytes([at]) * 10,)) for at in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(results) == [False] * 7 + [True]


def test_a_document_by_another_key_is_not_gone_on_from(
    pusher: Run, repository: Folder, project: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    make_key(project / "other")
    assert pusher("channel", "renew", "--repository", REPO, "--key", "other") == 4
    assert "Name that key: --key FILE" in capsys.readouterr().err
    lines = [
        f'ci namespaces="pusher-channel" {one.with_suffix(".pub").read_text()}' for one in (key, project / "other")
    ]
    (project / "signers").write_text(lines[0])
    assert pusher("channel", "renew", "--repository", REPO, "--key", "other", "--signers", "signers") == 4
    assert "This key may not sign for the channel" in capsys.readouterr().err  # nobody would believe it
    (project / "signers").write_text("".join(lines))
    assert pusher("channel", "renew", "--repository", REPO, "--key", "other", "--signers", "signers") == 0


def test_a_team_names_its_signers_once_and_no_command_believes_another(
    pusher: Run, repository: Folder, project: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who can write into the repository must not tell a rollout that it is done, nor a person that all is well."""
    make_key(project / "other")
    host = Reporting(project, "web1")
    adopt(project / "fleet.allowed", host.identity.public())
    assert pusher("publish", "v1", "--to", REPO) == 0
    forged = channels(Folder(project / "theirs"))
    forged.put(document(repository), key=str(project / "other"), before=None, days=7)
    copied = (project / "theirs/channels/flask-demo/stable").read_bytes()
    (repository_path(repository) / "channels/flask-demo/stable").write_bytes(copied)
    asks = [("fleet", "status"), ("channel", "show"), ("rollout", "run", "--once")]
    assert [pusher(*one, "--repository", REPO) for one in asks] == [5, 0, 0]  # nobody has said whose word counts
    public = key.with_suffix(".pub").read_text()
    (project / "ci").mkdir()
    (project / "ci/signers").write_text(f'ci namespaces="pusher-channel" {public}')
    text = (project / "pusher.toml").read_text()
    (project / "pusher.toml").write_text(f'signers = "ci/signers"\n{text}')
    capsys.readouterr()
    for words in (*asks, ("channel", "renew"), ("rollout", "next"), ("publish", "v2")):
        assert pusher(*words, "--repository" if words[0] != "publish" else "--to", REPO) == 4
        said = capsys.readouterr().err
        assert "channels/flask-demo/stable was signed by a key that may not do that" in said
        assert "ci/signers" in said
    seen = survey(replace(load({}, start=project), repository=REPO), "beta")  # what the dashboard shows
    assert seen.signed is None
    with pytest.raises(Refused, match="may not do that"):
        survey(replace(load({}, start=project), repository=REPO), "stable")
    # The option overrides the file: the other one is asked about here.
    (project / "theirs.signers").write_text(f"x {(project / 'other.pub').read_text()}")
    assert pusher("channel", "show", "--repository", REPO, "--signers", "theirs.signers") == 0
    assert pusher("rollout", "pause", "--repository", REPO) == 0  # what stops works whatever lies there


def test_an_older_document_that_somebody_put_back_is_not_renewed(pusher: Run, repository: Folder) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    file = repository_path(repository) / "channels/flask-demo/stable"
    old = file.read_bytes()
    assert pusher("publish", "v2", "--to", REPO) == 0
    file.write_bytes(old)
    assert pusher("channel", "renew", "--repository", REPO) == 4
    assert file.read_bytes() == old


@pytest.mark.parametrize("raw", [b"", b"{}\n-----BEGIN", b"x" * 70_000])
def test_a_channel_that_cannot_be_read_is_refused(pusher: Run, repository: Folder, raw: bytes) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    (repository_path(repository) / "channels/flask-demo/stable").write_bytes(raw)
    assert pusher("channel", "show", "--repository", REPO) == 4
    assert pusher("repository", "prune", "--repository", REPO) == 4


def test_a_document_of_another_channel_is_refused(pusher: Run, repository: Folder) -> None:
    assert pusher("publish", "v1", "--to", REPO, "--channel", "beta") == 0
    folder = repository_path(repository) / "channels/flask-demo"
    (folder / "stable").write_bytes((folder / "beta").read_bytes())
    assert pusher("channel", "show", "--repository", REPO) == 4


def test_a_document_from_the_future_is_not_overtaken(pusher: Run, repository: Folder, key: Path) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    hour_ago = int(time.time() * 1000) - 3_600_000
    mine = channels(repository, now=hour_ago)
    before = mine.read("flask-demo", "stable")
    with pytest.raises(Refused, match="future"):
        mine.put(document(repository), key=str(key), before=before, days=7)


def test_prune_keeps_what_a_channel_names_what_it_builds_on_and_what_is_young(
    pusher: Run, repository: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ("v1", "v2", "v3", "v1", "v2", "v3"):
        assert pusher("publish", version, "--to", REPO) == 0
    assert pusher("publish", "v1", "--to", REPO, "--channel", "beta") == 0
    everything = {item.name for item in repository.names("bundles/")}
    assert pusher("repository", "prune", "--repository", REPO, "--keep", "1") == 0
    assert {item.name for item in repository.names("bundles/")} == everything
    old = time.time() - 2 * DAY_S
    for name in everything:
        os.utime(repository_path(repository) / name, (old, old))
    assert pusher("repository", "prune", "--repository", REPO, "--keep", "1", "--dry-run") == 0
    assert {item.name for item in repository.names("bundles/")} == everything
    assert pusher("repository", "prune", "--repository", REPO, "--keep", "1") == 0
    left = {item.name for item in repository.names("bundles/")}
    assert left < everything
    for channel in ("stable", "beta"):
        named = document(repository, channel)
        assert {object_name(one.sha256) for one in named.target.bundles} <= left
        bases = {one.base for one in named.target.bundles if one.base}
        listed = [one for one in read_releases(repository, "flask-demo").releases if one.release.manifest in bases]
        assert len(listed) == len(bases)
        for one in listed:
            assert find_release(repository, one).manifest.version == one.release.version
    assert pusher("publish", "v2", "--to", REPO) == 0


def test_prune_removes_what_a_publish_has_left_that_was_cut_off_and_nothing_else_that_is_hidden(
    pusher: Run, repository: Folder
) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    top, old = repository_path(repository), time.time() - 2 * DAY_S
    dead = subprocess.Popen(("true",))
    dead.wait()
    [bundle] = (one.name for one in repository.names("bundles/"))
    bundle = bundle.removeprefix("bundles/")
    left = (
        f"bundles/.{bundle}.{dead.pid}",
        f"channels/flask-demo/.stable.{dead.pid}",
        f"releases/.flask-demo.json.{dead.pid}",
        "channels/flask-demo/.stable.new",
        f"bundles/.{bundle}.a1B2c3",
        f"bundles/.partial/{bundle}",
    )
    kept = (
        f"bundles/.{bundle}.{os.getpid()}",
        "channels/flask-demo/.stable.lock",
        "bundles/.htaccess",
        "channels/flask-demo/.gitkeep",
        "channels/.htaccess.bak",
        ".git/objects.1",
    )
    for name in (*left, *kept):
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).touch()
    assert pusher("repository", "prune", "--repository", REPO) == 0
    assert all((top / name).exists() for name in (*left, *kept))  # a day has not passed
    for name in (*left, *kept):
        os.utime(top / name, (old, old))
    assert pusher("repository", "prune", "--repository", REPO, "--dry-run") == 0
    assert all((top / name).exists() for name in (*left, *kept))
    assert pusher("repository", "prune", "--repository", REPO) == 0
    assert not any((top / name).exists() for name in left)
    assert all((top / name).exists() for name in kept)
    assert pusher("channel", "show", "--repository", REPO) == 0


def test_prune_keeps_what_a_channel_names_by_now(
    pusher: Run, repository: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking takes a while, and a fleet that goes back names what is old."""
    for version in ("v1", "v2", "v3", "v2", "v3"):
        assert pusher("publish", version, "--to", REPO) == 0
    for item in repository.names("bundles/"):
        os.utime(repository_path(repository) / item.name, (0, 0))

    def put_late(*given: Any) -> None:
        assert pusher("rollout", "rollback", "--to", "v1", "--repository", REPO) == 0
        put_releases(*given)

    monkeypatch.setattr(repository_command, "put_releases", put_late)
    assert pusher("repository", "prune", "--repository", REPO, "--keep", "1") == 0
    named = document(repository).target
    assert named.release.version == "v1"
    assert all((repository_path(repository) / object_name(one.sha256)).exists() for one in named.bundles)


def test_what_prune_removes_while_it_is_published_again_is_there_afterwards(
    pusher: Run, repository: Folder, project: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a release goes from one channel to the next, and its key waits for a finger."""
    assert pusher("pack", "v1", "-o", "v1.tar.zst") == 0
    for what in ("v1.tar.zst", "v2", "v3"):
        assert pusher("publish", what, "--to", REPO, "--channel", "beta") == 0
    pruned: list[int] = []

    def slow(raw: bytes, **given: Any) -> bytes:
        if not pruned:
            pruned.append(1)
            for item in repository.names("bundles/"):
                os.utime(repository_path(repository) / item.name, (0, 0))
            (repository_path(repository) / "releases/flask-demo.json").unlink()  # v1 is not among the kept ones
            pruned[0] = pusher("repository", "prune", "--repository", REPO, "--keep", "1")
        return sign(raw, **given)

    monkeypatch.setattr(channel_module, "sign", slow)
    assert pusher("publish", "v1.tar.zst", "--to", REPO) == 0
    assert pruned == [0]
    named = document(repository).target
    assert named.release.version == "v1"
    assert all((repository_path(repository) / object_name(one.sha256)).exists() for one in named.bundles)


def test_prune_sees_channels_that_lie_behind_a_link(pusher: Run, repository: Folder, project: Path) -> None:
    for version in ("v1", "v2", "v3"):
        assert pusher("publish", version, "--to", REPO, "--channel", "old" if version == "v1" else "new") == 0
    top, named = repository_path(repository), document(repository, "old")
    (top / "channels/flask-demo").rename(project / "elsewhere")
    (top / "channels/flask-demo").symlink_to(project / "elsewhere")
    for item in repository.names("bundles/"):
        os.utime(top / item.name, (0, 0))
    assert pusher("repository", "prune", "--repository", REPO, "--keep", "1") == 0
    assert all((top / object_name(one.sha256)).exists() for one in named.target.bundles)


def test_prune_removes_nothing_where_it_cannot_look(pusher: Run, repository: Folder, project: Path) -> None:
    for version in ("v1", "v2"):
        assert pusher("publish", version, "--to", REPO) == 0
    top = repository_path(repository)
    everything = repository.names("bundles/")
    for item in everything:
        os.utime(top / item.name, (0, 0))
    (top / "channels/flask-demo").rename(project / "elsewhere")
    (top / "channels/loop").symlink_to(top / "channels")  # of root, nothing else could not be read
    assert pusher("repository", "prune", "--repository", REPO, "--keep", "1") == 2
    assert len(repository.names("bundles/")) == len(everything)


def test_prune_removes_bundles_and_nothing_that_a_person_put_beside_them(
    pusher: Run, repository: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ("v1", "v2"):
        assert pusher("publish", version, "--to", REPO) == 0
    top = repository_path(repository)
    for name in ("bundles/READ ME.txt", "releases/a copy.json"):
        (top / name).touch()
        os.utime(top / name, (0, 0))
    assert pusher("repository", "prune", "--repository", REPO) == 0
    assert (top / "bundles/READ ME.txt").exists()
    (top / "channels/flask-demo/a copy").touch()
    assert pusher("repository", "prune", "--repository", REPO) == 4
    assert "nothing is removed" in capsys.readouterr().err


def test_a_repository_that_is_not_there_is_not_pruned(
    pusher: Run, repository: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("repository", "prune", "--repository", "typo") == 4
    assert "typo has nothing in it" in capsys.readouterr().err


def test_two_repositories_of_the_same_name_in_two_projects_are_not_taken_for_one(
    pusher: Run, repository: Folder, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    shutil.copytree(project, project / "second", ignore=shutil.ignore_patterns(REPO))
    monkeypatch.chdir(project / "second")
    assert pusher("publish", "v1", "--to", REPO) == 0
    monkeypatch.chdir(project)
    assert pusher("channel", "renew", "--repository", REPO) == 0


def test_a_document_of_somebody_else_does_not_keep_the_true_one_from_being_read(
    pusher: Run, repository: Folder, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    file = repository_path(repository) / "channels/flask-demo/stable"
    content, far = file.read_bytes(), int(time.time() * 1000) + 365 * DAY_S * 1000
    raw = replace(document(repository), created=far, expires=far + 1).to_bytes()
    make_key(project / "other")
    file.write_bytes(join_signed(raw, sign(raw, key=str(project / "other"), namespace=CHANNEL_NAMESPACE)))
    assert pusher("channel", "show", "--repository", REPO) == 0
    capsys.readouterr()
    assert pusher("channel", "renew", "--repository", REPO) == 4
    assert "signed in the future" in (said := capsys.readouterr().err)
    assert "by ssh-ed25519 SHA256:" in said
    file.write_bytes(content)
    assert pusher("channel", "renew", "--repository", REPO) == 0


def test_a_list_that_somebody_wrote_gets_no_signature_for_the_far_future(
    pusher: Run, repository: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    file, before = repository_path(repository) / "releases/flask-demo.json", document(repository)
    content = file.read_bytes()
    file.write_bytes(re.sub(rb'"created":"20', b'"created":"21', content))
    assert pusher("publish", "v2", "--to", REPO) == 4
    assert "from the future" in capsys.readouterr().err
    assert document(repository) == before
    file.write_bytes(content)
    assert pusher("publish", "v2", "--to", REPO) == 0


def test_a_bundle_that_has_expired_is_not_published(
    pusher: Run, repository: Folder, project: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    past = int(time.time() * 1000) - 1
    publisher = Publisher(project / REPO, key=key)
    _, signed, tree = publisher.signed({"app.py": "v1"}, "v1", created=past - 1000, expires=past)
    (project / "old.tar.zst").write_bytes(b"".join(write_bundle(signed, tree.contents())))
    assert pusher("publish", "old.tar.zst", "--to", REPO) == 4
    assert "has expired" in capsys.readouterr().err
    assert not repository_path(repository).exists()


def test_a_bundle_of_another_app_than_the_one_that_is_named_is_not_published(
    pusher: Run, repository: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("pack", "v1", "-o", "v1.tar.zst") == 0
    assert pusher("publish", "v1.tar.zst", "--to", REPO, "--app", "other") == 4
    assert "is a bundle of flask-demo" in capsys.readouterr().err
    assert not repository_path(repository).exists()


def test_a_bell_that_leads_elsewhere_was_not_rung() -> None:
    with storing() as there, storing() as here:
        there.objects["/"] = b"a page"

        class Redirecting(FaultyHandler):
            def do_POST(self) -> None:  # noqa: N802 - the name that http.server looks for
                self.answer(301, headers={"Location": f"{there.address}/"})

        here.RequestHandlerClass = Redirecting
        with pytest.raises(Unreachable, match="could not be rung"):
            ring(here.address, "flask-demo", "stable")
        assert not there.asked


def test_no_proxy_is_asked_for_a_bell_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look for the bell at itself."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    rung: list[str] = []

    class Ringing(FaultyHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server looks for
            rung.append(self.path)
            self.answer(202)

    with storing() as here:
        here.RequestHandlerClass = Ringing
        ring(here.address, "flask-demo", "stable")
    assert rung == ["/ring/flask-demo/stable"]


def test_to_ask_again_and_again_leaves_nothing_behind() -> None:
    found = []
    for _ in range(2):
        with pytest.raises(Unreachable):
            fetch_reports(f"nats://127.0.0.1:{free_port()}", ["reports/flask-demo/web1"])
        found.append(len(logging.getLogger("asyncio").filters))
    assert found[0] == found[1]


def test_a_channel_that_is_new_is_said_to_be(
    pusher: Run, repository: Folder, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = f"stable is a new channel of flask-demo in {project / REPO}"
    assert pusher("publish", "v1", "--to", REPO) == 0
    assert new in capsys.readouterr().out
    assert pusher("publish", "v2", "--to", REPO) == 0
    assert "new channel" not in capsys.readouterr().out
    assert pusher("publish", "v2", "--to", f"file://{REPO}") == 2
    assert "absolute path" in capsys.readouterr().err


def test_options_that_would_change_nothing_are_wrong_usage(
    pusher: Run, repository: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("pack", "v1", "-o", "v1.tar.zst") == 0
    for word in ("--build-wheels", "--relock"):
        assert pusher("publish", "v1.tar.zst", "--to", REPO, word) == 2
        assert "is packed already" in capsys.readouterr().err
    assert not repository_path(repository).exists()
    assert pusher("publish", "v1.tar.zst", "--to", REPO, "--waves", "web1,100%") == 0
    for words in (("next", "--once"), ("retry", "--every", "9")):
        assert pusher("rollout", *words, "--repository", REPO) == 2
    assert document(repository).rollout.open == 1


def test_a_list_of_releases_that_names_another_bundle_is_noticed(pusher: Run, repository: Folder) -> None:
    for version in ("v1", "v2"):
        assert pusher("publish", version, "--to", REPO) == 0
    newest, older = read_releases(repository, "flask-demo").releases
    with pytest.raises(Refused, match="another release"):
        find_release(repository, replace(newest, bundle=older.bundle))


@pytest.mark.parametrize("raw", [b"[]", b"{}", b'{"releases":[1]}', b'{"releases":[{"bundle":{}}]}'])
def test_a_list_of_releases_that_cannot_be_read_is_named(pusher: Run, repository: Folder, raw: bytes) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    (repository_path(repository) / "releases/flask-demo.json").write_bytes(raw)
    assert pusher("publish", "v2", "--to", REPO) == 4


def test_a_bundle_that_is_gone_only_costs_its_delta(pusher: Run, repository: Folder) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    for item in repository.names("bundles/"):
        repository.remove(item.name)
    assert pusher("publish", "v2", "--to", REPO) == 0
    assert len(document(repository).target.bundles) == 1


def test_a_repository_is_named_by_a_flag_a_variable_or_a_file(
    pusher: Run, repository: Folder, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pusher("publish", "v1") == 2
    with (project / "pusher.toml").open("a") as file:
        file.write('repository = "there"\n')
    assert pusher("publish", "v1") == 0
    assert (project / "there/channels/flask-demo/stable").exists()
    monkeypatch.setenv("PUSHER_REPOSITORY", f"file://{project}/else")
    assert pusher("publish", "v1") == 0
    assert (project / "else/channels/flask-demo/stable").exists()
    with pytest.raises(Usage, match="no repository"):
        open_repository("gopher://x/y")


def test_a_folder_that_cannot_be_written_is_named(pusher: Run, repository: Folder, project: Path) -> None:
    (project / "file").write_text("")
    assert pusher("publish", "v1", "--to", "file") == 2
    assert pusher("publish", "v1", "--to", "no/such/parent") == 2


def test_a_folder_answers_as_the_port_says(repository: Folder, project: Path) -> None:
    assert repository.read("a", most=10) is None
    repository.replace("a", b"x" * 11, tag=None)
    with pytest.raises(Refused, match="too large"):
        repository.read("a", most=10)
    source = project / "source"
    source.write_bytes(b"content")
    assert repository.put("bundles/one", source)
    assert not repository.put("bundles/one", source)
    with repository.stream("bundles/one") as pieces:
        assert b"".join(pieces) == b"content"
    with pytest.raises(Refused, match="no bundles/two"), repository.stream("bundles/two"):
        pass
    assert [item.name for item in repository.names("")] == ["a", "bundles/one"]
    assert [item.name for item in repository.names("bundles/o")] == ["bundles/one"]
    repository.remove("a")
    repository.remove("a")
    assert repository.read("a", most=10) is None


def test_a_release_signature_is_none_for_a_channel(pusher: Run, repository: Folder, key: Path) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    raw = document(repository).to_bytes()
    file = repository_path(repository) / "channels/flask-demo/stable"
    file.write_bytes(join_signed(raw, sign(raw, key=str(key))))
    assert pusher("channel", "show", "--repository", REPO) == 4
    file.write_bytes(join_signed(raw, sign(raw, key=str(key), namespace=CHANNEL_NAMESPACE)))
    assert pusher("channel", "show", "--repository", REPO) == 0


class BusyFolder(Folder):
    """A folder in which somebody publishes something else, right after it was read once."""

    def __init__(self, path: Path, publish: Callable[[], object]) -> None:
        super().__init__(path)
        self._publish = [publish]

    def read(self, name: str, *, most: int) -> Found | None:
        found = super().read(name, most=most)
        while self._publish:
            self._publish.pop()()
        return found


def test_a_command_that_reads_while_another_publishes_is_not_told_of_a_backup(
    pusher: Run, repository: Folder, key: Path
) -> None:
    assert pusher("publish", "v1", "--to", REPO) == 0
    first = document(repository)

    def publish() -> None:
        theirs = channels(repository)
        theirs.put(first, key=str(key), before=theirs.read("flask-demo", "stable"), days=1)

    reader = channels(BusyFolder(Path(repository.address), publish))
    seen = reader.read("flask-demo", "stable")
    assert seen
    assert seen.document == first
    newer = document(repository)
    assert newer.created > first.created
    # What the slower one has read does not make it forget the newer one.
    (Path(repository.address) / "channels/flask-demo/stable").write_bytes(seen.found.content)
    with pytest.raises(Refused, match="older than what was there before"):
        channels(repository).read("flask-demo", "stable")
