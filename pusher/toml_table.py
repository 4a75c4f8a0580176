"""Reading `pusher.toml`: its tables, and the keys and kinds of value that each may have.

Invariant: an unknown key or a wrong type is an error that names the file, the key and the closest known one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pusher.errors import Usage

_KINDS = {
    (str, dict): "text in quotes, or a table",
    (list, dict): "a list of names, or tables [hosts.NAME]",
    dict: "a table",
    str: "text in quotes",
    int: "a whole number",
    list: "a list",
    bool: "true or false",
}


def read_table(file: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises: Usage."""
    import tomllib

    try:
        return tomllib.loads(file.read_text("utf-8-sig"))
    except OSError as error:
        raise Usage(f"{file} cannot be read", why=error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise Usage(f"{file} is not TOML", why=str(error)) from error


def check_table(
    table: Mapping[str, object],
    known: Mapping[str, Any],
    *,
    file: Path | None,
    place: str,
    elsewhere: Mapping[str, str] | None = None,
) -> None:
    """Hold a table against the keys that it may have, and the types of their values (or a tuple of them).

    `place` stands before a key in a message, like "hosts.web1."; `elsewhere` is what to do about keys that belong
    into another table. Raises: Usage.
    """
    for key, value in table.items():
        kind = known.get(key)
        if kind is None:
            raise Usage(f"{file}: unknown key '{place}{key}'", hint=_nearest(key, known, place, elsewhere or {}))
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise Usage(f"{file}: '{place}{key}' is {value!r}", why=f"it must be {_KINDS[kind]}")
        if isinstance(value, str) and "\0" in value:
            why = "a path, command or address cannot contain NUL"
            raise Usage(f"{file}: '{place}{key}' is {value!r}", why=why)


def _nearest(key: str, known: Mapping[str, Any], place: str, elsewhere: Mapping[str, str]) -> str:
    import difflib

    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean '{place}{close[0]}'?"
    return elsewhere.get(key) or f"Known keys here: {', '.join(known)}"
