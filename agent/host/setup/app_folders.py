"""The folders of an app on a server, which root makes and removes.

Invariant: another user's files are never taken over or deleted. This runs as root in folders of the agent and the
app, so they are entered one name at a time and never through a link. The changes are not flushed: the command can
be run again.
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
    """Check that an app's folder can be at `path`, or is there. Blocking. Raises: Refused(configuration)."""
    if why := _not_roots(path):
        real = path.resolve()
        hint = "Name a folder below folders that belong to root, such as /opt/NAME or /srv/NAME"
        raise _unusable(path, why=why, hint=hint if real == path else f"Name it by its real path, {real}")
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        raise _unusable(path, why="it exists, and is no folder", hint="Name another, or move it away")
    if found.st_uid != pwd.getpwnam(AGENT).pw_uid and any(path.iterdir()):
        raise _unusable(
            path,
            why=f"it exists, and belongs to {_owner(found.st_uid)}",
            hint="Name another, or move it away; afterwards, put what the app needs of it into shared/",
        )


def is_agents(path: Path) -> bool:
    """Whether `path` exists and belongs to the agent. Blocking."""
    try:
        return path.lstat().st_uid == pwd.getpwnam(AGENT).pw_uid
    except (OSError, KeyError):
        return False


def make(layout: AppLayout, *, user: str) -> None:
    """Make the folders of an app. They belong to the agent; some have the app's group. Blocking. Raises: Failed.

    The app may not write to `shared` or `shared/venvs`: it could replace the code of its venv. A folder made in
    `shared` gets the app's group, which may write to it (UMask=0002).
    """
    agent, group = pwd.getpwnam(AGENT), pwd.getpwnam(user).pw_gid
    layout.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with Entered(layout.path) as top:
        for name, gid, mode in (
            (layout.releases.name, group, 0o750),
            (layout.exchange.name, group, 0o2750),
            (layout.shared.name, group, 0o2750),
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
    """Make the app's drop directory: the agent's, and setgid to the group whose members may deploy. Blocking.

    Raises: Failed.
    """
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
        # Members must be able to enter it; they can open nothing else in it (pusher-agent.service).
        os.fchown(state, agent.pw_uid, agent.pw_gid)
        os.fchmod(state, 0o711)


def check_purgeable(path: Path) -> None:
    """Check that `remove` may delete what is at `path`. Blocking. Raises: Refused(configuration)."""
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
        why = f"{mounted[0]} is a mount point, and its content would be deleted as well"
    if why:
        raise Refused(
            Code.CONFIGURATION,
            f"{path} cannot be purged",
            why=why,
            hint="Leave out --purge, and remove by hand what you do not need",
        )


def remove(path: Path | str, *, folder: int | None = None) -> None:
    """Delete a tree in which others may still rename: by descriptors, so that no link leads out of it. Blocking.

    `path` is relative to the open `folder`, if that is given. Raises: Failed(disk_error).
    """
    if not shutil.rmtree.avoids_symlink_attacks:
        raise RuntimeError(
            "this Python cannot delete a tree without following links that are put into it meanwhile"
        )
    try:
        shutil.rmtree(path, dir_fd=folder)
    except OSError as error:
        raise Failed(
            Code.DISK_ERROR,
            f"{path} could not be removed completely",
            why=f"{error.filename or path}: {error.strerror or error}",
            hint="Run the command again, or remove the rest by hand",
        ) from error


def mounts_at(path: Path, *, table: Path = _MOUNTS) -> list[str]:
    """The mount points at `path` or beneath it (proc_pid_mountinfo(5)). Blocking."""
    found = [
        _unescaped(line.split()[4]) for line in table.read_text("utf-8", errors="surrogateescape").splitlines()
    ]
    return [one for one in found if Path(one).is_relative_to(path)]


class Entered:
    """A folder, made if it is missing, and opened, never through a link. Raises: Failed(disk_error)."""

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
    """Why a folder above `path` is unsafe: a link, or others than root may rename in it. Empty if none is."""
    for folder in path.parents:
        with suppress(FileNotFoundError):
            found = folder.lstat()
            others = stat.S_IWOTH | (stat.S_IWGRP if found.st_gid else 0)
            if stat.S_ISLNK(found.st_mode):
                return f"{folder} is a link"
            if found.st_uid or found.st_mode & others:
                return f"others than root may write to {folder}, and could replace what is in it"
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
    return Refused(Code.CONFIGURATION, f"The app's folder cannot be {path}", why=why, hint=hint)
