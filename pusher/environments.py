"""Environments: the tables [env.NAME] of a `pusher.toml`, each with its hosts and what differs there.

Invariant: an environment that wants to be confirmed is, however its hosts were named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pusher.errors import Usage
from pusher.toml_table import check_table

OVERRIDES = ("app", "key", "ssh", "repository", "fleet", "signers", "bell")
"""The settings that an environment may have of its own."""
_KEYS = {"hosts": list, "confirm": bool, **dict.fromkeys(OVERRIDES, str)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One environment. `hosts` are names of hosts or groups, or addresses."""

    name: str
    hosts: tuple[str, ...]
    confirm: bool = False
    """Whether a person must type its name before anything is changed there."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What is set for it alone, by the names in `OVERRIDES`."""


def parse_environments(entries: Mapping[str, object], file: Path | None) -> dict[str, Environment]:
    """The environments of a file, by name. Raises: Usage."""
    return {name: _environment(name, entry, file) for name, entry in entries.items()}


def find_environment(name: str, environments: Mapping[str, Environment], file: Path | None) -> Environment:
    """The environment that a command names. Raises: Usage, with the nearest one."""
    if name in environments:
        return environments[name]
    import difflib

    close = difflib.get_close_matches(name, environments, n=1)
    if close:
        hint = f"Did you mean {close[0]}?"
    elif environments:
        hint = f"It has {', '.join(environments)}"
    else:
        hint = f'Write [env.{name}] and hosts = ["web1"]'
    raise Usage(f"{file or 'pusher.toml'} has no environment {name}", hint=hint)


def _environment(name: str, entry: object, file: Path | None) -> Environment:
    if not isinstance(entry, dict):
        raise Usage(f"{file}: env.{name} is not a table", hint=f'Write [env.{name}] and hosts = ["web1"]')
    table: dict[str, Any] = entry
    check_table(table, _KEYS, file=file, place=f"env.{name}.")
    hosts = table.get("hosts", [])
    if not all(isinstance(one, str) and one for one in hosts):
        hint = 'For example: hosts = ["web1", "web2"]'
        raise Usage(f"{file}: 'env.{name}.hosts' is {hosts!r}", why="it must be a list of hosts", hint=hint)
    return Environment(
        name=name,
        hosts=tuple(hosts),
        confirm=table.get("confirm", False),
        settings={key: table[key] for key in OVERRIDES if table.get(key)},
    )
