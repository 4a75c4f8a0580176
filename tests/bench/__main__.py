"""`make bench`: one table of what was measured, what the goal is, and whether it was met.

Whatever the figures, the exit code is 0; it is 1 only if something could not be measured.
"""

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path

from tests.bench.place import Unmeasured
from tests.bench.results import Bench, Result
from tests.bench.rows import ROWS

_HEAD = ("", "measured: median (least .. most)", "against", "ratio", "goal", "met")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"rows to measure: {', '.join(ROWS)} (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured (default: 7)")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in ROWS]:
        parser.error(f"there is no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    if arguments.rounds < 1:
        parser.error("at least one round is needed")

    names = arguments.names or list(ROWS)
    results: list[Result] = []
    failed: list[str] = []
    print(f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="pusher-bench-") as folder:
        bench = Bench(Path(folder), arguments.rounds)
        for name in names:
            print(f"measuring: {name} ...", file=sys.stderr)
            try:
                for result in ROWS[name](bench):  # if a later one fails, those before count
                    results.append(result)
                    print(*filter(None, _cells(result)), sep="; ", file=sys.stderr)  # in case it is interrupted
            except Unmeasured as error:
                failed.append(f"{name} could not be measured: {error}")

    print()
    _print_table([_HEAD, *map(_cells, results)])
    print("\nOne row: python -m tests.bench NAME. What each NAME runs | is compared with, or looks at:\n")
    _print_table([(name, (ROWS[name].__doc__ or "").strip()) for name in names])
    for text in failed:
        print(f"\n{text}", file=sys.stderr)
    return 1 if failed else 0


def _cells(result: Result) -> tuple[str, ...]:
    met = {True: "yes", False: "NO", None: ""}[result.met]
    return (result.what, result.measured, result.against, result.ratio, result.goal, met)


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
