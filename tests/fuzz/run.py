"""Runs the fuzzer on one target until the time or the executions are used up, however often an input ends it."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
HANGS_S = 20
"""No input may take longer, however busy the machine is."""
MEMORY_MB = 1024
"""Of the whole process, with the fuzzer itself and all that it has kept."""
INPUT_BYTES = 48 * 1024

_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_CRASHES_MOST = 5


@dataclass(frozen=True, slots=True)
class Limit:
    """When to stop: after `runs` executions, if that is not 0, or else after `seconds`."""

    runs: int
    seconds: float
    seed: int


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that was neither read nor refused, and what it did."""

    data: bytes
    what: str


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    executions: int = 0
    seconds: float = 0
    findings: list[Finding] = field(default_factory=list)


def fuzz(target: str, corpus: Iterable[bytes], folder: Path, *, limit: Limit) -> Outcome:
    """Fuzz one target in `folder`, which is made. An input that ends the process is a finding, and it goes on."""
    seeds = folder / "seeds"
    seeds.mkdir(parents=True)
    for number, one in enumerate(corpus):
        (seeds / f"{number:04}").write_bytes(one)
    outcome = Outcome()
    began = time.monotonic()
    for attempt in range(_CRASHES_MOST):
        left_s = limit.seconds - (time.monotonic() - began)
        left = limit.runs - outcome.executions
        if (left if limit.runs else left_s) <= 0:
            break
        argv = _argv(target, folder, runs=left if limit.runs else 0, seconds=left_s, seed=limit.seed + attempt)
        done = subprocess.run(
            argv, cwd=REPOSITORY, env=_environment(), capture_output=True, text=True, check=False
        )
        found = _EXECUTED.search(done.stderr)
        outcome.executions += int(found[1]) if found else 0
        crashes = [*folder.glob("crash-*")]
        if not found and not crashes:
            raise RuntimeError(f"the fuzzer itself failed:\n{done.stderr[-3000:]}")
        outcome.findings += [Finding(path.read_bytes(), _reason(done.stderr)) for path in crashes]
        for path in crashes:
            path.unlink()
        if not crashes:
            break
    said = sorted(folder.glob("found/*.txt"))
    outcome.findings += [Finding(one.with_suffix("").read_bytes(), one.read_text().strip()) for one in said]
    outcome.seconds = time.monotonic() - began
    return outcome


def _argv(target: str, folder: Path, *, runs: int, seconds: float, seed: int) -> tuple[str, ...]:
    stop = f"-runs={runs}" if runs else f"-max_total_time={max(1, round(seconds))}"
    return (
        *(sys.executable, "-m", "tests.fuzz.worker", target, str(folder), str(folder / "seeds")),
        *(stop, f"-seed={seed}", f"-max_len={INPUT_BYTES}", f"-timeout={HANGS_S}", f"-rss_limit_mb={MEMORY_MB}"),
        *("-print_final_stats=1", "-reload=0", f"-exact_artifact_path={folder}/crash-{seed}"),
    )


def _environment() -> dict[str, str]:
    """Without what counts covered lines: it would slow every execution down by half."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


def _reason(said: str) -> str:
    lines = [line for line in said.splitlines() if "ERROR" in line or "SUMMARY" in line]
    return lines[0].strip() if lines else "the process ended"
