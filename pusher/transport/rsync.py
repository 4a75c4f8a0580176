"""rsync into a host's drop directory, over the user's own ssh.

Invariant: content decides what travels, never size and time. No permission, owner or time of this machine is
copied to the host, where several people write into the same folder (measured: docs/reference/drop-directory.md).
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pusher.errors import Unreachable, Usage
from pusher.transport.hosts import Host, Ssh
from pusher.wire import DROP_MARK, Code, Failed, Refused

# Without -p, --chmod would only apply to new files. Times are not copied: a second user may not set them on the
# files of the first.
_OPTIONS = ("-rlp", "--checksum", "--chmod=D2775,F664", "--stats", "--no-human-readable")
_PLAIN = re.compile(r"/[A-Za-z0-9._+/-]*", re.ASCII)
_TRAVELLED = re.compile(r"^(?:Number of regular files transferred|Total bytes sent): ([0-9]+)$", re.MULTILINE)
_NO_RSYNC = 2  # what the other side writes is not rsync's
_NO_WAY = frozenset({10, 12, 30, 35, 127, 255})  # rsync(1), EXIT VALUES; 127 and 255 are the remote shell's


class Travelled(NamedTuple):
    """How many files were transferred, and how many bytes were sent in total."""

    files: int
    sent: int


def tree_argv(named: Path, target: str, *, shell: str, hidden: Path) -> tuple[str, ...]:
    """The command that makes a folder in `target` equal to `named`, without what the rules in `hidden` exclude.

    `named` is a link to the source, with the name of that folder. Another user who may drop could put a link in
    the place of the folder. Since the name is a part of what travels (--relative), rsync replaces that link. Given
    as a path, rsync would follow it, and delete the files it leads to.
    """
    return (*("rsync", *_OPTIONS, "--relative", "--delete", "--from0", f"--filter=merge {hidden}"),
            *_shell(shell), "--", f"{named.parent}/./{named.name}/", f"{target}/")  # fmt: skip


def mark_argv(target: str, *, shell: str) -> tuple[str, ...]:
    """The command that looks for the mark of a drop directory in `target`. It writes nothing."""
    return ("rsync", "--list-only", *_shell(shell), "--", f"{target}/{DROP_MARK}")


def files_argv(files: Sequence[Path], target: str, *, shell: str) -> tuple[str, ...]:
    """The command that copies these files into the folder `target`."""
    return ("rsync", *_OPTIONS, *_shell(shell), "--", *(str(file) for file in files), f"{target}/")


def target(host: Host, path: str) -> str:
    """A folder of a host as rsync names it, without a host part on this machine. Raises: Usage.

    Only plain paths are accepted: with an old rsync, the remote shell interprets them.
    """
    if not _PLAIN.fullmatch(path):
        raise Usage(f"{host.name} names the drop directory {path!r}", why="this is not a plain absolute path")
    if not isinstance(host.address, Ssh):
        return path
    name = f"[{host.address.host}]" if ":" in host.address.host else host.address.host
    return f"{host.address.user}@{name}:{path}" if host.address.user else f"{name}:{path}"


def remote_shell(host: Host, *, ssh: str, may_ask: bool) -> str:
    """The ssh command for a host, empty for this machine. Without `may_ask`, it fails where it would ask."""
    if not isinstance(host.address, Ssh):
        return ""
    port = f" -p {host.address.port}" if host.address.port else ""
    return f"{ssh}{'' if may_ask else ' -o BatchMode=yes'}{port}"


def hidden(folder: Path, travelling: Iterable[str], *, name: str) -> Iterator[bytes]:
    """The filter rules, each ended by NUL, that hide the files that do not travel. The folder travels as `name`.

    Hidden files are deleted on the host by `--delete`. (`--files-from`, which would name the files that travel,
    deletes nothing.) A hidden folder is one rule.
    """
    leaves = set(travelling)
    folders = {path[:at] for path in leaves for at, letter in enumerate(path) if letter == "/"}
    for path in _not_travelling(folder, "", leaves, folders):
        # A backslash is special only in a pattern with a wildcard (rsync(1), PATTERN MATCHING RULES).
        pattern = re.sub(r"([*?\[\\])", r"\\\1", path) if re.search(r"[*?\[]", path) else path
        yield b"hide /" + os.fsencode(f"{name}/{pattern}") + b"\0"


def check_mark(argv: Sequence[str], host: Host) -> None:
    """Run `mark_argv`. Raises: Refused, where there is no mark; Unreachable; Usage."""
    done = _done(argv, host)
    if done.returncode:
        raise Refused(
            Code.NOT_ALLOWED,
            f"Nothing is dropped on {host.name}",
            why="the drop directory there has no mark of an agent",
            hint=f"An agent makes {DROP_MARK} when it starts: systemctl restart pusher-agent",
        )


def run(argv: Sequence[str], host: Host) -> Travelled:
    """Run rsync, with the terminal as its standard error. Raises: Unreachable, Failed, Usage."""
    done = _done(argv, host)
    if done.returncode:
        raise Failed(
            Code.UPLOAD_BROKEN,
            f"The drop on {host.name} is not complete",
            why=f"rsync ended with exit status {done.returncode}",
            hint="See its output above. Your user there must be in the group `pusher`. Nothing is deployed before "
            "all files have arrived: run the command again",
        )
    numbers = [int(found) for found in _TRAVELLED.findall(done.stdout)]
    return Travelled(*numbers) if len(numbers) == len(Travelled._fields) else Travelled(0, 0)


def _done(argv: Sequence[str], host: Host) -> "subprocess.CompletedProcess[str]":
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        hint = "Install rsync on this machine"
        raise Usage("rsync cannot be run", why=error.strerror or str(error), hint=hint) from error
    if done.returncode == _NO_RSYNC:
        raise Unreachable(
            f"rsync does not understand {host.name}",
            why="something there writes before rsync does",
            hint="Often .bashrc there prints something. ssh to it with the command `true` must print nothing",
        )
    if done.returncode in _NO_WAY:
        raise Unreachable(
            f"rsync cannot reach {host.name}",
            why=f"it ended with exit status {done.returncode}",
            hint="See its output above. It needs ssh to that host, and rsync there. Then run the command again: "
            "files that have arrived do not travel twice",
        )
    return done


def _shell(shell: str) -> tuple[str, ...]:
    return ("-e", shell) if shell else ()


def _not_travelling(folder: Path, above: str, leaves: set[str], folders: set[str]) -> Iterator[str]:
    walk: Callable[[str], Iterable[os.DirEntry[str]]] = os.scandir
    for item in sorted(walk(str(folder / above)), key=lambda one: one.name):
        path = above + item.name
        if item.is_dir(follow_symlinks=False) and path in folders:
            yield from _not_travelling(folder, f"{path}/", leaves, folders)
        elif path not in leaves:
            yield path
