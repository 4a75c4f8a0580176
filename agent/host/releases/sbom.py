"""The bill of materials of a release, in its metadata folder: made when its venv is there, read when asked for.

Invariant: what is listed is what lies in the venv. No code of a package is run to find out. Everything here
blocks.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agent.core.layout import metadata_folder
from agent.core.sbom import Installed, document
from agent.host.releases.content import opened
from agent.host.storage.disk import Disk
from agent.host.storage.errors import explained
from pusher.wire import MANIFEST_NAME, Code, Manifest, Refused, canonical

NAME = "sbom.json"
_SUFFIX = ".dist-info"
_SBOM_BYTES = 4 * 1024**2
_HEADERS_BYTES = 64 * 1024
_RECORD_BYTES = 64 * 1024**2
_TEXT_CHARACTERS = 200
_VERSION = version("pusher-agent")


def write_sbom(release: Path, *, venv: Path, disk: Disk) -> None:
    """Write down what is installed in the venv of a release, durably. Raises: Failed."""
    with explained("read", release):
        raw = (metadata_folder(release) / MANIFEST_NAME).read_bytes()
    with explained("read", venv):
        packages = [*installed(venv)]
    digest = hashlib.sha256(raw).hexdigest()
    found = document(
        Manifest.from_bytes(raw), digest=digest, release=release.name, installed=packages, agent=_VERSION
    )
    disk.write(metadata_folder(release) / NAME, canonical(found) + b"\n", op="sbom.write", replace=True)


def read_sbom(release: Path) -> dict[str, Any]:
    """The bill of materials of a release. Raises: Refused(release_damaged), if it has none that can be read."""
    try:
        with opened(metadata_folder(release) / NAME) as descriptor:
            raw = _read(descriptor, _SBOM_BYTES + 1)
        if len(raw) > _SBOM_BYTES:
            raise ValueError(f"it has more than {_SBOM_BYTES} bytes")
        found = json.loads(raw)
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except FileNotFoundError as error:
        raise Refused(
            Code.RELEASE_DAMAGED,
            f"Release {release.name} has no bill of materials",
            why="it was made by an agent that did not write one yet",
            hint="Send the version again",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise Refused(
            Code.RELEASE_DAMAGED, f"The bill of materials of {release.name} cannot be read", why=str(error)
        ) from error
    return found


def installed(venv: Path) -> Iterator[Installed]:
    """The packages in a venv, by their `.dist-info` (PyPA, Recording installed projects). Raises: OSError."""
    for packages in sorted(venv.glob("lib/python*/site-packages")):
        for folder in sorted(os.listdir(packages)):
            if folder.endswith(_SUFFIX):
                yield _installed(packages / folder)


def _installed(folder: Path) -> Installed:
    name, _, number = folder.name.removesuffix(_SUFFIX).partition("-")
    headers = _headers(folder / "METADATA")
    return Installed(
        headers.get("name") or _short(name), headers.get("version") or _short(number), _digest(folder / "RECORD")
    )


def _headers(file: Path) -> dict[str, str]:
    """Name and version in a package's METADATA (PyPA, Core metadata); the first of each counts."""
    try:
        with opened(file) as descriptor:
            text = _read(descriptor, _HEADERS_BYTES).decode(errors="replace")
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in text.split("\n"):
        if not line.strip():
            break
        key, _, value = line.partition(":")
        if key.lower() in ("name", "version"):
            found.setdefault(key.lower(), _short(value))
    return found


def _digest(file: Path) -> str:
    try:
        with opened(file) as descriptor:
            return hashlib.sha256(_read(descriptor, _RECORD_BYTES)).hexdigest()
    except OSError:
        return ""


def _read(descriptor: int, most: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(most)


def _short(text: str) -> str:
    """Text of a package, on one line and not too long."""
    return " ".join(text.split())[:_TEXT_CHARACTERS]
