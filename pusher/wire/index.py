"""The index: every file, link and empty folder of a tree, a line each, sorted; and which names may be in it.

It consists of lines so that 100,000 of them can be read in slices. Its digest is in the manifest.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pusher.wire.text import LimitError, WireError, canonical, check_sha256, parse_object, take, take_count

RESERVED_NAMES = frozenset({".pusher", ".complete", "REVISION", "venv"})

_KEEPERS = frozenset({".gitkeep", ".keep", ".gitignore"})

# The canonical line of a file whose path needs no escapes. Nearly every line is one; this is five times as fast.
_PLAIN = re.compile(
    rb'\{"mode":"(0644|0755)","path":"([^"\\\x00-\x1f]*)","sha256":"([0-9a-f]{64})","size":(0|[1-9][0-9]{0,17})\}\n'
)
_quoted = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest bundle that a side accepts. Sizes in bytes; `depth` in path components."""

    files: int = 100_000
    unpacked: int = 4 * 1024**3
    path: int = 1_024
    depth: int = 64


class File(NamedTuple):
    """A regular file of the tree; `mode` is 0o644 or 0o755, `size` in bytes."""

    path: str
    mode: int
    size: int
    sha256: str


class Link(NamedTuple):
    """A relative symbolic link that stays inside the tree."""

    path: str
    target: str


class Directory(NamedTuple):
    """An empty folder of the tree."""

    path: str


Entry = File | Link | Directory


def index_line(entry: Entry) -> bytes:
    """One line of `index.jsonl`, newline included."""
    if isinstance(entry, Link):
        return canonical({"path": entry.path, "target": entry.target}) + b"\n"
    if isinstance(entry, Directory):
        return canonical({"folder": True, "path": entry.path}) + b"\n"
    mode, quoted = f"{entry.mode:04o}", _quoted(entry.path)
    if quoted.isascii():  # the same as `canonical` gives, in a sixth of the time
        return f'{{"mode":"{mode}","path":{quoted},"sha256":"{entry.sha256}","size":{entry.size}}}\n'.encode()
    members = {"path": entry.path, "mode": mode, "size": entry.size, "sha256": entry.sha256}
    return canonical(members) + b"\n"


def parse_index_line(line: bytes) -> Entry:
    """The entry in a line. Its path is not checked yet. Raises: WireError."""
    if plain := _PLAIN.fullmatch(line):
        try:
            return File(plain[2].decode(), int(plain[1], 8), int(plain[4]), plain[3].decode())
        except UnicodeDecodeError as error:
            raise WireError("an index line is not UTF-8") from error
    members = parse_object(line, "an index line")
    entry: Entry
    if "target" in members:
        entry = Link(take(members, "path", str), take(members, "target", str))
    elif "folder" in members:
        entry = Directory(take(members, "path", str))
    else:
        mode = {"0644": 0o644, "0755": 0o755}.get(take(members, "mode", str))
        if mode is None:
            raise WireError(f"an index line has mode {members['mode']!r}; only 0644 and 0755 are allowed")
        path, size = take(members, "path", str), take_count(members, "size")
        entry = File(path, mode, size, check_sha256(take(members, "sha256", str)))
    if index_line(entry) != line:
        raise WireError(f"the index line of {entry.path!r} is not in canonical form")
    return entry


def read_index(lines: Iterable[bytes], *, limits: Limits | None = None) -> Iterator[Entry]:
    """The entries of a whole index, in order, each checked when it is reached.

    Promises: strictly ascending paths, every path and target safe (`check_path`, `check_target`), no path
    beneath a file, a link or an empty folder, counts and sizes within `limits`. Raises: WireError.
    """
    limits = limits or Limits()
    leaves: set[str] = set()
    folders = {""}
    last = ""
    total = 0
    for line in lines:
        entry = parse_index_line(line)
        path = check_path(entry.path, limits=limits)
        if path <= last:
            raise WireError(f"the index is not sorted, or repeats a name, at {path!r}")
        last = path
        above = path.rpartition("/")[0]
        while above not in folders:
            if above in leaves:
                raise WireError(f"{path!r} is beneath {above!r}, which is not a folder")
            folders.add(above)
            above = above.rpartition("/")[0]
        leaves.add(path)
        if isinstance(entry, Link):
            check_target(path, entry.target, limits=limits)
        elif isinstance(entry, File):
            total += entry.size
        if len(leaves) > limits.files:
            raise LimitError(f"the index lists more than {limits.files} files")
        if total > limits.unpacked:
            raise LimitError(f"the files of the index have more than {limits.unpacked} bytes together")
        yield entry


def check_path(path: str, *, limits: Limits | None = None) -> str:
    """`path` itself, if it is a plain path inside the tree. Raises: WireError."""
    limits = limits or Limits()
    try:
        length = len(path.encode())
    except UnicodeEncodeError as error:
        raise WireError(f"{path!a} is not a name in UTF-8") from error
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part or len(part.encode()) > 255 for part in parts):
        raise WireError(f"{path!r} is not a plain relative path")
    if length > limits.path:
        raise LimitError(f"{path[:60]!r}... has {length} bytes; the limit for a path is {limits.path}")
    if len(parts) > limits.depth:
        raise LimitError(f"{path[:60]!r}... is {len(parts)} folders deep; the limit is {limits.depth}")
    return path


def check_target(path: str, target: str, *, limits: Limits | None = None) -> str:
    """`target` itself, if the link at `path` stays in the tree. Raises: WireError.

    `..` is allowed only at the start. After a name it could leave a folder that is itself a link, and the text
    alone does not say where that leads.
    """
    climbs, rest = 0, target
    while rest == ".." or rest.startswith("../"):
        climbs, rest = climbs + 1, rest[3:]
    if climbs > path.count("/"):
        raise WireError(f"the link {path!r} -> {target!r} leaves the tree")
    if rest or not climbs:
        try:
            check_path(rest.removesuffix("/"), limits=limits)
        except WireError as error:
            raise WireError(
                f"the link {path!r} -> {target!r} is not a relative path with '..' only at its start"
            ) from error
    return target


def is_placeholder(entry: Entry) -> bool:
    """Whether an entry only keeps its folder: an empty folder, or a file with which git users keep one."""
    return isinstance(entry, Directory) or (isinstance(entry, File) and entry.path.rpartition("/")[2] in _KEEPERS)


def reserved(path: str, *, shared: Iterable[str] = ()) -> bool:
    """Whether the agent reserves the name: for its own files, or for one of the app's shared paths."""
    if path.partition("/")[0] in RESERVED_NAMES:
        return True
    return any(f"{path}/".startswith(f"{name}/") or f"{name}/".startswith(f"{path}/") for name in shared)
