"""What the command remembers of a host's history, and what an agent that lies about it is told. It is scripted."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from pusher.fleet.state import state_folder
from pusher.wire import Head, canonical
from tests.unit.scripted_agent import STATUS, Run
from tests.unit.scripted_door import Exchange, Script, ScriptedDoor, answer, note

LINES = [canonical({"app": "flask-demo", "record": number}) for number in range(1, 9)]
RECORDS = "/apps/flask-demo/history"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state/pusher"


@pytest.fixture
def host(door: ScriptedDoor, monkeypatch: pytest.MonkeyPatch) -> ScriptedDoor:
    monkeypatch.setenv("PUSHER_HOST", door.address)
    return door


def tell(door: ScriptedDoor, history: object, *lines: bytes) -> None:
    def records(exchange: Exchange) -> None:
        note(exchange)
        exchange.stream([line + b"\n" for line in lines])

    script: Script = records
    door.on("GET", "/apps/flask-demo/status", answer({**STATUS, "history": history}))
    door.on("GET", RECORDS, script)


def told(head: Head, problem: str = "") -> Mapping[str, object]:
    return {**head.members(), "problem": problem}


def seen(state: Path) -> Head:
    (file,) = state.glob("history/*/flask-demo.json")
    return Head.from_members(json.loads(file.read_text()))


def test_the_head_is_remembered_and_follows_what_is_added(host: ScriptedDoor, pusher: Run, state: Path) -> None:
    three, five = Head().then(*LINES[:3]), Head().then(*LINES[:5])
    tell(host, told(three))
    assert pusher("status") == 0
    assert pusher("status") == 0
    assert seen(state) == three
    tell(host, told(five), *LINES[3:])  # more came in between
    assert pusher("status") == 0
    assert seen(state) == five
    assert f"GET {RECORDS}?after=3" in host.paths()


@pytest.mark.parametrize(
    ("history", "lines", "said"),
    [
        (told(Head().then(*LINES[:2])), [], "it has 2 records; when it was seen last, it had 3"),
        (told(Head().then(b"x", *LINES[1:3])), [], "does not contain the 3 records"),
        (told(Head().then(*LINES[1:6])), LINES[4:6], "does not contain the 3 records"),
        (told(Head().then(*LINES[:5])), LINES[3:4], "does not contain the 3 records"),
        (told(Head(10**12, "0" * 64)), [], "too many to check"),
        (told(Head().then(*LINES[:3]), "record 2 was changed"), [], "record 2 was changed"),
        (None, [], "does not tell it any more"),
        ([], [], "does not tell it any more"),
        ({"records": "3", "head": "0" * 64}, [], "'records' is missing"),
        ({"records": 3, "head": "x"}, [], "x"),
    ],
)
def test_a_history_that_is_not_the_one_that_was_seen_is_named_each_time(
    host: ScriptedDoor,
    pusher: Run,
    state: Path,
    capsys: pytest.CaptureFixture[str],
    history: object,
    lines: list[bytes],
    said: str,
) -> None:
    three = Head().then(*LINES[:3])
    tell(host, told(three))
    assert pusher("status") == 0
    tell(host, history, *lines)
    for _ in range(2):
        assert pusher("status") == 4
        captured = capsys.readouterr()
        assert "The history of flask-demo" in captured.err
        assert said in captured.err
        assert "live       v2" in captured.out
    assert seen(state) == three


def test_a_lie_about_one_host_is_named_beside_the_answers_of_all(
    host: ScriptedDoor, pusher: Run, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ScriptedDoor()
    try:
        tell(host, told(Head(), "record 2 was changed"))
        tell(other, told(Head()))
        assert pusher("status", "--host", host.address, "--host", other.address) == 4
        captured = capsys.readouterr()
        assert captured.err.count("record 2 was changed") == 1
        assert captured.out.count("20261123020000Z") == 2
    finally:
        other.close()


def test_an_agent_that_is_older_than_histories_is_taken_as_it_is(
    host: ScriptedDoor, pusher: Run, state: Path
) -> None:
    assert pusher("status") == 0
    assert not state.exists()


def test_an_answer_that_names_no_app_makes_no_file(host: ScriptedDoor, pusher: Run, state: Path) -> None:
    history = told(Head())
    host.on("GET", "/apps/flask-demo/status", answer({**STATUS, "app": "../../x", "history": history}))
    assert pusher("status") == 0
    assert not state.exists()


def test_what_cannot_be_kept_is_not_remembered(
    host: ScriptedDoor, pusher: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    tell(host, told(Head()))
    assert pusher("status") == 0


def test_the_state_lies_where_the_user_says_or_in_the_home() -> None:
    assert state_folder({"XDG_STATE_HOME": "/s"}) == Path("/s/pusher")
    assert state_folder({"XDG_STATE_HOME": "relative"}) == state_folder({})
    assert state_folder({}).parts[-3:] == (".local", "state", "pusher")
