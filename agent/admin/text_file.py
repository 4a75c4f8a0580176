"""A small file that a person names on the command line.

Invariant: whatever is named, no more of it is read than such a file may have. /dev/zero has no end.
"""

from pathlib import Path

from pusher.wire import Code, Refused

_MOST = 1024 * 1024


def read_text(file: Path, *, what: str = "", encoding: str = "utf-8") -> str:
    """The text of a file. `what` stands before its name in a message, like "The key". Raises: Refused."""
    try:
        with file.open("rb") as source:
            raw = source.read(_MOST + 1)
        if len(raw) > _MOST:
            raise ValueError(f"it has more than {_MOST} bytes")
        return raw.decode(encoding)
    except (OSError, ValueError) as error:
        decoding = isinstance(error, UnicodeDecodeError)
        why = "it is no text in UTF-8" if decoding else getattr(error, "strerror", None) or str(error)
        name = f"{what} {file}".lstrip()
        hint = "Name another file"
        raise Refused(Code.CONFIGURATION, f"{name} could not be read", why=why, hint=hint) from error
