"""What `send`, `diff`, `drop` and `pack` are given: the name of a version, a folder, or a bundle file."""

import os
from dataclasses import dataclass
from pathlib import Path

from pusher.errors import Usage
from pusher.wire import WireError, check_version


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder to pack, and its version."""

    path: Path
    version: str


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A bundle that was packed before."""

    path: Path


def locate(what: str, *, source: Path) -> Folder | BundleFile:
    """`what` as a folder in `source`, else as a file, else as the path of a folder (with a slash, or `.`).

    Raises: Usage, with the closest version as a hint.
    """
    if what in versions(source):
        return Folder(source / what, what)
    # These return False for a path that must not be read; the methods of Path raise.
    path = Path(os.path.expanduser(what))
    if os.path.isfile(path):
        return BundleFile(path)
    if os.path.isdir(path) and ("/" in what or what in (".", "..")):
        name = path.resolve().name
        try:
            return Folder(path, check_version(name))
        except WireError as error:
            raise Usage(f"{what} cannot be sent", why=str(error), hint="Rename the folder") from error
    no_file = "" if os.path.exists(path) else ", and no file of that name"
    why = "" if os.path.isdir(source) else f"{source} is not a folder"
    raise Usage(f"{source} has no version {what!r}{no_file}", why=why, hint=_hint(what, source))


def versions(source: Path) -> list[str]:
    """The folders in `source` whose names can be versions, sorted."""
    try:
        names = [item.name for item in source.iterdir() if item.is_dir()]
    except OSError:
        return []
    return sorted(name for name in names if _is_version(name))


def _is_version(name: str) -> bool:
    try:
        return bool(check_version(name))
    except WireError:
        return False


def _hint(what: str, source: Path) -> str:
    import difflib

    if os.path.isdir(what):
        return f"To send the folder itself: ./{what}"
    known = versions(source)
    close = difflib.get_close_matches(what, known, n=1)
    if close:
        return f"Did you mean {close[0]}?"
    if known:
        return f"Available: {', '.join(known[-8:])}"
    return "Name the folder of the versions with --source, PUSHER_SOURCE or source in pusher.toml"
