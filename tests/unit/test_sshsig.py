"""The envelope check accepts one spelling of a strong signature, and nothing else."""

import base64
import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.sshsig import key_fault, read_envelope, trust_line
from pusher.wire import Code, Refused
from tests.hostile.envelopes import (
    BEGIN,
    ECDSA,
    ED25519,
    END,
    SK_ECDSA,
    SK_ED25519,
    Keys,
    armored,
    blob,
    certificate,
    made,
    mpint,
    rsa,
    string,
)


def _fingerprint(key: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _curve(name: bytes, size: int) -> bytes:
    return string(b"ecdsa-sha2-" + name) + string(name) + string(b"\x04" + b"q" * size)


KEYS = {
    "ssh-ed25519": (ED25519, made(b"ssh-ed25519")),
    "sk-ssh-ed25519@openssh.com": (SK_ED25519, made(b"sk-ssh-ed25519@openssh.com", flags=True)),
    "ecdsa-sha2-nistp256": (ECDSA, made(b"ecdsa-sha2-nistp256")),
    "ecdsa-sha2-nistp384": (_curve(b"nistp384", 96), made(b"ecdsa-sha2-nistp384")),
    "ecdsa-sha2-nistp521": (_curve(b"nistp521", 132), made(b"ecdsa-sha2-nistp521")),
    "sk-ecdsa-sha2-nistp256@openssh.com": (SK_ECDSA, made(b"sk-ecdsa-sha2-nistp256@openssh.com", flags=True)),
    "ssh-rsa": (rsa(3072), made(b"rsa-sha2-512")),
}


@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_of_strong_key_is_accepted_plain_and_certified(kind: str) -> None:
    key, signature = KEYS[kind]
    plain = read_envelope(armored(blob(key, signature)))
    assert (plain.key_type, plain.key, plain.fingerprint) == (kind, key, _fingerprint(key))
    assert not plain.certified
    certified = read_envelope(armored(blob(certificate(key), signature)))
    assert certified.certified
    assert certified.key_type == f"{kind.removesuffix('@openssh.com')}-cert-v01@openssh.com"
    assert certified.fingerprint == _fingerprint(key), "a certificate has the fingerprint of its key"


@pytest.mark.parametrize("width", [64, 70, 76])
def test_armor_of_any_usual_width_is_accepted(width: int) -> None:
    assert read_envelope(armored(blob(), width=width)).key == ED25519


GOOD = armored(blob())
LINES = GOOD.decode().splitlines(keepends=True)
DSA = string(b"ssh-dss") + mpint(1 << 1023) + mpint(1 << 159) + mpint(7) + mpint(7)

REFUSED = {
    # The armor.
    "nothing": b"",
    "a space before": b" " + GOOD,
    "a line before": b"\n" + GOOD,
    "a line behind": GOOD + b"\n",
    "text behind": GOOD + b"more\n",
    "a second signature": GOOD * 2,
    "no last newline": GOOD[:-1],
    "CRLF": armored(blob(), newline="\r\n"),
    "no begin": "".join(LINES[1:]).encode(),
    "no end": "".join(LINES[:-1]).encode(),
    "a PGP begin": armored(blob(), begin="-----BEGIN PGP SIGNATURE-----"),
    "another end": armored(blob(), end="-----END SSH SIGNATURES-----"),
    "an indented begin": armored(blob(), begin=f" {BEGIN}"),
    "a header in it": armored(blob(), begin=f"{BEGIN}\nComment: hello\n"),
    "an empty line in it": armored(blob(), begin=f"{BEGIN}\n"),
    "an empty line behind it": armored(blob(), end=f"\n{END}"),
    "spaces in it": GOOD.replace(b"AAAA", b"AA AA", 1),
    "a tab at the end of a line": GOOD.replace(b"\n", b"\t\n", 2),
    "lines that are too long": armored(blob(), width=80),
    "one long line": armored(blob(), width=10_000),
    "lines of different widths": "".join([LINES[0], LINES[1][:10], "\n", LINES[1][10:], *LINES[2:]]).encode(),
    "a last line longer than the others": "".join([*LINES[:-3], LINES[-3][:-1], *LINES[-2:]]).encode(),
    "no base64": GOOD.replace(LINES[1][:6].encode(), b"!!!!!!"),
    "base64 of the web": GOOD.replace(LINES[1][:6].encode(), b"U1NI-_"),
    "padding in the middle": armored(blob() + b"x", width=8).replace(b"\n", b"=\n", 3),
    "half a byte more": armored(blob()[:-1]).replace(b"=\n", b"\n"),
    "not ASCII": GOOD.replace(b"-----BEGIN", "—BEGIN".encode()),
    "nothing in it": f"{BEGIN}\n{END}\n".encode(),
    "a NUL behind": GOOD + b"\0",
    "100 KiB": armored(blob(trailing=bytes(75_000))),
    # The envelope.
    "another magic": armored(blob(magic=b"SSHSIX")),
    "version 0": armored(blob(version=0)),
    "version 2": armored(blob(version=2)),
    "the namespace of git": armored(blob(namespace=b"git")),
    "a namespace that begins as ours": armored(blob(namespace=b"pusher-release2")),
    "our namespace with a NUL": armored(blob(namespace=b"pusher-release\0")),
    "our namespace in capitals": armored(blob(namespace=b"PUSHER-RELEASE")),
    "an empty namespace": armored(blob(namespace=b"")),
    "a namespace that is not ASCII": armored(blob(namespace="größe".encode())),
    "a reserved field": armored(blob(reserved=b"x")),
    "sha256": armored(blob(digest=b"sha256")),
    "sha1": armored(blob(digest=b"sha1")),
    "no digest": armored(blob(digest=b"")),
    "a byte behind the fields": armored(blob(trailing=b"\0")),
    "a field that claims 4 GiB": armored(b"SSHSIG\0\0\0\x01\xff\xff\xff\xff" + b"x" * 50),
    # The key.
    "a DSA key": armored(blob(DSA, made(b"ssh-dss"))),
    "a key of an unknown type": armored(blob(string(b"ssh-ed448") + string(b"k" * 57), made(b"ssh-ed448"))),
    "a webauthn key": armored(blob(string(b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com") + ECDSA, made(b"x"))),
    "RSA of 2048 bits": armored(blob(rsa(2048), made(b"rsa-sha2-512"))),
    "RSA of 3071 bits": armored(blob(rsa(3071), made(b"rsa-sha2-512"))),
    "RSA of 3071 bits, written longer": armored(
        blob(
            string(b"ssh-rsa") + mpint(65537) + string(b"\0" * 3 + ((1 << 3070) + 1).to_bytes(384, "big")),
            made(b"rsa-sha2-512"),
        )
    ),
    "RSA with a negative modulus": armored(
        blob(string(b"ssh-rsa") + mpint(65537) + string(b"\xff" * 384), made(b"rsa-sha2-512"))
    ),
    "RSA with no modulus": armored(blob(string(b"ssh-rsa") + mpint(65537) + string(b""), made(b"rsa-sha2-512"))),
    "a key with a byte more": armored(blob(ED25519 + b"\0")),
    "a key with a field less": armored(
        blob(string(b"ecdsa-sha2-nistp256") + string(b"nistp256"), made(b"ecdsa-sha2-nistp256"))
    ),
    "an empty key": armored(blob(b"")),
    # The signature.
    "RSA by SHA-1": armored(blob(rsa(3072), made(b"ssh-rsa"))),
    "RSA by SHA-256": armored(blob(rsa(3072), made(b"rsa-sha2-256"))),
    "a signature of another kind": armored(blob(ED25519, made(b"ecdsa-sha2-nistp256"))),
    "a signature by another curve": armored(blob(ECDSA, made(b"ecdsa-sha2-nistp384"))),
    "a plain signature by a security key": armored(blob(SK_ED25519, made(b"ssh-ed25519"))),
    "a security key's signature without its flags": armored(blob(SK_ED25519, made(b"sk-ssh-ed25519@openssh.com"))),
    "flags behind a plain signature": armored(blob(ED25519, made(b"ssh-ed25519", flags=True))),
    "a byte behind the signature": armored(blob(ED25519, made(b"ssh-ed25519") + b"\0")),
    "no signature": armored(blob(ED25519, b"")),
    # The certificate.
    "a certificate with a byte more": armored(blob(certificate(ED25519, rest=b"\0"))),
    "a certificate cut off": armored(blob(certificate(ED25519)[:-40])),
    "a certificate of a short RSA key": armored(blob(certificate(rsa(2048)), made(b"rsa-sha2-512"))),
    "a certificate by a short RSA key": armored(
        blob(certificate(ED25519, authority=rsa(2048), by=made(b"rsa-sha2-512")))
    ),
    "a certificate by SHA-1": armored(blob(certificate(ED25519, authority=rsa(4096), by=made(b"ssh-rsa")))),
    "a certificate by a DSA key": armored(blob(certificate(ED25519, authority=DSA, by=made(b"ssh-dss")))),
    "a certificate by a certificate": armored(blob(certificate(ED25519, authority=certificate(ED25519)))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name: str) -> None:
    with pytest.raises(Refused) as caught:
        read_envelope(REFUSED[name])
    assert caught.value.code is Code.SIGNATURE_INVALID
    assert caught.value.why
    assert "ssh-keygen -Y sign -n pusher-release" in caught.value.hint


def test_bits_hidden_in_the_padding_are_refused() -> None:
    good = next(one for size in (62, 63, 64) if (one := _signed_by(size)).count(b"=") == 1)
    at = good.index(b"=") - 1
    with pytest.raises(Refused, match="not in the form"):
        read_envelope(good[:at] + bytes([good[at] + 1]) + good[at + 1 :])


def _signed_by(size: int) -> bytes:
    return armored(blob(ED25519, string(b"ssh-ed25519") + string(b"s" * size)))


def test_a_certificate_by_a_strong_authority_is_accepted() -> None:
    for authority, by in KEYS.values():
        assert read_envelope(armored(blob(certificate(ED25519, authority=authority, by=by)))).certified


@settings(max_examples=300)
@given(at=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255))
def test_no_other_byte_in_the_armor_means_the_same(at: int, byte: int) -> None:
    changed = GOOD[:at] + bytes([byte]) + GOOD[at + 1 :]
    try:
        envelope = read_envelope(changed)
    except Refused:
        return
    if changed != GOOD:  # what still passes says something else: another key, or another signature
        body = changed.split(b"-----\n")[1].rsplit(b"\n-----", 1)[0].replace(b"\n", b"")
        assert base64.b64decode(body) != blob()
        assert envelope.key in base64.b64decode(body)


@given(raw=st.binary(max_size=400))
def test_noise_is_refused(raw: bytes) -> None:
    for content in (raw, armored(raw), armored(b"SSHSIG\0\0\0\x01" + raw)):
        with pytest.raises(Refused):
            read_envelope(content)


def _public(key: bytes, comment: str = " alice@laptop\n") -> str:
    kind = key[4 : 4 + int.from_bytes(key[:4], "big")].decode()
    return f"{kind} {base64.b64encode(key).decode()}{comment}"


@pytest.mark.parametrize("kind", KEYS)
def test_trusting_a_key_names_a_literal_principal_and_our_namespace(kind: str) -> None:
    public = _public(KEYS[kind][0])
    assert trust_line(public, principal="alice@example.com") == (
        f'alice@example.com namespaces="pusher-release" {public.strip()}\n'
    )


def test_a_comment_may_have_spaces() -> None:
    assert trust_line(_public(ED25519, " my old laptop"), principal="a").endswith(" my old laptop\n")


@pytest.mark.parametrize(
    "principal", ["", "*", "a*", "a?", "!a", "a,b", "a b", 'a"b', "#a", "a\n", "a\tb", "a\0", "a\\b", "\x7f"]
)
def test_a_principal_that_would_be_a_pattern_is_refused(principal: str) -> None:
    with pytest.raises(Refused) as caught:
        trust_line(_public(ED25519), principal=principal)
    assert caught.value.code is Code.CONFIGURATION


@pytest.mark.parametrize(
    "public",
    [
        *("", "ssh-ed25519", "ssh-ed25519 !!!", "ssh-ed25519 AAAA", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n"),
        _public(ED25519) + _public(ECDSA),
        _public(ED25519).replace("ssh-ed25519", "ssh-rsa"),
        _public(ED25519 + b"x"),
        _public(rsa(2048)),
        _public(DSA),
        _public(certificate(ED25519)),
        f'namespaces="git" {_public(ED25519)}',
        "ssh-ed25519 ключ",
    ],
)
def test_a_key_that_cannot_sign_is_refused(public: str) -> None:
    with pytest.raises(Refused) as caught:
        trust_line(public, principal="alice")
    assert caught.value.code is Code.CONFIGURATION
    assert caught.value.why
    assert "ssh-keygen -t ed25519" in caught.value.hint


def test_a_certificates_refusal_says_how_to_trust_its_authority() -> None:
    with pytest.raises(Refused, match="cert-authority"):
        trust_line(_public(certificate(ED25519)), principal="alice")


def test_a_line_that_lets_nobody_sign_is_told_from_one_that_does() -> None:
    key = _public(ED25519).strip()
    for line in (f"alice {key}", f'"a b,c" cert-authority,namespaces="x y" {key} a comment', f"alice\t{key}"):
        assert key_fault(line) == ""
    for line in ("garbage", "more garbage here", key, "alice ssh-ed25519", "alice ssh-dss AAAA"):
        assert key_fault(line) == "it has no key of a type that is accepted"
    assert key_fault("alice ssh-ed25519 AAA")
    assert key_fault(f"alice ssh-rsa {key.split()[1]}") == "it is not the line of one public key"
    assert "certificate" in key_fault(f"alice {_public(certificate(ED25519))}")


def test_a_signature_of_ssh_keygen_is_read(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    key = keys.make("alice")
    envelope = read_envelope(keys.sign(key, b"content"))
    public = base64.b64decode(keys.public(key).split()[1])
    assert (envelope.key, envelope.fingerprint) == (public, _fingerprint(public))
