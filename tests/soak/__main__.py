"""`make soak MINUTES=n`: deployments, rollbacks and drops while everything goes wrong, chosen by a seed.

After each point the invariants of `tests.soak.invariants` are checked. A failure prints the command that replays
it: an episode of at most 25 points on a fresh host. The exit code is 1 if an invariant was broken.
"""

import argparse
import os
import random
import subprocess
import sys
from pathlib import Path

PLACES = ("local", "booted")
REPOSITORY = Path(__file__).parent.parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="for all places together (default: 10)")
    parser.add_argument("--points", type=int, default=0, help="so many points of each place, instead of a time")
    parser.add_argument("--seed", type=int, default=0, help="default: chosen, and printed")
    parser.add_argument("--place", choices=PLACES, help="default: both; a booted host needs root")
    arguments = parser.parse_args()
    seed = arguments.seed or random.SystemRandom().randrange(1, 10**9)
    root = os.geteuid() == 0
    places = [arguments.place] if arguments.place else [one for one in PLACES if root or one != "booted"]
    print(f"seed {seed}", flush=True)
    codes = []
    for place in places:
        argv = [sys.executable, "-m", f"tests.soak.{place}", f"{seed}", f"{arguments.points}"]
        argv.append(f"{arguments.minutes * 60 / len(places)}")
        # A namespace of its own, for the filesystem that gets full.
        alone = ["unshare", "--mount"] if root and place == "local" else []
        codes.append(subprocess.run([*alone, *argv], cwd=REPOSITORY, check=False).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
