"""The signature of a host's report, checked in this process: a fleet has thousands.

Invariant: the envelope is compared byte by byte with the only one that this key, namespace and hash can have, so
there is nothing in it to misread. The 64 bytes that are left are verified by OpenSSL's libcrypto, or by
ssh-keygen where there is none. Formats: PROTOCOL.sshsig of OpenSSH; RFC 8709 (ssh-ed25519); RFC 8032.
"""

import base64
import binascii
import ctypes
import ctypes.util
import hashlib
from functools import cache

from pusher.bundle.sign import verified_by_key
from pusher.wire.report import REPORT_NAMESPACE

KEY_TYPE = "ssh-ed25519"
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----\n", b"-----END SSH SIGNATURE-----\n"
_ED25519 = 1087  # NID_ED25519, openssl/obj_mac.h
_SIGNATURE_BYTES, _KEY_BYTES = 64, 32


def public_bytes(blob: str) -> bytes:
    """The 32 bytes of an ed25519 key, as the second word of a `.pub` file has them. Raises: ValueError."""
    raw = base64.b64decode(blob, validate=True)
    prefix = _string(KEY_TYPE.encode()) + (_KEY_BYTES).to_bytes(4, "big")
    if len(raw) != len(prefix) + _KEY_BYTES or not raw.startswith(prefix):
        raise ValueError("it is no ed25519 key")
    return raw[-_KEY_BYTES:]


def is_signed(document: bytes, signature: bytes, *, key: bytes) -> bool:
    """Whether the holder of this key (32 bytes) has signed exactly this document as a report."""
    if not signature.startswith(_BEGIN) or not signature.endswith(_END):
        return False
    try:
        blob = base64.b64decode(signature[len(_BEGIN) : -len(_END)].replace(b"\n", b""), validate=True)
    except binascii.Error:
        return False
    envelope = _envelope(key)
    if len(blob) != len(envelope) + _SIGNATURE_BYTES or not blob.startswith(envelope):
        return False
    signed = _signed(hashlib.sha512(document).digest())
    found = _by_libcrypto(signed, blob[-_SIGNATURE_BYTES:], key)
    if found is None:
        public = _string(KEY_TYPE.encode()) + _string(key)
        line = f"{KEY_TYPE} {base64.b64encode(public).decode()}"
        return verified_by_key(document, signature, key=line, namespace=REPORT_NAMESPACE)
    return found


def forget_library() -> None:
    """Look for the library anew."""
    _libcrypto.cache_clear()


def _envelope(key: bytes) -> bytes:
    """All of a signature by this key but its last 64 bytes."""
    public = _string(KEY_TYPE.encode()) + _string(key)
    inner = _string(KEY_TYPE.encode()) + _SIGNATURE_BYTES.to_bytes(4, "big")
    whole = (len(inner) + _SIGNATURE_BYTES).to_bytes(4, "big") + inner
    fields = (_string(public), _string(REPORT_NAMESPACE.encode()), _string(b""), _string(b"sha512"), whole)
    return b"SSHSIG" + (1).to_bytes(4, "big") + b"".join(fields)


def _signed(digest: bytes) -> bytes:
    """What is signed: not the document, but a structure with its digest."""
    fields = (REPORT_NAMESPACE.encode(), b"", b"sha512", digest)
    return b"SSHSIG" + b"".join(map(_string, fields))


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


@cache
def _libcrypto() -> ctypes.CDLL | None:
    name = ctypes.util.find_library("crypto")
    try:
        library = ctypes.CDLL(name) if name else None
        if library is None:
            return None
        for function, result in (
            ("EVP_PKEY_new_raw_public_key", ctypes.c_void_p),
            ("EVP_MD_CTX_new", ctypes.c_void_p),
            ("EVP_DigestVerifyInit", ctypes.c_int),
            ("EVP_DigestVerify", ctypes.c_int),
        ):
            getattr(library, function).restype = result
    except (OSError, AttributeError):
        return None
    return library


def _by_libcrypto(message: bytes, signature: bytes, key: bytes) -> bool | None:
    """Whether the signature holds (EVP_DigestVerify(3), EVP_PKEY_new_raw_public_key(3)); None without the
    library.
    """
    library = _libcrypto()
    if library is None:
        return None
    size = ctypes.c_size_t
    public = library.EVP_PKEY_new_raw_public_key(_ED25519, None, key, size(len(key)))
    if not public:
        return False
    context = library.EVP_MD_CTX_new()
    try:
        begun = library.EVP_DigestVerifyInit(ctypes.c_void_p(context), None, None, None, ctypes.c_void_p(public))
        if begun != 1:
            return False
        done = library.EVP_DigestVerify(
            ctypes.c_void_p(context), signature, size(len(signature)), message, size(len(message))
        )
        return bool(done == 1)
    finally:
        library.EVP_MD_CTX_free(ctypes.c_void_p(context))
        library.EVP_PKEY_free(ctypes.c_void_p(public))
