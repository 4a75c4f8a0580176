"""A rollout: when a wave opens, what stops it, and what a person does with it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.bundle.sign import sign
from pusher.commands import rollout
from pusher.fleet.inventory import adopt
from pusher.fleet.reports import Heard
from pusher.fleet.standing import Place, counts, exit_code, is_unwell
from pusher.fleet.waves import Step, next_step
from pusher.repository import channel as channel_module
from pusher.repository.brake import is_braked, release_brake, set_brake
from pusher.repository.folder import Folder
from pusher.wire.channel import (
    BundleObject,
    Channel,
    ChannelRelease,
    Rollout,
    Target,
    object_name,
    report_name,
    split_signed,
)
from pusher.wire.report import Named, Report
from tests.hostile.web_store import Store, storing
from tests.ports import free_port
from tests.publishing import APP, Publisher
from tests.reporting import Reporting
from tests.unit.scripted_agent import Run

TARGET = Target(ChannelRelease(manifest="0a" * 32, version="v2", created=0), (BundleObject("", "0b" * 32, 1),))
WAVES = (("web1", "web2"), ("web3",), 100)
HOSTS = ("web1", "web2", "web3", "web4")


def document(**members: object) -> Channel:
    rollout = Rollout(waves=WAVES, **{key: value for key, value in members.items() if key != "state"})  # type: ignore[arg-type]
    made = Channel(app=APP, channel="stable", created=0, expires=0, target=TARGET, rollout=rollout)
    return replace(made, state="paused") if members.get("state") == "paused" else made


def fleet(*states: str) -> list[Place]:
    return [Place(name, state) for name, state in zip(HOSTS, states, strict=True)]


@pytest.mark.parametrize(
    ("states", "members", "step", "hosts"),
    [
        (("unseen", "unseen", "unseen", "unseen"), {}, Step.WAIT, ("web1", "web2")),
        (("current", "deploying", "waiting", "waiting"), {}, Step.WAIT, ("web2",)),
        (("current", "current", "waiting", "waiting"), {}, Step.OPEN, ()),
        (("current", "silent", "waiting", "waiting"), {}, Step.OPEN, ()),
        (("silent", "unproved", "waiting", "waiting"), {}, Step.WAIT, ("web1", "web2")),
        (("current", "held", "waiting", "waiting"), {}, Step.WAIT, ("web2",)),
        (("current", "failed", "waiting", "waiting"), {}, Step.BRAKE, ("web2",)),
        (("current", "failed", "waiting", "waiting"), {"max_failed": 2}, Step.WAIT, ("web2",)),
        (("current", "current", "failed", "waiting"), {}, Step.OPEN, ()),
        (("current", "current", "silent", "waiting"), {"open": 2}, Step.WAIT, ("web3",)),
        (("current", "current", "current", "current"), {"open": 3}, Step.DONE, ()),
        (("current", "current", "current", "silent"), {"open": 3}, Step.DONE, ()),
        (("current", "current", "waiting", "waiting"), {"state": "paused"}, Step.STANDS, ()),
    ],
)
def test_the_first_rule_that_fits_decides(
    states: tuple[str, ...], members: dict[str, object], step: Step, hosts: tuple[str, ...]
) -> None:
    found = next_step(document(**members), fleet(*states), braked=False)
    assert (found.step, found.hosts) == (step, hosts)
    assert next_step(document(**members), fleet(*states), braked=True).step is Step.STANDS


@pytest.mark.parametrize(
    ("live", "signed", "step"),
    [(None, 4, Step.WAIT), (None, 5, Step.BRAKE), (Named("0c" * 32, "v1"), 4, Step.BRAKE)],
)
def test_what_failed_on_a_host_with_nothing_live_before_its_wave_opened_is_another_release(
    live: Named | None, signed: int, step: Step
) -> None:
    said = Report(
        app=APP, channel="stable", host="web1", created=0, state="failed", signed=signed, attempt=1, live=live
    )
    found = [Place("web1", "failed", heard=Heard("web1", said)), *fleet("", "current", "waiting", "waiting")[1:]]
    assert next_step(replace(document(), created=5), found, braked=False).step is step


def test_a_wave_that_names_no_host_of_the_inventory_proves_nothing() -> None:
    found = next_step(document(), [Place("web4", "waiting")], braked=False)
    assert (found.step, found.why) == (Step.WAIT, "wave 1 names no host of the inventory")
    small = replace(document(), rollout=Rollout(waves=(1, 100)))  # nobody drew a place in 1 %
    assert next_step(small, [Place("web4", "waiting")], braked=False).step is Step.OPEN


@given(
    st.lists(st.sampled_from(["current", "failed", "silent", "waiting", "held"]), min_size=4, max_size=4),
    st.integers(1, 3),
    st.integers(1, 4),
    st.booleans(),
)
def test_no_wave_opens_over_a_failure_over_a_late_host_or_over_silence(
    states: list[str], wave: int, most: int, braked: bool
) -> None:
    found = next_step(document(open=wave, max_failed=most), fleet(*states), braked=braked)
    if found.step in (Step.OPEN, Step.DONE):
        begun = states[: (2, 3, 4)[wave - 1]]
        assert not braked
        assert {*begun} <= {"current", "silent"}
        assert "current" in begun
    if found.step is Step.OPEN:
        assert "current" in states[:2]
        assert wave == 1 or states[2] == "current"
        assert begun.count("failed") < most
    if states[: (2, 3, 4)[wave - 1]].count("failed") >= most and not braked:
        assert found.step is Step.BRAKE


def test_the_exit_code_is_that_of_the_worst() -> None:
    assert exit_code(fleet("current", "current", "current", "current")) == 0
    assert exit_code(fleet("current", "waiting", "current", "current")) == 1
    assert exit_code(fleet("failed", "silent", "held", "current")) == 1
    assert exit_code(fleet("current", "silent", "held", "current")) == 4
    assert exit_code(fleet("current", "silent", "waiting", "current")) == 5
    assert counts(fleet("current", "current", "current", "held")) == [("-", "current", 3), ("-", "held", 1)]
    found = fleet("current", "waiting", "failed", "silent")
    assert [one.name for one in found if is_unwell(one)] == ["web3", "web4"]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> list[Reporting]:
    folder = tmp_path_factory.mktemp("hosts")
    return [Reporting(folder, name) for name in ("web1", "web2")]


@pytest.fixture
def publisher(project: Path, key: Path, hosts: list[Reporting]) -> Publisher:
    """A fleet of two hosts with v1, and v2 published for the first of them."""
    with (project / "pusher.toml").open("a") as file:
        file.write('repository = "repo"\n')
    for one in hosts:
        adopt(project / "fleet.allowed", one.identity.public())
    for version in ("v1", "v2"):
        (project / "app-src" / version).mkdir()
        (project / "app-src" / version / "app.py").write_text(version)
    return Publisher(project / "repo", key=key)


@pytest.fixture
def published(publisher: Publisher, pusher: Run) -> Publisher:
    assert pusher("publish", "v1") == 0
    assert pusher("publish", "v2", "--waves", "web1,100%") == 0
    return publisher


def now(publisher: Publisher) -> Channel:
    found = publisher.repository.read("channels/flask-demo/stable", most=65536)
    assert found
    return Channel.from_bytes(split_signed(found.content)[0])


def report(
    publisher: Publisher, host: Reporting, state: str, *, attempt: int = 1, problem: dict[str, str] | None = None
) -> None:
    release = now(publisher).target.release
    wanted = Named(release.manifest, release.version)
    path = publisher.folder / report_name(APP, host.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    members = {"state": state, "wanted": wanted, "live": wanted, "attempt": attempt, "problem": problem or {}}
    path.write_bytes(host.signed(**members))


def test_a_run_opens_wave_after_wave(pusher: Run, published: Publisher, hosts: list[Reporting]) -> None:
    web1, web2 = hosts
    assert pusher("rollout", "run", "--once") == 0
    assert now(published).rollout.open == 1
    report(published, web1, "current")
    report(published, web2, "waiting")
    assert pusher("rollout", "run", "--once") == 0
    assert now(published).rollout.open == 2
    report(published, web2, "current")
    assert pusher("rollout", "run") == 0


@pytest.mark.parametrize("faulty", ["unreadable", "bus"])
def test_no_wave_opens_while_a_place_with_reports_does_not_answer(
    pusher: Run,
    published: Publisher,
    hosts: list[Reporting],
    project: Path,
    capsys: pytest.CaptureFixture[str],
    faulty: str,
) -> None:
    web1, web2 = hosts
    assert pusher("rollout", "next") == 0
    report(published, web1, "current")
    report(published, web2, "current")
    config, path = project / "pusher.toml", published.folder / report_name(APP, "web2")
    before, content = config.read_text(), path.read_bytes()
    if faulty == "bus":
        config.write_text(f'{before}bell = "nats://127.0.0.1:{free_port()}"\n')
    else:
        path.unlink()
        path.mkdir()  # what cannot be read; of root, nothing else could not
    assert pusher("rollout", "run", "--once") == 0
    assert "wait, a place with reports does not answer" in capsys.readouterr().out
    config.write_text(before)
    if path.is_dir():
        path.rmdir()
        path.write_bytes(content)
    assert pusher("rollout", "run", "--once") == 0
    assert "done" in capsys.readouterr().out


def published_at(pusher: Run, project: Path, store: Store) -> Named:
    """`v1`, published to a web server for web1 first: what its hosts want from then on."""
    config = project / "pusher.toml"
    config.write_text(config.read_text().replace('"repo"', f'"{store.address}"'))
    assert pusher("publish", "v1", "--waves", "web1,100%") == 0
    content = store.objects["/channels/flask-demo/stable"]
    release = Channel.from_bytes(split_signed(content)[0]).target.release
    return Named(release.manifest, release.version)


def test_a_run_that_is_overtaken_again_and_again_is_told_so(
    pusher: Run, publisher: Publisher, hosts: list[Reporting], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with storing() as store:
        wanted = published_at(pusher, project, store)
        good = hosts[0].signed(state="current", wanted=wanted, live=wanted, attempt=1)
        store.objects[f"/{report_name(APP, 'web1')}"] = good
        store.faults.add("always changed")
        assert pusher("rollout", "run", "--once") == 4
        assert "was changed meanwhile" in capsys.readouterr().err


class Pauses:
    """In the place of a command's pauses: what happens in each, one after the other."""

    def __init__(self, *acts: Callable[[], None]) -> None:
        self.left = [*acts]

    def sleep(self, seconds: float) -> None:
        self.left.pop(0)()


def test_a_run_waits_for_a_repository_that_has_answered(
    pusher: Run,
    publisher: Publisher,
    hosts: list[Reporting],
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rollout takes hours, and nobody watches it: no network that fails for a moment may end it."""
    with storing() as store:
        wanted = published_at(pusher, project, store)

        def reports(*states: str) -> None:
            for one, state in zip(hosts, states, strict=True):
                raw = one.signed(state=state, wanted=wanted, live=wanted, attempt=1)
                store.objects[f"/{report_name(APP, one.name)}"] = raw

        def faults(*names: str) -> Callable[[], None]:
            return lambda: (store.faults.clear(), store.faults.update(names))[0]

        def all_is_well() -> None:
            store.faults.clear()
            reports("current", "waiting")

        reports("deploying", "waiting")
        pauses = Pauses(
            faults("away"),
            faults("away"),
            faults("cuts off"),
            faults("broken"),
            all_is_well,  # the next wave
            lambda: reports("current", "current"),
        )
        monkeypatch.setattr(rollout, "time", pauses)
        assert pusher("rollout", "run") == 0
        assert not pauses.left
        said = capsys.readouterr()
        assert said.err.count("the server answered 503") == 1
        assert said.out.count("It is tried again every 5 s") == 2
        assert said.out.count("wait, 1 of 1 are not current yet") == 2
        assert "done" in said.out

        # The brake too: what has failed must not go on because the network failed as well.
        assert pusher("rollout", "retry") == 0
        failed = [one.signed(state="failed", wanted=wanted, live=wanted, attempt=2) for one in hosts]
        for one, raw in zip(hosts, failed, strict=True):
            store.objects[f"/{report_name(APP, one.name)}"] = raw
        store.faults.add("broken")
        monkeypatch.setattr(rollout, "time", Pauses(store.faults.clear))
        assert pusher("rollout", "run") == 1
        assert "/brakes/flask-demo/stable" in store.objects


@pytest.mark.parametrize("words", [("run",), ("run", "--once"), ("next",)])
def test_a_repository_that_never_answered_is_not_waited_for(
    pusher: Run, publisher: Publisher, project: Path, words: tuple[str, ...]
) -> None:
    config = project / "pusher.toml"
    config.write_text(config.read_text().replace('"repo"', f'"http://127.0.0.1:{free_port()}/repo"'))
    assert pusher("rollout", *words) == 5


@pytest.mark.parametrize("fault", ["redirects", "gone"])
def test_a_run_ends_at_what_does_not_pass_by_itself(
    pusher: Run, published: Publisher, project: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    with storing() as store:
        config = project / "pusher.toml"
        config.write_text(config.read_text().replace('"repo"', f'"{store.address}"'))
        path = "/channels/flask-demo/stable"
        store.objects[path] = (published.folder / path[1:]).read_bytes()
        pauses = Pauses(store.objects.clear if fault == "gone" else lambda: store.faults.add(fault))
        monkeypatch.setattr(rollout, "time", pauses)
        assert pusher("rollout", "run") == 4
        assert not pauses.left


def test_a_place_with_reports_that_is_silent_for_hours_is_named_once(
    pusher: Run,
    published: Publisher,
    hosts: list[Reporting],
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report(published, hosts[0], "current")
    config = project / "pusher.toml"
    before = config.read_text()
    config.write_text(f'{before}bell = "nats://127.0.0.1:{free_port()}"\n')

    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rollout, "time", Pauses(lambda: None, lambda: None, stop))
    assert pusher("rollout", "run") == 130
    assert capsys.readouterr().err.count("does not answer") == 1


def test_who_waits_for_a_person_and_what_that_person_does_is_said(
    pusher: Run, published: Publisher, hosts: list[Reporting], capsys: pytest.CaptureFixture[str]
) -> None:
    report(published, hosts[0], "held")
    assert pusher("rollout", "run", "--once") == 0
    assert "wait, 1 of 1 are not current yet: web1 (held)" in capsys.readouterr().out
    assert pusher("fleet", "status") == 4
    assert "web1  a person made another release live there" in capsys.readouterr().out

    for one in hosts:
        report(published, one, "refused", problem={"title": "No room", "detail": "2 bytes", "hint": "Make room"})
    assert pusher("fleet", "status") == 4
    said = capsys.readouterr().out
    assert "  web1  No room: 2 bytes\n  web2  No room: 2 bytes\n    Make room\n" in said
    assert said.count("Make room") == 1

    published.name(now(published).target, days=-1, rollout=now(published).rollout)
    report(published, hosts[0], "stale")
    assert pusher("fleet", "status") == 4
    said = capsys.readouterr().out
    assert "wave 1 of 2 is open, EXPIRED: pusher channel renew" in said
    assert "web1  the channel document has expired" in said
    assert pusher("channel", "renew") == 0
    assert pusher("fleet", "status") == 4
    assert "EXPIRED" not in capsys.readouterr().out


def test_a_failure_sets_the_brake_and_a_retry_releases_it(
    pusher: Run, published: Publisher, hosts: list[Reporting], capsys: pytest.CaptureFixture[str]
) -> None:
    report(published, hosts[0], "failed")
    assert pusher("rollout", "run") == 1
    assert is_braked(published.repository, APP, "stable")
    assert "web1" in capsys.readouterr().err
    assert pusher("rollout", "run", "--once") == 1
    assert pusher("rollout", "next") == 4
    assert pusher("publish", "v2", "--waves", "web1,100%") == 0
    assert "The brake is set" in capsys.readouterr().out
    assert pusher("rollout", "retry") == 0
    assert not is_braked(published.repository, APP, "stable")
    assert now(published).rollout.attempt == 2


def test_a_person_opens_a_wave_sets_the_brake_and_releases_it(pusher: Run, published: Publisher) -> None:
    assert pusher("rollout", "next") == 0
    assert now(published).rollout.open == 2
    assert pusher("rollout", "next") == 4
    for _ in range(2):
        assert pusher("rollout", "pause") == 0
        assert is_braked(published.repository, APP, "stable")
    for _ in range(2):
        assert pusher("rollout", "resume") == 0
        assert not is_braked(published.repository, APP, "stable")


def test_the_brake_works_whatever_lies_in_the_place_of_the_document(
    pusher: Run, published: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    file = published.folder / "channels/flask-demo/stable"
    for content in (b"", b"put here by somebody", b"x" * 10_000_000):
        file.write_bytes(content)
        assert pusher("rollout", "pause") == 0
        assert is_braked(published.repository, APP, "stable")
        assert pusher("rollout", "resume") == 0
        assert not is_braked(published.repository, APP, "stable")
    file.unlink()
    assert pusher("rollout", "pause") == 4
    assert "has no channel stable" in capsys.readouterr().err
    assert not is_braked(published.repository, APP, "stable")


def test_a_fleet_goes_back_to_the_release_before_or_to_a_named_one(pusher: Run, published: Publisher) -> None:
    assert pusher("rollout", "pause") == 0
    before = now(published)
    assert pusher("rollout", "rollback") == 0
    after = now(published)
    assert after.target.release.version == "v1"
    assert (after.rollout.waves, after.state) == ((100,), "going")
    assert after.created > before.created
    assert not is_braked(published.repository, APP, "stable")
    assert pusher("rollout", "rollback") == 4
    assert pusher("publish", "v2") == 0
    assert pusher("publish", "v2") == 0
    assert pusher("rollout", "rollback", "--to", "v1") == 0
    assert now(published).target == after.target
    assert pusher("rollout", "rollback", "--to", "v9") == 4
    assert pusher("rollout", "next", "--to", "v1") == 2


def test_a_fleet_that_goes_back_to_what_was_just_pruned_is_told(
    pusher: Run, published: Publisher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = now(published).before
    assert before
    [bundle] = before.bundles

    def slow(raw: bytes, **given: Any) -> bytes:
        (published.folder / object_name(bundle.sha256)).unlink()
        return sign(raw, **given)

    monkeypatch.setattr(channel_module, "sign", slow)
    assert pusher("rollout", "rollback") == 4
    said = capsys.readouterr()
    assert "goes back to v1, on all hosts" in said.out  # those that keep it
    assert "Publish that version again" in said.err


def test_a_fleet_does_not_go_back_to_what_was_only_in_another_channel(pusher: Run, publisher: Publisher) -> None:
    assert pusher("publish", "v1") == 0
    assert pusher("publish", "v2", "--channel", "beta") == 0
    assert pusher("publish", "v1", "--as", "v3") == 0
    assert pusher("rollout", "rollback") == 0
    assert now(publisher).target.release.version == "v1"


def test_without_a_channel_there_is_nothing_to_roll_out(pusher: Run, publisher: Publisher) -> None:
    for action in ("run", "next", "retry", "pause", "resume", "rollback"):
        assert pusher("rollout", action) == 4


def test_a_brake_that_cannot_be_read_is_set(tmp_path: Path) -> None:
    repository = Folder(tmp_path)
    set_brake(repository, APP, "stable", why="x")
    assert is_braked(repository, APP, "stable")
    (tmp_path / "brakes/flask-demo/stable").write_bytes(b"x" * 100_000)
    assert is_braked(repository, APP, "stable")
    release_brake(repository, APP, "stable")
    assert not is_braked(repository, APP, "stable")
