"""What the agent and the build unit of an app say to each other over a socket.

Invariant: no length, path or kind of file that the other side claims is believed beyond the limits here. What
comes back is data on a socket: the agent opens nothing of another user's, and so follows no link of theirs.

To the unit: an order (JSON), then its files. Back: lines of output, the outcome, then the venv: folders before
what lies in them, each file with its size before its content, and links.
"""

import json
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

LINE, OUTCOME, FOLDER, FILE, LINK, END = b"L", b"O", b"D", b"F", b"S", b"."
"""The kinds of what comes back; each with a length and that many bytes."""

FRAME_MOST = 4 * 1024**2
"""So many bytes an order, a line or an outcome may have."""

PATH_MOST, DEPTH_MOST = 1_024, 64
"""Limits of a path: characters, and names in it."""

_HEAD = struct.Struct(">cI")
_SLICE = 1024 * 1024


class Limits(NamedTuple):
    """What may come back: lines, files with folders and links, bytes of all files."""

    lines: int = 200_000
    files: int = 300_000
    size: int = 32 * 1024**3


class Malformed(Exception):
    """What came from the other side is not what it must be."""


_LIMITS = Limits()


class Item(NamedTuple):
    """One name of the tree that comes back; `content` of a file must be read before the next."""

    kind: bytes
    path: str
    target: str = ""
    executable: bool = False
    content: Iterator[bytes] = iter(())


def write_frame(out: BinaryIO, kind: bytes, payload: bytes = b"") -> None:
    """One frame. Raises: OSError."""
    out.write(_HEAD.pack(kind, len(payload)))
    out.write(payload)


def read_frame(source: BinaryIO) -> tuple[bytes, bytes]:
    """The next frame. Raises: Malformed, OSError."""
    kind, length = _HEAD.unpack(_exactly(source, _HEAD.size))
    if length > FRAME_MOST:
        raise Malformed(f"a part has {length} bytes")
    return kind, _exactly(source, length)


def write_order(
    out: BinaryIO,
    order: dict[str, Any],
    files: Iterable[tuple[str, Path]],
    links: Iterable[tuple[str, str]] = (),
) -> None:
    """The order with its files and links, by their paths in the work folder. Raises: OSError.

    It travels in frames of its own size, for a release may have very many files.
    """
    every = [(name, path, path.stat()) for name, path in files]
    described = {
        **order,
        # With their times: Python's byte code beside a module counts only with the time it was compiled at.
        "files": [
            [name, found.st_size, bool(found.st_mode & 0o100), found.st_mtime_ns] for name, path, found in every
        ],
        "links": [[*link] for link in links],
    }
    payload = json.dumps(described).encode()
    for at in range(0, len(payload), FRAME_MOST):
        write_frame(out, LINE, payload[at : at + FRAME_MOST])
    write_frame(out, OUTCOME)
    for _, path, found in every:
        size = found.st_size
        with path.open("rb") as file:
            for chunk in _slices(file, size):
                out.write(chunk)
    out.flush()


def read_order(source: BinaryIO, folder: Path) -> dict[str, Any]:
    """The order, whose files are then in `folder`. Raises: Malformed, OSError."""
    payload = b""
    while (frame := read_frame(source))[0] == LINE:
        payload += frame[1]
    order = _object(payload)
    for name, size, executable, changed_ns in order["files"]:
        path = folder / checked_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for chunk in _slices(source, size):
                file.write(chunk)
        if executable:
            path.chmod(0o755)
        os.utime(path, ns=(changed_ns, changed_ns))
    for name, target in order["links"]:
        path = folder / checked_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    return order


def write_files(out: BinaryIO, folder: Path, paths: Iterable[str]) -> None:
    """These files beneath `folder`, in their order, each folder before the first in it. Raises: OSError."""
    above: set[str] = set()
    for path in paths:
        names = path.split("/")
        for depth in range(1, len(names)):
            if (outer := "/".join(names[:depth])) not in above:
                above.add(outer)
                write_frame(out, FOLDER, json.dumps([outer]).encode())
        found = (folder / path).stat()
        write_frame(out, FILE, json.dumps([path, bool(found.st_mode & 0o111), found.st_size]).encode())
        with (folder / path).open("rb") as file:
            for chunk in _slices(file, found.st_size):
                out.write(chunk)
    write_frame(out, END)
    out.flush()


def write_tree(out: BinaryIO, folder: Path) -> None:
    """What lies beneath `folder`. Raises: OSError, Malformed for what is neither file nor folder nor link."""
    for above, folders, files in os.walk(folder, onerror=_raise):
        for name in sorted([*folders, *files]):
            path = Path(above, name)
            inside = str(path.relative_to(folder))
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode):
                write_frame(out, LINK, json.dumps([inside, os.readlink(path)]).encode())
            elif stat.S_ISDIR(found.st_mode):
                write_frame(out, FOLDER, json.dumps([inside]).encode())
            elif stat.S_ISREG(found.st_mode):
                executable = bool(found.st_mode & 0o111)
                write_frame(out, FILE, json.dumps([inside, executable, found.st_size]).encode())
                with path.open("rb") as file:
                    for chunk in _slices(file, found.st_size):
                        out.write(chunk)
            else:
                raise Malformed(f"{inside} is neither a file nor a folder nor a link")
    write_frame(out, END)
    out.flush()


def read_outcome(source: BinaryIO, line: Callable[[bytes], None], *, limits: Limits = _LIMITS) -> dict[str, Any]:
    """The outcome, after the lines that come before it. Raises: Malformed, OSError."""
    for _ in range(limits.lines):
        kind, payload = read_frame(source)
        if kind == OUTCOME:
            return _object(payload)
        if kind != LINE:
            raise Malformed(f"a part of kind {kind!r} came before the outcome")
        line(payload)
    raise Malformed(f"it wrote more than {limits.lines} lines")


def read_tree(source: BinaryIO, *, limits: Limits = _LIMITS) -> Iterator[Item]:
    """The names of the tree, each path within it, its folder before it. Raises: Malformed, OSError."""
    folders, seen, size = {""}, 0, 0
    while True:
        kind, payload = read_frame(source)
        if kind == END:
            return
        seen += 1
        if seen > limits.files:
            raise Malformed(f"it has more than {limits.files} files")
        path, *more = _list(payload)
        if checked_path(path).rpartition("/")[0] not in folders:
            raise Malformed(f"{path!r} comes before its folder")
        match kind, more:
            case (b"D", []):
                folders.add(path)
                yield Item(kind, path)
            case (b"S", [str(target)]):
                yield Item(kind, path, target=target)
            case (b"F", [bool(executable), int(length)]) if 0 <= length <= limits.size - size:
                size += length
                yield Item(kind, path, executable=executable, content=_slices(source, length))
            case _:
                raise Malformed(f"{path!r} is of another kind, or larger, than a venv's file can be")


def checked_path(path: object) -> str:
    """A path that stays within its folder, and that a filesystem can have. Raises: Malformed."""
    if not isinstance(path, str) or not 0 < len(path) <= PATH_MOST or "\0" in path:
        raise Malformed("a path is none")
    names = path.split("/")
    if len(names) > DEPTH_MOST or any(name in ("", ".", "..") or len(name) > 255 for name in names):
        raise Malformed(f"the path {path[:100]!r} leaves its folder, or is too deep")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise Malformed("a path is not UTF-8") from error
    return path


def _slices(source: BinaryIO, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes. Raises: Malformed."""
    while size:
        chunk = source.read(min(size, _SLICE))
        if not chunk:
            raise Malformed("it ended in the middle of a file")
        size -= len(chunk)
        yield chunk


def _exactly(source: BinaryIO, size: int) -> bytes:
    return b"".join(_slices(source, size))


def _object(payload: bytes) -> dict[str, Any]:
    found = _json(payload)
    if not isinstance(found, dict):
        raise Malformed("a part is no JSON object")
    return found


def _list(payload: bytes) -> list[Any]:
    found = _json(payload)
    if not isinstance(found, list) or not found:
        raise Malformed("a part is no JSON list")
    return found


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Malformed("a part is no JSON") from error


def _raise(error: OSError) -> None:
    raise error
