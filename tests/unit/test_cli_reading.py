"""`pusher logs` and `pusher diff` show the answers of a host, and nothing else. The agent is scripted."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.bundle.difference import compare
from pusher.bundle.tree import read_tree
from pusher.wire import LOG_LINES, Code, Failed, File, Link, LogLine, LogUnit, Refused, index_line
from tests.unit.scripted_agent import Run
from tests.unit.scripted_door import Exchange, Script, ScriptedDoor, answer, note, refusal

AT = 1_795_399_255_000
LIVE = {"release": "20261123020000Z", "version": "v2"}
STATUS = {"app": "flask-demo", "live": LIVE, "requirements": "requirements.txt"}


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedDoor]:
    door = ScriptedDoor()
    door.on("GET", "/apps/flask-demo/status", answer(STATUS))
    (tmp_path / "pusher.toml").write_text('app = "flask-demo"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PUSHER_HOST", door.address)
    yield door
    door.close()


@pytest.fixture
def version(door: ScriptedDoor, tmp_path: Path) -> Path:
    """app-src/v3; the live release is just this, until it is changed."""
    folder = tmp_path / "app-src/v3"
    (folder / "wheels").mkdir(parents=True)
    for name in ("app.py", "requirements.txt", "wheels/own.whl", "run"):
        (folder / name).write_text(f"this is {name}")
    (folder / "requirements.txt").write_text("this-is-requirements.txt")
    (folder / "link").symlink_to("app.py")
    door.on("GET", "/apps/flask-demo/index", streaming(*map(index_line, read_tree(folder).entries)))
    return folder


def streaming(*lines: bytes) -> Script:
    def script(exchange: Exchange) -> None:
        note(exchange)
        exchange.stream(lines)

    return script


def test_each_line_of_the_log_is_one_safe_line(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (LogLine(AT, LogUnit.SERVICE, "hello", 6, 42), LogLine(AT + 1, LogUnit.HOOK, "two\nlines \x1b[2J"))
    door.on("GET", "/apps/flask-demo/logs", streaming(lines[0].to_line(), b"\n", lines[1].to_line()))
    assert pusher("logs", "-n", "7", "--unit", "hook") == 0
    assert capsys.readouterr().out.splitlines() == [
        "2026-11-23 02:00:55Z service[42]: hello",
        "2026-11-23 02:00:55Z hook: two",
        r"lines \x1b[2J",
    ]
    assert door.paths() == ["GET /apps/flask-demo/logs?lines=7&unit=hook"]
    assert pusher("logs", "--json") == 0
    document = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert document[0] == json.loads(lines[0].to_line()) | {"address": door.address}
    assert door.paths()[-1] == f"GET /apps/flask-demo/logs?lines={LOG_LINES}"


def test_a_log_that_is_followed_ends_only_with_its_agent_or_its_reader(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    door.on("GET", "/apps/flask-demo/logs", streaming(LogLine(AT, LogUnit.SERVICE, "last words").to_line()))
    assert pusher("logs", "-f") == 5
    said = capsys.readouterr()
    assert "last words" in said.out
    assert "ended the log" in said.err
    assert door.paths() == [f"GET /apps/flask-demo/logs?lines={LOG_LINES}&follow=1"]
    assert pusher("logs", "-f", "--host", "a", "--host", "b") == 2


def test_a_log_that_cannot_be_read_is_an_error(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = Failed(Code.SERVICE_FAILED, "The log of flask-demo cannot be read", why="No access")
    door.on("GET", "/apps/flask-demo/logs", streaming(LogLine.broken_off(problem)))
    assert pusher("logs") == 1
    assert "cannot be read: No access" in capsys.readouterr().err
    door.on("GET", "/apps/flask-demo/logs", streaming(b"gibberish\n"))
    assert pusher("logs") == 5
    door.on("GET", "/apps/flask-demo/logs", refusal(Refused(Code.UNKNOWN_APP, "no such app")))
    assert pusher("logs") == 4


@pytest.mark.parametrize("words", [("-n", "x"), ("--lines", "-1"), ("-n", "10001")])
def test_wrong_options_of_logs_are_usage(door: ScriptedDoor, pusher: Run, words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit, match="2"):
        pusher("logs", *words)


def test_an_equal_tree_has_no_difference(
    door: ScriptedDoor, pusher: Run, version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("diff", "v3") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"flask-demo v3 against v2 (20261123020000Z), which is live on {door.address}",
        "5 the same",
        "content to send, unless another release has it: 0 files, 0 bytes",
    ]
    assert door.paths()[-1] == "GET /apps/flask-demo/index?release=20261123020000Z"


def test_every_difference_is_shown_with_its_size(
    door: ScriptedDoor, pusher: Run, version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (version / "app.py").write_text("another")
    (version / "run").chmod(0o755)
    (version / "link").unlink()
    (version / "link").symlink_to("run")
    shutil.rmtree(version / "wheels")
    (version / "new\x1b").write_text("another")
    assert pusher("diff", "v3", "--release", "20261123010000Z") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"flask-demo v3 against release 20261123010000Z on {door.address}",
        "CHANGE   PATH",
        "changed  app.py          14 bytes -> 7 bytes",
        "changed  link            link to app.py -> link to run",
        r"added    new\x1b         7 bytes",
        "mode     run             0644 -> 0755",
        "removed  wheels/own.whl  22 bytes",
        "",
        "1 added, 2 changed, 1 mode, 1 removed, 1 the same",
        "content to send, unless another release has it: 2 files, 14 bytes",
        "requirements.txt or wheels/ changed: the dependencies are installed anew",
    ]
    assert pusher("diff", "v3", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert {
        name: document[name] for name in ("version", "release", "requirements_changed", "same", "new_bytes")
    } == {
        "version": "v3",
        "release": "20261123020000Z",
        "requirements_changed": True,
        "same": 1,
        "new_bytes": 14,
    }
    assert document["changes"][3]["old"]["mode"] == "0644"
    assert document["changes"][1]["new"] == {"target": "run"}


def test_without_a_live_release_everything_is_new(
    door: ScriptedDoor, pusher: Run, version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    door.on("GET", "/apps/flask-demo/status", answer(STATUS | {"live": None}))
    assert pusher("diff", "v3") == 0
    assert "against nothing: no release is live" in capsys.readouterr().out
    assert door.paths() == ["GET /apps/flask-demo/status"]


def test_a_file_that_becomes_a_link_has_changed() -> None:
    old, new = File("a", 0o644, 1, "0" * 64), Link("a", "b")
    assert [change.kind for change in compare([old], [new]).changes] == ["changed"]
    assert compare([new], [old]).travelling == (old,)


def test_a_history_of_odd_records_is_shown_as_far_as_it_can_be(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = {"app": "flask-demo", "history": 7, "deployments": [3, {"deployment": [], "problem": "x"}]}
    door.on("GET", "/apps/flask-demo/releases", answer(odd))
    records = [
        {"what": "begun", "id": [], "kind": {}, "started": True},
        {"what": "ended", "id": [], "phase": "do\x1bne", "finished": "x"},
        {"what": "command", "run": {}, "time": 1 << 60},
    ]
    lines = "".join(json.dumps(one) + "\n" for one in records) + "[]\nno JSON\n"

    def send(exchange: Exchange) -> None:
        note(exchange)
        exchange.send_response(200)
        exchange.send_header("Content-Type", "application/x-ndjson")
        exchange.send_header("Content-Length", str(len(lines)))
        exchange.end_headers()
        exchange.wfile.write(lines.encode())

    door.on("GET", "/apps/flask-demo/history", send)
    pusher("history", "--host", door.address)
    said = capsys.readouterr().out
    assert r"do\x1bne" in said
    assert "command None" in said
