"""Keys end: what a removed or revoked key has signed is neither accepted nor rolled back to."""

import asyncio
import subprocess
import sys

import pytest

from agent.core.config.app import AppConfig
from agent.core.signing import SigningRules
from agent.host.bundle.signatures import TrustFiles
from agent.host.releases.revocations import Revocations
from pusher.bundle.archive import read_bundle, write_bundle
from pusher.bundle.sign import sign
from pusher.bundle.signed_manifest import SignedManifest
from tests.host import APP, Host, hook, make_key, running, wsgi


@pytest.fixture
def stolen(host_off: Host) -> str:
    """The line in allowed_signers of a key that will end; it is trusted beside the host's own."""
    thief = host_off.root / "stolen"
    make_key(thief)
    host_off.trust(thief, "mallory")
    return host_off.layout.allowed_signers.read_text().splitlines()[-1]


def end(host: Host, line: str) -> None:
    file = host.layout.allowed_signers
    file.write_text(file.read_text().replace(f"{line}\n", ""))


async def deployed_by_two(host: Host) -> list[str]:
    """v1 by the host's key, v2 by the stolen one, v3 by the host's key: their releases."""
    ids = []
    for version, key in (("v1", None), ("v2", host.root / "stolen"), ("v3", None)):
        status, answer = await host.send(wsgi(version), version, key=key)
        assert status == 200, answer
        ids.append(answer["release"])
    return ids


async def test_a_rollback_never_goes_to_a_release_whose_key_was_removed(stolen: str, host_off: Host):
    async with running(host_off) as host:
        v1, v2, _ = await deployed_by_two(host)
        await asyncio.to_thread(end, host, stolen)
        status, refused = await host.rollback(v2)
        assert (status, refused["code"]) == (403, "signer_revoked"), refused
        assert "allow_revoked" in refused["hint"]
        assert await host.serving() == "v3"
        _, listed = await host.request("GET", "/releases")
        marks = {one["version"]: (bool(one["revoked"]), one["fallback"]) for one in listed["releases"]}
        assert marks == {"v1": (False, True), "v2": (True, False), "v3": (False, False)}
        _, asked = await host.request("GET", "/status")
        assert asked["previous"]["release"] == v1
        status, done = await host.rollback()
        assert (status, done["release"], done["warning"]["code"]) == (200, v1, "signer_revoked")
        assert await host.serving() == "v1"


async def test_a_rollback_goes_no_further_back_because_keys_cannot_be_checked_now(
    host: Host, monkeypatch: pytest.MonkeyPatch
):
    for version in ("v1", "v2"):
        await host.deploy(wsgi(version), version)
    with host.layout.allowed_signers.open("a") as file:
        file.write("# changed, so what was verified before is verified once more\n")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nowhere")  # as where no process can be started for a moment
        status, refused = await host.rollback()
        assert (status, refused["title"]) == (409, "The signature could not be verified"), refused
        _, listed = await host.request("GET", "/releases")
        assert [bool(one["revoked"]) for one in listed["releases"]] == [True, True]
    _, listed = await host.request("GET", "/releases")
    assert [bool(one["revoked"]) for one in listed["releases"]] == [False, False]
    assert (await host.rollback())[0] == 200
    assert await host.serving() == "v1"


async def test_a_revoked_key_signs_no_more_and_its_releases_stay_away(stolen: str, host_off: Host):
    krl = host_off.root / "etc/pusher-agent/revoked"
    text = host_off.layout.agent_toml.read_text()
    host_off.layout.agent_toml.write_text(f'revoked_keys = "/etc/pusher-agent/revoked"\n{text}')
    async with running(host_off) as host:
        status, refused = await host.send(wsgi("v0"), "v0")
        assert (status, refused["code"]) == (409, "configuration"), "an unreadable list must let nothing in"
        await asyncio.to_thread(subprocess.run, ("ssh-keygen", "-q", "-k", "-f", krl, "/dev/null"), check=True)
        _, v2, _ = await deployed_by_two(host)
        argv = ("ssh-keygen", "-q", "-k", "-f", krl, host.root / "stolen.pub")
        await asyncio.to_thread(subprocess.run, argv, check=True)
        status, refused = await host.send(wsgi("v4"), "v4", key=host.root / "stolen")
        assert (status, refused["code"]) == (403, "signer_revoked"), refused
        status, refused = await host.rollback(v2)
        assert (status, refused["code"]) == (403, "signer_revoked"), refused
    host_off.add_app(APP, allow_revoked=[v2])
    async with running(host_off) as host:
        status, done = await host.rollback(v2)
        assert (status, done.get("outcome")) == (200, "done"), done
        assert await host.serving() == "v2"


async def test_a_failed_deployment_still_brings_back_what_was_live_although_its_key_has_ended(
    stolen: str, host_off: Host
):
    async with running(host_off) as host:
        status, before = await host.send(wsgi("v2"), "v2", key=host.root / "stolen")
        assert status == 200
        await asyncio.to_thread(end, host, stolen)
        status, failed = await host.send(wsgi("v3") | {"hooks/after-symlink": hook("exit 1")}, "v3")
        assert (status, failed["outcome"]) == (422, "failed"), failed
        assert failed["code"] == "hook_failed"
        assert await host.serving() == "v2"
        assert host.app.current.resolve().name == before["release"]


async def test_one_signature_is_refused_where_two_people_must_sign(stolen: str, host_off: Host):
    host_off.add_app(APP, signatures_required=2)
    async with running(host_off) as host:
        single = await asyncio.to_thread(host.bundle, wsgi("v1"), "v1")
        status, refused = await host.post(single)
        assert (status, refused["code"]) == (403, "signatures_missing"), refused
        assert "pusher sign" in refused["hint"]
        twice = await asyncio.to_thread(signed_again, host, single, host.key)
        status, refused = await host.post(twice)
        assert (status, refused["code"]) == (403, "signatures_missing"), refused
        both = await asyncio.to_thread(signed_again, host, single, host.root / "stolen")
        status, done = await host.post(both)
        assert (status, done.get("outcome")) == (200, "done"), done
        shown = await host.events(done["deployment"])
        assert [one["signer"] for one in shown if "signer" in one] == ["tester, mallory"]
        await asyncio.to_thread(end, host, stolen)
        rules = AppConfig(path="/x", user="x", signatures_required=2).signing
        kept = Revocations(host.app, files=TrustFiles(host.layout.allowed_signers), rules=rules)
        assert "1 of them counted: tester" in await asyncio.to_thread(kept.why, done["release"])
        less = Revocations(host.app, files=TrustFiles(host.layout.allowed_signers), rules=SigningRules())
        assert await asyncio.to_thread(less.why, done["release"]) == ""


def signed_again(host: Host, bundle: bytes, key: object) -> bytes:
    file = host.root / "again.tar.zst"
    file.write_bytes(bundle)
    packed = read_bundle(file)
    one = packed.signed
    more = one.signature + sign(one.manifest, key=str(key))
    return b"".join(write_bundle(SignedManifest(one.manifest, more, one.index), packed.contents()))


async def test_check_names_the_releases_whose_keys_ended(stolen: str, host_off: Host):
    async with running(host_off) as host:
        _, v2, _ = await deployed_by_two(host)
        await asyncio.to_thread(end, host, stolen)
    argv = (sys.executable, "-m", "agent", "check", "--root", str(host_off.root))
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True)
    assert f"the keys of release {v2} ended" in done.stdout, done
    assert "no rollback goes there" in done.stdout
