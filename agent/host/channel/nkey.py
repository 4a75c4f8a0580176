"""The nkey of a NATS user: what a server knows it by, and the signature that it asks for.

Invariant: a seed is read whole, with its checksum, or not at all, and only a user's. The library for it, which
nats-py would load, brings libsodium: a megabyte in every agent, for 64 bytes a connection. Python has libcrypto
open already, for TLS. Formats: NATS's nkeys; RFC 8032; EVP_DigestSign(3).
"""

import base64
import binascii
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

_ED25519 = 1087  # NID_ED25519, openssl/obj_mac.h
_SEED, _USER = 18 << 3, 20 << 3  # base32 makes S and U of them
_KEY_BYTES, _SIGNATURE_BYTES = 32, 64


class Libcrypto:
    """What is used of libcrypto. `file` is a library that needs it: by default the interpreter's own for TLS.

    Raises: OSError, without such a file; AttributeError, if it is not libcrypto that it needs.
    """

    def __init__(self, file: str = "") -> None:
        if not file:
            import _ssl  # private, but where libcrypto lies is asked of nobody else

            file = getattr(_ssl, "__file__", "")
        if not file:
            raise OSError("this interpreter has TLS within itself")
        # It lets no other thread run meanwhile, for 50 microseconds.
        library = ctypes.PyDLL(file)
        pointer, number, size, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_char_p

        def function(name: str, result: Any, *arguments: Any) -> Any:
            found = getattr(library, name)
            found.restype, found.argtypes = result, arguments
            return found

        self.new_key = function("EVP_PKEY_new_raw_private_key", pointer, number, pointer, text, size)
        self.free_key = function("EVP_PKEY_free", None, pointer)
        self.public = function("EVP_PKEY_get_raw_public_key", number, pointer, text, ctypes.POINTER(size))
        self.new_context = function("EVP_MD_CTX_new", pointer)
        self.free_context = function("EVP_MD_CTX_free", None, pointer)
        self.begin = function("EVP_DigestSignInit", number, *[pointer] * 5)
        self.sign = function("EVP_DigestSign", number, pointer, text, ctypes.POINTER(size), text, size)


class Credentials(NamedTuple):
    """The seed of a user's nkey, and the token that goes with it in a `.creds` file; empty with a seed alone."""

    seed: str
    token: str


def read_credentials(text: str) -> Credentials:
    """What is in a file with a seed, or in a `.creds` file. Raises: ValueError."""
    if not text.startswith("-----BEGIN"):
        return Credentials(text.strip(), "")
    lines = [line.strip() for line in text.splitlines()]

    def after(title: str) -> str:
        at = next((at for at, line in enumerate(lines) if f"BEGIN {title}" in line), len(lines))
        if not "".join(lines[at + 1 : at + 2]):
            raise ValueError(f"it has no {title}")
        return lines[at + 1]

    return Credentials(after("USER NKEY SEED"), after("NATS USER JWT"))


class Nkey:
    """A user's key, from its seed. Raises: ValueError."""

    def __init__(self, seed: str, *, library: Libcrypto) -> None:
        self._library = library
        self._secret = _secret(seed)

    def public(self) -> str:
        """What a server knows it by: U and 55 letters more. Raises: ValueError."""
        made, size = ctypes.create_string_buffer(_KEY_BYTES), ctypes.c_size_t(_KEY_BYTES)
        with self._key() as key:
            if self._library.public(key, made, ctypes.byref(size)) != 1:
                raise _unusable()
        raw = bytes([_USER]) + made.raw
        return base64.b32encode(raw + _checksum(raw)).decode().rstrip("=")

    def sign(self, nonce: str) -> bytes:
        """The signature of these characters, in base64. Raises: ValueError."""
        message = nonce.encode()
        made, size = ctypes.create_string_buffer(_SIGNATURE_BYTES), ctypes.c_size_t(_SIGNATURE_BYTES)
        with self._key() as key:
            context = self._library.new_context()
            try:
                if (
                    self._library.begin(context, None, None, None, key) != 1
                    or self._library.sign(context, made, ctypes.byref(size), message, len(message)) != 1
                ):
                    raise _unusable()
            finally:
                self._library.free_context(context)
        return base64.b64encode(made.raw)

    @contextmanager
    def _key(self) -> Iterator[Any]:
        key = self._library.new_key(_ED25519, None, self._secret, len(self._secret))
        if not key:
            raise _unusable()
        try:
            yield key
        finally:
            self._library.free_key(key)


def _secret(seed: str) -> bytes:
    """The 32 bytes in a seed. Raises: ValueError."""
    try:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except binascii.Error as error:
        raise ValueError("it is no seed of an nkey, which is S and 57 letters and digits") from error
    if len(raw) != 2 + _KEY_BYTES + 2 or _checksum(raw[:-2]) != raw[-2:]:
        raise ValueError("it is no seed of an nkey, or not all of it")
    if raw[0] & 0xF8 != _SEED or (raw[0] & 7) << 5 | raw[1] >> 3 != _USER:
        raise ValueError("it is not the seed of a user, which begins with SU")
    return raw[2:-2]


def _checksum(raw: bytes) -> bytes:
    return binascii.crc_hqx(raw, 0).to_bytes(2, "little")


def _unusable() -> ValueError:
    return ValueError("OpenSSL does not sign with ed25519 here")
