"""A repository in a folder of another machine, over the user's own ssh and rsync.

Invariant: as for a folder here. What decides happens on that machine, under flock(1): between two commands,
another publisher may have been there. All commands share one connection, which ends with this process.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pusher.errors import Unreachable, Usage
from pusher.repository.store import Found, Item, changed_meanwhile, missing, too_large
from pusher.repository.unfinished import is_cut_off
from pusher.transport.hosts import Ssh, quoted
from pusher.wire import Code, Failed

_PIECE = 256 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9._+/~-]*", re.ASCII)
_ABSENT, _CHANGED, _CUT_OFF = 44, 45, 46

_READ = '[ -e "$1" ] || exit 44; exec cat "$1"'
_READ_SMALL = '[ -e "$1" ] || exit 44; exec head -c "$2" "$1"'
_FOLDER = '[ -d "$1" ] || mkdir "$1" || exit 1; exec mkdir -p "$2"'
_REPLACE = """
mkdir -p "${1%/*}" && exec 9>"${1%/*}/.${1##*/}.lock" && flock 9 || exit 1
now=$( [ -e "$1" ] && sha256sum <"$1" | cut -c 1-64 )
[ "$now" = "$2" ] || exit 45
cat >"${1%/*}/.${1##*/}.new" && [ "$(sha256sum <"${1%/*}/.${1##*/}.new" | cut -c 1-64)" = "$3" ] || exit 46
sync "${1%/*}/.${1##*/}.new" && mv "${1%/*}/.${1##*/}.new" "$1" && exec sync "${1%/*}"
"""
"""The digest is compared because `cat` sees an end like any other where a connection breaks off."""
_SYNC = 'exec sync -- "$1" "${1%/*}"'
_REMOVE = 'exec rm -f -- "$1"'
_NAMES = """
[ -e "$1" ] || exit 44
cd "$1" || exit 1
exec find -L . -name '.?*' -prune -o -type f -printf '%s %T@ %P\\0'
"""
"""Through links, as for a folder here: what lies behind one is not nowhere."""
_ALL = """
[ -e "$1" ] || exit 44
cd "$1" || exit 1
exec find . -type f -printf '%s %T@ %P\\0'
"""
ALIVE_S = 15
"""A machine that says nothing for three times so long is gone. By itself, ssh would wait for hours."""
_SOCKETS_BYTES = 60
"""So long may the path of the folder for sockets be: some systems allow a socket's path 104 bytes, and ssh adds to
it at first.
"""


class RemoteFolder:
    """The repository at `ssh://[user@]host[:port]/folder`. `ssh` is the command, with its options."""

    def __init__(self, host: Ssh, path: str, *, ssh: str) -> None:
        port = f":{host.port}" if host.port else ""
        user = f"{host.user}@" if host.user else ""
        name = f"[{host.host}]" if ":" in host.host else host.host
        self.address = f"ssh://{user}{name}{port}{path}"
        if not _PATH.fullmatch(path) or ".." in path.split("/"):
            raise Usage(f"{self.address} is no repository", why="its folder is not a plain absolute path")
        self._path = path
        self._target = f"{user}{host.host}"
        self._rsync_target = f"{user}{name}"
        self._shell = f"{ssh} -p {host.port}" if host.port else ssh
        if sockets := _sockets():
            # Options of the user's own come first, and win (ssh_config(5)).
            shared = ("ControlMaster=auto", f"ControlPath={sockets}/c", "ControlPersist=60")
            alive = (f"ServerAliveInterval={ALIVE_S}", "ServerAliveCountMax=3")
            self._shell = " ".join([self._shell, *(f"-o {one}" for one in (*shared, *alive))])
            argv = (*shlex.split(self._shell), "-O", "exit", "--", self._target)
            weakref.finalize(self, _hang_up, argv, sockets)

    def read(self, name: str, *, most: int) -> Found | None:
        """As in the port."""
        done = self._run(_READ_SMALL, self._place(name), str(most + 1))
        if done.returncode == _ABSENT:
            return None
        self._check(done, "read", name)
        if len(done.stdout) > most:
            raise too_large(name, most)
        return Found(done.stdout, hashlib.sha256(done.stdout).hexdigest())

    @contextmanager
    def stream(self, name: str) -> Iterator[Iterator[bytes]]:
        """As in the port."""
        argv = self._argv(_READ, self._place(name))
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None  # noqa: S101 - for the type
            out = process.stdout
            first = out.read(_PIECE)
            if not first:
                done = self._reached(subprocess.CompletedProcess(argv, process.wait()))
                if done.returncode == _ABSENT:
                    raise missing(name)
                self._check(done, "read", name)

            def pieces() -> Iterator[bytes]:
                yield first
                yield from iter(lambda: out.read(_PIECE), b"")

            try:
                yield pieces()
            finally:
                process.kill()  # a reader of the head needs no rest

    def put(self, name: str, file: Path) -> bool:
        """As in the port. rsync goes on where a transfer was cut off, and renames what is whole."""
        place = self._place(name)
        if self._run('[ -e "$1" ]', place).returncode == 0:
            return False
        self._check(self._run(_FOLDER, self._path, place.rpartition("/")[0]), "make the folder of", name)
        argv = ("rsync", "--partial-dir=.partial", "--chmod=F644", "-e", self._shell, "--", str(file))
        try:
            done = subprocess.run((*argv, f"{self._rsync_target}:{place}"), capture_output=True, check=False)
        except OSError as error:
            why = error.strerror or str(error)
            raise Usage("rsync cannot be run", why=why, hint="Install rsync on this machine") from error
        self._check(done, "write", name)
        self._check(self._run(_SYNC, place), "write", name)
        return True

    def replace(self, name: str, content: bytes, *, tag: str | None) -> None:
        """As in the port."""
        self._check(self._run(_FOLDER, self._path, self._path), "make the folder of", name)
        digest = hashlib.sha256(content).hexdigest()
        done = self._run(_REPLACE, self._place(name), tag or "", digest, given=content)
        if done.returncode == _CHANGED:
            raise changed_meanwhile(name)
        self._check(done, "write", name)

    def remove(self, name: str) -> None:
        """As in the port."""
        self._check(self._run(_REMOVE, self._place(name)), "remove", name)

    def names(self, prefix: str) -> list[Item]:
        """As in the port."""
        return [one for one in self._listed(_NAMES) if one.name.startswith(prefix)]

    def unfinished(self) -> list[Item]:
        """As in the port."""
        return [one for one in self._listed(_ALL) if is_cut_off(one.name)]

    def _listed(self, script: str) -> list[Item]:
        done = self._run(script, self._path)
        if done.returncode == _ABSENT:
            return []
        self._check(done, "list", self._path)
        found = []
        for line in done.stdout.decode(errors="replace").split("\0")[:-1]:
            try:
                size, modified, name = line.split(" ", 2)
                found.append(Item(name, int(size), float(modified)))
            except ValueError as error:
                hint = "Often .bashrc there prints something. ssh to it with the command `true` must print nothing"
                what, why = f"Could not list {self.address}", "something there writes before the list"
                raise Failed(Code.UPLOAD_BROKEN, what, why=why, hint=hint) from error
        return sorted(found)

    def _place(self, name: str) -> str:
        if not _NAME.fullmatch(name) or ".." in name:
            raise RuntimeError(f"{name!r} is no name of an object")
        return f"{self._path.rstrip('/')}/{name}"

    def _argv(self, script: str, *arguments: str) -> Sequence[str]:
        return (*shlex.split(self._shell), "--", self._target, quoted(("sh", "-c", script, "sh", *arguments)))

    def _run(self, script: str, *arguments: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run a script of ours there. Raises: Unreachable, Usage."""
        argv = self._argv(script, *arguments)
        try:
            # Its standard error is the terminal: ssh may ask there.
            done = subprocess.run(argv, input=given, stdout=subprocess.PIPE, check=False, env=os.environ)
        except OSError as error:
            raise Usage(f"{argv[0]} cannot be run", why=error.strerror or str(error)) from error
        return self._reached(done)

    def _reached(self, done: "subprocess.CompletedProcess[bytes]") -> "subprocess.CompletedProcess[bytes]":
        if done.returncode == 255:
            hint = "See the output of ssh above"
            raise Unreachable(f"{self._target} cannot be reached", why="ssh ended with exit status 255", hint=hint)
        return done

    def _check(self, done: "subprocess.CompletedProcess[bytes]", verb: str, name: str) -> None:
        if done.returncode:
            if done.returncode == _CUT_OFF:
                hint = "What was there before is there still. Run the command again"
                what = f"Could not {verb} {name} in {self.address}"
                raise Failed(Code.UPLOAD_BROKEN, what, why="it did not arrive whole", hint=hint)
            said = (done.stderr or b"").decode(errors="replace").strip().splitlines()
            why = said[-1] if said else f"exit status {done.returncode}, see the output above"
            raise Failed(Code.UPLOAD_BROKEN, f"Could not {verb} {name} in {self.address}", why=why)


def _sockets() -> str:
    """A new folder for the socket of the shared connection; empty, if there is no place for one.

    Its path is plain: it becomes a part of a command, which ssh and rsync read each in its own way.
    """
    for folder in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp makes a name of its own
        if _PATH.fullmatch(folder) and len(folder) < _SOCKETS_BYTES:
            with suppress(OSError):
                return tempfile.mkdtemp(prefix="pusher-ssh-", dir=folder)
    return ""


def _hang_up(argv: Sequence[str], sockets: str) -> None:
    """End the shared connection, if there is one."""
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(argv, capture_output=True, check=False, timeout=5)
    shutil.rmtree(sockets, ignore_errors=True)
