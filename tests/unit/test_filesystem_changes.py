"""What changes a filesystem, and where: what must survive a power cut is changed through `Disk` or the journal.

Every other change in the agent stands in the table below, with the reason why it need not be. A new one is found
here: move it into `agent/host/storage`, or give it a reason.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
STORAGE = "agent/host/storage/"

ALLOWED = {
    ("agent/host/net/sockets.py", "chmod"): "the mode of a unix socket, set before anybody can connect",
    ("agent/host/net/sockets.py", "bind"): "makes a unix socket: it ends with its process",
    ("agent/host/run/runner.py", "bind"): "TCP sockets",
    ("agent/host/systemd/hooks.py", "write"): "opens the FIFO of a hook, which holds nothing",
    ("agent/host/setup/app_folders.py", "chmod"): "root's set-up, which can be run again",
    ("agent/host/setup/app_folders.py", "chown"): "root's set-up, which can be run again",
    ("agent/host/setup/app_folders.py", "mkdir"): "root's set-up, which can be run again",
    ("agent/host/setup/app_folders.py", "rmtree"): "root's removal, which can be run again",
    **{
        ("agent/host/setup/adoption.py", kind): "root's taking over, which can be run again, or undone"
        for kind in ("chmod", "chown", "mkdir", "rename", "rmdir", "symlink", "unlink")
    },
    (
        "agent/host/dependencies/workshop.py",
        "mkdir",
    ): "the build unit's cache, which may go at any time",
    (
        "agent/host/dependencies/workshop.py",
        "rmtree",
    ): "the build unit's cache, which may go at any time",
    ("agent/host/dependencies/stream.py", "mkdir"): "the build unit's cache, which may go at any time",
    ("agent/host/dependencies/stream.py", "chmod"): "the build unit's cache, which may go at any time",
    ("agent/host/dependencies/stream.py", "utime"): "the build unit's cache, which may go at any time",
    ("agent/host/dependencies/stream.py", "symlink"): "the build unit's cache, which may go at any time",
    ("agent/host/dependencies/build_steps.py", "mkdir"): "the build unit's cache, which may go at any time",
    ("agent/host/dependencies/stream.py", "write"): "the build unit's cache, which may go at any time",
    ("agent/repository/publishing.py", "write"): "opens the lock of a document, which holds nothing",
    ("agent/admin/app_removal.py", "rmdir"): "root's removal, which can be run again",
}
"""File and kind of change: why it is not made by agent/host/storage."""

CHANGES = {
    **{
        name: name
        for name in ("mkdir", "rename", "unlink", "rmdir", "chmod", "chown", "link", "symlink", "truncate")
    },
    **{name: name for name in ("rmtree", "copytree", "move", "mkfifo", "mknod", "utime", "touch", "bind")},
    "makedirs": "mkdir",
    "renames": "rename",
    "removedirs": "rmdir",
    "renameat2": "rename",
    "fchmod": "chmod",
    "lchmod": "chmod",
    "fchown": "chown",
    "lchown": "chown",
    "ftruncate": "truncate",
    "symlink_to": "symlink",
    "hardlink_to": "link",
    "write_text": "write",
    "write_bytes": "write",
    "pwrite": "write",
    "copyfile": "copy",
    "copy2": "copy",
    "copyfileobj": "copy",
    "setxattr": "xattr",
    "removexattr": "xattr",
    "mkstemp": "tempfile",
    "mkdtemp": "tempfile",
    "TemporaryFile": "tempfile",
    "TemporaryDirectory": "tempfile",
    "NamedTemporaryFile": "tempfile",
    "SpooledTemporaryFile": "tempfile",
}
"""Functions of os, shutil, pathlib and tempfile, and of a socket: what each changes."""

MODULES = {"os": {"remove": "unlink", "replace": "rename"}, "shutil": {"copy": "copy"}}
"""Names that only mean a change when they are these modules' own."""

OPENING = ("O_CREAT", "O_TRUNC", "O_WRONLY", "O_RDWR", "O_APPEND")


def changes_in(path: Path) -> Iterator[tuple[str, int]]:
    """The kind and the line of each change in a file, as far as its text shows it."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
            if name in MODULES.get(owner, {}):
                yield MODULES[owner][name], node.lineno
            elif name in CHANGES and not by_a_port(owner):
                yield CHANGES[name], node.lineno
            elif is_replaced(node, name, owner):
                yield "rename", node.lineno
            elif name == "open" and opens_for_writing(node, owner):
                yield "write", node.lineno


def by_a_port(owner: str) -> bool:
    """Whether a method is that of a `Disk`, or of structlog, whose loggers have a `bind` too."""
    return owner.rpartition(".")[2] in ("disk", "_disk", "volatile", "_log", "log")


def is_replaced(node: ast.Call, name: str, owner: str) -> bool:
    """`Path.replace` has one argument; those of strings, dates and dataclasses have others."""
    return bool(owner) and name == "replace" and len(node.args) == 1 and not node.keywords and not by_a_port(owner)


def opens_for_writing(node: ast.Call, owner: str) -> bool:
    if owner == "os":
        flags = " ".join(ast.unparse(one) for one in node.args[1:2])
        return any(flag in flags for flag in OPENING)
    place = 0 if owner else 1
    modes = [*node.args[place : place + 1], *(one.value for one in node.keywords if one.arg == "mode")]
    return any(isinstance(one, ast.Constant) and set(str(one.value)) & set("wax+") for one in modes)


def found() -> dict[tuple[str, str], list[int]]:
    places: dict[tuple[str, str], list[int]] = {}
    for path in sorted((REPOSITORY / "agent").rglob("*.py")):
        file = str(path.relative_to(REPOSITORY))
        for kind, line in changes_in(path):
            places.setdefault((file, kind), []).append(line)
    return places


def test_only_the_listed_places_outside_of_storage_change_a_filesystem() -> None:
    elsewhere = {place: lines for place, lines in found().items() if not place[0].startswith(STORAGE)}
    assert elsewhere.keys() == ALLOWED.keys(), {
        place: elsewhere.get(place) for place in elsewhere.keys() ^ ALLOWED
    }


def test_in_storage_the_changes_are_found_that_are_made_there() -> None:
    kinds = {kind for (file, kind) in found() if file.startswith(STORAGE)}
    assert kinds >= {"mkdir", "rename", "unlink", "chmod", "symlink", "rmtree", "mkfifo", "truncate", "write"}


def test_each_way_to_change_a_filesystem_is_recognised(tmp_path: Path) -> None:
    lines = (
        *(
            "os.mkdir(p)",
            "os.rename(a, b)",
            "os.replace(a, b)",
            "os.unlink(p)",
            "os.remove(p)",
            "shutil.rmtree(p)",
        ),
        *(
            "path.write_text('x')",
            "path.replace(other)",
            "path.touch()",
            "path.symlink_to('x')",
            "os.fchmod(fd, 1)",
        ),
        *("open(p, 'w')", "path.open('ab')", "open(p, mode='r+')", "os.open(p, os.O_RDWR | os.O_CREAT)"),
        *("tempfile.mkstemp()", "tempfile.TemporaryDirectory()", "sock.bind(p)", "libc.renameat2(1, a, 1, b, 0)"),
    )
    harmless = (
        *(
            "open(p)",
            "path.open('rb')",
            "path.open(errors='replace')",
            "text.replace('a', 'b')",
            "replace(one, x=1)",
        ),
        *(
            "os.open(p, os.O_RDONLY)",
            "disk.unlink(p, op='x')",
            "self._disk.rename(a, b, op='x')",
            "_log.bind(app=a)",
        ),
        *("moment.replace(tzinfo=UTC)", "items.remove(one)", "volatile.remove(p)", "volatile.write(p, 'x')"),
    )
    file = tmp_path / "file.py"
    for line in lines:
        file.write_text(line)
        assert list(changes_in(file)), line
    for line in harmless:
        file.write_text(line)
        assert not list(changes_in(file)), line
