"""`make fuzz SECONDS=n`: every parser of bytes from outside, with inputs that grow out of the hostile tests'.

A finding is an input that is neither read nor refused: another error, more than a second of processor time, or too
much memory. It is printed with the command that runs it once more. The exit code is 1 if there is one.
"""

import argparse
import base64
import importlib.util
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.corpus import seeds
from tests.fuzz.run import Limit, Outcome, fuzz
from tests.fuzz.targets import EVERY, TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=60, help="for all together (default: 60)")
    parser.add_argument("--runs", type=int, default=0, help="so many executions of each, instead of a time")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: chosen, and printed)")
    parser.add_argument("--input", metavar="BASE64", help="run one input, as a finding shows it")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in EVERY]:
        parser.error(f"there is no target {unknown[0]!r}. Available: {', '.join(TARGETS)}")
    names = arguments.names or list(TARGETS)
    if arguments.input is not None:
        if len(arguments.names) != 1:
            parser.error("--input needs one NAME")
        EVERY[names[0]].run(base64.b64decode(arguments.input))
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("The fuzzer (atheris) cannot be installed on this machine", file=sys.stderr)
        return 2

    seed = arguments.seed or random.SystemRandom().randrange(1, 2**31)
    limit = Limit(runs=arguments.runs, seconds=arguments.seconds / len(names), seed=seed)
    print(f"seed {seed}", flush=True)
    executions = findings = 0
    with tempfile.TemporaryDirectory(prefix="pusher-fuzz-") as folder:
        for name in names:
            outcome = fuzz(name, seeds(name), Path(folder, name), limit=limit)
            executions += outcome.executions
            findings += len(outcome.findings)
            _show(name, outcome)
    print(f"{executions:,} executions, {findings} findings")
    return 1 if findings else 0


def _show(name: str, outcome: Outcome) -> None:
    found = len(outcome.findings)
    print(
        f"{name:<13}{outcome.executions:>12,} executions {outcome.seconds:>7.1f} s {found:>4} findings", flush=True
    )
    for finding in outcome.findings:
        again = base64.b64encode(finding.data).decode()
        print(f"  {finding.what}\n  again: python -m tests.fuzz {name} --input={again}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
