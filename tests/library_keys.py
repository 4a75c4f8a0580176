"""Keys of hosts without ssh-keygen, for fleets of thousands: each follows from its host's name."""

import base64
import ctypes
import ctypes.util
import hashlib
from functools import cache

from agent.host.channel.identity import Identity
from pusher.wire.report import REPORT_NAMESPACE


class LibraryIdentity(Identity):
    """A host's key that signs by OpenSSL: a thousand hosts on one machine would run a thousand ssh-keygen."""

    def ensure(self) -> None:
        self.secret = hashlib.sha256(self._host.encode()).digest()

    def public(self) -> str:
        public, _ = _ed25519(self.secret, b"")
        blob = base64.b64encode(_string(b"ssh-ed25519") + _string(public)).decode()
        return f"ssh-ed25519 {blob} {self._host}"

    def sign(self, document: bytes) -> bytes:
        digest = hashlib.sha512(document).digest()
        fields = (REPORT_NAMESPACE.encode(), b"", b"sha512", digest)
        message = b"SSHSIG" + b"".join(map(_string, fields))
        public, signature = _ed25519(self.secret, message)
        key = _string(b"ssh-ed25519") + _string(public)
        whole = _string(b"ssh-ed25519") + _string(signature)
        blob = (
            b"SSHSIG"
            + (1).to_bytes(4, "big")
            + b"".join(map(_string, (key, REPORT_NAMESPACE.encode(), b"", b"sha512", whole)))
        )
        armored = base64.encodebytes(blob)
        return b"-----BEGIN SSH SIGNATURE-----\n" + armored + b"-----END SSH SIGNATURE-----\n"


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


@cache
def _libcrypto() -> ctypes.CDLL:
    """Once a process: to find it, Python starts another program."""
    library = ctypes.CDLL(ctypes.util.find_library("crypto") or "")
    for name in ("EVP_PKEY_new_raw_private_key", "EVP_MD_CTX_new"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


def _ed25519(secret: bytes, message: bytes) -> tuple[bytes, bytes]:
    """Public key and signature (EVP_DigestSign(3))."""
    library = _libcrypto()
    key = ctypes.c_void_p(library.EVP_PKEY_new_raw_private_key(1087, None, secret, ctypes.c_size_t(32)))
    public, size = ctypes.create_string_buffer(32), ctypes.c_size_t(32)
    library.EVP_PKEY_get_raw_public_key(key, public, ctypes.byref(size))
    context = ctypes.c_void_p(library.EVP_MD_CTX_new())
    library.EVP_DigestSignInit(context, None, None, None, key)
    made, length = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
    library.EVP_DigestSign(context, made, ctypes.byref(length), message, ctypes.c_size_t(len(message)))
    library.EVP_MD_CTX_free(context)
    library.EVP_PKEY_free(key)
    return public.raw, made.raw
