"""Every parser of bytes from outside reads or refuses what a fuzzer makes of the hostile inputs."""

import importlib.util
import subprocess
import sys

import pytest

from tests.fuzz.corpus import seeds
from tests.fuzz.run import REPOSITORY
from tests.fuzz.targets import TARGETS

RUNS = 500


@pytest.mark.parametrize("name", TARGETS)
def test_every_hostile_input_is_read_or_refused(name: str) -> None:
    target, found = TARGETS[name], seeds(name)
    assert found
    for data in found:
        try:
            target.run(data)
        except target.refusals:
            continue


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="NOTHING IS FUZZED (no atheris here)")
def test_what_a_fuzzer_makes_of_them_is_read_or_refused() -> None:
    argv = (sys.executable, "-m", "tests.fuzz", "--runs", f"{RUNS}", "--seed", "1")
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 findings" in done.stdout


@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="NOTHING IS FUZZED (no atheris here)")
def test_a_finding_is_printed_with_the_command_that_repeats_it() -> None:
    argv = (sys.executable, "-m", "tests.fuzz", "canary", "--runs", "500", "--seed", "1")
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "ZeroDivisionError" in done.stdout
    _, _, again = done.stdout.partition("again: python -m ")
    repeated = subprocess.run((sys.executable, "-m", *again.split()[:3]), cwd=REPOSITORY, capture_output=True)
    assert b"ZeroDivisionError" in repeated.stderr
