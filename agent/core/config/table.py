"""The tables of a configuration file: TOML in, a checked record out.

Invariant: an unknown key, a wrong type or an impossible value is an error that names the file, the key and what
to write instead. A record that exists is usable.
"""

import difflib
import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from pusher.wire import Code, Refused

_Record = TypeVar("_Record", bound=BaseModel)


class Table(BaseModel):
    """A table of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def parse_table(
    kind: type[_Record],
    text: str,
    *,
    file: str,
    defaults: Mapping[str, Any] = {},
    instead: Mapping[str, Any] = {},
) -> _Record:
    """The record that TOML says; `defaults` count less, `instead` counts more. Raises: Refused(configuration)."""
    members = {**defaults, **_toml(text, file), **instead}
    try:
        return kind.model_validate(members)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise Refused(
                Code.CONFIGURATION, f"{file}: unknown key {key!r}", hint=_nearest(kind, first["loc"])
            ) from error
        why = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] == "string_pattern_mismatch":
            why = _FORMS.get(first["ctx"]["pattern"], why)
        if not key:
            raise Refused(Code.CONFIGURATION, f"{file} cannot be used", why=why) from error
        if first["type"] == "missing":
            raise Refused(Code.CONFIGURATION, f"{file}: {key!r} is missing") from error
        raise Refused(Code.CONFIGURATION, f"{file}: {key!r} is {first['input']!r}", why=why) from error


_FORMS = {
    r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$": 'the name of a header, such as "X-Forwarded-Proto", is needed',
    r"^[^\x00-\x1f\x7f]*$": "a header cannot hold line breaks or other control characters",
    r"^[a-z][a-z0-9-]{0,62}$": "a name of a-z, 0-9 and -, a letter first, is needed",
    r"^[a-z][a-z0-9-]{0,30}$": "a name of a-z, 0-9 and -, a letter first, is needed",
    r"^https?://\S+$": 'an address like "https://packages.example.com/simple" is needed',
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$": "the name of a package is needed",
    r"^([1-9][0-9]{0,17}[KMGT]?)?$": 'a number of bytes, such as "512M" or "2G", is needed',
    r"^[a-z][a-z0-9_-]{0,30}$": "the name of a label has a-z, 0-9, _ and -, a letter first",
    r"^sha256:[0-9a-f]{64}$": '"sha256:" and 64 digits of 0-9 and a-f are needed',
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$": "a name for a login has letters, digits, '.', '_' and '-'",
    r"^127\.\d+\.\d+\.\d+:\d+$": 'a loopback address with a port, such as "127.0.0.1:9000", is needed',
}
"""What to write where a text does not have the form of its pattern: no person should have to read that."""


def _toml(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))  # some editors begin a file with it
    except tomllib.TOMLDecodeError as error:
        raise Refused(Code.CONFIGURATION, f"{file} is not TOML", why=str(error)) from error


def _nearest(kind: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """A hint at the key that was probably meant: one of the same table, or of another."""
    here: type[BaseModel] = kind
    for part in loc[:-1]:
        if isinstance(part, str) and part in here.model_fields:  # others are names in a table of tables
            here = _model(here.model_fields[part].annotation) or here
    name = str(loc[-1])
    known = {key: key for key in here.model_fields}
    if here is not kind:
        known |= {key: f"{key}, above all tables" for key in kind.model_fields if key not in known}
    for table, field in kind.model_fields.items():
        inner = _model(field.annotation)
        known |= {key: f"{key} in [{table}]" for key in (inner.model_fields if inner else ()) if key not in known}
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {known[close[0]]}?"
    return f"Known keys here: {', '.join(here.model_fields)}"


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model of a field that is a table, a list of tables, or a table of tables."""
    if get_origin(annotation) in (list, dict):
        annotation = get_args(annotation)[-1]
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
