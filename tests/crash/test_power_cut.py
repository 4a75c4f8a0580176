"""Real power cuts: ext4 on a loop device is stopped without its journal, mounted again, and a release serves."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
EVERY = 5
SUBSCRIBED = "tests.crash.subscribed_power"


@pytest.fixture
def able() -> None:
    """Skips, loudly, where no loop device can be mounted in a namespace of its own."""
    script = "f=$(mktemp) && truncate -s 1M $f && mkfs.ext4 -qF $f && mount -o loop $f /mnt; s=$?; rm $f; exit $s"
    try:
        subprocess.run(("unshare", "--mount", "sh", "-c", script), check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        why = f"REAL POWER CUTS ARE NOT TESTED ({str(getattr(error, 'stderr', error)).strip()})"
        pytest.skip(why)


def cuts(*words: str | Path, module: str = "tests.crash.power") -> dict[str, Any]:
    """What is wrong after each cut (tests/crash/power.py)."""
    argv = ("unshare", "--mount", sys.executable, "-m", module, *words)
    done = subprocess.run(
        argv, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.root
def test_wherever_the_power_goes_a_release_serves(able: None, tmp_path: Path, uv_cache: Path) -> None:
    found = cuts(tmp_path, uv_cache, f"{EVERY}")
    assert found["wrong"] == []
    assert found["cuts"] > 10


@pytest.mark.root
def test_a_deployment_that_leaves_out_a_flush_is_caught(able: None, tmp_path: Path, uv_cache: Path) -> None:
    assert cuts(tmp_path, uv_cache, f"{EVERY}", "stage.sync")["wrong"]


@pytest.mark.root
def test_wherever_the_power_of_a_subscribed_host_goes_it_follows_its_channel_and_is_the_same_host(
    able: None, tmp_path: Path, uv_cache: Path
) -> None:
    assert cuts(tmp_path, uv_cache, module=SUBSCRIBED) == {}


@pytest.mark.root
def test_a_mark_that_is_not_flushed_is_caught(able: None, tmp_path: Path, uv_cache: Path) -> None:
    found = cuts(tmp_path, uv_cache, "unflushed", module=SUBSCRIBED)
    assert found == {"marking, and it was durable": "what was marked is forgotten: current None"}
