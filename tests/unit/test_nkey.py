"""A user's nkey: the same as the library of NATS makes of a seed, and no seed that is not whole."""

import base64
import binascii
import os
import sys
from typing import Any

import nkeys
import pytest

from agent.host.channel.nkey import Credentials, Libcrypto, Nkey, read_credentials


def seed(prefix: int = nkeys.PREFIX_BYTE_USER) -> str:
    return bytes(nkeys.encode_seed(os.urandom(32), prefix)).decode()


@pytest.fixture(scope="module")
def library() -> Libcrypto:
    return Libcrypto()


def test_a_seed_gives_the_key_and_the_signature_that_the_library_of_nats_gives(library: Libcrypto):
    for _ in range(20):
        text = seed()
        key, other = Nkey(text, library=library), nkeys.from_seed(bytearray(text.encode()))
        assert key.public() == other.public_key.decode().rstrip("=")
        assert base64.b64decode(key.sign("a nonce")) == other.sign(b"a nonce")


def test_a_seed_that_is_not_whole_or_of_somebody_else_is_refused(library: Libcrypto):
    whole = seed()
    changed = whole[:20] + ("A" if whole[20] != "A" else "B") + whole[21:]
    for wrong, why in (
        ("", "not all of it"),
        ("SUAXX", "no seed"),
        ("é" * 58, "ASCII"),
        (whole[:-8], "not all of it"),
        (changed, "not all of it"),
        (whole.lower(), "no seed"),
        (seed(nkeys.PREFIX_BYTE_ACCOUNT), "not the seed of a user"),
        (Nkey(whole, library=library).public(), "not all of it"),
        (_with_checksum(bytes([20 << 3, 0]) + bytes(32)), "not the seed of a user"),
    ):
        with pytest.raises(ValueError, match=why):
            Nkey(wrong, library=library)


def test_a_file_has_a_seed_or_a_token_besides():
    creds = (
        "-----BEGIN NATS USER JWT-----\r\neyJ0\r\n------END NATS USER JWT------\r\n\r\n"
        "-----BEGIN USER NKEY SEED-----\r\nSUA\r\n------END USER NKEY SEED------\r\n"
    )
    assert read_credentials(" SUA\n") == Credentials("SUA", "")
    assert read_credentials(creds) == Credentials("SUA", "eyJ0")
    for cut in (creds[:40], creds.replace("SEED", "SAND"), creds.replace("JWT", "JOT"), creds.partition("SUA")[0]):
        with pytest.raises(ValueError, match="it has no"):
            read_credentials(cut)


def test_what_is_no_libcrypto_or_does_not_sign_is_said():
    with pytest.raises(OSError, match="no-such"):
        Libcrypto("/no-such/file")
    with pytest.raises(AttributeError):
        Libcrypto(sys.modules["_ctypes"].__file__ or "")
    library: Any = Libcrypto()
    library.begin = lambda *_: 0
    key = Nkey(seed(), library=library)
    with pytest.raises(ValueError, match="does not sign"):
        key.sign("a nonce")
    library.public = lambda *_: 0
    with pytest.raises(ValueError, match="does not sign"):
        key.public()
    library.new_key = lambda *_: None
    with pytest.raises(ValueError, match="does not sign"):
        key.public()


def _with_checksum(raw: bytes) -> str:
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")
