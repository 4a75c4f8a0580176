"""What a release asks for: read by our own rules, checked, and written anew as the only files that uv reads.

Invariant: uv sees no file of a release but wheels and source archives. So it cannot read a statement under other
rules than ours, and nothing that is not understood here has any effect. Releases that share a venv have equal
files here: what they include counts too, and what a venv could not share (a folder of the release, an editable
install) is refused. Where packages come from is root's to say: a release names no index.
"""

import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from agent.core.requirements.files import FILE_MOST, Read, ReleaseFiles
from agent.core.requirements.project import check_lock, project_of, read_project
from agent.core.requirements.pylock import PYLOCK, parse_pylock
from agent.core.requirements.requirement import Requirement, unusable
from agent.core.requirements.requirements_file import parse_exported, read_requirements_file


class Kind(StrEnum):
    """What the configured file is."""

    REQUIREMENTS = "requirements"
    PROJECT = "project"
    LOCK = "lock"
    PYLOCK = "pylock"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a release asks for.

    `name` is the configured file, `files` the SHA-256 (hex) of each that counts. The requirements of a lock are
    known only when it has been exported (`read_exported`). `hashed`: all must carry hashes. `only_binary`,
    `no_binary`: for these packages a wheel, or a build, is demanded. `wheels`: the names of the wheels of each
    package, as far as they are known. `passed_over`: statements without effect, for people.
    """

    kind: Kind
    name: str
    files: Mapping[str, str]
    requirements: tuple[Requirement, ...] = ()
    constraints: tuple[Requirement, ...] = ()
    hashed: bool = False
    no_index: bool = False
    prereleases: bool = False
    only_binary: tuple[str, ...] = ()
    no_binary: tuple[str, ...] = ()
    requires_python: str = ""
    wheels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether it names every package that is installed, so that nothing may be added to it."""
        return self.kind is Kind.PYLOCK


def read_wanted(name: str, *, read: Read, wheels_only: bool, indexes: Collection[str] = ()) -> Wanted:
    """What the release asks for in its `pylock.toml`, or else in its file `name`, with all that it includes.

    `indexes`: names that root gave. Raises: Failed(dependencies_failed), naming the file and the line.
    """
    files = ReleaseFiles(read)
    if read(PYLOCK) is not None:
        return _from_pylock(files, wheels_only=wheels_only)
    base = posixpath.basename(name)
    if base == "uv.lock":
        check_lock(name, files=files, wheels_only=wheels_only)
        return Wanted(Kind.LOCK, name, files.digests)
    if base == "pyproject.toml":
        found = read_project(name, files=files, wheels_only=wheels_only, indexes=indexes)
        return Wanted(Kind.PROJECT, name, files.digests, tuple(found))
    return _from_requirements_file(name, files, wheels_only=wheels_only)


def read_exported(wanted: Wanted, text: str, *, wheels_only: bool) -> Wanted:
    """What a lock asks for, from what uv made of it (`export_argv`). Checked as if the release had said it.

    Raises: Failed(dependencies_failed), naming the line.
    """
    if len(text) > FILE_MOST:
        raise unusable(wanted.name, why=f"what it comes to is larger than {FILE_MOST} bytes")
    found = parse_exported(text, name=wanted.name, wheels_only=wheels_only)
    hashed = bool(found) and all(one.hashes for one in found)
    return replace(wanted, requirements=tuple(found), hashed=hashed)


def lock_files(wanted: Wanted) -> tuple[str, str]:
    """The files of the release that a lock is exported from: the lock, and its project."""
    return wanted.name, project_of(wanted.name)


def _from_pylock(files: ReleaseFiles, *, wheels_only: bool) -> Wanted:
    lock = parse_pylock(files.text(PYLOCK), wheels_only=wheels_only)
    return Wanted(
        Kind.PYLOCK,
        PYLOCK,
        files.digests,
        lock.requirements,
        hashed=bool(lock.requirements),
        requires_python=lock.requires_python,
        wheels=lock.wheels,
    )


def _from_requirements_file(name: str, files: ReleaseFiles, *, wheels_only: bool) -> Wanted:
    stated = read_requirements_file(name, files=files, wheels_only=wheels_only)
    return Wanted(
        Kind.REQUIREMENTS,
        name,
        files.digests,
        tuple(stated.requirements),
        tuple(stated.constraints),
        hashed="--require-hashes" in stated.flags or any(one.hashes for one in stated.requirements),
        no_index="--no-index" in stated.flags,
        prereleases="--pre" in stated.flags,
        only_binary=tuple(dict.fromkeys(stated.only_binary)),
        no_binary=tuple(dict.fromkeys(stated.no_binary)),
        passed_over=tuple(stated.passed_over),
    )
