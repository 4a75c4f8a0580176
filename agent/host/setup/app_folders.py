"""The folders of an app on a server, as root makes and removes them.

Invariant: nothing of somebody else's is taken over or deleted. Folders are entered one name at a time and never
through a link, for what lies in an app's folder is the agent's and the app's, and this runs as root.
"""

import grp
import os
import pwd
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from agent.core.layout import AppLayout, HostLayout
from agent.core.units import AGENT
from pusher.wire import Code, Failed, Refused

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOUNTS = Path("/proc/self/mountinfo")


def check_place(path: Path) -> None:
    """Whether an app's folder can be at `path`, or is there already. Raises: Refused(configuration)."""
    if why := _not_roots(path):
        real = path.resolve()
        hint = "Name a folder of which everything above is root's, such as /opt/NAME or /srv/NAME"
        raise _unusable(path, why=why, hint=hint if real == path else f"Name it by its real path, {real}")
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        raise _unusable(path, why="it is there already, and is no folder", hint="Name another, or move it away")
    if found.st_uid != pwd.getpwnam(AGENT).pw_uid and any(path.iterdir()):
        raise _unusable(
            path,
            why=f"it is there already, and belongs to {_owner(found.st_uid)}",
            hint="Name another, or move it away; what the app needs of it goes into shared/ afterwards",
        )


def is_agents(path: Path) -> bool:
    """Whether there is a folder of the agent's at `path`, and not one of somebody else's."""
    try:
        return path.lstat().st_uid == pwd.getpwnam(AGENT).pw_uid
    except (OSError, KeyError):
        return False


def make(layout: AppLayout, *, user: str) -> None:
    """The folders of an app: the agent's, but for what the app's group may see or write. Raises: Failed.

    Neither `shared` nor `shared/venvs` is writable to the app, else it could put other code in the place of its
    venv. A folder made within `shared` takes on the app's group, and is writable to it (UMask=0002).
    """
    agent, group = pwd.getpwnam(AGENT), pwd.getpwnam(user).pw_gid
    layout.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with Entered(layout.path) as top:
        for name, gid, mode in (
            (layout.releases.name, agent.pw_gid, 0o755),
            (layout.exchange.name, group, 0o2750),
            (layout.shared.name, group, 0o2755),
        ):
            with Entered(name, folder=top) as descriptor:
                os.fchown(descriptor, agent.pw_uid, gid)
                os.fchmod(descriptor, mode)
                if name == layout.shared.name:
                    with Entered(layout.venvs.name, folder=descriptor) as venvs:
                        os.fchown(venvs, agent.pw_uid, agent.pw_gid)
                        os.fchmod(venvs, 0o755)
        os.fchown(top, agent.pw_uid, agent.pw_gid)
        os.fchmod(top, 0o755)


def make_drop(layout: HostLayout, app: str, *, group: str) -> None:
    """The app's drop directory: the agent's, and setgid to the group whose members may deploy. Raises: Failed."""
    agent = pwd.getpwnam(AGENT)
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise Failed(
            Code.CONFIGURATION,
            f"The drop directory of {app} could not be made",
            why=f"there is no group {group}",
            hint=f"groupadd --system {group}, or name another under [door] group in {layout.agent_toml}",
        ) from error
    with Entered(layout.state) as state:
        with Entered(layout.drop(app).parent.name, folder=state) as top:
            with Entered(app, folder=top) as own:
                os.fchown(own, agent.pw_uid, gid)
                os.fchmod(own, 0o2770)
            os.fchown(top, agent.pw_uid, agent.pw_gid)
            os.fchmod(top, 0o711)
        # Others must get through to it; there is nothing else in it that they may open (pusher-agent.service).
        os.fchown(state, agent.pw_uid, agent.pw_gid)
        os.fchmod(state, 0o711)


def check_purgeable(path: Path) -> None:
    """Whether `remove` may delete what is at `path`. Raises: Refused(configuration)."""
    try:
        owner = path.lstat().st_uid
    except FileNotFoundError:
        return
    why = ""
    if path.is_symlink() or owner != pwd.getpwnam(AGENT).pw_uid:
        why = "it is a link, or does not belong to the agent"
    elif reason := _not_roots(path):
        why = reason
    elif mounted := mounts_at(path):
        why = f"{mounted[0]} is a mount point, and what is mounted there would go as well"
    if why:
        raise Refused(
            Code.CONFIGURATION,
            f"{path} cannot be purged",
            why=why,
            hint="Leave out --purge, and remove by hand what is to go",
        )


def remove(path: Path | str, *, folder: int | None = None) -> None:
    """Delete a tree in which others may still rename: by descriptors, so that no link leads out of it.

    `path` is taken from the open `folder`, if that is given. Raises: Failed.
    """
    if not shutil.rmtree.avoids_symlink_attacks:
        raise RuntimeError("this Python cannot delete a tree without following what is put into it meanwhile")
    try:
        shutil.rmtree(path, dir_fd=folder)
    except OSError as error:
        raise Failed(
            Code.DISK_ERROR,
            f"{path} could not be removed whole",
            why=f"{error.filename or path}: {error.strerror}",
            hint="Run the same again, or remove the rest by hand",
        ) from error


def mounts_at(path: Path, *, table: Path = _MOUNTS) -> list[str]:
    """What is mounted on `path` or beneath it (proc(5), mountinfo)."""
    found = [_unescaped(line.split()[4]) for line in table.read_text(errors="surrogateescape").splitlines()]
    return [one for one in found if Path(one).is_relative_to(path)]


class Entered:
    """A folder, made if it was not there, opened and never through a link."""

    def __init__(self, name: Path | str, *, folder: int | None = None) -> None:
        self._name, self._folder = name, folder

    def __enter__(self) -> int:
        try:
            with suppress(FileExistsError):
                os.mkdir(self._name, 0o755, dir_fd=self._folder)
            self._descriptor = os.open(self._name, _FOLDER, dir_fd=self._folder)
        except OSError as error:
            raise Failed(
                Code.DISK_ERROR, f"Could not make the folder {self._name}", why=error.strerror or str(error)
            ) from error
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _not_roots(path: Path) -> str:
    """What is wrong with the first of the folders above `path` in which others than root may rename, or that is
    no folder at all but a link; empty if nothing is."""
    for folder in path.parents:
        with suppress(FileNotFoundError):
            found = folder.lstat()
            others = stat.S_IWOTH | (stat.S_IWGRP if found.st_gid else 0)
            if stat.S_ISLNK(found.st_mode):
                return f"{folder} is a link"
            if found.st_uid or found.st_mode & others:
                return f"{folder} is not root's alone, so that others could put something else in its place"
    return ""


def _unescaped(text: str) -> str:
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _unusable(path: Path, *, why: str, hint: str) -> Refused:
    return Refused(Code.CONFIGURATION, f"The app cannot lie in {path}", why=why, hint=hint)
