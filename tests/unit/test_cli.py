"""Commands report what happened, in words and by their exit code. The agent is scripted."""

import hashlib
import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from pusher import __main__ as pusher_main
from pusher import __version__
from pusher.bundle.archive import Bundle, read_bundle, write_bundle
from pusher.bundle.manifest import make_manifest
from pusher.bundle.signed_manifest import SignedManifest, sign_manifest
from pusher.bundle.tree import read_tree
from pusher.cli.parser import command
from pusher.commands import NAMES
from pusher.errors import Unreachable
from pusher.fleet import follow
from pusher.terminal.screen import Screen
from pusher.transport.client import Client
from pusher.wire import Code, Event, Failed, Happened, Manifest, Refused, Stuck, format_timestamp, parse_timestamp
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
from tests.unit.scripted_door import Exchange, Script, ScriptedDoor, answer, events, note, refusal, silence


def test_send_deploys_and_shows_it(
    door: ScriptedDoor, pusher: Run, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = int(time.time() * 1000)
    assert pusher("send", "v3", "--host", door.address) == 0
    start, first, step, last, where = capsys.readouterr().out.splitlines()
    assert start.startswith("start: the host decides; no Flask, ")
    assert first == f"sending flask-demo v3 to {door.address}: 1 file, 11 bytes"
    assert step == "  unpack                              12 ms"
    assert last.startswith(f"flask-demo v3 is live on {door.address}: release 20261123020055Z, ")
    assert where == "  it answers at http://127.0.0.1:8000/"
    status = "GET /apps/flask-demo/status"  # at the end: is there anything else that people should know?
    assert door.paths() == [status, f"POST {UPLOAD}", f"GET {EVENTS}?after=0", status]
    (packed,) = sent(door, project)
    assert [(file.path, b"".join(content)) for file, content in packed.contents()] == [("app.py", b"app = None\n")]
    assert packed.manifest.hosts == ("web1.example.com",)
    assert before <= packed.manifest.created <= time.time() * 1000
    assert packed.manifest.expires - packed.manifest.created == 30 * 24 * 3600 * 1000


def test_a_send_asks_everything_over_one_connection(door: ScriptedDoor, pusher: Run, project: Path) -> None:
    assert pusher("send", "v3", "--host", door.address) == 0
    assert len(door.requests) == 4
    assert len({request.connection for request in door.requests}) == 1


def test_a_deployment_has_ended_when_its_last_event_came_whatever_follows(
    door: ScriptedDoor, pusher: Run, project: Path
) -> None:
    door.on("GET", EVENTS, events(STEP, DONE, None, STEP, ended=False))
    assert pusher("send", "v3", "--host", door.address) == 0


def test_a_clock_that_is_behind_does_not_lock_out(door: ScriptedDoor, pusher: Run, project: Path) -> None:
    newest = int(time.time() * 1000) + 100_000
    door.on("GET", "/apps/flask-demo/status", answer(STATUS | {"newest_created": format_timestamp(newest)}))
    assert pusher("send", "v3", "--host", door.address) == 0
    assert sent(door, project)[0].manifest.created == newest + 1


@pytest.mark.parametrize("newest", ["yesterday", 7, "9999-12-31T23:59:59.999Z"])
def test_an_unreadable_newest_created_is_ignored(door: ScriptedDoor, pusher: Run, newest: object) -> None:
    door.on("GET", "/apps/flask-demo/status", answer(STATUS | {"newest_created": newest}))
    assert pusher("send", "v3", "--host", door.address) == 0


def large(project: Path) -> Path:
    """Make v3 large enough that asking what is missing pays."""
    (project / "app-src/v3/big").write_bytes(os.urandom(300_000))
    return project / "app-src/v3/big"


def test_only_missing_content_of_a_large_payload_is_sent(
    door: ScriptedDoor, pusher: Run, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large(project)

    def which(exchange: Exchange) -> None:
        body = exchange.body()
        note(exchange, body)
        (project / "sent").write_bytes(body)
        signed = read_bundle(project / "sent")
        exchange.document({"missing": [file.sha256 for file in signed.files if file.path == "app.py"]})

    door.on("POST", "/apps/flask-demo/missing", which)
    assert pusher("send", "v3", "--host", door.address) == 0
    assert "2 files, 300.0 kB, of which 1 file, 11 bytes must travel" in capsys.readouterr().out
    signed, packed = sent(door, project)
    assert list(signed.contents()) == []
    assert signed.signed == packed.signed
    assert [file.path for file, _ in packed.contents()] == ["app.py"]


def test_content_that_the_host_lost_meanwhile_is_sent(
    door: ScriptedDoor, pusher: Run, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large(project)
    door.on("POST", "/apps/flask-demo/missing", answer({"missing": []}))
    incomplete = Refused(Code.BUNDLE_INCOMPLETE, "big is not in it")
    door.on("POST", UPLOAD, refusal(incomplete), STARTED, STARTED)
    door.on("GET", EVENTS, events(ended(incomplete)), events(STEP, DONE))
    assert pusher("send", "v3", "--host", door.address) == 4
    capsys.readouterr()
    door.on("POST", UPLOAD, refusal(incomplete), STARTED)
    assert pusher("send", "v3", "--host", door.address) == 0
    assert "lacks more than it said: sending everything" in capsys.readouterr().out
    last = sent(door, project)[-1]
    assert [file.path for file, _ in last.contents()] == ["app.py", "big"]


def test_init_writes_what_it_found_and_what_would_start_if_a_server_were_there(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = project / "shop"
    (shop / "shop").mkdir(parents=True)
    (shop / "shop/__init__.py").write_text(
        "from flask import Flask\ndef create_app():\n    app = Flask(__name__)\n    return app\n"
    )
    (shop / "requirements.txt").write_text("flask\n")
    assert pusher("init", str(shop)) == 0
    assert "its dependencies have no web server: add gunicorn" in capsys.readouterr().out
    assert (
        (shop / "pusher.toml").read_text().endswith("# [run]\n# start = \"gunicorn -w 2 'shop:create_app()'\"\n")
    )
    (shop / "pusher.toml").unlink()
    (shop / "requirements.txt").write_text("flask\ngunicorn\n")
    assert pusher("init", str(shop)) == 0
    assert "\n[run]\nstart = \"gunicorn -w 2 'shop:create_app()'\"\n" in (shop / "pusher.toml").read_text()


def test_init_writes_no_host_that_the_next_command_would_refuse(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = project / "shop"
    shop.mkdir()
    assert pusher("init", str(shop), "--host", "web 1") == 2
    assert "'web 1' is not a valid address of a host" in capsys.readouterr().err
    assert pusher("init", str(shop), "--host", "web1", "--host", "ssh://me@web2", "--host", "web1") == 0
    assert [*tomllib.loads((shop / "pusher.toml").read_text())["hosts"]] == ["web1", "ssh://me@web2"]


def test_init_leaves_to_a_procfile_what_that_says(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is changed in the Procfile later is meant."""
    shop = project / "shop"
    shop.mkdir()
    (shop / "Procfile").write_text("web: gunicorn shop:app\nworker: huey_consumer shop.huey\n")
    assert pusher("init", str(shop)) == 0
    assert "start: gunicorn shop:app (Procfile)\n" in capsys.readouterr().out
    written = (shop / "pusher.toml").read_text()
    assert "run" not in tomllib.loads(written)
    assert '# [run]\n# start = "gunicorn shop:app"\n' in written
    assert '# [run.processes.worker]\n# start = "huey_consumer shop.huey"\n' in written


def test_init_says_how_a_program_with_a_server_of_its_own_is_started(project: Path, pusher: Run) -> None:
    own = project / "own"
    own.mkdir()
    (own / "main.py").write_text("from aiohttp import web\nweb.run_app(web.Application())\n")
    (own / "requirements.txt").write_text("aiohttp\n")
    assert pusher("init", str(own)) == 0
    written = (own / "pusher.toml").read_text()
    assert written.endswith('# start = "python main.py --port=$PORT"\n# listen_via = "port"\n')


@pytest.mark.parametrize(("start", "code"), [("", 2), ("python main.py", 0)])
def test_a_version_that_no_host_can_start_is_not_sent_unless_the_host_says_how(
    start: str, code: int, door: ScriptedDoor, pusher: Run, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was sent, and its dependencies were installed, before the host found no gunicorn in them."""
    (project / "app-src/v3/app.py").write_text("from aiohttp import web\nweb.run_app(web.Application())\n")
    (project / "app-src/v3/pyproject.toml").write_text(
        '[project]\nname = "shop"\nversion = "1"\ndependencies = ["aiohttp"]\n'
    )
    door.on("GET", "/apps/flask-demo/status", answer(STATUS | {"host_start": start}))
    assert pusher("send", "v3", "--host", door.address) == code
    said = capsys.readouterr().err
    assert (
        ("Nothing was sent: the version cannot be started" in said)
        == ('listen_via = "port"' in said)
        == bool(code)
    )


def live_with(last: Bundle) -> Script:
    """A status in which what was sent last is live."""
    manifest = hashlib.sha256(last.signed.manifest).hexdigest()
    return answer(STATUS | {"live": {"release": "20261123020055Z", "version": "v3", "manifest": manifest}})


def test_what_the_live_release_lacks_is_sent_unasked_if_it_was_sent_from_here_and_little_has_changed(
    door: ScriptedDoor, pusher: Run, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    big = large(project)
    door.on("POST", "/apps/flask-demo/missing", answer({"missing": []}))
    assert pusher("send", "v3", "--host", door.address) == 0
    door.on("GET", "/apps/flask-demo/status", live_with(sent(door, project)[-1]))
    (project / "app-src/v3/app.py").write_text("app = 1\n")
    capsys.readouterr()
    before = len(door.requests)
    assert pusher("send", "v3", "--host", door.address) == 0
    assert "2 files, 300.0 kB, of which 1 file, 8 bytes must travel" in capsys.readouterr().out
    assert not [path for path in door.paths()[before:] if "missing" in path]
    last = sent(door, project)[-1]
    assert [file.path for file, _ in last.contents()] == ["app.py"]
    big.write_bytes(os.urandom(300_000))
    before = len(door.requests)
    assert pusher("send", "v3", "--host", door.address) == 0
    assert [path for path in door.paths()[before:] if "missing" in path]


def test_a_host_that_lacks_more_than_its_live_release_promises_is_asked(
    door: ScriptedDoor, pusher: Run, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large(project)
    door.on("POST", "/apps/flask-demo/missing", answer({"missing": []}))
    assert pusher("send", "v3", "--host", door.address) == 0
    first = sent(door, project)[-1]
    door.on("GET", "/apps/flask-demo/status", live_with(first))
    digest = next(file.sha256 for file in first.files if file.path == "big")
    door.on("POST", "/apps/flask-demo/missing", answer({"missing": [digest]}))
    incomplete = Refused(Code.BUNDLE_INCOMPLETE, "big is not in it")
    door.on("POST", UPLOAD, refusal(incomplete), STARTED)
    assert pusher("send", "v3", "--host", door.address) == 0
    assert "sending everything" not in capsys.readouterr().out
    assert [file.path for file, _ in sent(door, project)[-1].contents()] == ["big"]


@pytest.mark.parametrize("said", [None, 7, "x", "../" * 22, "0" * 64])
def test_a_live_release_that_is_not_known_here_is_no_reason_not_to_ask(
    door: ScriptedDoor, pusher: Run, project: Path, said: object
) -> None:
    large(project)
    door.on("POST", "/apps/flask-demo/missing", answer({"missing": []}))
    live = {"release": "20261123020055Z", "version": "v3", "manifest": said}
    door.on("GET", "/apps/flask-demo/status", answer(STATUS | {"live": live}))
    assert pusher("send", "v3", "--host", door.address) == 0
    assert "POST /apps/flask-demo/missing" in door.paths()


def test_a_complete_upload_that_is_called_incomplete_is_not_repeated(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    door.on("POST", UPLOAD, refusal(Refused(Code.BUNDLE_INCOMPLETE, "app.py is not in it")))
    assert pusher("send", "v3", "--host", door.address) == 4
    assert capsys.readouterr().err == "pusher: app.py is not in it\n"


def test_a_bundle_file_is_sent_as_it_was_signed(door: ScriptedDoor, pusher: Run, project: Path) -> None:
    large(project)
    assert pusher("pack", "v3", "-o", "b.tar.zst") == 0
    packed = read_bundle(Path("b.tar.zst"))
    door.on("POST", "/apps/flask-demo/missing", answer({"missing": [packed.files[1].sha256]}))
    (project / "pusher.toml").unlink()
    assert pusher("send", "b.tar.zst", "--host", door.address) == 0
    _, travelled = sent(door, project)
    assert travelled.signed == packed.signed
    assert [file.path for file, _ in travelled.contents()] == ["big"]
    assert "GET /apps/flask-demo/status" not in door.paths()[:-1]


def test_a_failed_deployment_ends_with_what_the_hook_wrote(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = Failed(
        Code.HOOK_FAILED, "before-symlink failed", why="exit code 3", output="no table \x1b[31musers\n"
    )
    door.on("GET", EVENTS, events(STEP, ended(problem)))
    assert pusher("send", "v3", "--host", door.address) == 1
    assert capsys.readouterr().err == "pusher: before-symlink failed: exit code 3\n\nno table \\x1b[31musers\n"


@pytest.mark.parametrize(
    ("event", "exit_code"),
    [
        (ended(Failed(Code.APP_EXITED, "It ended")), 1),
        (ended(Refused(Code.CONTENT_MISMATCH, "It was changed")), 4),
        (ended(Stuck(Code.NOT_UNDONE, "Look"), outcome="stuck"), 6),
        (ended(Failed(Code.APP_EXITED, "It ended"), outcome="stuck"), 6),
        (Event(3, 0, Happened.FINISHED, {"outcome": "failed"}), 1),
    ],
)
def test_the_exit_code_says_how_it_ended(door: ScriptedDoor, pusher: Run, event: Event, exit_code: int) -> None:
    door.on("GET", EVENTS, events(event))
    assert pusher("send", "v3", "--host", door.address) == exit_code


def test_an_app_that_is_stuck_is_not_called_live(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    event = ended(Stuck(Code.NOT_UNDONE, "Look"), outcome="stuck")
    live = {"release": "20261123020055Z", "version": "v2"}
    data = {**event.data, "app": "flask-demo", "live": live}
    door.on("GET", EVENTS, events(Event(event.seq, event.time, event.event, data)))
    assert pusher("send", "v3", "--host", door.address) == 6
    said = capsys.readouterr().out
    assert f"flask-demo v2 is current on {door.address}, but the app is stuck: release 20261123020055Z\n" in said


def test_after_a_lost_connection_following_goes_on_where_it_was(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    door.on("GET", EVENTS, events(STEP, ended=False), silence, events(), events(DONE))
    assert pusher("send", "v3", "--host", door.address) == 0
    assert door.paths()[-5:-1] == [f"GET {EVENTS}?after={after}" for after in (0, 2, 2, 2)]
    assert capsys.readouterr().out.count("unpack") == 1


class Watch:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("script", [silence, events()])
def test_an_agent_that_stays_away_is_given_up_after_a_minute(
    door: ScriptedDoor, script: Callable[[Exchange], None]
) -> None:
    door.on("GET", EVENTS, script)
    client, watch = Client(door.host), Watch()
    with pytest.raises(
        Unreachable,
        match=f"The connection to web1 was lost during .* The deployment goes on there.*--deployment {DEPLOYMENT}",
    ):
        follow.follow(client, DEPLOYMENT, Screen(), elapsed=watch, sleep=watch.sleep)
    assert follow.UNREACHABLE_S < watch.now < follow.UNREACHABLE_S + 5
    client.close()


def test_ctrl_c_says_that_the_deployment_goes_on(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    door.on("GET", EVENTS, interrupt)
    assert pusher("send", "v3", "--host", door.address) == 130
    assert capsys.readouterr().err == (
        f"\npusher: Deployment {DEPLOYMENT} goes on at {door.address}. "
        f"To follow it: pusher status --host {door.address} --deployment {DEPLOYMENT} --follow\n"
    )


def test_send_begins_with_what_becomes_of_the_dependencies(
    door: ScriptedDoor, pusher: Run, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = 'lock-version = "1.0"\ncreated-by = "a test"\npackages = []\n'
    (project / "app-src/v3/pylock.toml").write_text(lock)

    def said(live: object) -> str:
        door.on("GET", "/apps/flask-demo/status", answer({**STATUS, "live": live}))
        assert pusher("send", "v3", "--host", door.address) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sending ")]
        return line.partition(" bytes")[2]

    live = {"release": "20261123010000Z", "version": "v2"}
    assert said({**live, "lock": None}) == said(live) == said("odd") == said(None) == ""
    (packed, *_) = sent(door, project)
    (digest,) = [file.sha256 for file in packed.files if file.path == "pylock.toml"]
    assert said({**live, "lock": digest}) == "; dependencies as before"
    assert said({**live, "lock": "0" * 64}) == "; a venv is made for other dependencies"


def test_ctrl_c_while_sending_says_how_to_see_the_result(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt_when_all_has_come(exchange: Exchange) -> None:
        exchange.body()
        interrupt(exchange)

    door.on("POST", UPLOAD, interrupt_when_all_has_come)
    assert pusher("send", "v3", "--host", door.address) == 130
    said = capsys.readouterr().err
    assert f"Interrupted while sending to {door.address}. It is deployed only if it arrived completely" in said


def test_ctrl_c_while_asking_for_a_rollback_says_that_it_may_have_begun(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    door.on("POST", "/apps/flask-demo/rollback", interrupt)
    assert pusher("rollback", "--host", door.address) == 130
    see = f"To see whether it began: pusher status --host {door.address}"
    assert capsys.readouterr().err == f"\npusher: Interrupted while asking {door.address} to roll back. {see}\n"


@pytest.mark.parametrize(
    ("words", "path", "said"),
    [
        (("send", "v3"), UPLOAD, "It is deployed only if it arrived completely. To see it: pusher status --host "),
        (("rollback",), "/apps/flask-demo/rollback", "To see whether it began: pusher status --host "),
    ],
)
def test_after_a_connection_lost_before_the_answer_the_hint_says_how_to_see_the_result(
    door: ScriptedDoor,
    pusher: Run,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    path: str,
    said: str,
) -> None:
    def swallow(exchange: Exchange) -> None:
        note(exchange, exchange.body())
        exchange.hang_up()

    door.on("POST", path, swallow)
    assert pusher(*words, "--host", door.address) == 5
    assert f"  {said}{door.address}" in capsys.readouterr().err


def test_a_second_ctrl_c_keeps_the_message_of_the_first(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closing(client: Client) -> None:
        raise KeyboardInterrupt

    door.on("GET", EVENTS, interrupt)
    monkeypatch.setattr(Client, "close", closing)
    assert pusher("send", "v3", "--host", door.address) == 130
    assert f"\npusher: Deployment {DEPLOYMENT} goes on at {door.address}. " in capsys.readouterr().err


def test_ctrl_c_before_anything_happened_says_only_interrupted(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    door.on("GET", "/apps/flask-demo/status", interrupt)
    assert pusher("status", "--host", door.address) == 130
    assert capsys.readouterr().err == "\npusher: Interrupted\n"


def test_send_to_unreachable_hosts_signs_nothing(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "pusher.toml").write_text('app = "flask-demo"\nkey = "no-such-key"\n')
    assert pusher("send", "v3", "--host", "unix:/a", "--host", "unix:/b") == 5
    assert "No agent answers for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("send", "v3"), "No host is named"),
        (("send", "v4", "--host", "x"), "has no version 'v4'"),
        (("send", "v3", "--host", "x", "--app", "No App"), "The name of the app is not valid"),
        (("send", "v3", "--host", "-x"), "argument --host: expected one argument"),
        (("pack", "pusher.toml"), "pusher.toml is a file"),
        (("pack", "v3", "-o", "nowhere/b"), "nowhere/b cannot be written: No such file"),
        (("pack", "v3", "--days", "0"), "expected a number of days from 1 to 3650"),
        (("pack", "v3", "--config", "none.toml"), "none.toml cannot be read"),
        (("verify", "none"), "none cannot be read"),
        (("frobnicate",), "pusher has no command 'frobnicate'"),
        ((), "COMMAND"),
    ],
)
def test_wrong_usage_exits_with_2(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], said: str
) -> None:
    try:
        exit_code = pusher(*argv)
    except SystemExit as left:
        exit_code = int(left.code or 0)
    assert exit_code == 2
    assert said in capsys.readouterr().err


def test_the_app_must_be_named_to_send_but_not_to_ask(
    door: ScriptedDoor, pusher: Run, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "pusher.toml").unlink()
    door.on("GET", "/status", answer(STATUS))
    door.on("POST", "/rollback", STARTED)
    door.on("POST", "/apps/flask-demo/pin", answer({}))
    assert pusher("send", "v3", "--host", door.address) == 2
    assert "Name it with --app, PUSHER_APP, or app = " in capsys.readouterr().err
    assert pusher("status", "--host", door.address) == 0
    assert pusher("rollback", "--host", door.address) == 0
    assert pusher("pin", "20261123020000Z", "--host", door.address) == 0
    assert door.paths()[-1] == "POST /apps/flask-demo/pin?release=20261123020000Z"


def test_status_says_why_an_app_does_not_run(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "flask-demo.service could not be started: unit not found"
    door.on("GET", "/apps/flask-demo/status", answer(STATUS | {"running": False, "trouble": why}))
    assert pusher("status", "--host", door.address) == 0
    assert f"  running    no\n  trouble    {why}\n" in capsys.readouterr().out


def test_status_of_several_hosts_says_what_people_should_know(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ScriptedDoor()
    try:
        other.on("GET", "/apps/flask-demo/status", answer(STATUS | {"drift": "app.py: its content differs"}))
        assert pusher("status", "--host", door.address, "--host", other.address) == 0
        first, second = capsys.readouterr().out.splitlines()[1:]
    finally:
        other.close()
    assert first.endswith("yes")
    assert second.endswith("yes      drift app.py: its content differs: the live release is not as it was signed")


def test_status_shows_what_is_live(door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert pusher("status", "--host", door.address) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"flask-demo on web1.example.com, agent {__version__}",
        "  live       v2 (20261123020000Z)",
        "  previous   -",
        "  running    yes at 0.0.0.0:8000",
    ]
    last = {"kind": "deploy", "version": "v1", "outcome": "failed", "problem": {"title": "It ended"}, "ms": 7}
    deploying = {"deployment": DEPLOYMENT, "version": "v3", "by": "bob", "kind": "deploy"}
    status = STATUS | {"running": False, "deploying": deploying, "last": last}
    door.on("GET", "/apps/flask-demo/status", answer(status))
    assert pusher("status", "--host", door.address) == 0
    assert capsys.readouterr().out.splitlines()[3:] == [
        "  running    no",
        f"  deploying  v3 ({DEPLOYMENT}), by bob",
        "  last       deploy of v1, failed, 7 ms: It ended",
    ]


@pytest.mark.parametrize(
    ("members", "lines"),
    [
        ({"state": "current"}, ["stable, wants v3: current"]),
        ({"state": "waiting", "awaited": "window"}, ["stable, wants v3: waiting for its window"]),
        ({"state": "held"}, ["stable, wants v3: held", "a person made another release live there; it follows"]),
        (
            {
                "state": "refused",
                "problem": {"title": "No room", "detail": "2 bytes are free", "hint": "Make room"},
            },
            ["stable, wants v3: refused: No room: 2 bytes are free", "Make room"],
        ),
        ({"state": "failed", "problem": {"title": "It ended"}}, ["stable, wants v3: failed: It ended"]),
    ],
)
def test_status_shows_what_is_in_the_way_of_a_channel_and_what_to_do(
    door: ScriptedDoor,
    pusher: Run,
    capsys: pytest.CaptureFixture[str],
    members: dict[str, object],
    lines: list[str],
) -> None:
    channel = {"channel": "stable", "wanted": {"version": "v3"}, "awaited": None, "problem": None, **members}
    door.on("GET", "/apps/flask-demo/status", answer(STATUS | {"channel": channel}))
    assert pusher("status", "--host", door.address) == 0
    said = capsys.readouterr().out.splitlines()[4:]
    assert said[0] == f"  channel    {lines[0]}"
    assert len(said) == len(lines)
    assert all(one.strip().startswith(line) for one, line in zip(said[1:], lines[1:], strict=True))


def test_json_is_the_agents_document_with_the_address(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    door.on("GET", "/apps/flask-demo/releases", answer({"releases": [], "deployments": []}))
    assert pusher("status", "--json", "--host", door.address) == 0
    assert json.loads(capsys.readouterr().out) == STATUS | {"address": door.address}
    assert pusher("releases", "--json", "--host", door.address, "--host", "unix:/nonexistent") == 5
    assert json.loads(capsys.readouterr().out) == {"releases": [], "deployments": [], "address": door.address}


def test_one_deployment_is_shown_or_followed(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    started = "2026-11-23T02:00:55.000Z"
    door.on("GET", f"/deployments/{DEPLOYMENT}", answer({**ABOUT, "outcome": None, "started": started}))
    assert pusher("status", "--deployment", DEPLOYMENT, "--host", door.address) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"deployment {DEPLOYMENT} of flask-demo: deploy of v3, running, 2026-11-23 02:00:55",
        "  by         alice",
        "  release    20261123020055Z",
    ]
    assert pusher("status", "--deployment", DEPLOYMENT, "--follow", "--host", door.address) == 0
    live = f"flask-demo v3 is live on {door.address}: release 20261123020055Z, 640 ms"
    assert capsys.readouterr().out.splitlines()[-1] == live


def test_follow_without_an_id_follows_the_running_deployment(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("status", "--follow", "--host", door.address) == 4
    assert "There is nothing to follow: no deployment is running" in capsys.readouterr().err
    door.on("GET", "/apps/flask-demo/status", answer(STATUS | {"deploying": {"deployment": DEPLOYMENT}}))
    assert pusher("status", "--follow", "--host", door.address) == 0


def test_releases_are_listed_with_the_last_deployments(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "/apps/flask-demo/releases"
    door.on("GET", path, answer({"releases": [], "deployments": []}))
    assert pusher("releases", "--host", door.address) == 0
    assert capsys.readouterr().out == "no releases yet\n"
    created = "2026-11-23T02:00:00.000Z"
    before = format_timestamp(int((time.time() - 50 * 3600) * 1000))
    release = {"id": "r2", "version": "v2", "standing": "good", "created": before, "by": "alice", "live": True}
    release |= {"size": 1200, "signed_by": "a@b"}
    failed = {"deployment": "d3", "kind": "deploy", "version": "v3", "outcome": "failed", "started": created}
    failed |= {"ms": 7, "by": "bob", "problem": {"title": "It ended"}}
    releases = [
        release,
        {"id": "r1", "version": "v1\x1b[2J", "standing": "good", "fallback": True, "pinned": True},
        {"id": "r0", "version": "v0", "standing": "withdrawn"},
    ]
    door.on("GET", path, answer({"releases": releases, "deployments": [failed, {"deployment": "d2"}]}))
    assert pusher("releases", "--host", door.address) == 0
    assert capsys.readouterr().out.splitlines() == [
        "   VERSION    RELEASE  STATE                   AGE         SIZE    BY     SIGNED BY",
        "*  v2         r2       live                    2 days ago  1.2 kB  alice  a@b",
        r"   v1\x1b[2J  r1       good, fallback, pinned",
        r"   v0         r0       withdrawn",
        "",
        "DEPLOYMENT  KIND    VERSION  OUTCOME  STARTED (UTC)        TOOK  BY",
        "d3          deploy  v3       failed   2026-11-23 02:00:00  7 ms  bob  It ended",
        "d2          None    None     running",
    ]


@pytest.mark.parametrize(
    "found", [None, 1, "x", {"a": 1}, [1], [None], [{"problem": 1, "source": 1, "created": 1}]]
)
def test_releases_in_no_form_that_an_agent_gives_are_left_out(
    door: ScriptedDoor, pusher: Run, found: object
) -> None:
    door.on("GET", "/apps/flask-demo/releases", answer({"releases": found, "deployments": found}))
    assert pusher("releases", "--host", door.address) == 0
    assert pusher("rollback", "--to", "v1", "--host", door.address, "--host", "unix:/nonexistent") in (4, 5)


def test_a_host_that_names_no_app_pins_nothing(door: ScriptedDoor, pusher: Run, project: Path) -> None:
    (project / "pusher.toml").write_text("")
    door.on("GET", "/status", answer({}))
    assert pusher("pin", "r1", "--host", door.address) == 5


def test_rollback_and_pin_say_what_they_did(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    door.on("POST", "/apps/flask-demo/rollback", STARTED)
    warned = {**DONE.data, "warning": Failed(Code.HOOK_FAILED, "after-cleanup failed").to_document()}
    door.on("GET", EVENTS, events(Event(1, 0, Happened.FINISHED, warned)))
    assert pusher("rollback", "--to", "20261123020055Z", "--host", door.address) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"rolling back flask-demo on {door.address}",
        f"flask-demo v3 is live on {door.address}: release 20261123020055Z, 640 ms",
        "warning: after-cleanup failed",
    ]
    door.on("POST", "/apps/flask-demo/pin", answer({}))
    door.on("DELETE", "/apps/flask-demo/pin", answer({}))
    assert pusher("pin", "r1", "--host", door.address) == 0
    assert pusher("unpin", "r1", "--host", door.address) == 0
    assert capsys.readouterr().out == "r1 is pinned: it stays until you unpin it\nr1 is no longer pinned\n"


def test_a_bundle_that_was_packed_into_a_folder_is_no_part_of_the_next_one(project: Path, pusher: Run) -> None:
    """`pusher pack .` without git: each bundle had the one before in it."""
    assert pusher("pack", ".", "--as", "v1") == 0
    assert pusher("pack", ".", "--as", "v2") == 0
    packed = {file.path for file in read_bundle(project / "flask-demo-v2.tar.zst").files}
    assert "pusher.toml" in packed
    assert "flask-demo-v1.tar.zst" not in packed
    (project / ".pusherignore").write_text("!flask-demo-v1.tar.zst\n")
    assert pusher("pack", ".", "--as", "v3") == 0
    packed = {file.path for file in read_bundle(project / "flask-demo-v3.tar.zst").files}
    assert "flask-demo-v1.tar.zst" in packed
    assert "flask-demo-v2.tar.zst" not in packed


def test_pack_and_verify(project: Path, pusher: Run, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pusher("pack", "v3", "--for", "web2", "--for", "web1", "--days", "1") == 0
    file = project / "flask-demo-v3.tar.zst"
    assert capsys.readouterr().out.splitlines()[1].startswith("flask-demo-v3.tar.zst: flask-demo v3, 1 file, ")
    assert [one.name for one in project.iterdir() if one.name.startswith(".flask")] == []
    signers = project / "signers"
    signers.write_text(f"alice {key.with_suffix('.pub').read_text()}")
    assert pusher("verify", str(file), "--signers", str(signers)) == 0
    first, *_, signed, whose = capsys.readouterr().out.splitlines()
    assert first.endswith("flask-demo v3, 1 file, 11 bytes, complete")
    assert signed.startswith("  signed  ssh-ed25519 SHA256:")
    assert whose == "          by alice"
    assert pusher("verify", str(file), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["app"], said["version"], said["hosts"], said["files"]) == (
        "flask-demo",
        "v3",
        ["web1", "web2"],
        1,
    )
    assert parse_timestamp(said["expires"]) - parse_timestamp(said["created"]) == 24 * 3600 * 1000
    assert pusher("verify", str(file)) == 0
    assert "--signers FILE" in capsys.readouterr().out


def test_a_second_person_signs_a_bundle_file(
    project: Path, pusher: Run, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("pack", "v3", "-o", "b") == 0
    before = read_bundle(project / "b")
    assert pusher("sign", "b", "--key", str(key)) == 2
    assert "has signed it already" in capsys.readouterr().err
    for number in range(3):
        other = project / f"other{number}"
        subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)), check=True)
        assert pusher("sign", "b", "--key", str(other)) == 0
    after = read_bundle(project / "b")
    assert after.signed.signature.startswith(before.signed.signature)
    assert (after.signed.manifest, after.signed.index) == (before.signed.manifest, before.signed.index)
    assert pusher("sign", "b", "--key", str(other)) == 2
    assert "may not have more" in capsys.readouterr().err
    assert pusher("verify", "b", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["signers"]) == 4
    assert shown["signer"] == shown["signers"][0]
    signers = project / "signers"
    signers.write_text(f"alice {key.with_suffix('.pub').read_text()}")
    assert pusher("verify", "b", "--signers", str(signers)) == 4


def test_verify_refuses_what_a_host_would_refuse(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pusher("pack", "v3", "-o", "b") == 0
    packed = read_bundle(Path("b"))
    old = Manifest.from_bytes(packed.signed.manifest)
    Path("partial").write_bytes(b"".join(write_bundle(packed.signed)))
    assert pusher("verify", "partial") == 4
    assert "partial is not complete: it lacks 'app.py'" in capsys.readouterr().err
    changed = old.to_bytes().replace(b'"v3"', b'"v4"')
    signed = SignedManifest(changed, packed.signed.signature, packed.signed.index)
    Path("forged").write_bytes(b"".join(write_bundle(signed, packed.contents())))
    assert pusher("verify", "forged") == 4
    assert "The signature is not valid" in capsys.readouterr().err


def test_verify_refuses_a_bundle_that_has_expired(
    project: Path, pusher: Run, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = read_tree(project / "app-src/v3")
    manifest = make_manifest(tree, app="flask-demo", version="v3", created=0, expires=1)
    signed = sign_manifest(manifest, tree, key=str(key))
    Path("b").write_bytes(b"".join(write_bundle(signed, tree.contents())))
    assert pusher("verify", "b") == 4
    assert "b has expired: on 1970-01-01" in capsys.readouterr().err


def test_a_bundle_appears_whole_or_not_at_all(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("b").mkdir()
    assert pusher("pack", "v3", "-o", "b") == 2
    assert "b cannot be written: Is a directory" in capsys.readouterr().err
    assert [one.name for one in project.iterdir() if one.name.startswith(".")] == []


def test_only_files_are_replaced_by_a_bundle(
    project: Path, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("pipe")
    assert pusher("pack", "v3", "-o", "pipe") == 2
    assert "pipe cannot be written: it is not a regular file" in capsys.readouterr().err
    assert Path("pipe").is_fifo()
    Path("link").symlink_to("bundle")
    for _ in range(2):
        assert pusher("pack", "v3", "-o", "link") == 0
        assert (Path("link").is_symlink(), Path("bundle").is_symlink()) == (True, False)
    assert pusher("verify", "bundle") == 0


def test_the_completion_scripts_are_printed(pusher: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert pusher("completion", shell) == 0
        assert "pusher __complete" in capsys.readouterr().out
    assert pusher("__complete", "ver") == 0
    assert capsys.readouterr().out == "verify\n"


def test_a_bug_in_pusher_is_reported_with_its_traceback(
    pusher: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pusher.cli.main.run", lambda argv: {}["key"])
    assert pusher() == 3
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert "KeyError: 'key'\npusher: This is a bug in pusher, not your mistake" in said


def test_the_version_is_printed_before_anything_slow_is_imported() -> None:
    program = (
        "import sys; from pusher.__main__ import main; sys.argv = ['pusher', '--version']\ntry: main()\nfinally:"
    )
    slow = (
        "aiohttp",
        "click",
        "http.client",
        "pathspec",
        "pydantic",
        "pusher.wire",
        "rich",
        "structlog",
        "zstandard",
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{program} print([name for name in {slow} if name in sys.modules])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [f"pusher {__version__}", "[]"]


def test_every_command_is_declared_in_the_file_of_its_name() -> None:
    assert [command(name).name for name in NAMES] == list(NAMES)
    words = {name: (command(name).help, command(name).description) for name in NAMES}
    assert all(all(texts) for texts in words.values())


@pytest.mark.parametrize("argv", [["verify", "--help"], ["__complete", "verify", "--"]])
def test_a_command_imports_no_other(argv: list[str]) -> None:
    program = (
        f"import sys; from pusher.__main__ import main; sys.argv = ['pusher', *{argv}]\ntry: main()\nfinally: "
        f"print([name for name in {NAMES} if 'pusher.commands.' + name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['verify']"


def test_no_command_imports_the_agent_or_its_libraries() -> None:
    package = Path(pusher_main.__file__).parent
    modules = [
        ".".join(("pusher", *file.relative_to(package).with_suffix("").parts))
        for file in package.rglob("*.py")
        if file.stem != "drawing"  # what draws is imported when a terminal shows it
    ]
    program = f"import sys, {', '.join(modules)}\nprint([m for m in sys.modules if m.split('.')[0] in "
    heavy = {"agent", "aiohttp", "click", "pydantic", "rich", "structlog"}
    done = subprocess.run(
        [sys.executable, "-c", f"{program}{heavy}])"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
