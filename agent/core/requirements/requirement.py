"""One requirement of a release: checked, and written anew for uv.

Invariant: what is written is made from parsed parts alone, never copied from what came in, and uv reads it as what
was checked: one requirement, of printable ASCII, without anything that uv expands, joins or takes for an option.
Time is linear in the length of a line, and a line has a limit.

Formats: https://packaging.python.org/specifications/dependency-specifiers/ and, for a path in place of a name,
https://pip.pypa.io/en/stable/reference/requirements-file-format/.
"""

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as Parsed
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from pusher.wire import Code, Failed

WHEELS = "wheels"
"""The folder of a release with packages of its own."""

LINE_MOST = 2_000
"""So many characters a requirement may have, without its hashes."""

HASHES_MOST = 2_000
"""So many hashes a requirement may have: one for each file of a version."""

_NAME = re.compile(r"[A-Za-z0-9._+!~-]+")
_NESTED = re.compile(r"[\[(]")
_NESTED_MOST = 50
_HASH = re.compile(r"(sha256|sha384|sha512):([0-9a-f]{64,128})")
_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
_ARCHIVES = (".tar.gz", ".zip")
_REPOSITORIES = ("git+https://", "git+ssh://")
_UNWRITABLE = (" #", " -", "\\", "$")
"""What would begin a comment or an option, join two lines, or be expanded."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """A checked requirement. `line` is how uv gets it, without `hashes`; `name` is in its normal form."""

    name: str
    line: str
    hashes: tuple[str, ...] = ()
    marker: str = ""
    direct: bool = False
    """Whether it comes from a URL or from `wheels/`, and not by its name."""

    def __str__(self) -> str:
        return " ".join([self.line, *(f"--hash={one}" for one in self.hashes)])


def parse_requirement(text: str, *, where: str, wheels_only: bool, folder: str = "") -> Requirement:
    """The requirement that `text` states, without hashes.

    A relative path in it starts at `folder` of the release. Raises: Failed(dependencies_failed), naming `where`.
    """
    _check_text(text, where)
    target, _, marker = text.partition(";")
    if _is_target(target.strip()):
        return _unnamed(target.strip(), marker.strip(), where, wheels_only=wheels_only, folder=folder)
    try:
        parsed = Parsed(text)
    except (InvalidRequirement, RecursionError) as error:
        raise unusable(
            where, why=f"{_shown(text)} is not one requirement", hint="Put each on a line of its own"
        ) from error
    target = parsed.url or ""
    if target:
        target = " @ " + _checked_target(target, where, wheels_only=wheels_only, folder=folder)
    extras = f"[{','.join(sorted(parsed.extras))}]" if parsed.extras else ""
    line = f"{parsed.name}{extras}{target or parsed.specifier}"
    return _written(parsed.name, line, parsed.marker, where)


def with_source(requirement: str, target: str, *, where: str, wheels_only: bool, folder: str = "") -> Requirement:
    """The requirement, which must be a name, taken from `target`: a URL or a file in `wheels/`. Raises: Failed."""
    _check_text(requirement, where)
    _check_text(target, where)
    try:
        parsed = Parsed(requirement)
    except (InvalidRequirement, RecursionError) as error:
        raise unusable(where, why=f"{_shown(requirement)} is not one requirement") from error
    checked = _checked_target(target, where, wheels_only=wheels_only, folder=folder)
    extras = f"[{','.join(sorted(parsed.extras))}]" if parsed.extras else ""
    return _written(parsed.name, f"{parsed.name}{extras} @ {checked}", parsed.marker, where)


def parse_hashes(words: Iterable[str], *, where: str) -> tuple[str, ...]:
    """What stands after a requirement: `--hash=sha256:...`, any number. Raises: Failed, for anything else."""
    found, waiting = [], False
    for word in words:
        if word == "--hash" and not waiting:
            waiting = True
            continue
        value = word if waiting else word.removeprefix("--hash=") if word.startswith("--hash=") else ""
        waiting = False
        match = _HASH.fullmatch(value) if len(value) < LINE_MOST else None
        if match is None or len(match[2]) != _DIGITS[match[1]]:
            raise unusable(where, why=f"only --hash may follow a requirement, and {_shown(word)} is none of use")
        found.append(value)
    if waiting or len(found) > HASHES_MOST:
        raise unusable(where, why="only --hash may follow a requirement, with a value, and not without an end")
    return tuple(found)


def unusable(where: str, *, why: str, hint: str = "") -> Failed:
    """The problem of something in a release that its dependencies cannot be made from."""
    return Failed(Code.DEPENDENCIES_FAILED, f"{where} cannot be used", why=why, hint=hint)


BUILDS = "it would run build code of others on the host, which only_binary forbids"
SEND_WHEELS = "send wheels: `wheels = true` in [dependencies] of pusher.toml"
BUILDS_HINT = f"Let the host build: `only_binary = false` in [dependencies] of the app's file. Or {SEND_WHEELS}"
OWN_CODE = "it names a file or folder of the release, and a venv is shared by releases"
INDEXES_HINT = "Root names them in the app's file, under [dependencies]: index_url, or [[dependencies.indexes]]"
OWN_CODE_HINT = "Code of the release is imported from its folder; wheels of its own go into wheels/"


def _check_text(text: str, where: str) -> None:
    if len(text) > LINE_MOST:
        raise unusable(where, why=f"a requirement has at most {LINE_MOST} characters")
    if "$" in text:
        raise unusable(where, why=f"the $ cannot be used in {_shown(text)}", hint="Write out what it stands for")
    if not text.isascii() or not text.isprintable():
        raise unusable(where, why=f"{_shown(text)} has characters other than printable ASCII")
    if len(_NESTED.findall(text)) > _NESTED_MOST:
        raise unusable(where, why=f"a requirement has at most {_NESTED_MOST} brackets")


def _is_target(text: str) -> bool:
    """Whether it is a URL or a path, and no name."""
    head = text.partition("@")[0]
    return "://" in head or "/" in head or head.startswith((".", "file:", "git+"))


def _unnamed(target: str, marker: str, where: str, *, wheels_only: bool, folder: str) -> Requirement:
    """A URL or a path alone: its file name says which package it is."""
    checked = _checked_target(target, where, wheels_only=wheels_only, folder=folder)
    file = posixpath.basename(_path_of(checked, where))
    try:
        name = parse_wheel_filename(file)[0] if file.endswith(".whl") else parse_sdist_filename(file)[0]
    except (InvalidWheelFilename, InvalidSdistFilename) as error:
        hint = "Write it as NAME @ URL"
        raise unusable(where, why=f"{_shown(file)} does not say which package it is", hint=hint) from error
    try:
        parsed = Marker(marker) if marker else None
    except (InvalidMarker, RecursionError) as error:
        raise unusable(where, why=f"{_shown(marker)} is no condition of a requirement") from error
    return _written(name, f"{name} @ {checked}", parsed, where)


def _checked_target(target: str, where: str, *, wheels_only: bool, folder: str) -> str:
    """Where a package comes from, in the spelling for uv."""
    if any(blank in target for blank in " \t"):
        raise unusable(where, why=f"{_shown(target)} is not one requirement")
    if target.startswith(_REPOSITORIES):
        if wheels_only:
            raise unusable(where, why=BUILDS, hint=BUILDS_HINT)
        return target
    if target.startswith("https://"):
        if wheels_only and not _path_of(target, where).endswith(".whl"):
            raise unusable(where, why=BUILDS, hint=BUILDS_HINT)
        return target
    path = target.removeprefix("file:").removeprefix("//")
    if ":" in path:
        hint = "Only https:// is taken, and git+https:// where builds are allowed"
        raise unusable(where, why=f"{_shown(target)} does not prove where it comes from", hint=hint)
    return _checked_path(path, where, wheels_only=wheels_only, folder=folder)


def _checked_path(path: str, where: str, *, wheels_only: bool, folder: str) -> str:
    """What lies in `wheels/` counts for the venv as a whole; any other file would not."""
    names = posixpath.normpath(posixpath.join(folder, path)).split("/")
    if path.startswith("/") or names[0] != WHEELS or len(names) < 2:
        raise unusable(where, why=OWN_CODE, hint=OWN_CODE_HINT)
    if not all(_NAME.fullmatch(name) for name in names):
        raise unusable(where, why=f"{_shown(path)} has characters that a file in {WHEELS}/ cannot have here")
    if not names[-1].endswith(".whl"):
        if wheels_only:
            raise unusable(where, why=BUILDS, hint=BUILDS_HINT)
        if not names[-1].endswith(_ARCHIVES):
            raise unusable(where, why=f"{_shown(path)} is neither a wheel nor a source archive")
    return "./" + "/".join(names)


def _path_of(url: str, where: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError as error:
        raise unusable(where, why=f"{_shown(url)} is no URL") from error


def _written(name: str, line: str, marker: Marker | None, where: str) -> Requirement:
    condition = str(marker) if marker is not None else ""
    whole = f"{line} ; {condition}" if condition else line
    if not whole.isascii() or not whole.isprintable() or any(sign in whole for sign in _UNWRITABLE):
        raise unusable(where, why=f"{_shown(whole)} could be read in two ways")
    return Requirement(canonicalize_name(name), whole, marker=condition, direct=" @ " in line)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "...")
