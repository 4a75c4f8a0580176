"""Run again, alone, the few tests that failed while others ran beside them: the end of a failed `make test`.

Three workers boot hosts, stop processes and cut connections, on as few as two cores. What fails only then is named
at the end of the run, for it is a defect all the same: of the test, or a rare one of the product. More than a few
failures are no accident, and none of them is run again.
"""

import json
import sys
from pathlib import Path

import pytest

MOST = 3
_FAILED = Path(".pytest_cache/v/cache/lastfailed")  # pytest, cacheprovider


def main(failed: Path = _FAILED) -> int:
    """The exit status of the run: 0 if all that failed holds alone."""
    names = list(json.loads(failed.read_text("utf-8"))) if failed.is_file() else []
    if not 0 < len(names) <= MOST:
        return pytest.ExitCode.TESTS_FAILED
    print(f"\n{len(names)} failed beside others, and run again alone:", *names, "", sep="\n", flush=True)
    status = pytest.main([*names, "-p", "no:cacheprovider"])
    if not status:
        print("\nTo be mended, for alone these hold:", *(f"DISTURBED {name}" for name in names), sep="\n")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
