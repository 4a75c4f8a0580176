"""A requirements file, as pip has it, with all that it includes.

Invariant: an option counts only if it is known here. None of them says where packages come from.

Format: https://pip.pypa.io/en/stable/reference/requirements-file-format/.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from packaging.utils import InvalidName, canonicalize_name

from agent.core.requirements.files import LINE_END, ReleaseFiles, check_control
from agent.core.requirements.requirement import (
    BUILDS,
    BUILDS_HINT,
    INDEXES_HINT,
    OWN_CODE,
    OWN_CODE_HINT,
    WHEELS,
    Requirement,
    parse_hashes,
    parse_requirement,
    unusable,
)

FILES_MOST = 100
"""So many files may be included, one from the other."""

_STATEMENT_MOST = 512 * 1024
_INCLUDES = frozenset({"-r", "--requirement", "-c", "--constraint"})
_IGNORED = frozenset({"--prefer-binary", "--no-cache-dir", "--disable-pip-version-check", "--no-input"})
"""Options of pip that change nothing of what is installed here."""
_INDEXES = frozenset({"-i", "--index-url", "--pypi-url", "--extra-index-url", "--trusted-host"})


@dataclass(slots=True)
class Stated:
    """What a requirements file states. `flags` are options without a value."""

    requirements: list[Requirement] = field(default_factory=list)
    constraints: list[Requirement] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    only_binary: list[str] = field(default_factory=list)
    no_binary: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)


def read_requirements_file(name: str, *, files: ReleaseFiles, wheels_only: bool) -> Stated:
    """What the file `name` of a release states, with all that it includes.

    Raises: Failed(dependencies_failed), naming the file and the line.
    """
    reading = _Reading(files, wheels_only)
    reading.follow(name)
    return reading.stated


def parse_exported(text: str, *, name: str, wheels_only: bool) -> list[Requirement]:
    """The requirements in what was exported from the file `name`, which has no options.

    Raises: Failed(dependencies_failed), naming the line.
    """
    check_control(text, name)
    folder, found = posixpath.dirname(name), []
    for number, statement in _statements(text, name):
        where = f"{name}, exported line {number}"
        if statement.startswith("-"):
            raise unusable(where, why=f"{statement[:100]!r} is an option")
        found.append(_requirement(statement, where, wheels_only=wheels_only, folder=folder))
    return found


@dataclass(slots=True)
class _Reading:
    files: ReleaseFiles
    wheels_only: bool
    stated: Stated = field(default_factory=Stated)
    followed: set[tuple[str, bool]] = field(default_factory=set)

    def follow(self, name: str, by: str = "", *, constraints: bool = False) -> None:
        if (name, constraints) in self.followed:
            return
        self.followed.add((name, constraints))
        if len(self.followed) > FILES_MOST:
            raise unusable(by, why=f"more than {FILES_MOST} files are included")
        for number, statement in _statements(self.files.text(name, by), name):
            where = f"{name}, line {number}"
            if statement.startswith("-"):
                self._option(statement, name, where, constraints=constraints)
            else:
                one = _requirement(statement, where, wheels_only=self.wheels_only)
                (self.stated.constraints if constraints else self.stated.requirements).append(one)

    def _option(self, statement: str, name: str, where: str, *, constraints: bool) -> None:
        first, *values = statement.split()
        option, equals, value = first.partition("=")
        if equals:
            values = [value, *values]
        if option in ("--no-index", "--require-hashes", "--pre") or option in _IGNORED:
            if values:
                raise unusable(where, why=f"something follows {option}", hint="Put it on a line of its own")
            self.stated.flags.add(option)
            if option in _IGNORED:
                self.stated.passed_over.append(f"{where}: {option} is passed over")
            return
        if option in ("-e", "--editable"):
            raise unusable(where, why=OWN_CODE, hint=OWN_CODE_HINT)
        if option in _INDEXES:
            raise unusable(where, why="a release does not say where packages come from", hint=INDEXES_HINT)
        if option == "--no-binary" and self.wheels_only:
            raise unusable(where, why=BUILDS, hint=BUILDS_HINT)
        known = option in _INCLUDES or option in ("-f", "--find-links", "--only-binary", "--no-binary")
        if not known or len(values) != 1 or not values[0]:
            shown = repr(statement if len(statement) <= 100 else statement[:100] + "...")
            raise unusable(where, why=f"{shown} is not an option that can be used here, with one value")
        if option in _INCLUDES:
            constraints = constraints or option in ("-c", "--constraint")
            self.follow(_included(values[0], name, where), where, constraints=constraints)
        elif option in ("-f", "--find-links"):
            if posixpath.normpath(values[0]) != WHEELS:
                why = f"a release has packages of its own in {WHEELS}/, and nowhere else"
                raise unusable(where, why=why, hint="Root names other places in the app's file: find_links")
        else:
            names = self.stated.only_binary if option == "--only-binary" else self.stated.no_binary
            names += [_package(one, where) for one in values[0].split(",")]


def _requirement(statement: str, where: str, *, wheels_only: bool, folder: str = "") -> Requirement:
    """A requirement of a requirements file, with the hashes that follow it."""
    words = statement.split()
    hashes = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    text = " ".join(words[:hashes])
    one = parse_requirement(text, where=where, wheels_only=wheels_only, folder=folder)
    return replace(one, hashes=parse_hashes(words[hashes:], where=where))


def _statements(text: str, name: str) -> Iterator[tuple[int, str]]:
    """The logical lines of a requirements file, comments taken away, each with the number of its first line."""
    first, joined, size = 0, [], 0
    for number, line in enumerate(LINE_END.split(text), 1):
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


def _package(name: str, where: str) -> str:
    """The name of a package, or `:all:`, after --only-binary or --no-binary."""
    if name == ":all:":
        return name
    try:
        return canonicalize_name(name, validate=True)
    except InvalidName as error:
        raise unusable(where, why=f"{name[:100]!r} is not the name of a package") from error
