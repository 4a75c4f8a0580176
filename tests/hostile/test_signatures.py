"""Signers with real keys and the real `ssh-keygen`; and everything that only looks like a signature."""

import base64
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.core.sshsig import read_envelope, trust_line
from agent.host.bundle.signers import check_argv, principals_argv, verify, verify_argv
from pusher.wire import Code, Failed, Refused
from tests.hostile.envelopes import Keys, armored, blob, made, rsa, string

MANIFEST = b'{"app":"demo"}'
KINDS = {
    "ed25519": ("ed25519", None),
    "ecdsa256": ("ecdsa", 256),
    "ecdsa384": ("ecdsa", 384),
    "ecdsa521": ("ecdsa", 521),
    "rsa3072": ("rsa", 3072),
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    return tmp_path / "allowed_signers"


def _verify(signature: bytes, allowed: Path, manifest: bytes = MANIFEST) -> tuple[str, str]:
    signer = verify(manifest, signature, allowed_signers=allowed, deadline_s=10)
    return signer.principal, signer.fingerprint


def _refusal(signature: bytes, allowed: Path, manifest: bytes = MANIFEST) -> Refused:
    with pytest.raises(Refused) as caught:
        _verify(signature, allowed, manifest)
    assert caught.value.why
    assert caught.value.hint
    return caught.value


def _fingerprint(key: Path) -> str:
    listed = subprocess.run(("ssh-keygen", "-l", "-f", f"{key}.pub"), capture_output=True, check=True, text=True)
    return listed.stdout.split()[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_trusted_key_of_every_kind_is_recognised(kind: str, keys: Keys, allowed: Path) -> None:
    key = keys.make(kind, *KINDS[kind])
    allowed.write_text(trust_line(keys.public(key), principal=f"{kind}@example.com"))
    assert _verify(keys.sign(key, MANIFEST), allowed) == (f"{kind}@example.com", _fingerprint(key))


@pytest.mark.parametrize("kind", KINDS)
def test_a_certified_key_is_recognised_by_its_authority(kind: str, keys: Keys, allowed: Path) -> None:
    authority = keys.make("ca", "rsa", 3072)
    key = keys.make(kind, *KINDS[kind])
    certified = keys.certify(key, authority=authority, principals="alice,ops")
    allowed.write_text(f'ops,admins cert-authority,namespaces="pusher-release" {keys.public(authority)}\n')
    signature = keys.sign(certified, MANIFEST)
    assert read_envelope(signature).certified
    assert _verify(signature, allowed) == ("ops", _fingerprint(key))


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl plays the security key")
def test_a_security_key_is_recognised(keys: Keys, allowed: Path, tmp_path: Path) -> None:
    private, message = tmp_path / "sk.pem", tmp_path / "message"
    _openssl("genpkey", "-algorithm", "ed25519", "-out", str(private))
    point = _openssl("pkey", "-in", str(private), "-pubout", "-outform", "DER")[-32:]
    kind = b"sk-ssh-ed25519@openssh.com"
    key = string(kind) + string(point) + string(b"ssh:")
    # PROTOCOL.sshsig and PROTOCOL.u2f of OpenSSH: what is signed, and what an authenticator makes of that.
    digest = hashlib.sha512(MANIFEST).digest()
    signed = b"SSHSIG" + string(b"pusher-release") + string(b"") + string(b"sha512") + string(digest)
    flags = b"\x01" + (7).to_bytes(4, "big")
    message.write_bytes(hashlib.sha256(b"ssh:").digest() + flags + hashlib.sha256(signed).digest())
    made = _openssl("pkeyutl", "-sign", "-inkey", str(private), "-rawin", "-in", str(message))
    signature = armored(blob(key, string(kind) + string(made) + flags))
    public = f"{kind.decode()} {base64.b64encode(key).decode()} token"
    allowed.write_text(trust_line(public, principal="alice"))
    assert _verify(signature, allowed)[0] == "alice"
    assert _refusal(signature, allowed, MANIFEST + b"x").code is Code.SIGNATURE_INVALID


def _openssl(*arguments: str) -> bytes:
    return subprocess.run(("openssl", *arguments), capture_output=True, check=True).stdout


def test_a_certificate_for_others_or_past_its_time_is_refused(keys: Keys, allowed: Path) -> None:
    authority, key = keys.make("ca", "rsa", 3072), keys.make("ed25519")
    line = f'ops cert-authority,namespaces="pusher-release" {keys.public(authority)}\n'
    allowed.write_text(line)
    others = keys.certify(key, authority=authority, principals="alice")
    assert _refusal(keys.sign(others, MANIFEST), allowed).code is Code.SIGNER_UNKNOWN
    past = keys.certify(key, authority=authority, principals="ops", how=("-V", "20200101:20200102"))
    assert _refusal(keys.sign(past, MANIFEST), allowed).code is Code.SIGNER_UNKNOWN
    # The authority's key alone, without the word that makes it one, trusts nobody else's key.
    good = keys.certify(key, authority=authority, principals="ops")
    allowed.write_text(line.replace("cert-authority,", ""))
    assert _refusal(keys.sign(good, MANIFEST), allowed).code is Code.SIGNER_UNKNOWN


def test_a_certificate_by_another_authority_is_refused(keys: Keys, allowed: Path) -> None:
    authority, other, key = keys.make("ca", "rsa", 3072), keys.make("other-ca"), keys.make("ed25519")
    allowed.write_text(f'ops cert-authority,namespaces="pusher-release" {keys.public(authority)}\n')
    certified = keys.certify(key, authority=other, principals="ops")
    assert _refusal(keys.sign(certified, MANIFEST), allowed).code is Code.SIGNER_UNKNOWN


def test_short_rsa_keys_are_refused_even_if_they_are_listed(keys: Keys, allowed: Path) -> None:
    key = keys.make("rsa2048", "rsa", 2048)
    allowed.write_text(f'alice namespaces="pusher-release" {keys.public(key)}\n')
    refusal = _refusal(keys.sign(key, MANIFEST), allowed)
    assert refusal.code is Code.SIGNATURE_INVALID
    assert "2048 bits" in refusal.why


def test_a_certificate_by_a_short_rsa_key_is_refused(keys: Keys, allowed: Path) -> None:
    authority, key = keys.make("rsa2048", "rsa", 2048), keys.make("ed25519")
    allowed.write_text(f"ops cert-authority {keys.public(authority)}\n")
    certified = keys.certify(key, authority=authority, principals="ops")
    assert "2048 bits" in _refusal(keys.sign(certified, MANIFEST), allowed).why


@pytest.mark.parametrize("namespace", ["file", "git", "pusher", "pusher-release-2"])
def test_a_signature_made_for_something_else_is_refused(namespace: str, keys: Keys, allowed: Path) -> None:
    key = keys.make("ed25519")
    allowed.write_text(f"alice {keys.public(key)}\n")
    refusal = _refusal(keys.sign(key, MANIFEST, namespace=namespace), allowed)
    assert refusal.code is Code.SIGNATURE_INVALID
    assert repr(namespace) in refusal.why


def test_a_signature_over_sha256_is_refused(keys: Keys, allowed: Path) -> None:
    key = keys.make("ed25519")
    allowed.write_text(f"alice {keys.public(key)}\n")
    refusal = _refusal(keys.sign(key, MANIFEST, how=("-O", "hashalg=sha256")), allowed)
    assert refusal.code is Code.SIGNATURE_INVALID
    assert "sha256" in refusal.why


def test_a_tampered_manifest_is_not_mistaken_for_an_unknown_signer(keys: Keys, allowed: Path) -> None:
    key, stranger = keys.make("ed25519"), keys.make("stranger")
    allowed.write_text(trust_line(keys.public(key), principal="alice"))
    signature = keys.sign(key, MANIFEST)
    for tampered in (MANIFEST + b"\n", MANIFEST.replace(b"demo", b"Demo"), b""):
        assert _refusal(signature, allowed, tampered).code is Code.SIGNATURE_INVALID
    refusal = _refusal(keys.sign(stranger, MANIFEST), allowed)
    assert refusal.code is Code.SIGNER_UNKNOWN
    assert _fingerprint(stranger) in refusal.why
    assert "pusher-agent trust KEY.pub --as WHO" in refusal.hint


def test_a_signature_with_any_byte_changed_is_refused(keys: Keys, allowed: Path) -> None:
    key = keys.make("ed25519")
    allowed.write_text(trust_line(keys.public(key), principal="alice"))
    signature = keys.sign(key, MANIFEST)
    for at in range(0, len(signature), 7):
        changed = signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]
        assert _refusal(changed, allowed).code in (Code.SIGNATURE_INVALID, Code.SIGNER_UNKNOWN)


@pytest.mark.parametrize(
    "change",
    [
        lambda signature: signature + b"\n",
        lambda signature: b"\n" + signature,
        lambda signature: signature + signature,
        lambda signature: signature.replace(b"\n", b"\r\n"),
        lambda signature: signature[:-1],
        lambda signature: b"",
    ],
)
def test_bytes_around_a_signature_that_ssh_keygen_might_overlook_are_refused(
    change: object, keys: Keys, allowed: Path
) -> None:
    key = keys.make("ed25519")
    allowed.write_text(trust_line(keys.public(key), principal="alice"))
    refusal = _refusal(change(keys.sign(key, MANIFEST)), allowed)  # type: ignore[operator]
    assert refusal.code is Code.SIGNATURE_INVALID


def test_an_envelope_of_another_key_is_refused(keys: Keys, allowed: Path) -> None:
    key = keys.make("rsa3072", "rsa", 3072)
    allowed.write_text(trust_line(keys.public(key), principal="alice"))
    listed = read_envelope(keys.sign(key, MANIFEST)).key
    assert _refusal(armored(blob(listed, made(b"rsa-sha2-512"))), allowed).code is Code.SIGNATURE_INVALID
    unlisted = armored(blob(rsa(3072), made(b"rsa-sha2-512")))
    assert _refusal(unlisted, allowed).code in (Code.SIGNATURE_INVALID, Code.SIGNER_UNKNOWN)


def test_a_key_listed_for_another_purpose_only_may_not_sign_releases(keys: Keys, allowed: Path) -> None:
    key = keys.make("ed25519")
    allowed.write_text(f'alice namespaces="git,file" {keys.public(key)}\n')
    refusal = _refusal(keys.sign(key, MANIFEST), allowed)
    assert refusal.code is Code.SIGNER_UNKNOWN
    assert "not permitted" in refusal.output


def test_every_line_of_a_key_counts(keys: Keys, allowed: Path) -> None:
    key = keys.make("ed25519")
    allowed.write_text(
        "# our signers\n\n"
        f'alice@home namespaces="git" {keys.public(key)}\n'
        f'"bob,alice@work" namespaces="pusher-release" {keys.public(key)}\n'
    )
    assert _verify(keys.sign(key, MANIFEST), allowed)[0] == "bob"


def test_a_principal_that_is_a_pattern_is_reported_as_it_stands(keys: Keys, allowed: Path) -> None:
    key = keys.make("ed25519")
    allowed.write_text(f"!eve@example.com,*@example.com {keys.public(key)}\n")
    assert _verify(keys.sign(key, MANIFEST), allowed)[0] == "*@example.com"
    allowed.write_text(f"!* {keys.public(key)}\n")
    assert _refusal(keys.sign(key, MANIFEST), allowed).code is Code.SIGNER_UNKNOWN


def test_a_line_holds_only_between_its_dates(keys: Keys, allowed: Path) -> None:
    key = keys.make("ed25519")
    signature = keys.sign(key, MANIFEST)
    for dates, accepted in (
        ('valid-after="20200101"', True),
        ('valid-before="20200101"', False),
        ('valid-after="20200101",valid-before="20980101"', True),
        ('valid-after="20980101"', False),
    ):
        allowed.write_text(f'alice {dates},namespaces="pusher-release" {keys.public(key)}\n')
        if accepted:
            assert _verify(signature, allowed)[0] == "alice"
        else:
            assert _refusal(signature, allowed).code is Code.SIGNER_UNKNOWN


def test_a_removed_line_no_longer_counts(keys: Keys, allowed: Path) -> None:
    key, other = keys.make("ed25519"), keys.make("stranger")
    signature = keys.sign(key, MANIFEST)
    allowed.write_text(trust_line(keys.public(key), principal="alice"))
    assert _verify(signature, allowed)[0] == "alice"
    allowed.write_text(f"# {allowed.read_text()}" + trust_line(keys.public(other), principal="bob"))
    assert _refusal(signature, allowed).code is Code.SIGNER_UNKNOWN


def test_a_damaged_line_trusts_no_one_and_does_not_affect_lines_before_it(keys: Keys, allowed: Path) -> None:
    key = keys.make("ed25519")
    public = keys.public(key)
    allowed.write_text(f"alice namespaces= {public}\n\xff\xfe nonsense\n")
    assert _refusal(keys.sign(key, MANIFEST), allowed).code is Code.SIGNER_UNKNOWN


@pytest.mark.parametrize("content", [None, "", "\n# nobody yet\n"])
def test_a_host_without_signers_says_how_to_trust_one(content: str | None, keys: Keys, allowed: Path) -> None:
    if content is not None:
        allowed.write_text(content)
    refusal = _refusal(keys.sign(keys.make("ed25519"), MANIFEST), allowed)
    assert refusal.code is Code.SIGNER_UNKNOWN
    assert refusal.what == "No one may deploy to this host yet"
    assert "pusher-agent trust KEY.pub --as WHO" in refusal.hint


def test_signers_that_cannot_be_read_are_not_mistaken_for_none(keys: Keys, allowed: Path) -> None:
    allowed.mkdir()
    refusal = _refusal(keys.sign(keys.make("ed25519"), MANIFEST), allowed)
    assert refusal.code is Code.CONFIGURATION
    assert str(allowed) in refusal.why


def test_a_host_without_ssh_keygen_says_what_to_install(
    keys: Keys, allowed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = keys.make("ed25519")
    signature = keys.sign(key, MANIFEST)
    allowed.write_text(trust_line(keys.public(key), principal="alice"))
    monkeypatch.setenv("PATH", str(tmp_path))
    refusal = _refusal(signature, allowed)
    assert refusal.code is Code.CONFIGURATION
    assert "openssh-client" in refusal.hint


def test_an_ssh_keygen_that_hangs_is_not_waited_for(
    keys: Keys, allowed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = keys.make("ed25519")
    signature = keys.sign(key, MANIFEST)
    allowed.write_text(trust_line(keys.public(key), principal="alice"))
    (tmp_path / "ssh-keygen").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "ssh-keygen").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(Failed) as caught:
        verify(MANIFEST, signature, allowed_signers=allowed, deadline_s=0.1)
    assert caught.value.code is Code.TIMED_OUT


def test_the_commands_of_ssh_keygen_are_these() -> None:
    allowed = Path("/etc/pusher-agent/allowed_signers")
    assert principals_argv(allowed, "/dev/fd/3") == (
        *("ssh-keygen", "-Y", "find-principals"),
        *("-f", "/etc/pusher-agent/allowed_signers", "-s", "/dev/fd/3"),
    )
    assert verify_argv("alice", allowed, "/dev/fd/3") == (
        *("ssh-keygen", "-Y", "verify", "-n", "pusher-release", "-I", "alice"),
        *("-f", "/etc/pusher-agent/allowed_signers", "-s", "/dev/fd/3"),
    )
    assert check_argv("/dev/fd/3") == (
        *("ssh-keygen", "-Y", "check-novalidate", "-n", "pusher-release", "-s", "/dev/fd/3"),
    )
