"""What a user may do with a file or a folder, by owner, group and mode.

Invariant: this only reads. If an access list decides, or the path may not be seen, it reports nothing.
"""

import grp
import os
import pwd
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

_READ, _WRITE, _ENTER = 4, 2, 1
_LETTERS = ((_READ, "r"), (_WRITE, "w"), (_ENTER, "x"))
_ACCESS_LIST = "system.posix_acl_access"  # acl(5)


def foreign(path: Path) -> str:
    """Why others than root can change a file that must be root's, and which command mends that.

    Empty if only root can, or `path` does not exist. Blocking.
    """
    try:
        found = path.stat()
    except OSError:
        return ""
    at = shlex.quote(str(path))
    if found.st_uid != 0:
        return f"{path} is not root's, so its owner decides what runs here; run `chown root {at}` as root"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} can be changed by others than root; run `chmod go-w {at}` as root"
    return ""


def hindrance(path: Path, *, user: str) -> str:
    """Why `user` cannot read the file at `path`, or write to the folder there, and which command mends that.

    Empty if nothing is in the way, or `path` does not exist. Blocking. Raises: KeyError, if there is no such user.
    """
    account = pwd.getpwnam(user)
    who = _User(account.pw_uid, account.pw_gid, frozenset(os.getgrouplist(user, account.pw_gid)))
    try:
        real = path.resolve(strict=True)
        for folder in reversed(real.parents):
            if who.lacks(folder, _ENTER):
                mend = f"run `{who.mend(folder, _ENTER)}` as root, or put it elsewhere"
                return f"{user} may not enter {_shown(folder)}, in which it lies; {mend}"
        verb, wanted = ("write to", _WRITE | _ENTER) if real.is_dir() else ("read", _READ)
        if who.lacks(real, wanted):
            return f"{user} may not {verb} {_shown(real)}; run `{who.mend(real, wanted)}` as root"
    except (OSError, RuntimeError):  # the latter for a loop of links
        pass
    return ""


def unrunnable(path: Path, *, user: str) -> str:
    """Why `user` cannot run the program at `path`, or use the folder there, and which command mends that.

    Empty if nothing is in the way, or `path` does not exist. Blocking. Raises: KeyError, if there is no such user.
    """
    account = pwd.getpwnam(user)
    who = _User(account.pw_uid, account.pw_gid, frozenset(os.getgrouplist(user, account.pw_gid)))
    try:
        real = path.resolve(strict=True)
        if who.lacks(real, _READ | _ENTER):
            verb = "enter" if real.is_dir() else "run"
            return f"{user} may not {verb} {_shown(real)}; run `chmod 0755 {shlex.quote(str(real))}` as root"
    except (OSError, RuntimeError):
        pass
    return ""


@dataclass(frozen=True, slots=True)
class _User:
    uid: int
    gid: int
    groups: frozenset[int]

    def lacks(self, path: Path, wanted: int) -> int:
        """The `wanted` rights that the kernel would refuse (path_resolution(7), "Permissions")."""
        found = path.stat()
        if self.uid == 0 or _ACCESS_LIST in os.listxattr(path):
            return 0
        shift = 6 if found.st_uid == self.uid else 3 if found.st_gid in self.groups else 0
        return wanted & ~(found.st_mode >> shift)

    def mend(self, path: Path, wanted: int) -> str:
        """The command that gives the missing rights."""
        found, where = path.stat(), shlex.quote(str(path))
        letters = "".join(letter for bit, letter in _LETTERS if self.lacks(path, wanted) & bit)
        if found.st_uid == self.uid:
            return f"chmod u+{letters} {where}"
        if found.st_gid in self.groups:
            return f"chmod g+{letters} {where}"
        if wanted == _ENTER:
            return f"chmod o+x {where}"
        # Its present rights are those of others. As a member of the group it needs them too.
        letters = "rwx" if stat.S_ISDIR(found.st_mode) else "r"
        return f"chgrp {_name(self.gid)} {where} && chmod g+{letters} {where}"


def _shown(path: Path) -> str:
    found = path.stat()
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    return f"{path} ({stat.filemode(found.st_mode)} {owner}:{_name(found.st_gid)})"


def _name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)
