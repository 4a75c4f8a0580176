"""What a release asks for: which of its files decide about its venv, and whether they may.

Invariant: releases that share a venv have equal files here. So what a requirements file includes counts too,
and what a venv could not share (the release's own folder, an editable install) is refused. Reading is
stricter than uv's: a line that uv would take for two, or could take for another, is an error that names it,
for a `--no-binary` that was overlooked would run foreign build code as the agent.

Format: https://pip.pypa.io/en/stable/reference/requirements-file-format/, as uv understands it.
"""

import hashlib
import posixpath
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pusher.wire import Code, Failed

Read = Callable[[str], bytes | None]
"""The content of a file of the release, by its path within; None if there is no such file."""

WHEELS = "wheels"
"""The folder of a release with wheels of its own."""

_LINE_END = re.compile(r"\r\n|\n|\r")
_COMMENT = re.compile(r"(?:^|[ \t])#.*")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")
_OPTION = re.compile(r"(--[a-z-]+|-[a-zA-Z])(?:\s*=\s*|\s+|$)(.*)")
_NAMED = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\s*(?:\[[^\]]*\])?\s*(?:@\s*(?P<url>\S+)|[(<>=!~;]|$)"
)
_SEVERAL = re.compile(r"[A-Za-z0-9][\w.-]*\s+[A-Za-z0-9]")
_HASH = re.compile(r"--hash(?:=|\s+)[a-z0-9]+:[A-Za-z0-9_=-]+(?=\s|$)")

_INCLUDES = frozenset({"-r", "--requirement", "-c", "--constraint"})
_FLAGS = frozenset({"--no-index", "--require-hashes", "--pre", "--prefer-binary"})
_WITH_VALUE = frozenset(
    {"-i", "--index-url", "--extra-index-url", "--only-binary", "--trusted-host", "--use-feature"}
)


class Kind(StrEnum):
    """What the configured file is."""

    REQUIREMENTS = "requirements"
    PROJECT = "project"
    LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a release asks for: `name` is the configured file, `files` the SHA-256 (hex) of each that counts."""

    kind: Kind
    name: str
    files: Mapping[str, str]
    hashed: bool


def read_wanted(name: str, *, read: Read, wheels_only: bool) -> Wanted:
    """What the release asks for in its file `name`, with all that it includes.

    Raises: Failed(dependencies_failed), naming the file and the line.
    """
    base = posixpath.basename(name)
    if base == "uv.lock":
        return _Reading(read, wheels_only).lock(name)
    if base == "pyproject.toml":
        return _Reading(read, wheels_only).project(name)
    return _Reading(read, wheels_only).requirements(name)


class _Reading:
    def __init__(self, read: Read, wheels_only: bool) -> None:
        self._read = read
        self._wheels_only = wheels_only
        self._files: dict[str, str] = {}
        self._hashed = False

    def requirements(self, name: str) -> Wanted:
        self._follow(name)
        return Wanted(Kind.REQUIREMENTS, name, self._files, self._hashed)

    def project(self, name: str) -> Wanted:
        table = self._toml(name)
        project = table.get("project")
        if not isinstance(project, dict):
            raise _unusable(name, why="it has no [project] table")
        if "dependencies" in _list(project, "dynamic", name):
            raise _unusable(
                name,
                why="its dependencies are dynamic, so only its build code could tell them",
                hint="List them in [project] dependencies, or use a requirements.txt",
            )
        for requirement in _list(project, "dependencies", name):
            self._judge(str(requirement), name)
        for package, source in _table(_table(_table(table, "tool", name), "uv", name), "sources", name).items():
            for one in source if isinstance(source, list) else [source]:
                self._judge_source(one, name, package)
        return Wanted(Kind.PROJECT, name, self._files, hashed=False)

    def lock(self, name: str) -> Wanted:
        self._toml(posixpath.join(posixpath.dirname(name), "pyproject.toml"))
        hashed = True
        for package in _list(self._toml(name), "package", name):
            source = _table(package, "source", name)
            if source.get("virtual") != "." and source.get("editable") != ".":
                self._judge_source(source, name, package.get("name", "?"))
            # Of those in wheels/ (`uv lock --find-links wheels`) uv writes none down: the bundle's index has them.
            files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
            hashed = hashed and "git" not in source and all("hash" in file for file in files)
        return Wanted(Kind.LOCK, name, self._files, hashed)

    def _follow(self, name: str, by: str = "") -> None:
        if name in self._files:
            return
        text = self._text(name, by)
        for number, statement in _statements(text):
            where = f"{name}, line {number}"
            if statement.startswith("-"):
                self._option(statement, name, where)
            else:
                self._judge(self._without_hashes(statement, where), where)

    def _option(self, statement: str, name: str, where: str) -> None:
        match = _OPTION.match(statement)
        option, value = (match[1], match[2].strip()) if match else (statement, "")
        if option in _FLAGS:
            if value:
                raise _unusable(where, why=f"something follows {option}", hint="Put it on a line of its own")
            self._hashed = self._hashed or option == "--require-hashes"
            return
        if option in ("-e", "--editable"):
            raise _unusable(where, why=_OWN_CODE, hint=_OWN_CODE_HINT)
        if option == "--no-binary" and self._wheels_only:
            raise _unusable(where, why=_BUILDS, hint=_BUILDS_HINT)
        known = option in _INCLUDES or option in _WITH_VALUE or option in ("-f", "--find-links", "--no-binary")
        if not known or not re.fullmatch(r"[^\s#]+", value):
            raise _unusable(where, why=f"{statement!r} is not an option that can be used here, with one value")
        if option in _INCLUDES:
            self._follow(_included(value, name, where), where)
        elif option in ("-f", "--find-links") and not _remote(value):
            self._judge_path(value, where)

    def _without_hashes(self, statement: str, where: str) -> str:
        requirement, dashes, options = re.sub(r"\s+(?=--hash)", "\0", statement, count=1).partition("\0")
        if dashes:
            self._hashed = True
        if re.search(r"\s-", requirement) or _HASH.sub("", options).strip():
            raise _unusable(where, why=f"only --hash may follow a requirement, in {statement!r}")
        return requirement

    def _judge(self, requirement: str, where: str) -> None:
        """Whether a venv that releases share may hold this requirement."""
        named = _NAMED.match(requirement)
        target = named["url"] if named else requirement
        if target is None:
            return
        if re.match(r"(?:git|hg|svn|bzr)\+", target):
            if self._wheels_only:
                raise _unusable(where, why=_BUILDS, hint=_BUILDS_HINT)
        elif _SEVERAL.match(target):
            raise _unusable(where, why=f"{target!r} is not one requirement", hint="Put each on a line of its own")
        elif not _remote(target):
            self._judge_path(target, where)

    def _judge_path(self, path: str, where: str) -> None:
        """What lies in `wheels/` counts as a whole; any other file of the release would not."""
        if path.startswith("/"):
            return  # the host's own
        first = posixpath.normpath(path).partition("/")[0]
        if first != WHEELS or "$" in path:
            raise _unusable(where, why=_OWN_CODE, hint=_OWN_CODE_HINT)

    def _judge_source(self, source: Any, where: str, package: str) -> None:
        where = f"{where}, {package}"
        if not isinstance(source, dict):
            raise _unusable(where, why="its source is not a table")
        if {"workspace", "directory", "editable", "virtual"} & source.keys():
            raise _unusable(where, why=_OWN_CODE, hint=_OWN_CODE_HINT)
        if "path" in source:
            self._judge_path(str(source["path"]), where)
        if "git" in source and self._wheels_only:
            raise _unusable(where, why=_BUILDS, hint=_BUILDS_HINT)

    def _toml(self, name: str) -> dict[str, Any]:
        try:
            return tomllib.loads(self._text(name))
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise _unusable(name, why=str(error)) from error

    def _text(self, name: str, by: str = "") -> str:
        content = self._read(name)
        if content is None:
            if by:
                raise _unusable(by, why=f"the release has no {name}")
            raise Failed(
                Code.DEPENDENCIES_FAILED,
                f"The release has no {name}",
                why="a release's venv is made from it",
                hint="Add it, or set `requirements` in [dependencies] to the file that you have",
            )
        self._files[name] = hashlib.sha256(content).hexdigest()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise _unusable(name, why="it is not UTF-8") from error
        if found := _CONTROL.search(text):
            line = len(_LINE_END.findall(text, 0, found.start())) + 1
            raise _unusable(f"{name}, line {line}", why="it has a control character")
        return text


_OWN_CODE = "it names a file or folder of the release, and a venv is shared by releases"
_OWN_CODE_HINT = "Code of the release is imported from its folder; wheels of its own go into wheels/"
_BUILDS = "it would run build code of others on the host, which only_binary forbids"
_BUILDS_HINT = "Use a wheel (wheels/ is for your own), or set only_binary = false in [dependencies]"


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The logical lines of a requirements file, comments taken away, each with the number of its first line."""
    first, joined = 0, ""
    for number, line in enumerate(_LINE_END.split(text), 1):
        first = first or number
        bare = _COMMENT.sub("", line)
        if bare == line and line.endswith("\\"):
            joined += line[:-1] + " "
            continue
        if statement := (joined + bare).strip():
            yield first, statement
        first, joined = 0, ""
    if joined.strip():
        yield first, joined.strip()


def _table(table: Any, key: str, where: str) -> dict[str, Any]:
    """The table `key` of what should be a table itself; empty if there is none."""
    found = table.get(key, {}) if isinstance(table, dict) else None
    if not isinstance(found, dict):
        raise _unusable(where, why=f"its {key} is not a table, or does not stand in one")
    return found


def _list(table: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """The list `key` of a table; empty if there is none."""
    found = table.get(key, [])
    if not isinstance(found, list):
        raise _unusable(where, why=f"its {key} is not a list")
    return found


def _included(value: str, name: str, where: str) -> str:
    if _remote(value) or value.startswith("file:"):
        raise _unusable(
            where, why="a file from elsewhere may be another one tomorrow", hint="Put it into the release"
        )
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), value))
    if path.startswith(("/", "../")):
        raise _unusable(where, why=f"{value} leaves the release")
    return path


def _remote(value: str) -> bool:
    return value.startswith(("http://", "https://"))


def _unusable(where: str, *, why: str, hint: str = "") -> Failed:
    return Failed(Code.DEPENDENCIES_FAILED, f"{where} cannot be used", why=why, hint=hint)
