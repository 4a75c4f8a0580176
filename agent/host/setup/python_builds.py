"""The builds of Python that may be put on this host: which there are for this machine, and by whose word.

Invariant: the digest of a build is known before anything of it is unpacked: uv has it in itself, or root names it.
"""

import hashlib
import json
import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from agent.core.environment import CLEAN_PATH
from agent.core.pythons import VERSION, fits
from agent.core.venv import passed_on
from pusher.wire import Code, Refused

Ask = Callable[[tuple[str, ...]], str]
"""Runs a command to its end, and returns what it wrote. Raises: Failed."""

_ALWAYS = ("--no-config", "--no-cache", "--no-progress", "--color", "never")
_FILE = re.compile(r"cpython-(3\.\d+\.\d+)\+(\w+)-(\w+)-unknown-linux-(gnu|musl)\S*\.tar\.(?:gz|zst)", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_WHAT = "The Python cannot be added"


@dataclass(frozen=True, slots=True)
class Build:
    """One build of a Python: the name of its folder, its version, and where it is downloaded from."""

    key: str
    version: str
    url: str

    @property
    def file(self) -> str:
        """The name of its archive."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2])


def choose_build(version: str, archive: Path | None, *, sha256: str, uv: Path, ask: Ask) -> Build:
    """The build of a version: the newest that uv knows, or the one in the archive. Its digest is known.

    Raises: Refused.
    """
    if not VERSION.fullmatch(version):
        raise Refused(Code.CONFIGURATION, _WHAT, why=f"{version!r} is no version like 3.13 or 3.13.1")
    if sha256 and not (archive and _SHA256.fullmatch(sha256)):
        why = "it needs an archive" if not archive else "it has 64 hexadecimal digits"
        raise Refused(Code.CONFIGURATION, _WHAT, why=f"--digest cannot be used: {why}")
    known = _known(version, uv=uv, ask=ask)
    return _build_of(archive, version, known, sha256=sha256) if archive else _newest(version, known)


def uv_argv(uv: Path, *words: str) -> tuple[str, ...]:
    """A command of uv with an environment of its own: root's may name another list of downloads, or none."""
    passed = passed_on(os.environ)
    environment = {**passed, "PATH": CLEAN_PATH, "HOME": "/nonexistent", "LANG": "C.UTF-8", "UV_HTTP_RETRIES": "2"}
    variables = (f"{name}={value}" for name, value in environment.items())
    return ("/usr/bin/env", "-i", *variables, str(uv), *words, *_ALWAYS)


def _known(version: str, *, uv: Path, ask: Ask) -> list[Build]:
    """The builds for this machine that uv knows by their digests, of this version, the newest first."""
    listing = ("python", "list", version, "--only-downloads", "--all-versions", "--output-format", "json")
    try:
        every = json.loads(ask(uv_argv(uv, *listing)))
    except ValueError as error:
        raise RuntimeError("uv wrote a list that is not JSON") from error
    return [
        Build(one["key"], one["version"], one["url"])
        for one in every
        if one["implementation"] == "cpython" and one["variant"] == "default" and fits(one["version"], version)
    ]


def _newest(version: str, known: list[Build]) -> Build:
    if known:
        return known[0]
    raise Refused(
        Code.CONFIGURATION,
        f"There is no Python {version} to be added",
        why="this version of uv knows no build of it for this machine",
        hint="Name another version, or an archive and its digest: --from FILE --digest SHA256",
    )


def _build_of(archive: Path, version: str, known: list[Build], *, sha256: str) -> Build:
    """The build in an archive, whose digest is known: to uv, or by root. Raises: Refused."""
    match = _FILE.fullmatch(archive.name)
    if match is None:
        why = "it is not named as cpython-VERSION+BUILD-MACHINE-unknown-linux-gnu-install_only.tar.gz"
        raise Refused(Code.CONFIGURATION, f"{archive} cannot be used", why=why)
    if not fits(match[1], version):
        raise Refused(Code.CONFIGURATION, f"{archive} cannot be used", why=f"it is not Python {version}")
    machine = platform.machine()
    if match[3].partition("_v")[0] != machine:
        raise Refused(Code.CONFIGURATION, f"{archive} cannot be used", why=f"it is not for {machine}")
    if sha256:
        if (found := _digest(archive)) != sha256:
            raise Refused(
                Code.CONTENT_MISMATCH, f"{archive} cannot be used", why=f"its SHA-256 is {found}, not {sha256}"
            )
        return Build(f"cpython-{match[1]}-linux-{machine}-{match[4]}", match[1], "")
    for build in known:
        if build.file == archive.name:
            return build
    raise Refused(
        Code.CONFIGURATION,
        f"{archive} cannot be used",
        why="its digest is not known: it is no archive that this version of uv would download",
        hint="Name its digest (--digest), or use one of these: "
        + (", ".join(one.file for one in known[:3]) or "none of this version"),
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
