"""The run section of a manifest: what a release itself says of how it runs. It is signed with the rest.

Invariant: all of it is optional, and what is not said is not there: one spelling for one meaning. The host's own
configuration has the last word (agent/core/run.py).
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pusher.wire.index import check_path
from pusher.wire.text import WireError, take

PROCESSES_MOST = 64
COMMANDS_MOST = 32
COMMAND_CHARACTERS = 4_096

PROCESS_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}", re.ASCII)
"""The name of a process or a timer: part of the name of its unit."""

_PYTHON = re.compile(r"3\.[0-9]{1,3}(?:\.[0-9]{1,3})?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_URL_PATH = re.compile(r"/[^\s\x00-\x1f\x7f]*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)  # RFC 9110, section 5.6.2: token
_DAY_S = 86_400
_PROCESS, _TIMER = ("start", "health"), ("start",)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProcess:
    """How a process runs that runs beside the one that serves. `health` is a command, or empty."""

    start: str
    health: str = ""


ANY_ANSWER = (200, 204, 301, 302, 303, 307, 308, 401, 403)
"""What counts as an answer of an app where nobody says it: a page that leads to a login, or asks for one, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHealth:
    """How the app shows that it is healthy; None is "not said". Times in seconds."""

    path: str | None = None
    host: str | None = None
    status: tuple[int, ...] = ()
    version_member: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    deadline_s: int | None = None
    bake_s: int | None = None

    def members(self) -> dict[str, Any]:
        """Its members in JSON: only what is said."""
        every = {name: getattr(self, name) for name in self.__slots__}
        return {
            name: list(value) if isinstance(value, tuple) else dict(value) if name == "headers" else value
            for name, value in every.items()
            if value is not None and value not in ((), {})
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSection:
    """What a release says of how it runs. Commands are as a shell would split them, and no shell runs them.

    `release` is the exception: /bin/sh runs it, before the first health check. `build` runs where the dependencies
    are installed, and may write what `build_paths` match (as in a .gitignore file, from the top of the release).
    With `build_environment` the build steps see the app's environment file. `listen_via` is "socket" or "port".
    """

    start: str = ""
    release: str = ""
    listen_via: str = ""
    python: str = ""
    hook_deadline_s: int = 0
    build: tuple[str, ...] = ()
    build_paths: tuple[str, ...] = ()
    build_environment: bool = False
    health: RunHealth = field(default_factory=RunHealth)
    processes: Mapping[str, RunProcess] = field(default_factory=dict)
    timers: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return bool(self.members())

    def members(self) -> dict[str, Any]:
        """Its members in JSON: only what is said."""
        members: dict[str, Any] = {
            "start": self.start,
            "release": self.release,
            "listen_via": self.listen_via,
            "python": self.python,
            "hook_deadline_s": self.hook_deadline_s,
            "build": list(self.build),
            "build_paths": list(self.build_paths),
            "build_environment": self.build_environment,
            "health": self.health.members(),
            "processes": {
                name: {"start": one.start, **({"health": one.health} if one.health else {})}
                for name, one in self.processes.items()
            },
            "timers": {name: {"start": start} for name, start in self.timers.items()},
        }
        return {name: value for name, value in members.items() if value}

    @classmethod
    def from_members(cls, members: Mapping[str, Any]) -> Self:
        """The section with these members, each checked. Raises: WireError, naming the member."""
        _known(members, cls.__slots__, "")
        section = cls(
            start=_command(members, "start", ""),
            release=_shell(members, "release"),
            listen_via=_one_of(members, "listen_via", ("socket", "port")),
            python=_matching(members, "python", _PYTHON, 'a version like "3.13"'),
            hook_deadline_s=_seconds(members, "hook_deadline_s", "") or 0,
            build=_commands(members, "build"),
            build_paths=tuple(_pattern(one) for one in _texts(members, "build_paths")),
            build_environment=_flag(members, "build_environment"),
            health=_health(_table(members, "health")),
            processes={name: _process(name, one) for name, one in _named(members, "processes")},
            timers={
                name: _start_of(f"timers.{name}.", one, ("start",)) for name, one in _named(members, "timers")
            },
        )
        if section.build_paths and not section.build:
            raise WireError("'build_paths' is there without 'build'")
        if section.build and not section.build_paths:
            raise WireError("'build' needs 'build_paths': the files that its commands make")
        return section


def split_command(command: str) -> tuple[str, ...]:
    """The words of a command, as a shell splits them. Raises: WireError, if it has none or cannot be split."""
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise WireError(f"{command!r} cannot be split into words: {error}") from error
    if not words or not words[0]:
        raise WireError(f"{command!r} names no program")
    return words


def _process(name: str, members: Mapping[str, Any]) -> RunProcess:
    place = f"processes.{name}."
    return RunProcess(start=_start_of(place, members, _PROCESS), health=_command(members, "health", place))


def _start_of(place: str, members: Mapping[str, Any], known: tuple[str, ...]) -> str:
    _known(members, known, place)
    if not (start := _command(members, "start", place)):
        raise WireError(f"'{place}start' is missing")
    return start


def _health(members: Mapping[str, Any]) -> RunHealth:
    _known(members, RunHealth.__slots__, "health.")
    headers = members.get("headers", {})
    if not isinstance(headers, dict) or len(headers) > COMMANDS_MOST:
        raise WireError("'health.headers' is not a table of texts")
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or not isinstance(value, str) or _CONTROL.search(value):
            raise WireError(f"'health.headers' has {name!r}, which is no header with a text")
    status = members.get("status", [])
    if not isinstance(status, list) or not all(type(one) is int and 100 <= one <= 599 for one in status):
        raise WireError("'health.status' is not a list of status codes")
    return RunHealth(
        path=_matching(members, "path", _URL_PATH, 'a path like "/health"', place="health.") or None,
        host=_optional_text(members, "host"),
        status=tuple(status),
        version_member=_optional_text(members, "version_member"),
        headers=headers,
        deadline_s=_seconds(members, "deadline_s", "health."),
        bake_s=_seconds(members, "bake_s", "health."),
    )


def _known(members: Mapping[str, Any], known: tuple[str, ...], place: str) -> None:
    if unknown := next((one for one in members if one not in known), None):
        raise WireError(f"'{place}{unknown}' is not known here; known are {', '.join(known)}")


def _named(members: Mapping[str, Any], key: str) -> list[tuple[str, Mapping[str, Any]]]:
    table = _table(members, key)
    if len(table) > PROCESSES_MOST:
        raise WireError(f"{key!r} has more than {PROCESSES_MOST} entries")
    for name, one in table.items():
        if not PROCESS_NAME.fullmatch(name) or not isinstance(one, dict):
            raise WireError(f"'{key}.{name}' is not a table whose name has small letters, digits and -")
    return [*table.items()]


def _table(members: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return take(members, key, dict) if key in members else {}


def _text(members: Mapping[str, Any], key: str, place: str) -> str:
    text = members.get(key, "")
    if not isinstance(text, str) or len(text) > COMMAND_CHARACTERS or _CONTROL.search(text):
        raise WireError(f"'{place}{key}' is not a text of one line, of at most {COMMAND_CHARACTERS} characters")
    return text


def _optional_text(members: Mapping[str, Any], key: str) -> str | None:
    return _text(members, key, "health.") if key in members else None


def _command(members: Mapping[str, Any], key: str, place: str) -> str:
    if command := _text(members, key, place):
        _checked(f"{place}{key}", command)
    return command


def _shell(members: Mapping[str, Any], key: str) -> str:
    return _text(members, key, "")


def _commands(members: Mapping[str, Any], key: str) -> tuple[str, ...]:
    commands = _texts(members, key)
    for command in commands:
        _checked(key, command)
    return commands


def _checked(key: str, command: str) -> None:
    try:
        split_command(command)
    except WireError as error:
        raise WireError(f"{key!r}: {error}") from error


def _texts(members: Mapping[str, Any], key: str) -> tuple[str, ...]:
    texts = members.get(key, [])
    if not isinstance(texts, list) or len(texts) > COMMANDS_MOST:
        raise WireError(f"{key!r} is not a list of at most {COMMANDS_MOST} texts")
    return tuple(_text({key: one}, key, "") for one in texts)


def _pattern(text: str) -> str:
    """A pattern beneath the release. Raises: WireError."""
    if not text or text.startswith("/") or ".." in text.split("/"):
        raise WireError(f"'build_paths' has {text!r}, which is no path of the release")
    if "*" not in text:
        check_path(text.rstrip("/"))
    return text


def _one_of(members: Mapping[str, Any], key: str, values: tuple[str, ...]) -> str:
    text = _text(members, key, "")
    if text and text not in values:
        raise WireError(f"{key!r} is {text!r}; it is one of {', '.join(values)}")
    return text


def _matching(
    members: Mapping[str, Any], key: str, pattern: re.Pattern[str], wanted: str, *, place: str = ""
) -> str:
    text = _text(members, key, place)
    if text and not pattern.fullmatch(text):
        raise WireError(f"'{place}{key}' is {text!r}; {wanted} is needed")
    return text


def _flag(members: Mapping[str, Any], key: str) -> bool:
    return take(members, key, bool) if key in members else False


def _seconds(members: Mapping[str, Any], key: str, place: str) -> int | None:
    if key not in members:
        return None
    seconds = members[key]
    if type(seconds) is not int or not 0 <= seconds <= _DAY_S:
        raise WireError(f"'{place}{key}' is {seconds!r}; a whole number of seconds from 0 to {_DAY_S} is needed")
    return seconds
