"""Workers and timers that systemd runs: what is said of them, and what watching them takes."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from agent.core.config.app import AppConfig, Process, Timer
from agent.core.layout import HostLayout
from agent.core.run import ProcessRun, Run
from agent.host.clock import SystemClock
from agent.host.ports import Placed
from agent.host.systemd import systemctl
from agent.host.systemd.processes import UnitProcesses
from agent.host.systemd.systemctl import State, parse_state
from pusher.wire import Failed

RELEASE = "20261123020055Z"
RUNS = f"""\
LoadState=loaded
ActiveState=active
SubState=running
MainPID={os.getpid()}
StatusText={RELEASE} runs as process {os.getpid()} (since 1.000000 s after boot)
"""
DEAD = "LoadState=loaded\nActiveState=inactive\nSubState=dead\nResult=success\n"
ENDED = f"{DEAD}ExecMainCode=1\nExecMainStartTimestampMonotonic=1\nExecMainStatus="
LOOPS = "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nResult=exit-code\n"


class Systemctl:
    """What systemd says of units; a unit that is not there is stopped. `did` is what it was told."""

    def __init__(self) -> None:
        self.says: dict[str, str] = {}
        self.did: list[tuple[str, ...]] = []
        self.last: int | None = 1

    async def states_of(self, *units: str) -> dict[str, State]:
        return {unit: parse_state(self.says.get(unit, DEAD)) for unit in units}

    async def timers_of(self, *units: str) -> dict[str, tuple[int | None, int | None]]:
        return dict.fromkeys(units, (self.last, 2))

    async def control(self, verb: str, *units: str, deadline_s: float, wait: bool = True) -> None:
        self.did.append((verb, *units))

    async def log_of(self, invocation: str, *, since_us: int = 0) -> str:
        return ""


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Systemctl:
    one = Systemctl()
    for name in ("states_of", "timers_of", "control", "log_of"):
        monkeypatch.setattr(systemctl, name, getattr(one, name))
    return one


def placed(folder: Path, *processes: str) -> Placed:
    (folder / "venv/bin").mkdir(parents=True, exist_ok=True)
    (folder / "venv/bin/work").touch(mode=0o755)
    return Placed(RELEASE, "v1", folder, Run(processes={name: ProcessRun(start=("work",)) for name in processes}))


def side(*processes: str, **timers: str) -> UnitProcesses:
    config = AppConfig(
        path="/opt/web",
        user="web",
        processes={name: Process() for name in processes},
        timers={name: Timer(schedule=schedule) for name, schedule in timers.items()},
    )
    return UnitProcesses("web", config, host=HostLayout(Path("/")), clock=SystemClock())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_a_worker_that_runs_is_watched_once_however_often_another_one_fails(
    systemd: Systemctl, tmp_path: Path
) -> None:
    systemd.says = {"web-good.service": RUNS, "web-bad.service": LOOPS}
    one = side("good", "bad")
    before = descriptors()
    for _ in range(5):
        with pytest.raises(Failed, match="The process bad did not start"):
            await one.run(placed(tmp_path, "good", "bad"))
        await asyncio.sleep(0)  # a watch begins
    assert descriptors() <= before + 1
    systemd.says["web-bad.service"] = RUNS
    assert {*await one.run(placed(tmp_path, "good", "bad"))} == {"good", "bad"}
    one.close()


async def test_what_the_live_release_does_not_have_is_not_called_stopped(
    systemd: Systemctl, tmp_path: Path
) -> None:
    systemd.says = {"web-good.service": RUNS, "web-nightly.service": f"{ENDED}199"}
    one = side("good", "late", nightly="daily")
    await one.run(placed(tmp_path, "good"))
    processes, timers = await one.states()
    assert [(state.running, state.why) for state in processes] == [
        (True, ""),
        (False, "the live release has no such process"),
    ]
    assert [timer.ending for timer in timers] == ["the live release has no such timer"]
    one.close()


@pytest.mark.parametrize(
    ("said", "ending"),
    [(DEAD, ""), (f"{ENDED}0", "exit code 0"), (f"{ENDED}77".replace("success", "exit-code"), "exit code 77")],
)
async def test_how_a_timers_last_run_ended_is_said(systemd: Systemctl, said: str, ending: str) -> None:
    systemd.says = {"web-nightly.service": said}
    [timer] = (await side(nightly="daily").states())[1]
    assert timer.ending == ending


async def test_a_run_that_somebody_began_by_hand_is_the_last_one(systemd: Systemctl) -> None:
    """systemd's timers know only of their own."""
    began_s, now_ms = 40.0, time.time() * 1000
    started = round((time.monotonic() - began_s) * 1e6)
    systemd.says = {"web-nightly.service": f"{ENDED}0".replace("Monotonic=1", f"Monotonic={started}")}
    for let_ms, expected_ms in (
        (None, began_s * 1000),
        (90_000, began_s * 1000),
        (began_s * 1000 + 10, began_s * 1000 + 10),
    ):
        systemd.last = None if let_ms is None else round(now_ms - let_ms)
        [timer] = (await side(nightly="daily").states())[1]
        assert timer.last is not None
        assert abs(now_ms - expected_ms - timer.last) < 2_000
        assert (timer.last == systemd.last) is (let_ms == began_s * 1000 + 10)
