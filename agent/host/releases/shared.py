"""Shared paths that are links to other places of the host.

Invariant: this only reads. What cannot be seen from here (a home, for the agent) is believed to be there.
"""

import os
import shlex
from pathlib import Path

from pusher.wire import Code, Failed

_FSTAB, _MOUNTS = Path("/etc/fstab"), Path("/proc/self/mounts")
_UNSEEN = ("/home/", "/root/")


def check_target(link: Path, *, fstab: Path = _FSTAB, mounts: Path = _MOUNTS) -> None:
    """Check that a link leads to something. Blocking. Raises: Failed(shared_file_missing), saying what is away."""
    target = os.path.normpath(link.parent / os.readlink(link))
    if os.path.exists(target) or f"{target}/".startswith(_UNSEEN):
        return
    if away := _unmounted(target, fstab=fstab, mounts=mounts):
        why, hint = f"{link} -> {target}, and {away} is not mounted", f"Mount it, as root: mount {away}"
    else:
        why = f"{link} -> {target}, which does not exist"
        hint = f"Make it, as root: mkdir -p {shlex.quote(target)}"
    raise Failed(Code.SHARED_FILE_MISSING, f"The shared path {link.name} leads nowhere", why=why, hint=hint)


def _unmounted(target: str, *, fstab: Path, mounts: Path) -> str:
    """The place in fstab(5) above a path where nothing is mounted now; empty if there is none."""
    try:
        wanted = {fields[1] for line in fstab.read_text("utf-8", errors="replace").splitlines()
                  if len(fields := line.split()) > 2 and not line.lstrip().startswith("#")}  # fmt: skip
        there = {line.split()[1] for line in mounts.read_text("utf-8", errors="replace").splitlines()}
    except OSError:
        return ""
    above = [place for place in wanted - there if place != "/" and f"{target}/".startswith(f"{place}/")]
    return max(above, key=len, default="")
