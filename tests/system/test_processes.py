"""Workers and timers on a server: they follow what is live, and a release that they do not survive goes back."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.packages import wheel
from tests.system import versions
from tests.system.server import APP, Server

TOML = f"/etc/pusher-agent/apps/{APP}.toml"
WORKER = f"{APP}-worker.service"
TABLES = """
[processes.worker]
start = "python worker.py"
instances = 2
drain_s = 3
[timers.nightly]
start = "python nightly.py"
schedule = "*:*:0/2"
"""
WORKS = """
import os, signal, sys, time
print("works with", os.environ["PUSHER_VERSION"], os.environ["PUSHER_INSTANCE"], flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    time.sleep(60)
"""
DIES = """
print("the reason", flush=True)
raise SystemExit(7)
"""
NIGHTLY = """
import os
print("nightly with", os.environ["PUSHER_VERSION"], flush=True)
"""


def write(source: Path, version: str, *, worker: str = WORKS) -> Path:
    return versions.write(source, version, **{"worker.py": worker, "nightly.py": NIGHTLY})


def runs(server: Server) -> dict[str, str]:
    """The version that each process runs, by what the agent says; why not, where it does not run."""
    return {
        one["name"]: one["version"] if one["running"] else one["why"]
        for one in server.curl("/status")["processes"]
    }


def apply(server: Server, tables: str) -> str:
    """Replace what the app's file says of processes and timers; what `app apply` says."""
    server.machine.run("sed", "-i", r"/^\[\(processes\|timers\)/,$d", TOML)
    server.machine.run("sh", "-c", f"printf %s {shlex.quote(tables)} >>{TOML}")
    return server.machine.run("pusher-agent", "app", "apply", APP).stdout


@pytest.fixture
def working(server: Server, tmp_path: Path) -> Iterator[Server]:
    """The server, with two workers and a timer, and a release w1 that has them."""
    apply(server, TABLES)
    server.deploy("w1", source=write(tmp_path, "w1"))
    yield server
    said = apply(server, "")
    assert f"stopped and removed {APP}-nightly.timer" in said
    assert not list((server.machine.root / "etc/systemd/system").glob(f"{APP}-*er*.*")), said


def test_workers_follow_a_deployment_and_a_rollback(working: Server, tmp_path: Path) -> None:
    assert runs(working) == {"worker": "w1", "worker-2": "w1"}
    working.deploy("w2", source=write(tmp_path, "w2"))
    assert runs(working) == {"worker": "w2", "worker-2": "w2"}
    assert working.rollback()["outcome"] == "done"
    assert runs(working) == {"worker": "w1", "worker-2": "w1"}


def test_a_release_whose_worker_dies_is_taken_back_worker_included(working: Server, tmp_path: Path) -> None:
    answer = working.send("bad", source=write(tmp_path, "bad", worker=DIES))
    assert answer["outcome"] == "failed", answer
    assert "did not st" in answer["title"], answer
    assert "the reason" in answer["output"], answer
    assert "exit code 7" in answer["detail"], answer
    assert working.version() == "w1"
    assert runs(working) == {"worker": "w1", "worker-2": "w1"}


def test_a_killed_worker_comes_back_by_itself_on_what_is_live(working: Server) -> None:
    before = {one["name"]: one["pid"] for one in working.curl("/status")["processes"]}
    working.machine.run("kill", "-9", str(before["worker"]))
    working.machine.until(lambda: runs(working)["worker"] != "w1", seconds=10)
    working.machine.until(lambda: runs(working)["worker"] == "w1", seconds=20)
    after = {one["name"]: one["pid"] for one in working.curl("/status")["processes"]}
    assert after["worker"] != before["worker"]
    assert after["worker-2"] == before["worker-2"]


def test_a_release_without_the_workers_program_is_refused_before_anything_changes(
    working: Server, tmp_path: Path
) -> None:
    apply(working, TABLES.replace("python worker.py", "celery -A app worker"))
    assert runs(working) == {"worker": "w1", "worker-2": "w1"}  # as it was confirmed
    before = working.look()
    answer = working.send("w2", source=write(tmp_path, "w2"))
    assert answer["code"] == "start_not_found", answer
    assert "celery" in answer["title"], answer
    assert "of worker" in answer["title"], answer
    assert working.look() == before
    assert runs(working) == {"worker": "w1", "worker-2": "w1"}
    apply(working, TABLES)


def test_a_timer_runs_what_is_live_and_its_end_is_shown(working: Server, tmp_path: Path) -> None:
    def last() -> dict[str, Any]:
        [timer] = working.curl("/status")["timers"]
        return dict(timer)

    working.machine.until(lambda: last()["ending"] == "exit code 0", seconds=20)
    assert None not in (last()["last"], last()["next"]), last()
    working.deploy("w2", source=write(tmp_path, "w2"))
    log = ("curl", "-sS", f"agent:9000/apps/{APP}/logs?unit=nightly")
    working.machine.until(lambda: "nightly with w2" in working.machine.says(*log), seconds=20)
    assert "works with" not in working.machine.says(*log)
    assert "works with w2 2" in working.machine.says(*log[:-1], f"agent:9000/apps/{APP}/logs?unit=worker-2")


def test_what_cannot_be_is_refused_by_name_with_nothing_changed(working: Server) -> None:
    units = working.machine.root / "etc/systemd/system"
    (units / f"{APP}-mine.service").write_text("[Service]\nExecStart=/bin/true\n")
    before = {path.name: path.read_text() for path in units.glob("*.service")}
    for tables, said in (
        ('[processes.mine]\nstart = "python a.py"\n', f"{APP}-mine.service belongs to another unit"),
        ('[processes.hook]\nstart = "python a.py"\n', "'hook'"),
        ('[timers.x]\nstart = "python a.py"\nschedule = "at some time"\n', "timers.x.schedule"),
        ('[processes.w]\nstart = "python a.py"\ndrain = 3\n', "Did you mean drain_s?"),
        ('[processes.w]\nstart = "x \\""\n', "processes.w.start"),
        ('[processes."w-2"]\nstart = "x"\n[processes.w]\nstart = "x"\ninstances = 2\n', "w-2"),
    ):
        working.machine.run("sed", "-i", r"/^\[\(processes\|timers\)/,$d", TOML)
        working.machine.run("sh", "-c", f"printf %s {shlex.quote(tables)} >>{TOML}")
        done = working.machine.run("pusher-agent", "app", "apply", APP, check=False)
        assert done.returncode == 4, tables
        assert said in done.stdout + done.stderr, done
    assert {path.name: path.read_text() for path in units.glob("*.service")} == before
    (units / f"{APP}-mine.service").unlink()
    apply(working, TABLES)


def test_what_the_live_release_cannot_start_is_said_to_wait_for_another(working: Server) -> None:
    said = apply(working, f'{TABLES}[processes.more]\nstart = "celery worker"\n')
    assert f"warning: {APP}-more.service cannot start before a release is sent that can: celery is not" in said
    said = apply(working, f"{TABLES}[processes.late]\n[timers.weekly]\nschedule = 'Sun 04:00'\n")
    assert f"{APP}-weekly.timer, {APP}-late.service: from the next release on" in said
    working.machine.until(lambda: runs(working).get("late") == "the live release has no such process", seconds=20)
    assert runs(working) == {"worker": "w1", "worker-2": "w1", "late": "the live release has no such process"}
    working.machine.run("systemctl", "start", f"{APP}-weekly.service")
    [weekly] = [one for one in working.curl("/status")["timers"] if one["name"] == "weekly"]
    assert weekly["ending"] == "the live release has no such timer"


def test_a_worker_that_ends_with_any_code_is_started_again(working: Server, tmp_path: Path) -> None:
    """77 is EX_NOPERM of sysexits(3)."""
    once = "import os, sys, time\nwhile not os.path.exists('/srv/end'):\n    time.sleep(0.05)\nsys.exit(77)\n"
    working.machine.run("rm", "-f", "/srv/end")
    working.deploy("w2", source=write(tmp_path, "w2", worker=once))
    before = {one["name"]: one["pid"] for one in working.curl("/status")["processes"]}
    working.machine.run("touch", "/srv/end")
    working.machine.until(lambda: "w2" not in runs(working).values(), seconds=20)
    working.machine.run("rm", "/srv/end")
    working.machine.until(lambda: runs(working) == {"worker": "w2", "worker-2": "w2"}, seconds=20)
    assert before["worker"] not in [one["pid"] for one in working.curl("/status")["processes"]]


def test_a_return_to_a_release_without_the_workers_program_leaves_none_of_the_other_running(
    working: Server, tmp_path: Path
) -> None:
    apply(working, "")
    working.deploy("w1", source=write(tmp_path / "first", "w1"))
    apply(working, '[processes.tiny]\nstart = "tiny"\n[processes.bad]\nstart = "python worker.py"\n')
    write(tmp_path, "w2", worker=DIES)
    stays = "import time\ndef main():\n    time.sleep(600)\n"
    (tmp_path / "w2/wheels").mkdir()
    (tmp_path / "w2/wheels/tiny-1-py3-none-any.whl").write_bytes(wheel("tiny", files={"tiny.py": stays}))
    (tmp_path / "w2/requirements.txt").write_text(f"{versions.REQUIREMENTS}tiny==1\n")
    answer = working.send("w2", source=tmp_path)
    assert "the process bad" in answer["title"].lower(), answer
    assert working.version() == "w1"
    assert working.says("is-active", f"{APP}-tiny.service") == "inactive"
    assert working.says("show", "--value", "--property=MainPID", f"{APP}-tiny.service") == "0"
    apply(working, TABLES)
    working.machine.until(lambda: working.curl("/status")["trouble"] == "", seconds=20)


def test_what_root_has_disabled_stays_as_it_is(working: Server, tmp_path: Path) -> None:
    second = f"{APP}-worker-2.service"
    working.machine.run("systemctl", "disable", "--now", "--quiet", second)
    working.deploy("w2", source=write(tmp_path, "w2"))
    assert runs(working) == {"worker": "w2", "worker-2": "it is disabled"}
    working.machine.run("systemctl", "enable", "--now", "--quiet", second)
    assert runs(working) == {"worker": "w2", "worker-2": "w2"}


def test_after_a_reboot_workers_run_what_is_live_and_a_missed_time_is_caught_up_with(working: Server) -> None:
    apply(working, TABLES.replace("*:*:0/2", "*-*-* 03:00"))
    working.machine.shut_down()
    stamp = working.machine.root / f"var/lib/systemd/timers/stamp-{APP}-nightly.timer"
    os.utime(stamp, (1_700_000_000, 1_700_000_000))
    working.machine.boot()
    working.machine.until(lambda: working.curl("/status")["timers"][0]["ending"] == "exit code 0", seconds=30)
    assert runs(working) == {"worker": "w1", "worker-2": "w1"}
    [timer] = working.curl("/status")["timers"]
    assert timer["next"].endswith("T03:00:00.000Z")


def test_a_deployment_that_goes_live_ends_before_its_app_is_removed(working: Server, tmp_path: Path) -> None:
    run = working.machine.run
    text = run("cat", TOML).stdout
    write(tmp_path, "slow")
    app = tmp_path / "slow/app.py"
    slow = 'import os, time\nif not os.environ.get("PUSHER_PREFLIGHT"):\n    time.sleep(3)\n'
    app.write_text(slow + app.read_text())
    path = working.pack("slow", source=tmp_path)
    with working.machine.running("curl", "-sS", "-T", path, "-X", "POST", f"agent:9000/apps/{APP}/deployments"):
        working.until_status(f"Deploying {APP} slow: restart")
        said = run("pusher-agent", "app", "remove", APP).stdout
    assert f"stopped and removed {APP}-nightly.timer" in said
    (working.machine.root / TOML.lstrip("/")).write_text(text)
    run("pusher-agent", "app", "apply", APP)
    working.machine.until(lambda: runs(working) == {"worker": "slow", "worker-2": "slow"}, seconds=20)
    assert working.curl("/status")["last"]["outcome"] == "done"
    assert working.version() == "slow"


def test_a_procfile_becomes_an_app(server: Server) -> None:
    lines = "web: gunicorn -w 1 app:app\\nworker: celery -A app worker\\nrelease: flask db upgrade\\n"
    server.machine.run("sh", "-c", f"printf '{lines}' >/srv/Procfile")
    server.machine.run(
        "pusher-agent", "app", "add", "other", "--procfile", "/srv/Procfile", "--listen", "[::1]:8001"
    )
    try:
        assert "other  /opt/other  [::1]:8001  started as the release says" in server.machine.says(
            "pusher-agent", "app", "list"
        )
        assert server.says("is-enabled", "other-worker.service") == "enabled"
        assert server.says("is-active", "other-worker.service") == "inactive"
        done = server.machine.run("pusher-agent", "app", "add", "third", "--procfile", "/etc/hosts", check=False)
        assert (done.returncode, "line 1 cannot be used" in done.stderr) == (4, True), done
    finally:
        said = server.machine.run("pusher-agent", "app", "remove", "other", "--purge").stdout
    assert "stopped and removed other-worker.service" in said
