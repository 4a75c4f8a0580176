"""The commit that a tree comes from, as git says it.

Invariant: a file counts as changed unless git says that it is in the commit just like this. Without git, a
repository or a commit there is no answer. No password in the address of a repository comes along.
"""

import os
import re
from collections.abc import Collection
from pathlib import Path

from pusher.bundle import git
from pusher.bundle.git import GitFailed
from pusher.wire import Source, WireError, format_timestamp

# With log.showSignature, git would write what it thinks of the signature above the commit.
_LAST = ("log", "-1", "--no-show-signature", "--format=%H %at", "HEAD", "--")
_LOGIN = re.compile(r"(?<=://)[^/]*@")  # a password may have an @, too


def source_of(folder: Path, paths: Collection[str]) -> Source | None:
    """The commit of the git work tree around `folder`, and how many of its `paths` differ from it."""
    if git.work_tree(folder) is None:
        return None
    try:
        commit, _, authored = git.ask(folder, *_LAST).partition(" ")
        known = set(git.names(folder, "ls-files", "--recurse-submodules", "-z", "--", "."))
        differ = set(git.differing(folder))
    except GitFailed:
        return None
    moved = tuple(f"{path}/" for path in differ if os.path.isdir(folder / path))
    changed = {path for path in paths if path in differ or path not in known or path.startswith(moved)}
    gone = {path for path in differ if not os.path.lexists(folder / path)}
    try:
        found = Source(commit, len(changed | gone))
    except WireError:
        return None
    branch = _said(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    remote = without_login(_said(folder, "remote", "get-url", "origin"))
    try:
        return Source(found.commit, found.changed, branch, _milliseconds(authored), remote)
    except WireError:
        return found


def without_login(address: str) -> str:
    """The address of a repository without the password in it. The user of an SSH address stays: all have `git`."""
    return address if address.startswith("ssh://") and ":" not in _login(address) else _LOGIN.sub("", address)


def _login(address: str) -> str:
    found = _LOGIN.search(address)
    return found[0] if found else ""


def _said(folder: Path, *words: str) -> str:
    try:
        return git.ask(folder, *words)
    except GitFailed:
        return ""


def _milliseconds(seconds: str) -> int | None:
    """A time of git in milliseconds; None if RFC 3339 has no form for it."""
    try:
        moment = int(seconds) * 1000
        return moment if moment >= 0 and len(format_timestamp(moment)) == len("2026-11-23T02:00:55.000Z") else None
    except (ValueError, OverflowError, OSError):
        return None
