"""The Pythons of a host: what is known of one, which one a release gets, and whether its venv still fits.

Invariant: the host's word comes before the release's, and of several that would do, always the same one is chosen.
A minor version decides, for packages with compiled code are made for one. A patch version that a release names is
a wish: Debian raises it with security updates.
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from pusher.wire import Code, Refused

DEFAULT_PYTHON = "/usr/bin/python3"
"""The Python where neither the host nor the release names one."""

VERSION = re.compile(r"3\.[0-9]{1,3}(?:\.[0-9]{1,3})?", re.ASCII)
"""How a version is written: `3.13`, or `3.13.1`."""

_FACTS = re.compile(r"(3)\.(\d+)\.(\d+)\S* .* (\S+) (/.*)\n(\S+) (\S+)\n?", re.ASCII | re.DOTALL)
_MINORS = range(7, 40)


@dataclass(frozen=True, slots=True)
class Python:
    """An interpreter: the path by which it is called, and what it said of itself (`facts_argv`)."""

    path: str
    facts: str

    @property
    def version(self) -> str:
        """Its version, as "3.11.2"."""
        return self.facts.split(maxsplit=1)[0].rstrip("+")


@dataclass(frozen=True, slots=True)
class _Build:
    """Facts in parts. Compiled code is made for `abi`; `real` is the file, links followed."""

    version: str
    abi: tuple[str, ...]
    real: str


def fits(version: str, wanted: str) -> bool:
    """Whether a full version is one of `wanted`: a minor version, or a full one."""
    return version == wanted or version.startswith(f"{wanted}.")


def minor_of(version: str) -> str:
    """The minor version of a version: "3.13" of "3.13.1"."""
    return ".".join(version.split(".")[:2])


def of_version(wanted: str, found: Sequence[Python], *, exact: bool) -> Python | None:
    """The first of these that is of the version, else (unless `exact`) of its minor version; None if none is."""
    for version in (wanted,) if exact else (wanted, minor_of(wanted)):
        for one in found:
            if fits(one.version, version):
                return one
    return None


def of_requirement(requires: str, found: Iterable[Python]) -> Python | None:
    """The oldest of these that `requires` (as `>=3.12`) admits: what lacks a lock was resolved for that one."""
    admitted = (one for one in found if admits(requires, one.version))
    return min(admitted, key=lambda one: Version(minor_of(one.version)), default=None)


def admits(requires: str, version: str) -> bool:
    """Whether `requires` admits a version. Nothing required: every one."""
    return SpecifierSet(requires).contains(version, prereleases=True)


def admitted(requires: str) -> str:
    """What a manifest requires, in its usual form. Raises: Refused(bundle_malformed), if it requires nonsense."""
    try:
        return str(SpecifierSet(requires))
    except InvalidSpecifier as error:
        what = "The bundle does not have the format that this agent reads"
        why = f"its requires_python is {requires!r}"
        raise Refused(
            Code.BUNDLE_MALFORMED, what, why=why, hint="Correct requires-python, and pack it again"
        ) from error


def unadmitted(requires: str, version: str) -> Refused:
    """The problem of a release that does not admit the Python which the host or the release names for it."""
    return Refused(
        Code.DEPENDENCIES_FAILED,
        f"The release needs Python {requires}, and this host has {version}",
        why="its lock was made for another Python",
        hint="Set `python` in [dependencies] of the app's file to one that fits, or lock it for this one",
    )


def oldest_admitted(requires: str) -> str:
    """The oldest minor version that `requires` admits, of all that may ever be; empty if it admits none."""
    minors = (f"3.{minor}" for minor in _MINORS)
    return next((one for one in minors if admits(requires, f"{one}.99") or admits(requires, one)), "")


def missing(wanted: str, found: Iterable[Python], *, by: str, root: Path) -> Refused:
    """The problem of a version that the host does not have; `by` says who wants it."""
    versions = sorted({one.version for one in found}, key=Version)
    return Refused(
        Code.DEPENDENCIES_FAILED,
        f"{by} Python {wanted}, and this host has {' and '.join(versions) or 'none'}",
        why="a venv of one Python cannot be used with another",
        hint=f"{add_command(wanted, root=root)}, or name another version",
    )


def add_command(version: str, *, root: Path) -> str:
    """The command that mends a missing version, for people."""
    if root == Path("/"):
        return f"`sudo pusher-agent python add {version}`"
    return f"`pusher-agent python add {version} --root {shlex.quote(str(root))}`"


def why_lost(made_with: str, now: Python | None, *, link: str) -> str:
    """Why a venv does not run any more; empty if it does.

    `made_with`: the facts of its Python when it was made. `now` is what the path in them is today, and `link` the
    file that the venv's own link leads to. An upgrade to another patch version does no harm.
    """
    before = _build(made_with)
    if before is None:
        return "" if now else f"its Python ({link}) is gone"
    name = f"Python {before.version}"
    if now is None:
        return f"{name} ({before.real}) is gone"
    after = _build(now.facts)
    if after is None or after.abi != before.abi:
        return f"{name} ({before.real}) was replaced by Python {now.version}"
    if link != before.real:
        return f"{name} ({before.real}) is not what its venv leads to any more"
    return ""


def upgraded(made_with: str, now: Python | None) -> str:
    """The version that a Python had when a venv was made, if it is another one now; else empty."""
    before = _build(made_with)
    return before.version if before and now and before.version != now.version else ""


def version_of(facts: str) -> str:
    """The version in facts; empty if they cannot be read."""
    build = _build(facts)
    return build.version if build else ""


def real_path(facts: str) -> str:
    """The file of the interpreter that told these facts; empty if they cannot be read."""
    build = _build(facts)
    return build.real if build else ""


def usual(facts: str) -> bool:
    """Whether it is a CPython with the usual interface for compiled code: one with its global lock."""
    build = _build(facts)
    if build is None:
        return False
    tag = f"cpython-{''.join(build.version.split('.')[:2])}"
    return build.abi[0] == tag and build.abi[2].startswith(f"{tag}-")


def _build(facts: str) -> _Build | None:
    match = _FACTS.fullmatch(facts)
    if match is None:
        return None
    return _Build(".".join(match.group(1, 2, 3)), match.group(4, 6, 7), match[5])
