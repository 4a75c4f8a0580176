"""Signatures are made and verified by ssh-keygen, with the keys that people have."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pusher.bundle import sign
from pusher.errors import Usage
from pusher.wire import Code, Failed, Refused

DOCUMENT = b'{"app":"flask-demo"}'


def make_key(file: Path, *options: str, passphrase: str = "") -> Path:
    argv = ("ssh-keygen", "-q", "-N", passphrase, "-C", "alice@example.com", "-f", str(file), *options)
    subprocess.run(argv, check=True)
    return file


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("keys") / "id", "-t", "ed25519")


@pytest.fixture
def signers(tmp_path: Path, key: Path) -> Path:
    file = tmp_path / "allowed_signers"
    public = key.with_suffix(".pub").read_text()
    file.write_text(f'alice@example.com namespaces="pusher-release" {public}')
    return file


def test_of_what_is_no_key_only_the_beginning_is_read(tmp_path: Path) -> None:
    with (tmp_path / "bundle").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Usage, match="is no private key"):
        sign.sign(DOCUMENT, key=str(tmp_path / "bundle"))


@pytest.fixture
def no_agent(tmp_path: Path) -> dict[str, str]:
    """An environment without ssh-agent and without keys."""
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}


@pytest.fixture
def agent(no_agent: dict[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with an ssh-agent that holds nothing yet."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()  # It says where it listens when it does.
    yield no_agent | {"SSH_AUTH_SOCK": str(socket)}
    process.terminate()
    process.wait()
    process.stdout.close()


def add(agent: Mapping[str, str], key: Path) -> None:
    subprocess.run(["ssh-add", "-q", key], env=agent, check=True)


def fingerprint(key: Path) -> str:
    listed = subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, text=True, check=True)
    return listed.stdout.split()[1]


@pytest.mark.parametrize(
    "options", [("-t", "ed25519"), ("-t", "ecdsa"), ("-t", "rsa", "-b", "3072")], ids=lambda options: options[1]
)
def test_a_signature_is_one_that_ssh_keygen_verifies(tmp_path: Path, options: tuple[str, ...]) -> None:
    key = make_key(tmp_path / "k", *options)
    (tmp_path / "sig").write_bytes(sign.sign(DOCUMENT, key=str(key)))
    (tmp_path / "signers").write_text(f"bob {key.with_suffix('.pub').read_text()}")
    argv = ("ssh-keygen", "-Y", "verify", "-n", "pusher-release", "-I", "bob", "-f", "signers", "-s", "sig")
    done = subprocess.run(argv, input=DOCUMENT, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.startswith(b'Good "pusher-release" signature for bob')


def test_the_signer_is_named_as_ssh_keygen_does(key: Path, signers: Path) -> None:
    signature = sign.sign(DOCUMENT, key=str(key))
    found = sign.signed_by(DOCUMENT, signature)
    assert found == ("ssh-ed25519", fingerprint(key), "")
    assert sign.signed_by(DOCUMENT, signature, signers=signers) == found._replace(principal="alice@example.com")


def test_a_changed_document_is_refused(key: Path, signers: Path) -> None:
    signature = sign.sign(DOCUMENT, key=str(key))
    for trusted in (None, signers):
        with pytest.raises(Refused, match="The signature is not valid") as caught:
            sign.signed_by(DOCUMENT + b" ", signature, signers=trusted)
        assert caught.value.code is Code.SIGNATURE_INVALID


def test_a_signature_for_another_purpose_is_refused(key: Path, signers: Path) -> None:
    argv = ("ssh-keygen", "-Y", "sign", "-q", "-n", "git", "-f", str(key))
    signature = subprocess.run(argv, input=DOCUMENT, capture_output=True, check=True).stdout
    for trusted in (None, signers):
        with pytest.raises(Refused, match="The signature is not valid"):
            sign.signed_by(DOCUMENT, signature, signers=trusted)


def test_a_signer_who_is_not_trusted_is_refused(tmp_path: Path, signers: Path) -> None:
    stranger = make_key(tmp_path / "stranger", "-t", "ed25519")
    signature = sign.sign(DOCUMENT, key=str(stranger))
    with pytest.raises(Refused, match="The signer is not trusted: ssh-ed25519 SHA256:"):
        sign.signed_by(DOCUMENT, signature, signers=signers)


@pytest.mark.parametrize("signature", [b"", b"nothing", b"\xff", b"-----BEGIN SSH SIGNATURE-----\nAAAA\n"])
def test_a_text_that_is_not_a_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(Refused, match="is not an SSH signature"):
        sign.signed_by(DOCUMENT, signature)


def test_a_signature_that_is_cut_off_is_refused(key: Path) -> None:
    first, line, *_, last = sign.sign(DOCUMENT, key=str(key)).splitlines()
    with pytest.raises(Refused, match="is not an SSH signature"):
        sign.signed_by(DOCUMENT, b"\n".join([first, line[:40], last]))


def test_a_missing_file_of_signers_is_named(key: Path, tmp_path: Path) -> None:
    with pytest.raises(Usage, match="nobody is not a file"):
        sign.signed_by(DOCUMENT, sign.sign(DOCUMENT, key=str(key)), signers=tmp_path / "nobody")


def test_a_public_key_signs_through_the_agent(agent: dict[str, str], key: Path, tmp_path: Path) -> None:
    add(agent, key)
    public = shutil.copy(key.with_suffix(".pub"), tmp_path / "only.pub")
    signature = sign.sign(DOCUMENT, key=str(public), environment=agent)
    assert sign.signed_by(DOCUMENT, signature).fingerprint == fingerprint(key)


def test_without_a_key_the_first_of_the_agent_signs(agent: dict[str, str], key: Path, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    make_key(tmp_path / ".ssh/id_ed25519", "-t", "ed25519")
    add(agent, key)
    signature = sign.sign(DOCUMENT, environment=agent)
    assert sign.signed_by(DOCUMENT, signature).fingerprint == fingerprint(key)


def test_without_an_agents_key_the_first_of_the_usual_files_signs(agent: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    make_key(tmp_path / ".ssh/id_rsa", "-t", "rsa", "-b", "3072")
    make_key(tmp_path / ".ssh/id_ecdsa", "-t", "ecdsa")
    signature = sign.sign(DOCUMENT, environment=agent)
    assert sign.signed_by(DOCUMENT, signature).fingerprint == fingerprint(tmp_path / ".ssh/id_ecdsa")


def test_without_any_key_the_error_says_how_to_make_one(no_agent: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(
        Usage, match=r"No key to sign with was found\. Name a key with --key, PUSHER_KEY .*ssh-keygen"
    ):
        sign.sign(DOCUMENT, environment=no_agent)
    with pytest.raises(Usage, match=r"no-key cannot be read"):
        sign.sign(DOCUMENT, key=str(tmp_path / "no-key"), environment=no_agent)


def test_an_ssh_agent_that_is_gone_counts_as_none(no_agent: dict[str, str]) -> None:
    with pytest.raises(Usage, match="No key to sign with was found"):
        sign.sign(DOCUMENT, environment=no_agent | {"SSH_AUTH_SOCK": "/nonexistent"})


def test_an_ssh_agent_that_does_not_answer_is_named(no_agent: dict[str, str], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "agent"))
        silent.listen()
        with pytest.raises(Usage, match="ssh-add does not answer"):
            sign.sign(DOCUMENT, environment=no_agent | {"SSH_AUTH_SOCK": str(tmp_path / "agent")}, agent_s=0.5)


def test_a_passphrase_is_asked_for_by_ssh_askpass(no_agent: dict[str, str], tmp_path: Path) -> None:
    key = make_key(tmp_path / "locked", "-t", "ed25519", passphrase="open sesame")
    ask = tmp_path / "ask"
    ask.write_text("#!/bin/sh\necho open sesame\n")
    ask.chmod(0o755)
    environment = no_agent | {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
    signature = sign.sign(DOCUMENT, key=str(key), environment=environment)
    assert sign.signed_by(DOCUMENT, signature).fingerprint == fingerprint(key)


def test_a_wrong_passphrase_is_explained(
    no_agent: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = make_key(tmp_path / "locked", "-t", "ed25519", passphrase="open sesame")
    environment = no_agent | {"SSH_ASKPASS": "/bin/false", "SSH_ASKPASS_REQUIRE": "force"}
    with pytest.raises(
        Failed, match=r"Signing with .*locked failed: ssh-keygen ended with .* Is the passphrase right\?"
    ):
        sign.sign(DOCUMENT, key=str(key), environment=environment)
    assert "incorrect passphrase" in capfd.readouterr().err


def test_a_public_key_without_its_agent_says_so(
    no_agent: dict[str, str], agent: dict[str, str], key: Path, tmp_path: Path
) -> None:
    public = str(shutil.copy(key.with_suffix(".pub"), tmp_path / "only.pub"))
    with pytest.raises(Failed, match="none is running here"):
        sign.sign(DOCUMENT, key=public, environment=no_agent)
    with pytest.raises(Failed, match="Is the private half in the ssh-agent"):
        sign.sign(DOCUMENT, key=public, environment=agent)


def test_a_missing_ssh_keygen_is_named(key: Path, tmp_path: Path) -> None:
    with pytest.raises(Usage, match=r"ssh-keygen cannot be run: No such file.*openssh-client"):
        sign.sign(DOCUMENT, key=str(key), environment={"PATH": str(tmp_path)})


def test_the_commands_are_these() -> None:
    sig, signers = Path("s"), Path("a")
    assert sign.sign_argv(Path("k")) == ("ssh-keygen", "-Y", "sign", "-q", "-n", "pusher-release", "-f", "k")
    assert sign.check_argv(sig) == ("ssh-keygen", "-Y", "check-novalidate", "-n", "pusher-release", "-s", "s")
    assert sign.principals_argv(sig, signers) == ("ssh-keygen", "-Y", "find-principals", "-s", "s", "-f", "a")
    assert sign.verify_argv(sig, signers, "bob") == (
        *("ssh-keygen", "-Y", "verify", "-n", "pusher-release", "-s", "s", "-f", "a", "-I", "bob"),
    )
