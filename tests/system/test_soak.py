"""A short soak of the booted host, with a fixed seed and number of points; `make soak` runs for longer."""

from pathlib import Path

import pytest

from tests.soak.booted import soak
from tests.soak.report import Report
from tests.system.server import Server

SEED, POINTS = 3, 6


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_whatever_goes_wrong_the_invariants_hold(
    live: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report("booted")
    soak(live, tmp_path, report, seed=SEED, points=POINTS, deadline=0)
    assert report.tried == POINTS
    assert not report.broken, capsys.readouterr().out
