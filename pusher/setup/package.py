"""The agent's Debian package on this machine: read, or built from a checkout.

Invariant: nothing is unpacked. Only the fields of its control file are read, and they decide where it may go.
"""

import io
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pusher
from pusher.errors import Usage
from pusher.wire import Code, Failed

_MAGIC = b"!<arch>\n"
_HEAD = 60
_CONTROL_MOST = 4 * 1024 * 1024
_PYTHON = re.compile(r"python3 \(>= ([0-9]+\.[0-9]+)~?\)")
_FIELD = re.compile(r"^([A-Za-z-]{1,40}): (.{0,4000})$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package file. `python` is the only version of Python that it runs on, as `3.11`."""

    path: Path
    version: str
    architecture: str
    python: str


def read_package(path: Path) -> Package:
    """The package in a file (deb(5)). Raises: Usage."""
    try:
        with path.open("rb") as file:
            fields = dict(_FIELD.findall(_control(file)))
    except OSError as error:
        raise Usage(f"The package {path} cannot be read", why=error.strerror or str(error)) from error
    except (ValueError, tarfile.TarError, KeyError, EOFError) as error:
        raise Usage(f"{path} is no Debian package", why=str(error), hint="`make deb` builds one") from error
    if fields.get("Package") != "pusher-agent":
        raise Usage(f"{path} is the package {fields.get('Package', '')!r}", hint="That of pusher-agent is needed")
    python = _PYTHON.search(fields.get("Depends", ""))
    return Package(
        path=path,
        version=fields.get("Version", ""),
        architecture=fields.get("Architecture", ""),
        python=python[1] if python else "",
    )


def checkout() -> Path | None:
    """The checkout that this command runs from, if it does."""
    top = Path(pusher.__file__).resolve().parents[1]
    return top if (top / "packaging/build-deb").is_file() else None


def build_package(top: Path) -> Package:
    """The package of a checkout, built now. Raises: Failed."""
    try:
        done = subprocess.run((top / "packaging/build-deb",), capture_output=True, text=True, check=False)
        said, code = done.stderr, done.returncode
    except OSError as error:
        said, code = error.strerror or str(error), 1
    if code:
        raise Failed(
            Code.BUILD_FAILED,
            f"No package could be built from {top}",
            hint="On Debian, `make deb` builds one; then name it: --package FILE",
            output=said.strip(),
        )
    return read_package(top / done.stdout.split()[-1])


def _control(file: io.BufferedReader) -> str:
    """The text of the control file. Raises: ValueError, tarfile.TarError, KeyError."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("it is no ar archive")
    while head := file.read(_HEAD):
        name, size = head[:16].decode("ascii", "replace").strip().rstrip("/"), int(head[48:58])
        if size < 0:
            raise ValueError("a part of it has less than no bytes")
        if not name.startswith("control.tar"):
            file.seek(size + size % 2, 1)
            continue
        if size > _CONTROL_MOST:
            raise ValueError("its control part is too large")
        with tarfile.open(fileobj=io.BytesIO(file.read(size))) as tar:
            member = tar.extractfile("./control")
            if member is None:
                raise ValueError("its control file is no file")
            return member.read(_CONTROL_MOST).decode()
    raise ValueError("it has no control part")
