"""The agent's own key, with which it signs reports.

Invariant: the private key never leaves this host, and signs reports alone (namespace `pusher-report`). It is
made once; a host that lost it is another host until it is adopted anew.
"""

import os
import subprocess
from pathlib import Path

from agent.host.storage.disk import Disk
from agent.host.storage.volatile import remove
from pusher.wire import Code, Failed
from pusher.wire.report import REPORT_NAMESPACE

_DEADLINE_S = 10.0


class Identity:
    """The key at `path`, for the host with this name. Everything here blocks. Raises: Failed, from each method."""

    def __init__(self, path: Path, *, host: str, disk: Disk) -> None:
        self._path = path
        self._host = host
        self._disk = disk

    def ensure(self) -> None:
        """Make the key, if there is none. The public one follows from the private one, whatever was cut off."""
        public = self._path.with_name(f"{self._path.name}.pub")
        fresh = self._path.with_name(f"{self._path.name}.fresh")
        made = (fresh, fresh.with_name(f"{fresh.name}.pub"))
        for left in made:
            remove(left)
        # Through the disk: a key that a power cut has halved would be a host that nobody knows.
        if not self._path.exists():
            self._run(key_argv(fresh, comment=self._host))
            self._disk.unlink(public, op="identity.forget")
            self._disk.write(self._path, fresh.read_bytes(), op="identity.write", mode=0o600, replace=True)
        if not public.exists():
            line = self._run(public_argv(self._path))
            self._disk.write(public, line, op="identity.write", mode=0o644, replace=True)
        for left in made:
            remove(left)

    def public(self) -> str:
        """The line of the public key, with the host's name as its comment. Raises: also Failed, if there is
        none.
        """
        try:
            text = self._path.with_name(f"{self._path.name}.pub").read_text(encoding="utf-8")
        except OSError as error:
            raise Failed(
                Code.CONFIGURATION,
                "This host has no key of its own yet",
                why=error.strerror or str(error),
                hint="The agent makes it when it starts with an app that subscribes: pusher-agent subscribe",
            ) from error
        return " ".join([*text.split()[:2], self._host])

    def sign(self, document: bytes) -> bytes:
        """The armored signature over exactly these bytes, as a report."""
        return self._run(sign_argv(self._path), given=document)

    def _run(self, argv: tuple[str, ...], *, given: bytes = b"") -> bytes:
        try:
            done = subprocess.run(
                argv,
                input=given,
                capture_output=True,
                check=False,
                timeout=_DEADLINE_S,
                env={**os.environ, "LC_ALL": "C"},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failed(Code.CONFIGURATION, f"{argv[0]} could not be run", why=str(error)) from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise Failed(Code.CONFIGURATION, f"The key {self._path} could not be used", why=said)
        return done.stdout


def key_argv(path: Path, *, comment: str) -> tuple[str, ...]:
    """Make a key without a passphrase (ssh-keygen(1))."""
    return ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path))


def public_argv(key: Path) -> tuple[str, ...]:
    """Print the public key of a private one (ssh-keygen(1))."""
    return ("ssh-keygen", "-y", "-f", str(key))


def sign_argv(key: Path) -> tuple[str, ...]:
    """Sign standard input to standard output (ssh-keygen(1))."""
    return ("ssh-keygen", "-Y", "sign", "-q", "-n", REPORT_NAMESPACE, "-f", str(key))
