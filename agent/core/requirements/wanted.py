"""What a release asks for: read by our own rules, checked, and written anew as the only files that uv reads.

Invariant: uv sees no file of a release but wheels and source archives. So it cannot read a statement under other
rules than ours, and nothing that is not understood here has any effect. Releases that share a venv have equal
files here: what they include counts too, and what a venv could not share (a folder of the release, an editable
install) is refused. Where packages come from is root's to say: a release names no index.

Format: https://pip.pypa.io/en/stable/reference/requirements-file-format/.
"""

import codecs
import hashlib
import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from packaging.utils import InvalidName, canonicalize_name

from agent.core.requirements.pylock import PYLOCK, parse_pylock
from agent.core.requirements.requirement import (
    BUILDS,
    BUILDS_HINT,
    OWN_CODE,
    OWN_CODE_HINT,
    WHEELS,
    Requirement,
    parse_hashes,
    parse_requirement,
    unusable,
    with_source,
)
from agent.core.requirements.toml_text import parse_toml
from pusher.wire import Code, Failed

Read = Callable[[str], bytes | None]
"""The content of a file of the release, by its path within; None if there is no such file.

It need not read more than `FILE_MOST` + 1 bytes.
"""

FILE_MOST = 8 * 1024**2
"""So many bytes a file may have, and so many all that it includes."""

FILES_MOST = 100
"""So many files may be included, one from the other."""

_STATEMENT_MOST = 512 * 1024
_LINE_END = re.compile(r"\r\n|\n|\r")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")

_INCLUDES = frozenset({"-r", "--requirement", "-c", "--constraint"})
_IGNORED = frozenset({"--prefer-binary", "--no-cache-dir", "--disable-pip-version-check", "--no-input"})
"""Options of pip that change nothing of what is installed here."""
_INDEXES = frozenset({"-i", "--index-url", "--pypi-url", "--extra-index-url", "--trusted-host"})
_INDEXES_HINT = "Root names them in the app's file, under [dependencies]: index_url, or [[dependencies.indexes]]"


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

    `indexes`: names that root gave.

    Raises: Failed(dependencies_failed), naming the file and the line.
    """
    reading = _Reading(read, wheels_only)
    if read(PYLOCK) is not None:
        return reading.pylock()
    base = posixpath.basename(name)
    if base == "uv.lock":
        return reading.lock(name)
    if base == "pyproject.toml":
        return reading.project(name, indexes)
    return reading.requirements(name)


def read_exported(wanted: Wanted, text: str, *, wheels_only: bool) -> Wanted:
    """What a lock asks for, from what uv made of it (`export_argv`). Checked as if the release had said it.

    Raises: Failed(dependencies_failed), naming the line.
    """
    if len(text) > FILE_MOST:
        raise unusable(wanted.name, why=f"what it comes to is larger than {FILE_MOST} bytes")
    _check_control(text, wanted.name)
    folder, found = posixpath.dirname(wanted.name), []
    for number, statement in _statements(text, wanted.name):
        where = f"{wanted.name}, exported line {number}"
        if statement.startswith("-"):
            raise unusable(where, why=f"{statement[:100]!r} is an option")
        found.append(_requirement(statement, where, wheels_only=wheels_only, folder=folder))
    hashed = bool(found) and all(one.hashes for one in found)
    return replace(wanted, requirements=tuple(found), hashed=hashed)


def lock_files(wanted: Wanted) -> tuple[str, str]:
    """The files of the release that a lock is exported from: the lock, and its project."""
    return wanted.name, posixpath.join(posixpath.dirname(wanted.name), "pyproject.toml")


@dataclass(slots=True)
class _Reading:
    read: Read
    wheels_only: bool
    files: dict[str, str] = field(default_factory=dict)
    size: int = 0
    followed: set[tuple[str, bool]] = field(default_factory=set)
    found: list[Requirement] = field(default_factory=list)
    constraints: list[Requirement] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    only_binary: list[str] = field(default_factory=list)
    no_binary: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)

    def requirements(self, name: str) -> Wanted:
        self._follow(name)
        return Wanted(
            Kind.REQUIREMENTS,
            name,
            self.files,
            tuple(self.found),
            tuple(self.constraints),
            hashed="--require-hashes" in self.flags or any(one.hashes for one in self.found),
            no_index="--no-index" in self.flags,
            prereleases="--pre" in self.flags,
            only_binary=tuple(dict.fromkeys(self.only_binary)),
            no_binary=tuple(dict.fromkeys(self.no_binary)),
            passed_over=tuple(self.passed_over),
        )

    def project(self, name: str, indexes: Collection[str]) -> Wanted:
        table = self._toml(name)
        project = table.get("project")
        if not isinstance(project, dict):
            raise unusable(name, why="it has no [project] table")
        if "dependencies" in _list(project, "dynamic", name):
            raise unusable(
                name,
                why="its dependencies are dynamic, so only its build code could tell them",
                hint="List them in [project] dependencies, or use a requirements.txt",
            )
        sources = _table(_table(_table(table, "tool", name), "uv", name), "sources", name)
        targets = {
            canonicalize_name(package): target
            for package, source in sources.items()
            if (target := self._target(source, f"{name}, {package}", indexes))
        }
        folder = posixpath.dirname(name)
        for text in map(str, _list(project, "dependencies", name)):
            one = parse_requirement(text, where=name, wheels_only=self.wheels_only, folder=folder)
            if source := targets.get(canonicalize_name(one.name)):
                where = f"{name}, {one.name}"
                one = with_source(text, source, where=where, wheels_only=self.wheels_only, folder=folder)
            self.found.append(one)
        return Wanted(Kind.PROJECT, name, self.files, tuple(self.found))

    def lock(self, name: str) -> Wanted:
        wanted = Wanted(Kind.LOCK, name, self.files)
        self._toml(lock_files(wanted)[1])
        for package in _list(self._toml(name), "package", name):
            source = _table(package, "source", name)
            if source.get("virtual") != "." and source.get("editable") != ".":
                where = f"{name}, {package.get('name', '?')}"
                if {"workspace", "directory", "editable", "virtual"} & source.keys():
                    raise unusable(where, why=OWN_CODE, hint=OWN_CODE_HINT)
                if "git" in source and self.wheels_only:
                    raise unusable(where, why=BUILDS, hint=BUILDS_HINT)
        return wanted

    def pylock(self) -> Wanted:
        lock = parse_pylock(self._text(PYLOCK), wheels_only=self.wheels_only)
        return Wanted(
            Kind.PYLOCK,
            PYLOCK,
            self.files,
            lock.requirements,
            hashed=bool(lock.requirements),
            requires_python=lock.requires_python,
            wheels=lock.wheels,
        )

    def _follow(self, name: str, by: str = "", *, constraints: bool = False) -> None:
        if (name, constraints) in self.followed:
            return
        self.followed.add((name, constraints))
        if len(self.followed) > FILES_MOST:
            raise unusable(by, why=f"more than {FILES_MOST} files are included")
        for number, statement in _statements(self._text(name, by), name):
            where = f"{name}, line {number}"
            if statement.startswith("-"):
                self._option(statement, name, where, constraints=constraints)
            else:
                one = _requirement(statement, where, wheels_only=self.wheels_only)
                (self.constraints if constraints else self.found).append(one)

    def _option(self, statement: str, name: str, where: str, *, constraints: bool) -> None:
        first, *values = statement.split()
        option, equals, value = first.partition("=")
        if equals:
            values = [value, *values]
        if option in ("--no-index", "--require-hashes", "--pre") or option in _IGNORED:
            if values:
                raise unusable(where, why=f"something follows {option}", hint="Put it on a line of its own")
            self.flags.add(option)
            if option in _IGNORED:
                self.passed_over.append(f"{where}: {option} is passed over")
            return
        if option in ("-e", "--editable"):
            raise unusable(where, why=OWN_CODE, hint=OWN_CODE_HINT)
        if option in _INDEXES:
            raise unusable(where, why="a release does not say where packages come from", hint=_INDEXES_HINT)
        if option == "--no-binary" and self.wheels_only:
            raise unusable(where, why=BUILDS, hint=BUILDS_HINT)
        known = option in _INCLUDES or option in ("-f", "--find-links", "--only-binary", "--no-binary")
        if not known or len(values) != 1 or not values[0]:
            shown = repr(statement if len(statement) <= 100 else statement[:100] + "...")
            raise unusable(where, why=f"{shown} is not an option that can be used here, with one value")
        if option in _INCLUDES:
            constraints = constraints or option in ("-c", "--constraint")
            self._follow(_included(values[0], name, where), where, constraints=constraints)
        elif option in ("-f", "--find-links"):
            if posixpath.normpath(values[0]) != WHEELS:
                why = f"a release has packages of its own in {WHEELS}/, and nowhere else"
                raise unusable(where, why=why, hint="Root names other places in the app's file: find_links")
        else:
            names = self.only_binary if option == "--only-binary" else self.no_binary
            names += [_package(one, where) for one in values[0].split(",")]

    def _target(self, source: Any, where: str, indexes: Collection[str]) -> str:
        """Where [tool.uv.sources] takes a package from; empty for an index, which root has named."""
        every = source if isinstance(source, list) else [source]
        if not all(isinstance(one, dict) for one in every):
            raise unusable(where, why="its source is not a table")
        if every and all("index" in one for one in every):
            for one in every:
                if one["index"] not in indexes:
                    why = f"the host has no index called {str(one['index'])[:100]!r}"
                    raise unusable(where, why=why, hint=_INDEXES_HINT)
            return ""
        if len(every) != 1 or "marker" in every[0]:
            raise unusable(where, why="it has several sources, or one under a condition", hint="Use a uv.lock")
        (one,) = every
        if {"workspace", "directory", "editable", "virtual"} & one.keys():
            raise unusable(where, why=OWN_CODE, hint=OWN_CODE_HINT)
        part = f"#subdirectory={one['subdirectory']}" if "subdirectory" in one else ""
        if "git" in one:
            revision = next((f"@{one[key]}" for key in ("rev", "tag", "branch") if key in one), "")
            return f"git+{one['git']}{revision}{part}"
        target = one.get("path") or one.get("url")
        if not isinstance(target, str):
            raise unusable(where, why="its source is of a kind that is not known here")
        return f"{target}{part}"

    def _toml(self, name: str) -> dict[str, Any]:
        return parse_toml(self._text(name), name=name)

    def _text(self, name: str, by: str = "") -> str:
        content = self.read(name)
        if content is None:
            if by:
                raise unusable(by, why=f"the release has no {name}")
            raise Failed(
                Code.DEPENDENCIES_FAILED,
                f"The release has no {name}",
                why="a release's venv is made from it",
                hint="Add it, or set `requirements` in [dependencies] to the file that you have",
            )
        self.size += len(content)
        if self.size > FILE_MOST:
            raise unusable(name, why=f"with what includes it, it is larger than {FILE_MOST} bytes")
        self.files[name] = hashlib.sha256(content).hexdigest()
        if content[:2] in _UTF_16:
            hint = "Save it as UTF-8 (PowerShell: `pip freeze | Out-File -Encoding utf8 requirements.txt`)"
            raise unusable(name, why="it is UTF-16", hint=hint)
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise unusable(name, why="it is not UTF-8") from error
        _check_control(text, name)
        return text


def _requirement(statement: str, where: str, *, wheels_only: bool, folder: str = "") -> Requirement:
    """A requirement of a requirements file, with the hashes that follow it."""
    words = statement.split()
    hashes = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    text = " ".join(words[:hashes])
    one = parse_requirement(text, where=where, wheels_only=wheels_only, folder=folder)
    return replace(one, hashes=parse_hashes(words[hashes:], where=where))


def _check_control(text: str, name: str) -> None:
    if found := _CONTROL.search(text):
        line = len(_LINE_END.findall(text, 0, found.start())) + 1
        raise unusable(f"{name}, line {line}", why="it has a control character")


def _statements(text: str, name: str) -> Iterator[tuple[int, str]]:
    """The logical lines of a requirements file, comments taken away, each with the number of its first line."""
    first, joined, size = 0, [], 0
    for number, line in enumerate(_LINE_END.split(text), 1):
        first = first or number
        bare = _uncommented(line)
        going_on = bare == line and line.endswith("\\")
        joined.append(line[:-1] if going_on else bare)
        size += len(line)
        if size > _STATEMENT_MOST:
            raise unusable(f"{name}, line {first}", why=f"it has more than {_STATEMENT_MOST} characters")
        if going_on:
            continue
        if statement := " ".join(joined).strip():
            yield first, statement
        first, joined, size = 0, [], 0
    if statement := " ".join(joined).strip():
        yield first, statement


def _uncommented(line: str) -> str:
    """A comment begins with a # at the start of a line, or after a blank."""
    if line.startswith("#"):
        return ""
    ends = [at for sign in (" #", "\t#") if (at := line.find(sign)) >= 0]
    return line[: min(ends)] if ends else line


def _package(name: str, where: str) -> str:
    """The name of a package, or `:all:`, after --only-binary or --no-binary."""
    if name == ":all:":
        return name
    try:
        return canonicalize_name(name, validate=True)
    except InvalidName as error:
        raise unusable(where, why=f"{name[:100]!r} is not the name of a package") from error


def _table(table: Any, key: str, where: str) -> dict[str, Any]:
    """The table `key` of what should be a table itself; empty if there is none."""
    found = table.get(key, {}) if isinstance(table, dict) else None
    if not isinstance(found, dict):
        raise unusable(where, why=f"its {key} is not a table, or does not stand in one")
    return found


def _list(table: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """The list `key` of a table; empty if there is none."""
    found = table.get(key, [])
    if not isinstance(found, list):
        raise unusable(where, why=f"its {key} is not a list")
    return found


def _included(value: str, name: str, where: str) -> str:
    if "$" in value:
        raise unusable(where, why=f"the $ cannot be used in {value[:100]!r}", hint="Write out what it stands for")
    if ":" in value:
        why = "a file from elsewhere may be another one tomorrow"
        raise unusable(where, why=why, hint="Put it into the release")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), value))
    if path.startswith(("/", "../")):
        raise unusable(where, why=f"{value[:100]} leaves the release")
    return path
