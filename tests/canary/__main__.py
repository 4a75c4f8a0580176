"""Switch each defence off in a copy of the source, and run its test there: python -m tests.canary [WORD ...]

With words, only the canaries whose test contains one of them. Exit code 1, if a test did not notice.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.canary.canaries import CANARIES, Canary, Edit

REPOSITORY = Path(__file__).parents[2]
FAILED = 1  # pytest's exit code if tests failed; others mean that none ran


def main(words: list[str]) -> int:
    """Run the canaries that are asked for, one after the other. Returns the exit code."""
    chosen = [one for one in CANARIES if not words or any(word in one.test for word in words)]
    unnoticed = 0
    for number, canary in enumerate(chosen, 1):
        began = time.monotonic()
        why = attempt(canary)
        unnoticed += bool(why)
        print(f"{number}/{len(chosen)} {why or 'noticed'} ({time.monotonic() - began:.0f} s): ", end="")
        changes = (f"{one.file}: {one.old!r} -> {one.new!r}" for one in canary.edits)
        print(canary.test, *changes, sep="\n    ", flush=True)
    print(f"{len(chosen)} defences switched off, {len(chosen) - unnoticed} noticed")
    return int(unnoticed > 0)


def attempt(canary: Canary) -> str:
    """Why a canary counts as not noticed; empty if its test failed, as it must."""
    with tempfile.TemporaryDirectory(prefix="canary-") as folder:
        copy = Path(folder)
        for name in tracked():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, copy / name)
        for edit in canary.edits:
            file = copy / edit.file
            file.write_text(replaced(file.read_text(), edit))
        # Programs that a test starts must import the copy too, not what is installed.
        environment = {**os.environ, "PYTHONPATH": folder}
        argv = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", canary.test)
        done = subprocess.run(argv, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == FAILED:
        return ""
    return "NOT NOTICED" if done.returncode == 0 else f"NOT RUN: {done.stdout[-2000:]}{done.stderr[-2000:]}"


def replaced(text: str, edit: Edit) -> str:
    """The text of a file after an edit. Raises: ValueError, unless `old` is there exactly once."""
    if text.count(edit.old) != 1:
        raise ValueError(f"{edit.file} has {edit.old!r} {text.count(edit.old)} times")
    return text.replace(edit.old, edit.new)


def tracked() -> list[str]:
    """The files of the repository, and new ones that git does not ignore."""
    argv = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    found = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in found if (REPOSITORY / name).is_file()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
