"""A server as its administrator reaches it: a shell over ssh.

Invariant: what is run there is a script of ours with quoted words, given by standard input or as a file. Nothing
that a server answers is run.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import tarfile
from collections.abc import Mapping, Sequence

from pusher.config import Settings
from pusher.errors import Unreachable, Usage
from pusher.transport.hosts import Host, Ssh, run_argv
from pusher.wire import Problem

_FOLDER = re.compile(r"/[A-Za-z0-9._/-]{1,200}")
_PATIENCE_S = 120.0
_ANSWER_MOST = 1_000_000
# A shell that prints something whenever it starts (in .bashrc, say) does so before the script.
_BELOW = "-- the answer --"
_RECEIVE = (  # in one line: csh takes no other between quotes
    f'echo "{_BELOW}"; umask 077; d=$(mktemp -d) || exit; '
    'tar -xf - -C "$d" && printf "%s\\n" "$d" || { rm -rf "$d"; exit 1; }'
)


class Remote:
    """One server. `ssh` is the command, with its options."""

    def __init__(self, host: Host, *, ssh: str) -> None:
        if not isinstance(host.address, Ssh):
            raise Usage(
                f"{host.name} is not reached by ssh",
                why="this needs a shell there",
                hint="Name the server as ssh knows it: --host web1, or ssh://user@web1",
            )
        self.name = host.name
        self._address = host.address
        self._ssh = ssh

    def ask(self, script: str, *words: str, patience_s: float = _PATIENCE_S) -> str:
        """What a shell script writes there, given these words. Raises: Unreachable."""
        given = f'echo "{_BELOW}"\n{script}'
        return self._run(("sh", "-s", "--", *words), given.encode(), patience_s=patience_s)

    def put(self, files: Mapping[str, bytes]) -> str:
        """A new folder there, of this user alone, with these files in it. Raises: Unreachable."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(content), 0o600
                tar.addfile(member, io.BytesIO(content))
        folder = self._run(("sh", "-c", _RECEIVE), packed.getvalue(), patience_s=10 * _PATIENCE_S).strip()
        if not _FOLDER.fullmatch(folder):
            raise Unreachable(f"{self.name} could not take the files", why=f"it answered {folder[:200]!r}")
        return folder

    def remove(self, folder: str) -> None:
        """Remove a folder that `put` has made, if it is still there."""
        with contextlib.suppress(Problem):
            self.ask('rm -rf -- "$1"', folder)

    def see(self, words: Sequence[str], *, terminal: bool) -> int:
        """Run a command there that writes to this terminal; its exit code. With `terminal`, it may ask."""
        try:
            return subprocess.run(
                run_argv(self._address, words, ssh=self._ssh, terminal=terminal),
                stdin=None if terminal else subprocess.DEVNULL,
                check=False,
            ).returncode
        except OSError as error:
            raise _no_ssh(self._ssh, error) from error

    def _run(self, words: Sequence[str], given: bytes, *, patience_s: float) -> str:
        argv = run_argv(self._address, words, ssh=self._ssh, terminal=False)
        try:
            # Its standard error is the terminal: ssh may ask for a passphrase, or about a host key.
            done = subprocess.run(argv, input=given, stdout=subprocess.PIPE, check=False, timeout=patience_s)
        except OSError as error:
            raise _no_ssh(self._ssh, error) from error
        except subprocess.TimeoutExpired as error:
            raise Unreachable(f"{self.name} did not answer", why=f"no end after {patience_s:g} s") from error
        if done.returncode:
            raise Unreachable(
                f"{self.name} cannot be reached by ssh"
                if done.returncode == 255
                else f"{self.name} did not do it",
                why=f"ssh ended with exit status {done.returncode}; its message is above",
                hint=f"Try it by hand: {self._by_hand()}",
            )
        said = done.stdout[:_ANSWER_MOST].decode(errors="replace")
        return said.partition(f"{_BELOW}\n")[2]

    def _by_hand(self) -> str:
        return shlex.join(run_argv(self._address, ("true",), ssh=self._ssh, terminal=False))


def only_host(settings: Settings) -> Host:
    """The one host of a command. Raises: Usage."""
    if len(settings.chosen) != 1:
        raise Usage("This is done for one host at a time", hint="Name it: --host web1")
    return settings.chosen[0]


def at_terminal() -> bool:
    """Whether a person can be asked."""
    return all(os.isatty(descriptor) for descriptor in (0, 1))


def _no_ssh(ssh: str, error: OSError) -> Usage:
    hint = "Install the OpenSSH client, or name another command with `ssh` in pusher.toml"
    return Usage(f"{ssh.split()[0]} cannot be run", why=error.strerror or str(error), hint=hint)
