"""SSH signatures byte by byte, and keys made by the real `ssh-keygen`."""

import base64
import subprocess
from collections.abc import Sequence
from pathlib import Path

NAMESPACE = b"pusher-release"
BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


def string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def mpint(value: int) -> bytes:
    return string(value.to_bytes(value.bit_length() // 8 + 1, "big"))


ED25519 = string(b"ssh-ed25519") + string(b"k" * 32)
SK_ED25519 = string(b"sk-ssh-ed25519@openssh.com") + string(b"k" * 32) + string(b"ssh:")
ECDSA = string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(b"\x04" + b"q" * 64)
SK_ECDSA = (
    string(b"sk-ecdsa-sha2-nistp256@openssh.com")
    + string(b"nistp256")
    + string(b"\x04" + b"q" * 64)
    + string(b"ssh:")
)


def rsa(bits: int) -> bytes:
    return string(b"ssh-rsa") + mpint(65537) + mpint((1 << bits - 1) + 1)


def made(algorithm: bytes, *, flags: bool = False) -> bytes:
    """A signature of an algorithm; `flags` as security keys add them."""
    return string(algorithm) + string(b"s" * 64) + (b"\x01\0\0\0\x07" if flags else b"")


def certificate(
    key: bytes, *, authority: bytes = ED25519, by: bytes = made(b"ssh-ed25519"), rest: bytes = b""
) -> bytes:
    """A certificate of a plain key (PROTOCOL.certkeys)."""
    size = int.from_bytes(key[:4], "big")
    kind, fields = key[4 : 4 + size].removesuffix(b"@openssh.com"), key[4 + size :]
    head = string(kind + b"-cert-v01@openssh.com") + string(b"nonce" * 6) + fields
    body = bytes(8) + b"\0\0\0\x01" + string(b"id") + string(string(b"alice")) + bytes(8) + b"\xff" * 8
    return head + body + string(b"") * 3 + string(authority) + string(by) + rest


def blob(
    key: bytes = ED25519,
    signature: bytes = made(b"ssh-ed25519"),
    *,
    magic: bytes = b"SSHSIG",
    version: int = 1,
    namespace: bytes = NAMESPACE,
    reserved: bytes = b"",
    digest: bytes = b"sha512",
    trailing: bytes = b"",
) -> bytes:
    head = magic + version.to_bytes(4, "big") + string(key) + string(namespace) + string(reserved)
    return head + string(digest) + string(signature) + trailing


def armored(content: bytes, *, width: int = 70, begin: str = BEGIN, end: str = END, newline: str = "\n") -> bytes:
    text = base64.b64encode(content).decode()
    lines = [text[at : at + width] for at in range(0, len(text), width)]
    return newline.join([begin, *lines, end, ""]).encode()


class Keys:
    """Keys, certificates and signatures by `ssh-keygen`, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, name: str, kind: str = "ed25519", bits: int | None = None) -> Path:
        """A key made once; returns the path of its private part."""
        path = self.folder / name
        if not path.exists():
            size = ("-b", str(bits)) if bits else ()
            self._run("-q", "-t", kind, *size, "-N", "", "-C", f"{name}@test", "-f", str(path))
        return path

    def certify(self, key: Path, *, authority: Path, principals: str, how: Sequence[str] = ()) -> Path:
        """A copy of a key with a certificate beside it; returns the path to sign with."""
        copy = self.folder / f"{key.name}-by-{authority.name}"
        copy.write_bytes(key.read_bytes())
        copy.chmod(0o600)
        copy.with_name(f"{copy.name}.pub").write_bytes(key.with_name(f"{key.name}.pub").read_bytes())
        self._run("-q", "-s", str(authority), "-I", "id", "-n", principals, *how, f"{copy}.pub")
        return copy.with_name(f"{copy.name}-cert.pub")

    def sign(
        self, key: Path, content: bytes, *, namespace: str = "pusher-release", how: Sequence[str] = ()
    ) -> bytes:
        """The armored signature over some content."""
        argv = ("ssh-keygen", "-Y", "sign", "-q", "-n", namespace, "-f", str(key), *how)
        return subprocess.run(argv, input=content, capture_output=True, check=True).stdout

    @staticmethod
    def public(key: Path) -> str:
        """The line of the public key."""
        return key.with_name(f"{key.name}.pub").read_text().strip()

    @staticmethod
    def _run(*arguments: str) -> None:
        subprocess.run(("ssh-keygen", *arguments), check=True, capture_output=True, stdin=subprocess.DEVNULL)
