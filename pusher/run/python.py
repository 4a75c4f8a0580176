"""The version of Python that a version of the app names.

Invariant: a file that names something else than one version of CPython names none, and people are told.
"""

import re
from pathlib import Path
from typing import NamedTuple

_VERSION = re.compile(r"(?:c?python[-@])?(3\.[0-9]{1,3}(?:\.[0-9]{1,3})?)", re.ASCII)


class Declared(NamedTuple):
    """The version of Python that a folder names, and by what; and what people should know of it."""

    version: str = ""
    by: str = ""
    note: str = ""


def declared_python(folder: Path, *, wanted: str = "") -> Declared:
    """The version that is `wanted` in pusher.toml, or else in `.python-version` or `runtime.txt` of the folder."""
    if wanted:
        return Declared(wanted, "pusher.toml")
    for name in (".python-version", "runtime.txt"):
        try:
            lines = (folder / name).read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        # With pyenv, the lines after the first are for other programs.
        named = next((bare for line in lines if (bare := line.strip()) and not bare.startswith("#")), "")
        if found := _VERSION.fullmatch(named):
            return Declared(found[1], name)
        if named:
            note = f"{name} names {named[:100]!r}, which is no version of CPython: the host chooses"
            return Declared(note=note)
    return Declared()
