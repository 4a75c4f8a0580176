"""Signatures by the SSH keys that people already have, made and verified by `ssh-keygen`.

Format: OpenSSH PROTOCOL.sshsig, namespace `pusher-release`. Invariant: no private key and no passphrase passes
through this process. Prompts go to the terminal or to SSH_ASKPASS, like those of ssh.
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
from pusher.wire import SIGNATURE_NAMESPACE, SIGNATURES_MOST, Code, Failed, LimitError, Refused, split_signatures

KEY_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
_PUBLIC = (b"ssh-", b"ecdsa-", b"sk-")
_DEADLINE_S = 30.0
_ARMOR = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----")
_HOW_TO_NAME_ONE = "Name a key with --key, PUSHER_KEY or key in pusher.toml. To make one: ssh-keygen -t ed25519"


class Signer(NamedTuple):
    """Who signed. `principal` is empty if no allowed_signers file was given."""

    key_type: str
    fingerprint: str
    principal: str = ""


def sign(
    document: bytes,
    *,
    key: str = "",
    environment: Mapping[str, str] | None = None,
    namespace: str = SIGNATURE_NAMESPACE,
    agent_s: float = _DEADLINE_S,
) -> bytes:
    """The armored signature over exactly these bytes, by default as a release.

    `key` is the file of a private key, or of a public key whose private half an ssh-agent holds. If empty: the
    first key of the ssh-agent, else the first of ~/.ssh/id_*. May ask the user for a passphrase or a touch.
    `agent_s` is how long the ssh-agent may take to list its keys.
    Raises: Usage, if there is no such key; Failed, if ssh-keygen does not sign.
    """
    environment = os.environ if environment is None else environment
    with _key_file(key, environment, agent_s=agent_s) as file:
        # Its standard error goes to the terminal: the user must see "touch your key" while it waits.
        done = _run(sign_argv(file, namespace=namespace), document, environment, stderr=None, deadline_s=None)
    if done.returncode != 0 or not done.stdout.startswith(_ARMOR[0].encode()):
        raise Failed(
            Code.SIGNATURE_INVALID,
            f"Signing with {key or file} failed",
            why=f"ssh-keygen ended with exit status {done.returncode}; its message is above",
            hint=_hint(file, environment),
        )
    return done.stdout


def sign_argv(key: Path, *, namespace: str = SIGNATURE_NAMESPACE) -> tuple[str, ...]:
    """The command that signs standard input to standard output."""
    return ("ssh-keygen", "-Y", "sign", "-q", "-n", namespace, "-f", str(key))


def public_key(key: str = "", *, environment: Mapping[str, str] | None = None) -> str:
    """The public half (type, base64, perhaps a comment) of the key that `sign` would use for the same `key`.

    May ask for a passphrase, if there is no `.pub` file. Raises: Usage.
    """
    environment = os.environ if environment is None else environment
    with _key_file(key, environment) as file:
        beside = file if file.suffix == ".pub" else file.with_name(f"{file.name}.pub")
        if os.access(beside, os.R_OK):
            line = beside.read_text(errors="replace").strip().partition("\n")[0]
        else:
            done = _run(("ssh-keygen", "-y", "-f", str(file)), b"", environment, stderr=None, deadline_s=None)
            line = done.stdout.decode(errors="replace").strip()
    if len(line.split()) < 2 or not line.startswith(tuple(one.decode() for one in _PUBLIC)):
        raise Usage(f"The public half of {key or file} is not known", hint=_HOW_TO_NAME_ONE)
    return line


def signed_by(
    document: bytes, signature: bytes, *, signers: Path | None = None, namespace: str = SIGNATURE_NAMESPACE
) -> Signer:
    """Who made this valid signature. With `signers` (an OpenSSH allowed_signers file), it must trust the key.

    Raises: Refused, if the signature is not valid or the key is not trusted; Usage.
    """
    found = _signer(signature)
    with _written(signature, "manifest.json.sig") as file:
        if signers is None:
            done = _run(check_argv(file, namespace=namespace), document)
            if done.returncode == 0:
                return found
            raise _refused(Code.SIGNATURE_INVALID, found, done)
        if not os.path.isfile(signers):
            raise Usage(f"{signers} is not a file", hint="Name an allowed_signers file, see ssh-keygen(1)")
        # This finds candidates only: it ignores the namespace and does not match patterns exactly.
        done = _run(principals_argv(file, signers), document)
        for principal in done.stdout.decode(errors="replace").splitlines():
            argv = verify_argv(file, signers, principal, namespace=namespace)
            if _run(argv, document).returncode == 0:
                return found._replace(principal=principal)
    code = Code.SIGNER_UNKNOWN if done.returncode else Code.SIGNATURE_INVALID
    raise _refused(code, found, done)


def verified_by_key(document: bytes, signature: bytes, *, key: str, namespace: str) -> bool:
    """Whether the holder of a public key (type and base64) has signed exactly these bytes for this namespace."""
    with _written(signature, "signature") as file:
        signers = file.with_name("signers")
        signers.write_text(f'signer namespaces="{namespace}" {key}\n')
        argv = verify_argv(file, signers, "signer", namespace=namespace)
        return _run(argv, document).returncode == 0


def signers_of(document: bytes, signatures: bytes, *, signers: Path | None = None) -> list[Signer]:
    """Who made each signature of a manifest, in their order. Raises: as `signed_by`, for the first that fails."""
    try:
        parts = split_signatures(signatures)
    except LimitError as error:
        raise Refused(Code.LIMIT_EXCEEDED, "The bundle has too many signatures", why=str(error)) from error
    return [signed_by(document, one, signers=signers) for one in parts]


def add_signature(document: bytes, signatures: bytes, *, key: str = "") -> bytes:
    """The signatures and one more, by `key` as for `sign`. Those before it must be valid.

    Raises: as `sign` and `signers_of`; Usage, if this key has signed already, or there is no room for one more.
    """
    before = signers_of(document, signatures)
    if len(before) >= SIGNATURES_MOST:
        raise Usage(f"It has {len(before)} signatures, and may not have more")
    added = sign(document, key=key)
    one = signed_by(document, added)
    if one.fingerprint in {other.fingerprint for other in before}:
        raise Usage(
            f"{one.key_type} {one.fingerprint} has signed it already",
            hint="A second signature must come from another person's key",
        )
    return signatures + added


def check_argv(signature: Path, *, namespace: str = SIGNATURE_NAMESPACE) -> tuple[str, ...]:
    """The command that verifies a signature over standard input, by any key."""
    return ("ssh-keygen", "-Y", "check-novalidate", "-n", namespace, "-s", str(signature))


def principals_argv(signature: Path, signers: Path) -> tuple[str, ...]:
    """The command that lists who might have made a signature, one name a line."""
    return ("ssh-keygen", "-Y", "find-principals", "-s", str(signature), "-f", str(signers))


def verify_argv(
    signature: Path, signers: Path, principal: str, *, namespace: str = SIGNATURE_NAMESPACE
) -> tuple[str, ...]:
    """The command that verifies a signature over standard input, by a key of `principal`."""
    options = ("-n", namespace, "-s", str(signature), "-f", str(signers), "-I", principal)
    return ("ssh-keygen", "-Y", "verify", *options)


def _hint(file: Path, environment: Mapping[str, str]) -> str:
    if file.suffix != ".pub":
        return "Is the passphrase right? Without a terminal, use an ssh-agent or SSH_ASKPASS"
    if not environment.get("SSH_AUTH_SOCK"):
        return "A public key needs an ssh-agent to sign, and none is running here (SSH_AUTH_SOCK is not set)"
    return "Is the private half in the ssh-agent? See: ssh-add -l"


@contextmanager
def _key_file(key: str, environment: Mapping[str, str], *, agent_s: float = _DEADLINE_S) -> Iterator[Path]:
    if key:
        if not os.access(key, os.R_OK):
            raise Usage(f"The key {key} cannot be read", hint=_HOW_TO_NAME_ONE)
        _check_key(Path(key))
        yield Path(key)
    elif public := _first_of_agent(environment, agent_s):
        with _written(public, "key.pub") as file:
            yield file
    else:
        # Not Path.expanduser: it raises for a user without a home, as in a container.
        folder = Path(environment.get("HOME") or os.path.expanduser("~"), ".ssh")
        found = next((folder / name for name in KEY_NAMES if os.path.isfile(folder / name)), None)
        if found is None:
            raise Usage("No key to sign with was found", hint=_HOW_TO_NAME_ONE)
        yield found


def _check_key(file: Path) -> None:
    """Check that a file can be a key: ssh-keygen would say `invalid format` of anything. Raises: Usage."""
    try:
        with file.open("rb") as opened:
            beginning = opened.read(100)
    except OSError as error:
        raise Usage(f"The key {file} cannot be read", why=error.strerror or "", hint=_HOW_TO_NAME_ONE) from error
    if beginning.startswith((b"-----BEGIN ", *_PUBLIC)):
        return
    raise Usage(f"{file} is no private key", why="it is in no form that ssh-keygen writes", hint=_HOW_TO_NAME_ONE)


def _first_of_agent(environment: Mapping[str, str], agent_s: float) -> bytes:
    """The first public key of the ssh-agent that can sign a bundle; empty if there is none."""
    if not environment.get("SSH_AUTH_SOCK"):
        return b""
    listed = _run(("ssh-add", "-L"), b"", environment, deadline_s=agent_s)
    if listed.returncode != 0:
        return b""
    return next((line for line in listed.stdout.splitlines(keepends=True) if line[:7] != b"ssh-dss"), b"")


@contextmanager
def _written(raw: bytes, name: str) -> Iterator[Path]:
    """A temporary file with these bytes."""
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
    except subprocess.TimeoutExpired as error:
        # A forwarded ssh-agent, for example, whose connection is dead.
        hint = "Name a key file with --key, or start an ssh-agent anew" if argv[0] == "ssh-add" else ""
        why = f"it did not end within {deadline_s:g} s"
        raise Usage(f"{argv[0]} does not answer", why=why, hint=hint) from error
    except OSError as error:
        hint = "Install the OpenSSH client (Debian: openssh-client)"
        raise Usage(f"{argv[0]} cannot be run", why=error.strerror or str(error), hint=hint) from error


def _signer(signature: bytes) -> Signer:
    """Key type and fingerprint in a signature, as `ssh-keygen -l` writes them."""
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
        return Refused(code, "The signer is not trusted", why=f"{key} is not among the signers given")
    said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return Refused(code, "The signature is not valid", why=f"{said[-1] if said else 'no reason given'} ({key})")
