"""A short soak of a host in a folder, with a fixed seed and number of points; `make soak` runs for longer."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.soak.actions import Done
from tests.soak.invariants import Seen, State, broken
from tests.soak.plan import AS_ROOT, BOOTED, EPISODE_POINTS, LOCAL, Point, episode
from tests.soak.tampering import Damage

REPOSITORY = Path(__file__).parent.parent.parent
SEED, POINTS = 20261127, 50


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whatever_goes_wrong_the_invariants_hold() -> None:
    argv = (sys.executable, "-m", "tests.soak", "--place", "local", "--seed", f"{SEED}", "--points", f"{POINTS}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(argv, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"local: {POINTS} points tried, invariants broken: 0" in done.stdout


def test_a_seed_gives_one_plan_and_the_first_points_of_it_replay_a_failure() -> None:
    assert list(episode(7)) == list(episode(7))
    assert list(episode(7)) != list(episode(8))
    assert list(episode(7, points=5)) == list(episode(7))[:5]
    assert not {point.during for seed in range(20) for point in episode(seed, without=AS_ROOT)} & AS_ROOT


def test_an_episode_begins_with_a_deployment_that_nothing_disturbs() -> None:
    for tables in (LOCAL, BOOTED):
        first, *others = episode(3, tables=tables)
        assert (first.action, first.before, first.during) == ("deploy", "", "")
        assert len(others) == EPISODE_POINTS - 1


GOOD = State(
    live="a", version="v1", answers="v1", mark=5, wrong={"a": ""}, created={"a": 5}, listing={"deployments": []}
)
NEXT = State(
    live="b", version="v2", answers="v2", mark=6, wrong={"a": "", "b": ""}, created={"a": 5, "b": 6},
    listing={"deployments": []},
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("current is whole and signed", {"wrong": {"a": "", "b": "x.py has changed"}}),
        ("current is whole and signed", {"live": None}),
        ("the app answers with what current says", {"answers": "v1"}),
        ("the mark never falls", {"mark": 4}),
        ("the last good release is there", {"wrong": {"b": ""}}),
        ("what was said is what is live", {"live": "a", "version": "v1", "answers": "v1"}),
        ("no staging is left", {"staging": ("b",)}),
        ("every deployment has ended", {"listing": {"deployments": [{"deployment": "d", "outcome": None}]}}),
    ],
)
def test_each_invariant_notices_what_breaks_it(name: str, changed: dict[str, object]) -> None:
    point = Point(1, "deploy", "", "", 0, 0)
    assert broken(Seen(point, Done("done", "v2"), GOOD, NEXT, NEXT, Damage())) == []
    after = replace(NEXT, **changed)
    assert any(
        one.startswith(name) for one in broken(Seen(point, Done("done", "v2"), GOOD, after, after, Damage()))
    )


def test_recovery_that_is_not_the_same_twice_and_a_deployment_that_fails_for_nothing_are_noticed() -> None:
    point = Point(1, "deploy", "", "", 0, 0)
    twice = Seen(point, None, GOOD, NEXT, replace(NEXT, staging=("x",)), Damage())
    assert broken(twice) == ["recovery twice equals once: staging is (), and once more ('x',)"]
    failed = Seen(point, Done("failed", code="internal", text="a bug"), GOOD, GOOD, GOOD, Damage())
    assert len(broken(failed)) == 2
