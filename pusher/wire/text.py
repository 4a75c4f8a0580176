"""JSON, timestamps and names in the form of the contract: exactly one spelling for each value."""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

_Kind = TypeVar("_Kind")
_APP = re.compile(r"[a-z][a-z0-9-]{0,29}[a-z0-9]", re.ASCII)
_VERSION_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*", re.ASCII)
_VERSION_MOST = 64
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DEPTH = 32
_DIGITS = 40
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z", re.ASCII)


class WireError(ValueError):
    """A document breaks the contract; the message says which rule and where."""


class LimitError(WireError):
    """A document is well formed, but larger than the reader accepts."""


def canonical(value: Any) -> bytes:
    """`value` as JSON with sorted keys, no white space, UTF-8: one spelling for one value.

    Raises: WireError, for a string with half a surrogate pair, which UTF-8 cannot spell.
    """
    text = _encoder.encode(value)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise WireError(f"{text[error.start : error.end]!a} has no spelling in UTF-8") from error


def format_timestamp(ms: int) -> str:
    """Milliseconds since 1970 (UTC) as RFC 3339 with exactly three decimals and `Z`."""
    seconds, rest = divmod(ms, 1000)
    # Not strftime, and not strptime below: a report has two times, and a fleet thousands of reports.
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:-6]}.{rest:03d}Z"


def parse_timestamp(text: str) -> int:
    """The inverse of `format_timestamp`. Raises: WireError, for any other spelling of the time."""
    try:
        if not _TIMESTAMP.fullmatch(text):
            raise ValueError(text)
        # With its offset: to give it one afterwards is to make it twice.
        moment = datetime.fromisoformat(f"{text[:-5]}+00:00")
    except ValueError as error:
        raise WireError(f"{text!r} is not a time like 2026-11-23T02:00:55.000Z") from error
    return int(moment.timestamp()) * 1000 + int(text[-4:-1])


def check_app(name: str) -> str:
    """`name` itself, if it is a valid name of an app. Raises: WireError."""
    if not _APP.fullmatch(name):
        raise WireError(f"{name!r} is not an app's name: 2 to 31 of a-z, 0-9 and -, a letter first")
    return name


def check_version(version: str) -> str:
    """`version` itself, if it is a valid version. Raises: WireError."""
    # Part by part: one expression for all of it would repeat a repetition.
    if len(version) > _VERSION_MOST or not all(map(_VERSION_PART.fullmatch, version.split("/"))):
        allowed = "up to 64 of letters, digits and . _ + - /, a letter or digit first, like v3 or feature/login"
        raise WireError(f"{version!r} is not a version: {allowed}")
    return version


def check_sha256(digest: str) -> str:
    """`digest` itself, if it is a SHA-256 in lower-case hex. Raises: WireError."""
    if not _SHA256.fullmatch(digest):
        raise WireError(f"{digest[:80]!r} is not a SHA-256 digest in lower-case hex")
    return digest


def parse_object(raw: bytes, name: str) -> dict[str, Any]:
    """The JSON object in `raw`; `name` is for the message. Raises: WireError.

    What two readers could read differently (RFC 8259, sections 4 and 6) is refused: repeated members, NaN,
    infinities, and numbers of more than 40 digits. So is what is nested deeper than any document of the contract.
    """
    try:
        value = _decoder.decode(raw.decode())
    except (ValueError, RecursionError) as error:
        raise WireError(f"{name} is not JSON in UTF-8: {error}") from error
    if not isinstance(value, dict):
        raise WireError(f"{name} is not a JSON object")
    if _deeper_than(value, _DEPTH):
        raise WireError(f"{name} is nested more than {_DEPTH} deep")
    return value


def take(members: Mapping[str, Any], key: str, kind: type[_Kind]) -> _Kind:
    """The member `key`, which must exist and have this type. Raises: WireError."""
    value = members.get(key)
    if not isinstance(value, kind):
        raise WireError(f"{key!r} is missing, or is not of the type {kind.__name__}")
    return value


def take_count(members: Mapping[str, Any], key: str) -> int:
    """The member `key`, which must be a whole number, 0 or more. Raises: WireError."""
    value = take(members, key, int)
    if isinstance(value, bool) or value < 0:
        raise WireError(f"{key!r} is not a count")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"a number has more than {_DIGITS} digits")
    return int(text)


def _fraction(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number")


_encoder = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
_decoder = json.JSONDecoder(
    object_pairs_hook=_once, parse_int=_whole, parse_float=_fraction, parse_constant=_no_number
)


def _deeper_than(value: Any, most: int) -> bool:
    layer = [value]
    for _ in range(most):
        inner = (one.values() if isinstance(one, dict) else one for one in layer)
        layer = [one for ones in inner for one in ones if isinstance(one, dict | list)]
        if not layer:
            return False
    return True
