"""Signatures by the SSH keys that people already have; `ssh-keygen` does all that touches a key.

Format: OpenSSH PROTOCOL.sshsig, namespace `pusher-release`. Invariant: no private key and no passphrase
passes through this process; prompts go to the terminal, or to SSH_ASKPASS, as ssh's own do.
"""

import base64
import hashlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pusher.errors import Usage
from pusher.wire import SIGNATURE_NAMESPACE, Code, Failed, Refused

KEY_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
_DEADLINE_S = 30.0
_ARMOR = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----")
_HOW_TO_NAME_ONE = "Name one with --key, PUSHER_KEY, or key in pusher.toml; make one with: ssh-keygen -t ed25519"


class Signer(NamedTuple):
    """Whose signature it is. `principal` is empty where nobody was asked to vouch for the key."""

    key_type: str
    fingerprint: str
    principal: str = ""


def sign(document: bytes, *, key: str = "", environment: Mapping[str, str] | None = None) -> bytes:
    """The armored signature over exactly these bytes.

    `key` is a private key's file, or a public one's when an ssh-agent holds the private half; empty means
    the first key of the ssh-agent, else the first of ~/.ssh/id_*. May ask the user for a passphrase or a
    touch. Raises: Usage, if there is no such key; Failed, if ssh-keygen does not sign.
    """
    environment = os.environ if environment is None else environment
    with _key_file(key, environment) as file:
        # Its standard error stays the terminal's: "touch your key" must be seen while it waits.
        done = _run(sign_argv(file), document, environment, stderr=None, deadline_s=None)
    if done.returncode != 0 or not done.stdout.startswith(_ARMOR[0].encode()):
        raise Failed(
            Code.SIGNATURE_INVALID,
            f"{key or file} did not sign",
            why=f"ssh-keygen ended with exit status {done.returncode}; what it said stands above",
            hint=_hint(file, environment),
        )
    return done.stdout


def sign_argv(key: Path) -> tuple[str, ...]:
    """Signs standard input to standard output."""
    return ("ssh-keygen", "-Y", "sign", "-q", "-n", SIGNATURE_NAMESPACE, "-f", str(key))


def signed_by(document: bytes, signature: bytes, *, signers: Path | None = None) -> Signer:
    """Whose good signature `signature` is; with `signers` (OpenSSH allowed_signers) it must be trusted there.

    Raises: Refused, if it is not good, or the key is not trusted for this; Usage.
    """
    found = _signer(signature)
    with _written(signature, "manifest.json.sig") as file:
        if signers is None:
            done = _run(check_argv(file), document)
            if done.returncode == 0:
                return found
            raise _refused(Code.SIGNATURE_INVALID, found, done)
        if not os.path.isfile(signers):
            raise Usage(f"{signers} is not a file", hint="An allowed_signers file is needed, see ssh-keygen(1)")
        # It only finds candidates: it looks neither at the namespace nor at how patterns match.
        done = _run(principals_argv(file, signers), document)
        for principal in done.stdout.decode(errors="replace").splitlines():
            if _run(verify_argv(file, signers, principal), document).returncode == 0:
                return found._replace(principal=principal)
    code = Code.SIGNER_UNKNOWN if done.returncode else Code.SIGNATURE_INVALID
    raise _refused(code, found, done)


def check_argv(signature: Path) -> tuple[str, ...]:
    """Whether a signature over standard input is good, whoever made it."""
    return ("ssh-keygen", "-Y", "check-novalidate", "-n", SIGNATURE_NAMESPACE, "-s", str(signature))


def principals_argv(signature: Path, signers: Path) -> tuple[str, ...]:
    """Who might have made a signature, a name a line."""
    return ("ssh-keygen", "-Y", "find-principals", "-s", str(signature), "-f", str(signers))


def verify_argv(signature: Path, signers: Path, principal: str) -> tuple[str, ...]:
    """Whether a signature over standard input is good, and `principal`'s."""
    options = ("-n", SIGNATURE_NAMESPACE, "-s", str(signature), "-f", str(signers), "-I", principal)
    return ("ssh-keygen", "-Y", "verify", *options)


def _hint(file: Path, environment: Mapping[str, str]) -> str:
    if file.suffix != ".pub":
        return "Is the passphrase right? Without a terminal it takes an ssh-agent, or SSH_ASKPASS"
    if not environment.get("SSH_AUTH_SOCK"):
        return "A public key signs through an ssh-agent, and none is running here (SSH_AUTH_SOCK is not set)"
    return "Is its private half in the ssh-agent? See: ssh-add -l"


@contextmanager
def _key_file(key: str, environment: Mapping[str, str]) -> Iterator[Path]:
    if key:
        if not os.access(key, os.R_OK):
            raise Usage(f"The key {key} cannot be read", hint=_HOW_TO_NAME_ONE)
        yield Path(key)
    elif public := _first_of_agent(environment):
        with _written(public, "key.pub") as file:
            yield file
    else:
        # Not Path.expanduser, which raises for a user without a home (a container's).
        folder = Path(environment.get("HOME") or os.path.expanduser("~"), ".ssh")
        found = next((folder / name for name in KEY_NAMES if os.path.isfile(folder / name)), None)
        if found is None:
            raise Usage("There is no key to sign with", hint=_HOW_TO_NAME_ONE)
        yield found


def _first_of_agent(environment: Mapping[str, str]) -> bytes:
    """The first public key of the ssh-agent that can sign as the contract asks; empty if there is none."""
    if not environment.get("SSH_AUTH_SOCK"):
        return b""
    listed = _run(("ssh-add", "-L"), b"", environment)
    if listed.returncode != 0:
        return b""
    return next((line for line in listed.stdout.splitlines(keepends=True) if line[:7] != b"ssh-dss"), b"")


@contextmanager
def _written(raw: bytes, name: str) -> Iterator[Path]:
    """A file of these bytes, for as long as a command needs one."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="pusher-") as folder:
        file = Path(folder, name)
        file.write_bytes(raw)
        yield file


def _run(
    argv: tuple[str, ...],
    given: bytes,
    environment: Mapping[str, str] | None = None,
    *,
    stderr: int | None = subprocess.PIPE,
    deadline_s: float | None = _DEADLINE_S,
) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(
            argv,
            input=given,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            timeout=deadline_s,
            check=False,
        )
    except OSError as error:
        hint = "Install the OpenSSH client (Debian: openssh-client)"
        raise Usage(f"{argv[0]} cannot be run", why=error.strerror or str(error), hint=hint) from error


def _signer(signature: bytes) -> Signer:
    """Key type and fingerprint that a signature names, as `ssh-keygen -l` would write them."""
    lines = signature.decode("ascii", "replace").split()
    try:
        blob = base64.b64decode("".join(lines[3:-3]), validate=True)
        magic, key = blob[:10], _string(blob, 10)
        if magic != b"SSHSIG\0\0\0\1" or " ".join((*lines[:3], *lines[-3:])) != " ".join(_ARMOR):
            raise ValueError(magic)
        kind = _string(key, 0).decode("ascii")
    except ValueError as error:
        raise Refused(Code.SIGNATURE_INVALID, "The signature is not an SSH signature") from error
    print_ = base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
    return Signer(kind, f"SHA256:{print_}")


def _string(blob: bytes, at: int) -> bytes:
    size = int.from_bytes(blob[at : at + 4], "big")
    if len(blob) < at + 4 + size:
        raise ValueError("cut off")
    return blob[at + 4 : at + 4 + size]


def _refused(code: Code, signer: Signer, done: "subprocess.CompletedProcess[bytes]") -> Refused:
    key = f"{signer.key_type} {signer.fingerprint}"
    if code is Code.SIGNER_UNKNOWN:
        return Refused(code, "Nobody trusted signed this", why=f"the key is {key}")
    said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return Refused(code, "The signature is not good", why=f"{said[-1] if said else 'no reason given'} ({key})")
