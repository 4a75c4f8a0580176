"""The signature of a host's report, checked in this process: a fleet has thousands.

Invariant: the envelope is compared byte by byte with the only one that this key, namespace and hash can have, so
there is nothing in it to misread. The 64 bytes that are left are verified by libsodium where it is installed, for
it takes half the time; else by OpenSSL's libcrypto, or by ssh-keygen where there is none.
Formats: PROTOCOL.sshsig of OpenSSH; RFC 8709 (ssh-ed25519); RFC 8032.
"""

import base64
import binascii
import ctypes
import ctypes.util
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

from pusher.bundle.sign import verified_by_key
from pusher.wire.report import REPORT_NAMESPACE

KEY_TYPE = "ssh-ed25519"
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----\n", b"-----END SSH SIGNATURE-----\n"
_ED25519 = 1087  # NID_ED25519, openssl/obj_mac.h
_SIGNATURE_BYTES, _KEY_BYTES, _DIGEST_BYTES = 64, 32, 64


def _string(value: bytes, *, more: int = 0) -> bytes:
    """A string of the format; with `more`, the beginning of one that has so many bytes besides."""
    return (len(value) + more).to_bytes(4, "big") + value


_KEY_PREFIX = _string(KEY_TYPE.encode()) + _string(b"", more=_KEY_BYTES)
_PURPOSE = _string(REPORT_NAMESPACE.encode()) + _string(b"") + _string(b"sha512")
_BEFORE_KEY = b"SSHSIG" + (1).to_bytes(4, "big") + _string(_KEY_PREFIX, more=_KEY_BYTES)
_AFTER_KEY = _PURPOSE + _string(
    _string(KEY_TYPE.encode()) + _string(b"", more=_SIGNATURE_BYTES), more=_SIGNATURE_BYTES
)
"""The same for all reports but for the key between them, and the signature at the end."""
_BEFORE_DIGEST = b"SSHSIG" + _PURPOSE + _string(b"", more=_DIGEST_BYTES)


def public_bytes(blob: str) -> bytes:
    """The 32 bytes of an ed25519 key, as the second word of a `.pub` file has them. Raises: ValueError."""
    raw = binascii.a2b_base64(blob, strict_mode=True)
    if len(raw) != len(_KEY_PREFIX) + _KEY_BYTES or not raw.startswith(_KEY_PREFIX):
        raise ValueError("it is no ed25519 key")
    return raw[-_KEY_BYTES:]


def is_signed(document: bytes, signature: bytes, *, key: bytes) -> bool:
    """Whether the holder of this key (32 bytes) has signed exactly this document as a report."""
    if not signature.startswith(_BEGIN) or not signature.endswith(_END):
        return False
    try:
        # Not base64.b64decode, whose check is a regular expression: a fleet has thousands of reports.
        blob = binascii.a2b_base64(signature[len(_BEGIN) : -len(_END)].replace(b"\n", b""), strict_mode=True)
    except binascii.Error:
        return False
    envelope = _envelope(key)
    if len(key) != _KEY_BYTES or len(blob) != len(envelope) + _SIGNATURE_BYTES or not blob.startswith(envelope):
        return False
    signed = _signed(hashlib.sha512(document).digest())
    signature_bytes = blob[-_SIGNATURE_BYTES:]
    found = _by_libsodium(signed, signature_bytes, key)
    if found is None:
        found = _by_libcrypto(signed, signature_bytes, key)
    if found is None:
        line = f"{KEY_TYPE} {base64.b64encode(_KEY_PREFIX + key).decode()}"
        return verified_by_key(document, signature, key=line, namespace=REPORT_NAMESPACE)
    return found


def forget_library() -> None:
    """Look for the libraries anew."""
    _libsodium.cache_clear()
    _libcrypto.cache_clear()


def _envelope(key: bytes) -> bytes:
    """All of a signature by this key but its last 64 bytes."""
    return _BEFORE_KEY + key + _AFTER_KEY


def _signed(digest: bytes) -> bytes:
    """What is signed: not the document, but a structure with its digest."""
    return _BEFORE_DIGEST + digest


@cache
def _libsodium() -> Any:
    """The function of libsodium that verifies; None without the library."""
    for file in sodium_files():
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(file)
            verify = library.crypto_sign_verify_detached
            verify.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulonglong, ctypes.c_char_p)
            if library.sodium_init() >= 0:
                return verify
    return None


def sodium_files() -> Iterator[str]:
    """Where libsodium may be: the system's, and the one in PyNaCl, which the library for NATS needs."""
    # Not by find_library, which runs a compiler before it says that there is none.
    yield from ("libsodium.so.26", "libsodium.so.23")
    with suppress(ImportError):
        found = find_spec("nacl._sodium")
        if found and found.origin:
            yield found.origin


def _by_libsodium(message: bytes, signature: bytes, key: bytes) -> bool | None:
    """Whether the signature holds; None without the library. It also refuses keys that prove nothing."""
    verify = _libsodium()
    return None if verify is None else verify(signature, message, len(message), key) == 0


class _Libcrypto(NamedTuple):
    """What is used of it. Only what takes long lets other threads run: to begin again, it may wait for them."""

    new_key: Any
    free_key: Any
    new_context: Any
    free_context: Any
    begin: Any
    verify: Any


@cache
def _libcrypto() -> _Libcrypto | None:
    name = ctypes.util.find_library("crypto")
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    try:
        if not name:
            return None
        short, long = ctypes.PyDLL(name), ctypes.CDLL(name)
        found = _Libcrypto(
            short.EVP_PKEY_new_raw_public_key,
            short.EVP_PKEY_free,
            short.EVP_MD_CTX_new,
            short.EVP_MD_CTX_free,
            short.EVP_DigestVerifyInit,
            long.EVP_DigestVerify,
        )
    except (OSError, AttributeError):
        return None
    for function, result, arguments in (
        (found.new_key, pointer, (ctypes.c_int, pointer, ctypes.c_char_p, size)),
        (found.free_key, None, (pointer,)),
        (found.new_context, pointer, ()),
        (found.free_context, None, (pointer,)),
        (found.begin, ctypes.c_int, (pointer, pointer, pointer, pointer, pointer)),
        (found.verify, ctypes.c_int, (pointer, ctypes.c_char_p, size, ctypes.c_char_p, size)),
    ):
        function.restype, function.argtypes = result, arguments
    return found


def _by_libcrypto(message: bytes, signature: bytes, key: bytes) -> bool | None:
    """Whether the signature holds (EVP_DigestVerify(3), EVP_PKEY_new_raw_public_key(3)); None without the
    library.
    """
    library = _libcrypto()
    if library is None:
        return None
    public = library.new_key(_ED25519, None, key, len(key))
    if not public:
        return False
    context = library.new_context()
    try:
        if library.begin(context, None, None, None, public) != 1:
            return False
        done = library.verify(context, signature, len(signature), message, len(message))
        return bool(done == 1)
    finally:
        library.free_context(context)
        library.free_key(public)
