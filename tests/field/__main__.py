"""Every shape of application on both kinds of host; prints a table. `python -m tests.field [WORD...]`

A word chooses the shapes that have it in their name; --embedded leaves the booted host out. Needs a package index
on this side, and root for the booted host.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import make_venv
from tests.field.shapes import SHAPES
from tests.field.trials import BootedHost, EmbeddedHost, Host, Result, tried
from tests.system.machine import NEEDED, machine
from tests.system.server import REPOSITORY, Server, binds, build_package, prepare

_HEAD = ("shape", "host", "first send", "second", "rollback", "visits", "failed", "longest wait")


def main(words: list[str]) -> int:
    """Try the shapes whose names have one of the words; the exit code is 1 if one did not go the whole way."""
    here = "--embedded" in words
    named = [word for word in words if not word.startswith("-")]
    chosen = [one for one in SHAPES if not named or any(word in one.name for word in named)]
    results: list[tuple[str, Result]] = []
    with tempfile.TemporaryDirectory(prefix="field-") as folder:
        for host in _hosts(Path(folder), booted=not here):
            for number, shape in enumerate(chosen):
                print(f"{host.name}: {shape.name} ...", file=sys.stderr, flush=True)
                results.append((host.name, tried(shape, host, app=f"shape-{number}", folder=Path(folder))))
    print(" | ".join(_HEAD))
    for name, result in results:
        print(" | ".join(_row(name, result)))
    for name, result in results:
        for step in ("first", "second", "back"):
            if (said := getattr(result, step)) not in ("", "not tried"):
                print(f"\n{result.shape} on {name}, {step}: {said}")
    return int(any(one.first or one.second or one.back for _, one in results))


def _hosts(folder: Path, *, booted: bool) -> Iterator[Host]:
    cache = folder / "cache"
    cache.mkdir()
    yield EmbeddedHost(folder, cache=cache)
    if booted and os.geteuid() == 0 and all(map(shutil.which, NEEDED)):
        with _server(folder / "server", cache) as server:
            yield BootedHost(server)


@contextmanager
def _server(folder: Path, cache: Path) -> Iterator[Server]:
    folder.mkdir()
    (folder / "app").mkdir()
    make_venv(REPOSITORY / "app-src/v1", cache=cache, app=folder / "app")
    package = build_package(REPOSITORY, folder)
    with machine(folder / "web1", "web1", prepare=prepare, options=binds()) as host:
        server = Server(host, folder=folder, uv_cache=cache, package=package)
        server.install()
        yield server


def _row(host: str, result: Result) -> Iterator[str]:
    yield result.shape
    yield host
    yield f"{result.seconds:.1f} s" if not result.first else "NO"
    yield "yes" if not result.second else "NO"
    yield "yes" if not result.back else "NO"
    yield str(len(result.visits.seconds))
    yield str(len(result.visits.failures))
    yield f"{max(result.visits.seconds, default=0) * 1000:.0f} ms"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
