"""An agent as a citizen of its host: what its journal and its status say, and how it stops in the middle."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import versions
from tests.system.server import APP, Server

AT_ONCE_S = 12  # on a busy machine; it would wait for 20 more
AGENT = "pusher-agent.service"
POST = ("curl", "-sS", "--max-time", "60", "-X", "POST", "-T")
DOOR = f"agent:9000/apps/{APP}/deployments"


def held(source: Path, version: str) -> Path:
    return versions.write(source, version, before=versions.HELD)


def entries(server: Server, *matches: str) -> list[dict[str, str]]:
    """The agent's entries of the journal with these fields."""
    said = server.machine.run(
        "journalctl", "--quiet", "--output=json", f"--unit={AGENT}", "--identifier=pusher-agent", *matches
    ).stdout
    return [json.loads(line) for line in said.splitlines()]


@pytest.fixture(autouse=True)
def started_again(server: Server) -> Iterator[None]:
    yield
    server.machine.run("systemctl", "start", AGENT)


def test_the_journal_can_be_asked_for_one_deployment(live: Server, tmp_path: Path) -> None:
    good = live.deploy("v2")
    found = entries(live, f"DEPLOYMENT={good['deployment']}")
    events = [one["EVENT"] for one in found]
    assert events[0] == "deployment_started"
    assert events[-2:] == ["step_done", "deployment_finished"]
    assert [one["STEP"] for one in found if one["EVENT"] == "step_done"][:3] == [
        *("unpack", "link-shared", "dependencies"),
    ]
    assert {(one["APP"], one["RELEASE"], one["PRIORITY"]) for one in found} == {(APP, good["release"], "6")}
    assert found[-1]["MESSAGE"].startswith(f"deployment_finished deployment={good['deployment']} app={APP} ")
    assert "outcome=done" in found[-1]["MESSAGE"]

    bad = live.send("bad", source=versions.write(tmp_path, "bad", before="import nothing_of_that_name\n"))
    found = entries(live, f"APP={APP}", "STEP=preflight", "PRIORITY=4")
    assert bad["instance"] == f"/deployments/{found[-1]['DEPLOYMENT']}"
    assert found[-1]["EVENT"] == "deployment_failed"
    assert "does not import" in found[-1]["MESSAGE"]


def test_the_status_says_what_goes_on(live: Server, tmp_path: Path) -> None:
    with live.held(held(tmp_path, "held"), "held"):
        assert f'Status: "Deploying {APP} held: preflight"' in live.machine.says("systemctl", "status", AGENT)
    live.until_status(f"Serving {APP} (held) at 127.0.0.1:9000")
    live.rollback()
    assert live.status_text() == f"Serving {APP} ({live.version()}) at 127.0.0.1:9000"


def test_told_to_stop_while_a_candidate_hangs_it_lets_it_go_at_once(live: Server, tmp_path: Path) -> None:
    before = live.look()
    with live.held(held(tmp_path, "hanging"), "hanging"):
        began = time.monotonic()
        live.machine.run("systemctl", "stop", AGENT)
        assert time.monotonic() - began < AT_ONCE_S
        assert live.says("is-active", f"{APP}-preflight.service", f"{APP}-preflight.socket").split() == [
            *("inactive", "inactive"),
        ]
    assert live.look() == before
    assert live.version()
    assert_interrupted(live)
    live.machine.run("systemctl", "start", AGENT)
    assert live.curl("/status")["deploying"] is None
    assert live.look() == before


def test_told_to_stop_while_an_upload_is_under_way_it_waits_for_no_more_of_it(
    live: Server, tmp_path: Path
) -> None:
    before = live.look()
    source = versions.write(tmp_path, "large")
    (source / "large/noise").write_bytes(os.urandom(2_000_000))
    path = live.machine.root / live.pack("large", source=source).lstrip("/")
    with live.machine.running(*POST, "-", DOOR) as upload:
        assert upload.stdin
        assert upload.stdout
        upload.stdin.write(path.read_bytes()[:1_000_000])
        upload.stdin.flush()
        live.until_status(f"Deploying {APP} large: unpack")
        began = time.monotonic()
        live.machine.run("systemctl", "restart", AGENT)
        assert time.monotonic() - began < AT_ONCE_S
        upload.stdin.close()
        assert json.loads(upload.stdout.read())["code"] == "interrupted"
    assert live.look() == before
    assert live.version()
    assert_interrupted(live)
    assert live.curl("/status")["deploying"] is None


def test_told_to_stop_after_the_switch_it_first_brings_it_to_its_end(live: Server, tmp_path: Path) -> None:
    live.machine.run("rm", "-f", "/srv/go")
    path = live.pack(
        "late", source=versions.write(tmp_path, "late", **{"hooks__after-symlink": versions.HELD_HOOK})
    )
    doing = f"Deploying {APP} late: hook after-symlink"
    with live.machine.running(*POST, path, DOOR) as sending:
        live.until_status(doing)
        live.machine.run("systemctl", "--no-block", "restart", AGENT)
        live.until_status(f"Stopping when this has come to its end: {doing}")
        assert live.version() == "late"
        live.machine.run("touch", "/srv/go")
        assert sending.stdout
        assert json.loads(sending.stdout.read())["outcome"] == "done"
    live.until_status(f"Serving {APP} (late) at 127.0.0.1:9000")
    assert live.curl("/status")["live"]["version"] == live.version() == "late"


def assert_interrupted(server: Server) -> None:
    """The journal says what came of the last deployment."""
    last = entries(server, "EVENT=deployment_finished")[-1]
    assert (last["OUTCOME"], last["PRIORITY"]) == ("failed", "3")
    why = entries(server, "EVENT=deployment_failed", f"DEPLOYMENT={last['DEPLOYMENT']}")[-1]
    assert "The agent was stopped" in why["MESSAGE"]


def test_an_agent_at_rest_is_small(live: Server) -> None:
    pid = live.machine.says("systemctl", "show", "--value", "--property=MainPID", AGENT).strip()
    status = live.machine.says("cat", f"/proc/{pid}/status")
    rss = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))
    assert rss < 70_000, f"{rss} KiB"
