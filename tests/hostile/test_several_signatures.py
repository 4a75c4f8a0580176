"""Several signatures of one manifest: who counts, how often, and what a security key must have asked its user."""

import base64
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.core.signing import SigningRules
from agent.core.sshsig import trust_line
from agent.host.bundle.signatures import TrustFiles, verify_all
from pusher.wire import Code, Refused
from tests.hostile.envelopes import Keys, armored, blob, string

MANIFEST = b'{"app":"demo"}'
TWO = SigningRules(required=2)
KIND = b"sk-ssh-ed25519@openssh.com"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def files(keys: Keys, tmp_path: Path) -> TrustFiles:
    """alice and bob are trusted, alice with two keys."""
    lines = [trust_line(keys.public(keys.make(one)), principal=one[:-1]) for one in ("alice1", "alice2", "bob1")]
    (tmp_path / "allowed_signers").write_text("".join(lines))
    return TrustFiles(tmp_path / "allowed_signers")


def names(signatures: bytes, files: TrustFiles, rules: SigningRules) -> list[str]:
    return [one.principal for one in verify_all(MANIFEST, signatures, files=files, rules=rules)]


def refusal(signatures: bytes, files: TrustFiles, rules: SigningRules) -> Refused:
    with pytest.raises(Refused) as caught:
        names(signatures, files, rules)
    assert caught.value.why
    assert caught.value.hint
    return caught.value


def test_two_people_count_twice_in_any_order(keys: Keys, files: TrustFiles) -> None:
    alice, bob = keys.sign(keys.make("alice1"), MANIFEST), keys.sign(keys.make("bob1"), MANIFEST)
    assert names(alice + bob, files, TWO) == ["alice", "bob"]
    assert names(bob + alice, files, TWO) == ["bob", "alice"]
    assert names(alice, files, SigningRules()) == ["alice"]


def test_one_person_with_two_keys_counts_once(keys: Keys, files: TrustFiles) -> None:
    both = keys.sign(keys.make("alice1"), MANIFEST) + keys.sign(keys.make("alice2"), MANIFEST)
    assert refusal(both, files, TWO).code is Code.SIGNATURES_MISSING


def test_one_key_with_two_names_counts_once(keys: Keys, files: TrustFiles) -> None:
    with files.allowed_signers.open("a") as file:
        file.write(trust_line(keys.public(keys.make("alice1")), principal="bob"))
    alice = keys.sign(keys.make("alice1"), MANIFEST)
    assert refusal(alice + alice, files, TWO).code is Code.SIGNATURES_MISSING


def test_a_stranger_does_not_count_and_the_refusal_names_the_key(keys: Keys, files: TrustFiles) -> None:
    alice, other = keys.sign(keys.make("alice1"), MANIFEST), keys.sign(keys.make("stranger"), MANIFEST)
    assert names(other + alice, files, SigningRules()) == ["alice"]
    refused = refusal(alice + other, files, TWO)
    assert refused.code is Code.SIGNATURES_MISSING
    assert "1 of them counted: alice; one does not count" in refused.why
    assert refusal(other + other, files, TWO).code is Code.SIGNER_UNKNOWN


def test_a_forged_signature_spoils_the_good_ones_beside_it(keys: Keys, files: TrustFiles) -> None:
    alice, forged = keys.sign(keys.make("alice1"), MANIFEST), keys.sign(keys.make("bob1"), MANIFEST + b"x")
    for signatures in (alice + forged, forged + alice, alice + b"x", b"x" + alice, alice + b"\n" + alice):
        assert refusal(signatures, files, SigningRules()).code is Code.SIGNATURE_INVALID


def test_too_many_signatures_are_refused_before_any_is_verified(
    keys: Keys, files: TrustFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = keys.sign(keys.make("alice1"), MANIFEST)
    monkeypatch.setenv("PATH", "")  # no ssh-keygen: it must not be asked
    assert refusal(alice * 5, files, TWO).code is Code.LIMIT_EXCEEDED
    assert refusal(alice + armored(b"SSHSIG"), files, TWO).code is Code.SIGNATURE_INVALID


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The private key that openssl keeps for a security key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl plays the security key")
    private = tmp_path_factory.mktemp("token") / "sk.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", str(private))
    return private


def openssl(*arguments: str) -> bytes:
    return subprocess.run(("openssl", *arguments), capture_output=True, check=True).stdout


def token_key(token: Path) -> bytes:
    point = openssl("pkey", "-in", str(token), "-pubout", "-outform", "DER")[-32:]
    return string(KIND) + string(point) + string(b"ssh:")


def token_signature(token: Path, flags: int, *, claimed: int | None = None) -> bytes:
    """A genuine signature with these flags (PROTOCOL.u2f of OpenSSH). The envelope shows `claimed` instead."""
    signed = b"SSHSIG" + string(b"pusher-release") + string(b"") + string(b"sha512")
    signed += string(hashlib.sha512(MANIFEST).digest())
    counter = (7).to_bytes(4, "big")
    message = token.with_name("message")
    message.write_bytes(
        hashlib.sha256(b"ssh:").digest() + bytes([flags]) + counter + hashlib.sha256(signed).digest()
    )
    made = openssl("pkeyutl", "-sign", "-inkey", str(token), "-rawin", "-in", str(message))
    shown = bytes([flags if claimed is None else claimed])
    return armored(blob(token_key(token), string(KIND) + string(made) + shown + counter))


def test_a_security_key_must_have_been_touched_where_the_app_asks_for_it(
    token: Path, keys: Keys, files: TrustFiles
) -> None:
    public = f"{KIND.decode()} {base64.b64encode(token_key(token)).decode()} token"
    with files.allowed_signers.open("a") as file:
        file.write(trust_line(public, principal="carol"))
    touch, pin = SigningRules(touch=True), SigningRules(touch=True, pin=True)
    untouched, touched, unlocked = (token_signature(token, flags) for flags in (0, 1, 5))
    assert names(untouched, files, SigningRules()) == ["carol"]
    assert refusal(untouched, files, touch).code is Code.TOUCH_MISSING
    assert "without a touch" in refusal(untouched, files, touch).why
    assert names(touched, files, touch) == ["carol"]
    assert "without its PIN" in refusal(touched, files, pin).why
    assert names(unlocked, files, pin) == ["carol"]
    assert refusal(token_signature(token, 4), files, pin).code is Code.TOUCH_MISSING
    # The signature covers the flags: they cannot be set afterwards.
    assert refusal(token_signature(token, 0, claimed=1), files, touch).code is Code.SIGNATURE_INVALID
    # A key in a file has no one to ask, and does not help a second signature either.
    alice = keys.sign(keys.make("alice1"), MANIFEST)
    assert "not on a security key" in refusal(alice, files, touch).why
    assert refusal(alice + touched, files, SigningRules(required=2, touch=True)).code is Code.SIGNATURES_MISSING
