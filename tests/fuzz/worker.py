"""One target under the fuzzer, in a process of its own: `python -m tests.fuzz.worker TARGET FOLDER OPTIONS`.

What is found goes to `FOLDER/found`, a file each: the input, whose name is its digest, and beside it what it did.
The options are those of libFuzzer (of LLVM). It also ends an input that never ends,
or that takes too much memory.
"""

import hashlib
import sys
import time
import traceback
from pathlib import Path

import atheris

SLOW_S = 1.0
"""Processor time that an input may take. The slowest honest ones of this size take a hundredth."""

with atheris.instrument_imports(include=["agent.core", "agent.host.bundle", "pusher", "packaging", "tomllib"]):
    from tests.fuzz.targets import EVERY


def main(name: str, folder: Path, options: list[str]) -> None:
    target, found = EVERY[name], folder / "found"
    found.mkdir(exist_ok=True)
    seen: set[str] = set()

    def run(data: bytes) -> None:
        began = time.thread_time()
        what = ""
        try:
            target.run(data)
        except target.refusals:
            pass
        except Exception as error:  # whatever it is, it is what we look for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__} at {frame.name} ({frame.filename}:{frame.lineno}): {error!s:.200}"
            _record(what.partition(":")[0], what, data)
        took = time.thread_time() - began
        if took > SLOW_S and not what:
            _record("slow", f"it took {took:.1f} s", data)

    def _record(key: str, what: str, data: bytes) -> None:
        if key not in seen:
            seen.add(key)
            path = found / hashlib.sha256(data).hexdigest()[:16]
            path.write_bytes(data)
            path.with_suffix(".txt").write_text(f"{what}\n")

    atheris.Setup([sys.argv[0], *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
