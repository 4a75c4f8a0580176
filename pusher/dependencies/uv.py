"""uv as the sender runs it: with the user's own configuration, indexes and cache.

Invariant: nothing here changes the folder of the version. What uv says is shown only when it has failed.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from pusher.bundle import git
from pusher.errors import Usage

_DEADLINE_S = 900.0
UNREACHABLE = re.compile(
    r"error sending request|client error \(Connect\)|dns error|operation timed out|network was disabled"
    r"|was not found in the package registry|was not found in the cache",
    re.I,
)
"""What uv says when an index cannot be reached from here, or lacks a package that the host's own may have."""


class UvFailed(Exception):
    """uv ended with an error; `said` is what it wrote."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said

    @property
    def reason(self) -> str:
        """Its last error in one line, with the cause."""
        parts = re.findall(r"^(?:error|\s*cause|\s*╰─▶|\s*Caused by): *(.+)", self.said, re.M)
        parts = [*parts[:2], *_wrong_toml(self.said)]
        return ": ".join(parts) or (self.said.strip().splitlines() or ["uv failed"])[-1]


def _wrong_toml(said: str) -> tuple[str, ...]:
    """What is wrong in a TOML file: uv says where, draws that with bars, and says below what it is."""
    below = said.partition("TOML parse error")[2].splitlines()[1:]
    words = " ".join(line.strip() for line in below if "|" not in line).split()
    return (" ".join(words),) if words else ()


def uv_binary() -> str:
    """uv's path. Raises: Usage, if it is not installed."""
    try:
        import uv

        return uv.find_uv_bin()
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
        if found is None:
            raise Usage("uv is missing", why="it reads what a version depends on", hint="pip install uv") from None
        return found


@functools.cache
def uv_version() -> str:
    """The version of uv, for what is kept of its results."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("uv")
    except PackageNotFoundError:
        return ""


def export_lock(
    project: Path, *, package: str, extras: Sequence[str], groups: Sequence[str], checked: bool = True
) -> str:
    """What the uv.lock of a project comes to, as a pylock. Raises: UvFailed, also if it is out of date."""
    what = ["--package", package] if package else []
    what += [word for one in extras for word in ("--extra", one)]
    what += [word for one in groups for word in ("--group", one)]
    argv = [
        "export",
        "--locked" if checked else "--frozen",
        "--no-default-groups",
        "--format",
        PYLOCK_FORMAT,
        "--no-header",
        *what,
    ]
    return run_uv([*argv, "--project", str(project)], folder=project)


def compile_lock(
    requirements: str,
    *,
    folder: Path,
    wheels: Path,
    python: str,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    deps: bool = True,
) -> str:
    """What a requirements file, or a `pyproject.toml`, comes to for this and later Pythons. Raises: UvFailed.

    `requirements` is the text of a requirements file, or the name of the project's file in `folder`. `wheels` is
    where wheels are found besides an index. Without `deps`, only what it names.
    """
    options = [word for one in extras for word in ("--extra", one)]
    options += [word for one in groups for word in ("--group", one)]
    if wheels.is_dir():
        options += ["--find-links", os.path.relpath(wheels, folder)]  # as the host does
    project = requirements == "pyproject.toml"
    argv = ["pip", "compile", "--universal", "--python-version", python, "--format", PYLOCK_FORMAT, "--no-header"]
    argv += [*options, *([] if deps else ["--no-deps"]), "--no-annotate", requirements if project else "-"]
    return run_uv(argv, folder=folder, given="" if project else requirements)


def build_wheel(source: Path, into: Path) -> Path:
    """A wheel of a project or source archive, by its own backend. Raises: UvFailed.

    With the Python that runs this one: the one that the project asks for may not be here, and few wheels care.
    """
    run_uv(
        ["build", "--wheel", "--python", sys.executable, "--out-dir", str(into), str(source)],
        folder=source.parent,
        extra=_REPRODUCIBLE,
    )
    return next(into.glob("*.whl"))


PYLOCK_FORMAT = "pylock.toml"
_REPRODUCIBLE = {"SOURCE_DATE_EPOCH": "315532800", "GIT_OPTIONAL_LOCKS": "0"}
"""1980, the first time that a zip archive can have: the same sources give the same wheel."""


def run_uv(argv: Sequence[str], *, folder: Path, given: str = "", extra: Mapping[str, str] | None = None) -> str:
    """What a command of uv prints. Raises: UvFailed."""
    always = ["--color", "never", "--no-progress", "--no-python-downloads"]
    environment = {"UV_HTTP_RETRIES": "1", "UV_SYSTEM_CERTS": "true", **git.environment(), **(extra or {})}
    environment.pop("VIRTUAL_ENV", None)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            (uv_binary(), *always, *argv),
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        # This may be a thread of a command that ends, for a host does not answer: then nobody wants the result.
        ending = weakref.finalize(said, process.terminate)
        try:
            printed, _ = process.communicate(given.encode(), timeout=_DEADLINE_S)
        except subprocess.TimeoutExpired as error:
            raise UvFailed(f"error: there was no end after {_DEADLINE_S:g} s") from error
        finally:
            ending.detach()
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode:
            said.seek(0)
            raise UvFailed(said.read().decode(errors="replace"))
    return printed.decode()
