"""What comes back from another user's build, made into a venv of the agent's own.

Invariant: the agent has made the empty venv itself, and nothing that comes replaces any of it. Every other file is
created anew, with one of two modes; a link must be one that the empty venv has. No path leads through a link.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from agent.host.dependencies.stream import FILE, FOLDER, Item, Malformed
from agent.host.storage.disk import Disk


def take_in(items: Iterable[Item], *, into: Path, disk: Disk) -> None:
    """Fill the empty venv `into`. Blocking. Raises: Malformed, naming what it was; Failed(disk_*)."""
    folders, files, links = _names(into)
    made: set[str] = set()
    for item in items:
        if item.path in made:
            raise Malformed(f"{item.path!r} came twice")
        made.add(item.path)
        above = item.path.rpartition("/")[0]
        if above and above not in folders:
            raise Malformed(f"{item.path!r} would lie in what is no folder")
        if item.path in files:
            for _ in item.content:
                pass
        elif item.path in links:
            if item.kind in (FILE, FOLDER) or item.target != links[item.path]:
                raise Malformed(f"{item.path!r} would replace a link of the venv")
        elif item.kind == FOLDER:
            if item.path not in folders:
                disk.make_folder(into / item.path, op="venv.receive-folder", mode=0o755, exist_ok=False)
                folders.add(item.path)
        elif item.path in folders:
            raise Malformed(f"{item.path!r} would replace a folder of the venv")
        elif item.kind == FILE:
            mode = 0o755 if item.executable else 0o644
            disk.create(into / item.path, item.content, op="venv.receive", mode=mode)
        else:
            raise Malformed(f"{item.path!r} is a link, to {item.target[:100]!r}")


def _names(venv: Path) -> tuple[set[str], set[str], dict[str, str]]:
    """The folders, files and links of the empty venv."""
    found_folders, found_files, found_links = {""}, set(), {}
    for above, folders, files in os.walk(venv):
        for name in (*folders, *files):
            path = Path(above, name)
            inside = str(path.relative_to(venv))
            if path.is_symlink():
                found_links[inside] = os.readlink(path)
            elif path.is_dir():
                found_folders.add(inside)
            else:
                found_files.add(inside)
    return found_folders, found_files, found_links
