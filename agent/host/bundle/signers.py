"""Who signed a manifest, by `ssh-keygen` and the standard `allowed_signers` file.

Invariant: only `ssh-keygen -Y verify` authorises. The file and `find-principals` only suggest whose key it might
be: a wrong guess there leads to a refusal, never to trust. The file is read anew for each decision, so removing
a line works at once.
"""

import base64
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from agent.core.signing import Signer
from agent.core.sshsig import Envelope, read_envelope
from pusher.wire import SIGNATURE_NAMESPACE, Code, Failed, Refused

_BEFORE = re.compile(r'\bvalid-before="?(\d{8,14}Z?)')
_TRUST = "Run `pusher-agent trust KEY.pub --as WHO` to let the holder of a key deploy"


def verify(
    manifest: bytes,
    signature: bytes,
    *,
    allowed_signers: Path,
    deadline_s: float,
    revoked_keys: Path | None = None,
    at: str = "",
    namespace: str = SIGNATURE_NAMESPACE,
) -> Signer:
    """The signer who signed exactly these bytes, by default as a release. Blocking.

    `revoked_keys` is a file by `ssh-keygen -k`, or a list of public keys. `at` is a UTC time `YYYYMMDDHHMMSSZ`,
    as a release id is: validity periods (of certificates, and of lines of `allowed_signers`) are checked for that
    time, not for now. Raises: Refused(signature_invalid, signer_unknown, signer_revoked, configuration),
    Failed(timed_out) after `deadline_s`.
    """
    envelope = read_envelope(signature, namespace=namespace)
    listed = _listed(allowed_signers)
    if revoked_keys is not None:
        _check_readable(revoked_keys)
    with _in_memory(signature) as descriptor:
        keygen = _Keygen(time.monotonic() + deadline_s, passed=descriptor)
        file = f"/dev/fd/{descriptor}"
        # `_names_of` sees every line of a key; `find-principals` stops at the first, whatever its namespace. But
        # only that one knows certificates, whose line names their authority.
        names = _names_of(envelope, listed) or keygen.names(principals_argv(allowed_signers, file, at=at))
        for name in names:
            argv = verify_argv(name, allowed_signers, file, revoked_keys=revoked_keys, at=at, namespace=namespace)
            if keygen.run(argv, manifest).returncode == 0:
                return Signer(name, envelope.fingerprint)
        # ssh-keygen does not say that a key is revoked: only the difference shows it.
        for name in names if revoked_keys is not None else ():
            argv = verify_argv(name, allowed_signers, file, at=at, namespace=namespace)
            if keygen.run(argv, manifest).returncode == 0:
                raise _revoked(name, envelope, revoked_keys)
        genuine = keygen.run(check_argv(file, namespace=namespace), manifest).returncode == 0
    if not genuine:
        raise Refused(
            Code.SIGNATURE_INVALID,
            "The signature does not belong to this manifest",
            why=f"key {envelope.fingerprint} made it, over something else",
            hint="Pack and sign it again; if that does not help, it was changed on the way",
        )
    if (until := _ended(envelope, listed, at=at)) is not None:
        raise _expired(envelope, allowed_signers, names, until)
    raise _unknown(envelope, allowed_signers, output=keygen.errors)


def principals_argv(allowed_signers: Path, signature: str, *, at: str = "") -> tuple[str, ...]:
    """Ask whose key made a signature (ssh-keygen(1)). The answer ignores namespaces, and may be a pattern."""
    return (
        *("ssh-keygen", "-Y", "find-principals", "-f", str(allowed_signers), "-s", signature),
        *_moment(at),
    )


def verify_argv(
    principal: str,
    allowed_signers: Path,
    signature: str,
    *,
    revoked_keys: Path | None = None,
    at: str = "",
    namespace: str = SIGNATURE_NAMESPACE,
) -> tuple[str, ...]:
    """Verify that `principal` may sign, and signed what comes on standard input (ssh-keygen(1))."""
    return (
        *("ssh-keygen", "-Y", "verify", "-n", namespace, "-I", principal),
        *("-f", str(allowed_signers), "-s", signature),
        *(("-r", str(revoked_keys)) if revoked_keys is not None else ()),
        *_moment(at),
    )


def check_argv(signature: str, *, namespace: str = SIGNATURE_NAMESPACE) -> tuple[str, ...]:
    """Verify a signature by any key: an unknown signer is no forgery (ssh-keygen(1))."""
    return ("ssh-keygen", "-Y", "check-novalidate", "-n", namespace, "-s", signature)


def _moment(at: str) -> tuple[str, ...]:
    """Check validity periods for this time (ssh-keygen(1), verify-time)."""
    return ("-O", f"verify-time={at}") if at else ()


def _listed(allowed_signers: Path) -> list[str]:
    """The lines that are not empty or comments. Raises: Refused, if there is none."""
    try:
        text = allowed_signers.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        text = ""
    except OSError as error:
        raise Refused(
            Code.CONFIGURATION,
            "Signatures cannot be verified",
            why=f"{allowed_signers} cannot be read: {error.strerror}",
            hint=f"Run `chmod 0644 {allowed_signers}` as root",
        ) from error
    lines = [line.strip() for line in text.split("\n")]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise Refused(
            Code.SIGNER_UNKNOWN,
            "No one may deploy to this host yet",
            why=f"{allowed_signers} lists no key",
            hint=_TRUST,
        )
    return lines


def _check_readable(revoked_keys: Path) -> None:
    """Refuse everything while it is unknown which keys are revoked. Raises: Refused."""
    try:
        with revoked_keys.open("rb"):
            pass
    except OSError as error:
        raise Refused(
            Code.CONFIGURATION,
            "Signatures cannot be verified",
            why=f"{revoked_keys} (revoked_keys in agent.toml) cannot be read: {error.strerror}",
            hint="Make it with `ssh-keygen -k`, and let the agent's user read it",
        ) from error


def _names_of(envelope: Envelope, lines: list[str]) -> list[str]:
    """The principals of the lines that list exactly this key, in order, each once."""
    key = base64.b64encode(envelope.key).decode()
    found: dict[str, None] = {}
    for line in lines:
        if key in line.split():
            quoted = line.startswith('"')
            names = line[1:].partition('"')[0] if quoted else line.split()[0]
            found |= {name: None for name in names.split(",") if name and not name.startswith("!")}
    return list(found)


def _ended(envelope: Envelope, lines: list[str], *, at: str) -> datetime | None:
    """Until when the lines of this key let it sign, if that is over (ssh-keygen(1), valid-before)."""
    key = base64.b64encode(envelope.key).decode()
    now = datetime.strptime(at, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC) if at else datetime.now(UTC)
    ends = [_moment_of(found[1]) for line in lines if key in line.split() and (found := _BEFORE.search(line))]
    past = [one for one in ends if one is not None and one <= now]
    return max(past, default=None)


def _moment_of(text: str) -> datetime | None:
    """A time of allowed_signers: YYYYMMDD[HHMM[SS]], in UTC with a Z, else in the time zone of this host."""
    digits = text.removesuffix("Z")
    try:
        moment = datetime.strptime(digits, {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}[len(digits)])  # noqa: DTZ007
    except (KeyError, ValueError):
        return None
    return moment.replace(tzinfo=UTC) if text.endswith("Z") else moment.astimezone()


@contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """A descriptor of a file with this content. In memory: a full disk must not look like a bad signature."""
    descriptor = os.memfd_create("signature")
    try:
        os.write(descriptor, content)
        yield descriptor
    finally:
        os.close(descriptor)


class _Keygen:
    """Runs `ssh-keygen` until one deadline (of `time.monotonic`). `errors` is its last standard error."""

    def __init__(self, deadline: float, *, passed: int) -> None:
        self._deadline = deadline
        self._passed = passed
        self.errors = ""

    def names(self, argv: tuple[str, ...]) -> list[str]:
        """The principals whose key it might be."""
        found = self.run(argv, b"")
        lines = found.stdout.decode(errors="replace").splitlines() if found.returncode == 0 else []
        return [line for line in lines if line and not line.startswith("!")]

    def run(self, argv: tuple[str, ...], stdin: bytes) -> subprocess.CompletedProcess[bytes]:
        try:
            done = subprocess.run(
                argv,
                input=stdin,
                capture_output=True,
                check=False,
                env={**os.environ, "LC_ALL": "C"},
                pass_fds=(self._passed,),
                timeout=self._deadline - time.monotonic(),
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(
                Code.TIMED_OUT,
                "The signature could not be verified in time",
                why=f"{argv[0]} did not end",
                hint="See what keeps this host busy, and try again",
            ) from error
        except OSError as error:
            raise Refused(
                Code.CONFIGURATION,
                "The signature could not be verified",
                why=f"{argv[0]} cannot be run: {error.strerror}",
                hint="Install OpenSSH's client tools on this host (Debian: apt-get install openssh-client)",
            ) from error
        self.errors = done.stderr.decode(errors="replace").strip() or self.errors
        return done


def _unknown(envelope: Envelope, allowed_signers: Path, *, output: str) -> Refused:
    return Refused(
        Code.SIGNER_UNKNOWN,
        "The signer of this bundle may not deploy here",
        why=f"{allowed_signers} does not let {envelope.key_type} {envelope.fingerprint} sign releases",
        hint=_TRUST,
        output=output,
    )


def _expired(envelope: Envelope, allowed_signers: Path, names: list[str], until: datetime) -> Refused:
    return Refused(
        Code.SIGNER_UNKNOWN,
        "The key that signed this bundle has expired",
        why=f"{allowed_signers} let {envelope.key_type} {envelope.fingerprint} of {', '.join(names)} sign until "
        f"{until.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        hint="Sign with another key; or let root put a later valid-before into its line",
    )


def _revoked(principal: str, envelope: Envelope, revoked_keys: Path | None) -> Refused:
    return Refused(
        Code.SIGNER_REVOKED,
        "The key that signed this bundle is revoked",
        why=f"{revoked_keys} does not let {envelope.key_type} {envelope.fingerprint} of {principal} sign any more",
        hint=f"Sign with another key. If no key works, check the file: `ssh-keygen -Q -l -f {revoked_keys}`",
    )
