"""One command for several hosts. The agents are scripted; `tests/deploy/test_fleet.py` has real ones."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.wire import Code, Event, Failed, Happened, Refused
from tests.unit.scripted_agent import (
    ABOUT,
    DEPLOYMENT,
    DONE,
    EVENTS,
    STARTED,
    STATUS,
    STEP,
    UPLOAD,
    Run,
    ended,
    interrupt,
    sent,
)
from tests.unit.scripted_door import ScriptedDoor, answer, events, refusal

LIVE = Event(3, 0, Happened.FINISHED, {**ABOUT, "outcome": "done", "previous": "20261123020000Z", "ms": 640})


@pytest.fixture
def other(door: ScriptedDoor, project: Path) -> Iterator[ScriptedDoor]:
    """A second host; they are called a and b."""
    made = ScriptedDoor()
    made.on("GET", "/apps/flask-demo/status", answer(STATUS | {"host": "web2.example.com"}))
    made.on("POST", UPLOAD, STARTED)
    made.on("GET", EVENTS, events(STEP, DONE))
    for one in (door, made):
        one.on("POST", "/apps/flask-demo/missing", answer({"missing": []}))
        one.on("POST", "/apps/flask-demo/rollback", STARTED)
    with (project / "pusher.toml").open("a") as file:
        for name, address in (("a", door.address), ("b", made.address), ("gone", "unix:/nonexistent")):
            file.write(f'[hosts.{name}]\naddress = "{address}"\n')
    yield made
    made.close()


def test_ctrl_c_says_for_every_host_what_goes_on_there(
    door: ScriptedDoor, other: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    door.on("GET", EVENTS, interrupt)
    for one in (door, other):
        one.on("GET", "/apps/flask-demo/status", answer(STATUS | {"previous": {"release": "r1"}}))
    assert pusher("rollback", "--in-turn", "--host", "a", "--host", "b") == 130
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in out.splitlines()[-2:]] == [["a", "interrupted"], ["b", "not"]]
    assert err == (
        f"\npusher: Interrupted\n  Deployment {DEPLOYMENT} goes on at a. "
        f"To follow it: pusher status --host a --deployment {DEPLOYMENT} --follow\n  Not begun: b\n"
    )


def test_ctrl_c_while_hosts_are_asked_changes_none(
    door: ScriptedDoor, other: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    other.on("GET", "/apps/flask-demo/status", interrupt)
    assert pusher("send", "v3", "--host", "a", "--host", "b") == 130
    assert capsys.readouterr().err == "\npusher: Interrupted. Nothing was changed on any host\n"


def test_several_hosts_get_the_same_manifest_and_the_worst_sets_the_exit_code(
    door: ScriptedDoor, other: ScriptedDoor, pusher: Run, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = Failed(Code.HOOK_FAILED, "before-symlink failed", output="no table\n")
    other.on("GET", EVENTS, events(ended(failed)))
    assert pusher("send", "v3", "--host", "a", "--host", "b", "--host", "gone", "--skip-unreachable") == 1
    out, err = capsys.readouterr()
    *lines, empty, head, first, second, third = out.splitlines()
    assert sorted(line.split(", ")[0] for line in lines) == [
        "a    it answers at http://127.0.0.1:8000/",
        "a    unpack                              12 ms",
        "a  flask-demo v3 is live on a: release 20261123020055Z",
        "a  sending flask-demo v3 to a: 1 file",
        "b  sending flask-demo v3 to b: 1 file",
        "skipping gone: No agent answers for gone at /nonexistent: No such file or directory",
        "start: the host decides; no Flask",
    ]
    assert (empty, head.split()) == ("", ["HOST", "OUTCOME", "RELEASE", "TOOK"])
    assert first.split()[:3] == ["a", "done", "20261123020055Z"]
    assert first.endswith("flask-demo v3 is live")
    assert second.split()[:2] == ["b", "failed"]
    assert second.endswith("before-symlink failed")
    assert third.split()[:2] == ["gone", "skipped"]
    assert err == "pusher: b: before-symlink failed\n\nno table\n"
    # A host that was not asked is not in the manifest, so it cannot deploy it.
    signed = [packed for one in (door, other) for packed in sent(one, project)]
    assert len({(one.signed.manifest, one.signed.signature) for one in signed}) == 1
    assert signed[0].manifest.hosts == ("web1.example.com", "web2.example.com")


def test_if_a_host_is_unreachable_or_would_refuse_none_is_changed(
    door: ScriptedDoor, other: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("send", "v3", "--host", "a", "--host", "b", "--host", "gone", "--host", "unix:/gone") == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert "pusher: gone: No agent answers for gone at /nonexistent" in err
    assert err.endswith(
        "pusher: Nothing was changed on any host: gone, unix:/gone cannot be reached\n"
        "  To go on without gone, unix:/gone: --skip-unreachable\n"
    )
    other.on("POST", "/apps/flask-demo/missing", refusal(Refused(Code.SIGNER_UNKNOWN, "Nobody trusts it")))
    assert pusher("send", "v3", "--host", "a", "--host", "b", "--host", "gone", "--skip-unreachable") == 4
    assert capsys.readouterr().err.endswith(
        "pusher: b: Nobody trusts it\npusher: Nothing was changed on any host: b would refuse\n"
    )
    assert f"POST {UPLOAD}" not in door.paths() + other.paths()


def test_skipping_all_hosts_is_a_failure(
    other: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("send", "v3", "--host", "gone", "--host", "unix:/gone", "--skip-unreachable") == 5
    assert "Nothing was changed on any host" in capsys.readouterr().err


def test_in_turn_stops_at_the_first_that_fails(
    door: ScriptedDoor, other: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    door.on("GET", EVENTS, events(ended(Failed(Code.APP_EXITED, "It ended"))))
    assert pusher("send", "v3", "--in-turn", "--host", "a", "--host", "b") == 1
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[-2:]] == [
        ["a", "failed"],
        ["b", "not"],
    ]
    assert f"POST {UPLOAD}" not in other.paths()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"previous": None}, "flask-demo has no release to roll back to"),
        ({"previous": {}, "deploying": {"by": "bob", "version": "v4", "deployment": "d"}}, "bob is deploying v4"),
    ],
)
def test_a_rollback_that_one_host_would_refuse_changes_none(
    door: ScriptedDoor,
    other: ScriptedDoor,
    pusher: Run,
    capsys: pytest.CaptureFixture[str],
    status: dict[str, object],
    said: str,
) -> None:
    door.on("GET", "/apps/flask-demo/status", answer(STATUS | {"previous": {"release": "r1"}}))
    other.on("GET", "/apps/flask-demo/status", answer(STATUS | status))
    assert pusher("rollback", "--host", "a", "--host", "b") == 4
    assert f"pusher: b: {said}" in capsys.readouterr().err
    for one in (door, other):
        one.on("GET", "/apps/flask-demo/releases", answer({"releases": [{"id": "r1"}] if one is door else []}))
        one.on("GET", "/apps/flask-demo/status", answer(STATUS))
    assert pusher("rollback", "--to", "r1", "--host", "a", "--host", "b") == 4
    assert "pusher: b: flask-demo has no release r1" in capsys.readouterr().err
    assert [path for path in door.paths() + other.paths() if path.startswith("POST")] == []


def test_the_status_of_several_hosts_is_a_table_in_their_order(
    door: ScriptedDoor, other: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    deploying = {"deployment": DEPLOYMENT, "version": "v3", "by": "bob"}
    failed = {"kind": "deploy", "version": "v1", "outcome": "failed", "ms": 7, "problem": {"title": "It ended"}}
    door.on("GET", "/apps/flask-demo/status", answer(STATUS | {"deploying": deploying, "last": failed}))
    other.on("GET", "/apps/flask-demo/status", answer(STATUS | {"running": False, "last": failed}))
    assert pusher("status", "--host", "b", "--host", "gone", "--host", "a") == 5
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "HOST  LIVE                  PREVIOUS  RUNNING",
        "b     v2 (20261123020000Z)  -         no       last: deploy of v1, failed, 7 ms: It ended",
        "a     v2 (20261123020000Z)  -         yes      deploying v3, by bob",
    ]
    assert err.startswith("pusher: gone: No agent answers")
    for one in (door, other):
        one.on("GET", "/apps/flask-demo/releases", answer({"releases": [], "deployments": []}))
    assert pusher("releases", "--host", "b", "--host", "a") == 0
    assert capsys.readouterr().out == "b  no releases yet\na  no releases yet\n"
    assert pusher("status", "--json", "--host", "b", "--host", "a") == 0
    assert [json.loads(line)["address"] for line in capsys.readouterr().out.splitlines()] == ["b", "a"]


def test_several_hosts_are_followed_together(
    other: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("status", "--deployment", DEPLOYMENT, "--follow", "--host", "a", "--host", "b") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines) == ["a", "a", "b", "b"]


def test_a_host_that_cannot_be_taken_back_needs_a_person(
    door: ScriptedDoor, other: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    door.on("GET", EVENTS, events(LIVE))
    door.on("POST", "/apps/flask-demo/rollback", refusal(Refused(Code.RELEASE_DAMAGED, "No way back", why="gone")))
    other.on("GET", EVENTS, events(ended(Failed(Code.APP_EXITED, "It ended"))))
    assert pusher("send", "v3", "--in-turn", "--all-or-none", "--host", "a", "--host", "b") == 6
    out, err = capsys.readouterr()
    assert [line.split()[:3] for line in out.splitlines()[-2:]] == [
        ["a", "stuck", "20261123020055Z"],
        ["b", "failed", out.splitlines()[-1].split()[2]],
    ]
    assert "taking back: a" in out
    assert err.startswith(
        "pusher: a: flask-demo v3 was not taken back on a: No way back: gone\n"
        "  flask-demo v3 is live on a. To go back: pusher rollback --host a --to 20261123020000Z\n"
    )
    (asked,) = [path for path in door.paths() if "rollback" in path]
    assert asked == "POST /apps/flask-demo/rollback?to=20261123020000Z&from=20261123020055Z"


@pytest.mark.parametrize("during", ["the sending", "the taking back"])
def test_ctrl_c_takes_nothing_back_and_says_how_to_do_it(
    door: ScriptedDoor, other: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str], during: str
) -> None:
    door.on("GET", EVENTS, events(LIVE))
    if during == "the sending":
        other.on("GET", EVENTS, interrupt)
    else:
        other.on("GET", EVENTS, events(ended(Failed(Code.APP_EXITED, "It ended"))))
        door.on("POST", "/apps/flask-demo/rollback", interrupt)
    assert pusher("send", "v3", "--in-turn", "--all-or-none", "--host", "a", "--host", "b") == 130
    said = capsys.readouterr().err.splitlines()
    asked = [path for path in door.paths() if "rollback" in path]
    if during == "the sending":
        assert (
            said[-1] == "  flask-demo v3 is live on a. To go back: pusher rollback --host a --to 20261123020000Z"
        )
        assert asked == []
    else:
        assert said[-1] == "  a: to see whether it was taken back: pusher status --host a"
        assert len(asked) == 1


def test_the_answers_to_a_pin_come_in_the_order_of_the_hosts(
    door: ScriptedDoor, other: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    door.on("POST", "/apps/flask-demo/pin", answer({}))
    other.on("POST", "/apps/flask-demo/pin", refusal(Refused(Code.UNKNOWN_RELEASE, "There is none")))
    assert pusher("pin", "r1", "--host", "gone", "--host", "b", "--host", "a") == 5
    out, err = capsys.readouterr()
    assert out == "a     r1 is pinned: it stays until you unpin it\n"
    assert [line.split()[1] for line in err.splitlines() if line.startswith("pusher: ")] == ["gone:", "b:"]
