"""rsync into a host's drop directory, over the user's own ssh.

Invariant: content decides what travels, never size and time; no permission, owner or time of this machine is put
upon the host, where several people write into the same folder (docs/reference/drop-directory.md says why).
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pusher.errors import Unreachable, Usage
from pusher.transport.hosts import Host, Ssh
from pusher.wire import Code, Failed

# Without -p the modes of --chmod would only be those of new files; times are not carried over, so that a second
# user is not refused where he may not set them.
_OPTIONS = ("-rlp", "--checksum", "--chmod=D2775,F664", "--stats", "--no-human-readable")
_PLAIN = re.compile(r"/[A-Za-z0-9._+/-]*", re.ASCII)
_TRAVELLED = re.compile(r"^(?:Number of regular files transferred|Total bytes sent): ([0-9]+)$", re.MULTILINE)
_NO_WAY = frozenset({10, 12, 30, 35, 127, 255})  # rsync(1), EXIT VALUES; 127 and 255 are the remote shell's


class Travelled(NamedTuple):
    """How many files went over, and how many bytes were sent for it, all in all."""

    files: int
    sent: int


def tree_argv(folder: Path, target: str, *, shell: str, hidden: Path) -> tuple[str, ...]:
    """Make the folder at `target` what `folder` is, but for what the file `hidden` names, NUL-separated."""
    return (*("rsync", *_OPTIONS, "--delete", "--from0", f"--filter=merge {hidden}"),
            *_shell(shell), "--", f"{folder}/", f"{target}/")  # fmt: skip


def files_argv(files: Sequence[Path], target: str, *, shell: str) -> tuple[str, ...]:
    """Put these files into the folder `target`."""
    return ("rsync", *_OPTIONS, *_shell(shell), "--", *(str(file) for file in files), f"{target}/")


def target(host: Host, path: str) -> str:
    """A folder of a host as rsync names it; without a host part if that is this machine. Raises: Usage.

    Only plain paths: an old rsync has the remote shell read them.
    """
    if not _PLAIN.fullmatch(path):
        raise Usage(f"{host.name} names the drop directory {path!r}", why="that is not a plain absolute path")
    if not isinstance(host.address, Ssh):
        return path
    name = f"[{host.address.host}]" if ":" in host.address.host else host.address.host
    return f"{host.address.user}@{name}:{path}" if host.address.user else f"{name}:{path}"


def remote_shell(host: Host, *, ssh: str, may_ask: bool) -> str:
    """The ssh command for a host; empty if it is this machine. If it may not ask, it ends where it would."""
    if not isinstance(host.address, Ssh):
        return ""
    port = f" -p {host.address.port}" if host.address.port else ""
    return f"{ssh}{'' if may_ask else ' -o BatchMode=yes'}{port}"


def hidden(folder: Path, travelling: Iterable[str]) -> Iterator[bytes]:
    """The filter rules, each ended by NUL, that hide what lies in a folder and does not travel.

    Hidden is what is not there: at the other end `--delete` takes it away. (`--files-from`, which would name
    what travels, takes nothing away.) A folder that is hidden is one rule.
    """
    leaves = set(travelling)
    folders = {path[:at] for path in leaves for at, letter in enumerate(path) if letter == "/"}
    for path in _staying(folder, "", leaves, folders):
        # A backslash is only one before a wildcard (rsync(1), PATTERN MATCHING RULES).
        pattern = re.sub(r"([*?\[\\])", r"\\\1", path) if re.search(r"[*?\[]", path) else path
        yield b"hide /" + os.fsencode(pattern) + b"\0"


def run(argv: Sequence[str], host: Host) -> Travelled:
    """Run rsync; what it says to its standard error is the terminal's. Raises: Unreachable, Failed."""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        hint = "Install rsync on this machine"
        raise Usage("rsync cannot be run", why=error.strerror or str(error), hint=hint) from error
    if done.returncode in _NO_WAY:
        raise Unreachable(
            f"Nothing can be dropped on {host.name}",
            why=f"rsync ended with exit status {done.returncode}",
            hint="What it said is above. It needs ssh to that host, and rsync there. Run the same again: what has "
            "arrived does not travel twice",
        )
    if done.returncode:
        raise Failed(
            Code.UPLOAD_BROKEN,
            f"Not all could be dropped on {host.name}",
            why=f"rsync ended with exit status {done.returncode}",
            hint="What it said is above. Whoever drops must be in the group `pusher` there. Nothing is deployed "
            "before all has arrived: run the same again",
        )
    numbers = [int(found) for found in _TRAVELLED.findall(done.stdout)]
    return Travelled(*numbers) if len(numbers) == len(Travelled._fields) else Travelled(0, 0)


def _shell(shell: str) -> tuple[str, ...]:
    return ("-e", shell) if shell else ()


def _staying(folder: Path, above: str, leaves: set[str], folders: set[str]) -> Iterator[str]:
    walk: Callable[[str], Iterable[os.DirEntry[str]]] = os.scandir
    for item in sorted(walk(str(folder / above)), key=lambda one: one.name):
        path = above + item.name
        if item.is_dir(follow_symlinks=False) and path in folders:
            yield from _staying(folder, f"{path}/", leaves, folders)
        elif path not in leaves:
            yield path
