"""The envelope of a signature (SSHSIG), checked by its bytes alone; and the line that trusts a key.

Invariant: an envelope that passes is whole and has one reading: nothing before, between or after its fields, our
namespace, SHA-512, and a key that is strong enough. Only `ssh-keygen` verifies the signature itself
(agent.host.bundle.signers). Both must pass: `ssh-keygen` alone would accept SHA-256, reserved bytes and short RSA
keys; this check alone would accept a forgery.

Formats: PROTOCOL.sshsig and PROTOCOL.certkeys of OpenSSH, RFC 4253 section 6.6, RFC 5656 section 3.1,
RFC 8332.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import NoReturn

from pusher.wire import SIGNATURE_BYTES, SIGNATURE_NAMESPACE, Code, Refused

RSA_BITS = 3072
"""The shortest RSA key that is accepted."""

_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----\n", "-----END SSH SIGNATURE-----\n"
_LINE_MOST = 76
_MAGIC = b"SSHSIG"
_VERSION = 1
_PRESENT, _VERIFIED = 0x01, 0x04

_SIGNED_BY = {
    "ssh-ed25519": "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com": "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256": "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384": "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521": "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com": "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa": "rsa-sha2-512",
}
"""The types of key that are accepted, and the one signature algorithm of each."""

_CERTIFICATES = {f"{kind.removesuffix('@openssh.com')}-cert-v01@openssh.com": kind for kind in _SIGNED_BY}
_FIELDS = {"ssh-rsa": 2, "ssh-ed25519": 1, "sk-ssh-ed25519@openssh.com": 2}
_PRINCIPAL = re.compile(r"[^\s\"#*?!,\\\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Envelope:
    """The key of a signature. `fingerprint` is that of the plain key, as `ssh-keygen -l` prints it.

    `key` is the public key in the envelope: a certificate if `key_type` names one. `flags` is what a security key
    says about its user, None for other keys. They are true only once the signature is verified: it covers them.
    """

    key_type: str
    key: bytes
    fingerprint: str
    flags: int | None = None

    @property
    def certified(self) -> bool:
        """Whether the key is a certificate."""
        return self.key_type in _CERTIFICATES

    @property
    def touched(self) -> bool:
        """Whether the user touched the security key (user presence; PROTOCOL.u2f of OpenSSH, FIDO CTAP2)."""
        return bool((self.flags or 0) & _PRESENT)

    @property
    def unlocked(self) -> bool:
        """Whether the security key had asked its user for a PIN or a finger (user verification)."""
        return bool((self.flags or 0) & _VERIFIED)


def read_envelope(signature: bytes, *, namespace: str = SIGNATURE_NAMESPACE) -> Envelope:
    """The envelope of an armored signature, by default for a release. Raises: Refused(signature_invalid)."""
    fields = _Fields(_unarmored(signature))
    if fields.take(len(_MAGIC)) != _MAGIC:
        _refuse("it is not an SSH signature")
    version = fields.number(4)
    if version != _VERSION:
        _refuse(f"its format is version {version}; this agent reads {_VERSION}")
    key = fields.string()
    found, reserved, digest = fields.text(), fields.string(), fields.text()
    if found != namespace:
        _refuse(f"it was made for {found[:80]!r}, not for {namespace!r}")
    if reserved:
        _refuse("its reserved field is not empty")
    if digest != "sha512":
        _refuse(f"it signs a {digest[:80]!r} digest; only sha512 is accepted")
    kind, plain = _check_key(key)
    flags = _check_signature(fields.string(), key_type=kind)
    fields.end()
    return Envelope(_Fields(key).text(), key, _fingerprint(plain), flags)


def trust_line(public_key: str, *, principal: str, namespace: str = SIGNATURE_NAMESPACE) -> str:
    """The `allowed_signers` line, with its newline, that lets the holder of a key sign, by default releases.

    `public_key` is the content of a `.pub` file. `principal` is a literal name: one that `ssh-keygen` would
    read as a pattern or a list is refused. Raises: Refused(configuration).
    """
    if not _PRINCIPAL.fullmatch(principal):
        raise Refused(
            Code.CONFIGURATION,
            f"{principal!r} cannot name a signer",
            why="white space, quotes, commas and * ? ! # have a meaning in allowed_signers",
            hint="Use a plain name or an address, such as alice@example.com",
        )
    kind, blob, *comment = [*public_key.strip().split(maxsplit=2), "", ""][:3]
    if fault := "it is not the line of one public key" if "\n" in public_key.strip() else _fault(kind, blob):
        raise Refused(
            Code.CONFIGURATION,
            "This is not a public key that can sign releases",
            why=fault,
            hint="Use the .pub file of an ed25519, ecdsa or rsa key "
            f"(rsa: at least {RSA_BITS} bits); `ssh-keygen -t ed25519` makes one",
        )
    return f'{principal} namespaces="{namespace}" {" ".join([kind, blob, *comment]).strip()}\n'


def key_fault(line: str) -> str:
    """Why a line of `allowed_signers` lets nobody sign, by its key alone; empty if that can sign."""
    _, *words = line.split()
    for at, word in enumerate(words[:-1]):
        if word in _SIGNED_BY or word in _CERTIFICATES:
            return _fault(word, words[at + 1])
    return "it has no key of a type that is accepted"


def _fault(kind: str, blob: str) -> str:
    """What is wrong with a public key, as type and base64; empty if it can sign."""
    try:
        key = base64.b64decode(blob, validate=True)
        if _Fields(key).text() != kind:
            _refuse("it is not the line of one public key")
        if kind in _CERTIFICATES:
            _refuse("it is a certificate; trust its authority instead, with a cert-authority line")
        _check_key(key)
    except (ValueError, Refused) as error:
        return error.why if isinstance(error, Refused) else str(error)
    return ""


def _unarmored(signature: bytes) -> bytes:
    """The bytes in the armor, which must have the form that an encoder writes: lines of one width."""
    if len(signature) > SIGNATURE_BYTES:
        _refuse(f"it has {len(signature)} bytes; the limit is {SIGNATURE_BYTES}")
    try:
        text = signature.decode("ascii")
        if not text.startswith(_BEGIN) or not text.endswith(_END):
            _refuse("it does not begin and end as an armored SSH signature does")
        body = text[len(_BEGIN) : -len(_END)]
        blob = base64.b64decode(body.replace("\n", ""), validate=True)
    except (UnicodeDecodeError, binascii.Error) as error:
        _refuse(f"its armor cannot be read ({error})", error)
    width = body.find("\n")
    encoded = base64.b64encode(blob).decode()
    lines = [f"{encoded[at : at + width]}\n" for at in range(0, len(encoded), width)] if width > 0 else []
    if width > _LINE_MOST or "".join(lines) != body:
        _refuse("its armor is not in the form that an encoder writes")
    return blob


def _check_key(key: bytes) -> tuple[str, bytes]:
    """The plain type of a public key or certificate, and the plain key itself."""
    fields = _Fields(key)
    kind = fields.text()
    plain_kind = _CERTIFICATES.get(kind, kind)
    if plain_kind not in _SIGNED_BY:
        _refuse(f"its key is of type {kind[:80]!r}, which is not accepted")
    certified = plain_kind != kind
    if certified:
        fields.string()  # nonce
    numbers = [fields.string() for _ in range(_FIELDS.get(plain_kind, 2 + plain_kind.startswith("sk-")))]
    if plain_kind == "ssh-rsa":
        _check_modulus(numbers[1])
    if certified:
        _check_certificate(fields)
    fields.end()
    return plain_kind, b"".join(_string(part) for part in (plain_kind.encode(), *numbers))


def _check_modulus(modulus: bytes) -> None:
    """Check an mpint of RFC 4251 section 5: two's complement, no needless leading byte."""
    number = int.from_bytes(modulus, "big", signed=True)
    if number <= 0 or len(modulus) != number.bit_length() // 8 + 1:
        _refuse("its RSA key is not well formed")
    if number.bit_length() < RSA_BITS:
        _refuse(f"its RSA key has {number.bit_length()} bits; at least {RSA_BITS} are needed")


def _check_certificate(fields: "_Fields") -> None:
    """Check the rest of a certificate. Its authority's key and signature must be as strong as a signer's."""
    fields.number(8)  # serial
    fields.number(4)  # type
    fields.string()  # key id
    fields.string()  # valid principals
    fields.number(8)  # valid after
    fields.number(8)  # valid before
    for _ in ("critical options", "extensions", "reserved"):
        fields.string()
    authority = fields.string()
    if _Fields(authority).text() in _CERTIFICATES:
        _refuse("its certificate was issued by a certificate")
    kind, _ = _check_key(authority)
    _check_signature(fields.string(), key_type=kind)


def _check_signature(blob: bytes, *, key_type: str) -> int | None:
    """The flags of a security key, None for other keys."""
    fields = _Fields(blob)
    algorithm = fields.text()
    if algorithm != _SIGNED_BY[key_type]:
        _refuse(f"a {key_type} key must sign with {_SIGNED_BY[key_type]}, not {algorithm[:80]!r}")
    fields.string()
    flags = None
    if key_type.startswith("sk-"):
        flags = fields.number(1)
        fields.number(4)  # counter
    fields.end()
    return flags


class _Fields:
    """The fields of a structure in SSH's encoding (RFC 4251 section 5), read from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) < size:
            _refuse("it ends early")
        self._at += size
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def string(self) -> bytes:
        return self.take(self.number(4))

    def text(self) -> str:
        """A string for comparison with ASCII names; other bytes are shown as escapes."""
        return self.string().decode("ascii", "backslashreplace")

    def end(self) -> None:
        if self._at != len(self._data):
            _refuse("it has bytes after its end")


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _fingerprint(key: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _refuse(why: str, cause: Exception | None = None) -> NoReturn:
    raise Refused(
        Code.SIGNATURE_INVALID,
        "This type of signature is not accepted",
        why=why,
        hint=f"Sign with an ed25519 key, by `pusher pack` or `ssh-keygen -Y sign -n {SIGNATURE_NAMESPACE}`",
    ) from cause
