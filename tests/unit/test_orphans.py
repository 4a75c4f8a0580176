"""Processes that outlived a killed agent are found and ended; no other process is."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.host.embedded import orphans


@contextmanager
def started(script: str) -> Iterator[subprocess.Popen[str]]:
    """A process that leads its group, entered when it has written a line."""
    argv = ("/bin/sh", "-c", script)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True, text=True) as child:
        try:
            assert child.stdout
            child.stdout.readline()
            yield child
        finally:
            orphans.kill_group(child.pid)


def test_a_recorded_process_is_asked_to_end_and_its_record_goes(tmp_path: Path) -> None:
    with started("trap 'exit 7' TERM; echo; while :; do sleep 0.01; done") as child:
        orphans.record(tmp_path, child.pid)
        assert orphans.end_recorded(tmp_path, patience_s=20) == [child.pid]
        assert child.wait(20) == 7
        assert list(tmp_path.iterdir()) == []


def test_a_process_that_ignores_term_is_killed_with_all_it_started(tmp_path: Path) -> None:
    with started("trap '' TERM; sleep 60 & echo $!; wait") as child:
        orphans.record(tmp_path, child.pid)
        began = time.monotonic()
        assert orphans.end_recorded(tmp_path, patience_s=0.1) == [child.pid]
        assert time.monotonic() - began < 5
        assert child.wait(20) == -signal.SIGKILL
        assert orphans.group_members(child.pid) == []


def test_the_group_of_a_dead_leader_is_killed(tmp_path: Path) -> None:
    with started("sleep 60 & echo; exec sleep 60") as child:
        orphans.record(tmp_path, child.pid)
        child.kill()
        child.wait()
        assert orphans.group_members(child.pid) != []
        assert orphans.end_recorded(tmp_path, patience_s=20) == []
        assert orphans.group_members(child.pid) == []


def test_an_id_that_was_used_again_or_is_of_another_boot_is_left_alone(tmp_path: Path) -> None:
    with started("echo; exec sleep 60") as child:
        orphans.record(tmp_path, child.pid)
        path = tmp_path / f"{child.pid}.pid"
        start, boot = path.read_text().split()
        for text in (f"{int(start) - 1} {boot}", f"{start} another-boot", "", f"{start}"):
            path.write_text(text)
            assert orphans.end_recorded(tmp_path, patience_s=20) == []
            assert not path.exists()
        assert child.poll() is None


def test_a_process_that_ended_before_it_was_recorded_leaves_no_record(tmp_path: Path) -> None:
    with started("echo") as child:
        child.wait()
    orphans.record(tmp_path, child.pid)
    assert list(tmp_path.iterdir()) == []


def test_forgetting_twice_is_the_same_as_once(tmp_path: Path) -> None:
    with started("echo; exec sleep 60") as child:
        orphans.record(tmp_path, child.pid)
        orphans.forget(tmp_path, child.pid)
        orphans.forget(tmp_path, child.pid)
        assert list(tmp_path.iterdir()) == []
        with suppress(ProcessLookupError):
            child.kill()
