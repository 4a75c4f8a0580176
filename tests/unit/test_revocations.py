"""A release is revoked if its own signatures do not hold any more; time alone revokes nothing."""

from pathlib import Path

import pytest

from agent.core.layout import AppLayout, metadata_folder
from agent.core.releases import Release, Standing
from agent.core.signing import SigningRules
from agent.host.bundle.signatures import TrustFiles
from agent.host.releases.revocations import Revocations
from pusher.wire import Refused
from tests.hostile.envelopes import Keys

MANIFEST = b"{}"
OLD, NEW = "20200601000000Z", "20220601000000Z"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


class App:
    def __init__(self, root: Path, keys: Keys) -> None:
        self.layout = AppLayout(root / "app")
        self.allowed = root / "allowed_signers"
        self.revocations = self.ruled(SigningRules())
        self.public = keys.public(keys.make("alice"))
        for one in (OLD, NEW):
            self.folder(one).mkdir(parents=True)
            (self.folder(one) / "manifest.json").write_bytes(MANIFEST)
            (self.folder(one) / "manifest.json.sig").write_bytes(keys.sign(keys.make("alice"), MANIFEST))

    def folder(self, release: str) -> Path:
        return metadata_folder(self.layout.release(release))

    def ruled(self, rules: SigningRules, *allowed: str) -> Revocations:
        return Revocations(self.layout, files=TrustFiles(self.allowed), rules=rules, allowed=allowed)


@pytest.fixture
def app(tmp_path: Path, keys: Keys) -> App:
    return App(tmp_path, keys)


def test_a_key_that_expired_keeps_the_releases_that_were_accepted_before(app: App) -> None:
    app.allowed.write_text(f'alice valid-before="20210101Z" {app.public}\n')
    assert app.revocations.why(OLD) == ""
    assert "sign until 2021-01-01 00:00 UTC" in app.revocations.why(NEW)


def test_a_certificate_that_expired_is_not_revoked(app: App, keys: Keys) -> None:
    authority = keys.make("ca")
    how = ("-V", "20200101:20210101")
    certified = keys.certify(keys.make("alice"), authority=authority, principals="alice", how=how)
    (app.folder(OLD) / "manifest.json.sig").write_bytes(keys.sign(certified, MANIFEST))
    app.allowed.write_text(f"alice cert-authority {keys.public(authority)}\n")
    assert app.revocations.why(OLD) == ""
    assert app.revocations.why(NEW)


def test_a_change_of_the_trusted_keys_is_seen_at_once(app: App) -> None:
    app.allowed.write_text(f"alice {app.public}\n")
    assert app.revocations.why(OLD) == app.revocations.why(OLD) == ""
    app.allowed.write_text("")
    assert app.revocations.why(OLD)
    app.allowed.unlink()
    assert app.revocations.why(OLD)
    assert app.ruled(SigningRules(), OLD).why(OLD) == ""


def test_a_release_that_was_changed_or_has_no_signature_is_revoked(app: App) -> None:
    app.allowed.write_text(f"alice {app.public}\n")
    assert app.revocations.why(OLD) == ""
    (app.folder(OLD) / "manifest.json").write_bytes(b"[]")
    assert "over something else" in app.revocations.why(OLD)
    (app.folder(OLD) / "manifest.json.sig").unlink()
    assert "cannot be read" in app.revocations.why(OLD)


def test_asking_for_more_signatures_or_for_a_touch_keeps_the_releases_there_are(app: App) -> None:
    app.allowed.write_text(f"alice {app.public}\n")
    assert app.ruled(SigningRules(required=2, touch=True, pin=True)).why(OLD) == ""


def test_the_first_release_that_is_not_revoked_is_found_with_those_before_it(app: App) -> None:
    app.allowed.write_text(f'alice valid-before="20210101Z" {app.public}\n')
    releases = [Release(id=one, version="v", standing=Standing.GOOD, created=1) for one in (NEW, OLD)]
    first, revoked = app.revocations.until_allowed(releases)
    assert (first, [*revoked]) == (releases[1], [NEW])
    assert app.revocations.until_allowed(releases[:1])[0] is None
    assert [*app.revocations.among(releases)] == [NEW]


def test_what_could_not_be_found_out_for_a_moment_is_asked_again(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.allowed.write_text(f"alice {app.public}\n")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        assert "ssh-keygen cannot be run" in app.revocations.why(OLD)
        with pytest.raises(Refused, match="could not be verified"):
            app.revocations.why(OLD, sure=True)
    assert app.revocations.why(OLD) == ""
