"""The folders of an app that another tool deployed: looked at, set aside, and put back.

Invariant: nothing is copied or deleted. What is shared is renamed, with a link in its old place, so that the old
app goes on with it. This runs as root in folders of other users, so they are entered without following a link.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

from agent.host.setup.app_folders import is_agents, mounts_at
from pusher.wire import Code, Failed, Refused

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEPTH = 3


def check_adoptable(path: Path) -> None:
    """Check that `path` looks like the folder of Ansistrano or Capistrano. Blocking. Raises: Refused."""
    hint = f"Where it lies elsewhere: --path FOLDER. Another kind of app is added by `app add`, beside {path}"
    if not path.is_dir() or path.is_symlink():
        raise _refused(path, why="there is no such folder", hint=hint)
    if is_agents(path):
        raise _refused(path, why="it is the agent's already", hint="`pusher-agent app list` lists the apps")
    missing = [name for name in ("releases", "current") if not os.path.lexists(path / name)]
    if missing:
        raise _refused(path, why=f"it has no {missing[0]}", hint=hint)
    if not (path / "current").is_dir():
        raise _refused(path, why="its `current` leads to no release", hint="Repair the link first")
    if mounted := mounts_at(path):
        raise _refused(path, why=f"{mounted[0]} is a mount point, and cannot be renamed", hint="Unmount it first")
    if os.path.lexists(aside(path)):
        raise _refused(path, why=f"{aside(path)} is in the way", hint="Move it away")


def aside(path: Path) -> Path:
    """Where the old folder lies while the app is the agent's."""
    return path.with_name(f"{path.name}.before")


def links_in(release: Path) -> dict[str, str]:
    """The links near the top of a release, by their place in it, each with the real path it leads to. Blocking."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(release):
        here = Path(folder).relative_to(release)
        for name in (*folders, *files):
            if (Path(folder) / name).is_symlink():
                found[str(here / name)] = os.path.realpath(Path(folder) / name)
        if len(here.parts) + 1 >= _DEPTH:
            folders.clear()
    return found


def take(name: str, *, old: Path, new: Path, gid: int) -> None:
    """Rename `name` from one `shared` folder to another, leave a link, and let a group write there. Blocking.

    Idempotent. The owner stays: the old app writes there until it ends. Raises: Failed(disk_error).
    """
    try:
        if not (old / name).is_symlink():
            with _Parent(old, name) as (from_, last), _Parent(new, name, make=True) as (to, _):
                with suppress(FileNotFoundError):
                    os.rmdir(last, dir_fd=to)  # as `app add` has just made it
                os.rename(last, last, src_dir_fd=from_, dst_dir_fd=to)
                os.symlink(new / name, last, dir_fd=from_)
        open_to(name, beneath=new, gid=gid)
    except OSError as error:
        raise _failed(old / name, error) from error


def give_back(name: str, *, old: Path, new: Path) -> None:
    """Undo `take`. Idempotent. Raises: Failed(disk_error)."""
    try:
        if (old / name).is_symlink() and os.path.lexists(new / name):
            with _Parent(old, name) as (to, last), _Parent(new, name) as (from_, _):
                os.unlink(last, dir_fd=to)
                os.rename(last, last, src_dir_fd=from_, dst_dir_fd=to)
    except OSError as error:
        raise _failed(new / name, error) from error


def relocate(path: Path, to: Path) -> None:
    """Rename a folder of an app. Raises: Failed(disk_error)."""
    try:
        os.rename(path, to)
    except OSError as error:
        raise _failed(path, error) from error


def open_to(name: str, *, beneath: Path, gid: int) -> None:
    """Give `name`, a file or a folder with all in it, to a group, which may read and write it. Blocking.

    No link is followed, also none that is put into the way meanwhile. A file with a second name is left alone: it
    may be a file of root's. Nobody gets the group by running a file. Raises: OSError.
    """
    with _Parent(beneath, name) as (parent, last):
        _open_one(last, parent, gid)
        if stat.S_ISDIR(os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode):
            for _, folders, files, folder in os.fwalk(last, dir_fd=parent, follow_symlinks=False):
                for one in (*folders, *files):
                    _open_one(one, folder, gid)


def _open_one(name: str, folder: int, gid: int) -> None:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    is_folder = stat.S_ISDIR(found.st_mode)
    if not is_folder and not stat.S_ISREG(found.st_mode):
        return
    kind = _FOLDER if is_folder else os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    opened = os.open(name, kind, dir_fd=folder)
    try:
        found = os.fstat(opened)  # another may have its name by now
        if stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1):
            os.fchown(opened, -1, gid)
            # Without the bits that lend a file's user and group to who runs it.
            os.fchmod(opened, found.st_mode & 0o777 | (0o2770 if is_folder else 0o660))
    finally:
        os.close(opened)


class _Parent:
    """The folder of `name` beneath `top`, opened one part at a time, never through a link; and its last part."""

    def __init__(self, top: Path, name: str, *, make: bool = False) -> None:
        self._top, self._make = top, make
        *self._parents, self._last = Path(name).parts

    def __enter__(self) -> tuple[int, str]:
        descriptor = os.open(self._top, _FOLDER)
        for part in self._parents:
            if self._make:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o2770, dir_fd=descriptor)
            below = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        self._descriptor = descriptor
        return descriptor, self._last

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _refused(path: Path, *, why: str, hint: str) -> Refused:
    return Refused(Code.CONFIGURATION, f"{path} cannot be taken over", why=why, hint=hint)


def _failed(path: Path, error: OSError) -> Failed:
    return Failed(
        Code.DISK_ERROR,
        f"{path} could not be moved",
        why=error.strerror or str(error),
        hint="Run the command again, or with --undo",
    )
