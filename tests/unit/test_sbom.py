"""The bill of materials of a release lists what lies in its venv, and nothing else."""

import hashlib
import json
from pathlib import Path

import pytest

from agent.core.layout import metadata_folder
from agent.core.sbom import COMPONENTS_MOST, Installed, document
from agent.host.releases.sbom import installed, read_sbom, write_sbom
from agent.host.storage.disk import Disk
from pusher.wire import Code, Manifest, Refused, Source

MANIFEST = Manifest(
    app="flask-demo",
    version="v3",
    created=1_795_399_255_000,
    expires=1_797_991_255_000,
    index_sha256="0a" * 32,
    index_size=0,
    files=0,
    unpacked_size=0,
    source=Source("0b" * 20, 2),
)
RELEASE = "20261123020055Z"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    made = tmp_path / RELEASE
    metadata_folder(made).mkdir(parents=True)
    (metadata_folder(made) / "manifest.json").write_bytes(MANIFEST.to_bytes())
    return made


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """The site-packages of a venv."""
    made = tmp_path / "venv/lib/python3.11/site-packages"
    made.mkdir(parents=True)
    return made


def add(packages: Path, folder: str, metadata: str, record: str = "a.py,,\n") -> None:
    (packages / f"{folder}.dist-info").mkdir()
    (packages / f"{folder}.dist-info/METADATA").write_text(metadata)
    (packages / f"{folder}.dist-info/RECORD").write_text(record)


def test_each_installed_package_has_name_version_purl_and_the_digest_of_its_record(
    release: Path, packages: Path
) -> None:
    add(packages, "Flask_Login-0.6", "Metadata-Version: 2.1\nName: Flask_Login\nVersion: 0.6+local\n\nName: no\n")
    (packages / "flask_login").mkdir()
    write_sbom(release, venv=packages.parents[2], disk=Disk())
    found = read_sbom(release)
    (component,) = found["components"]
    assert {key: component[key] for key in ("type", "name", "version", "purl", "hashes")} == {
        "type": "library",
        "name": "Flask_Login",
        "version": "0.6+local",
        "purl": "pkg:pypi/flask-login@0.6%2Blocal",
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(b"a.py,,\n").hexdigest()}],
    }
    about = found["metadata"]["component"]
    assert (about["name"], about["version"]) == ("flask-demo", "v3")
    assert about["hashes"][0]["content"] == hashlib.sha256(MANIFEST.to_bytes()).hexdigest()
    values = {one["name"]: one["value"] for one in about["properties"]}
    assert values["pusher-agent:source-commit"] == "0b" * 20
    assert values["pusher-agent:release"] == RELEASE
    assert found["compositions"][0]["aggregate"] == "complete"


def test_the_same_venv_gives_the_same_bytes(release: Path, packages: Path) -> None:
    add(packages, "a-1", "Name: a\nVersion: 1\n")
    written = []
    for _ in range(2):
        write_sbom(release, venv=packages.parents[2], disk=Disk())
        written.append((metadata_folder(release) / "sbom.json").read_bytes())
    assert written[0] == written[1]


def test_a_package_that_says_nothing_of_use_is_listed_by_the_name_of_its_folder(packages: Path) -> None:
    add(packages, "a-1", "\0\n" + "x" * 100_000)
    add(packages, "b-2", f"Name: {'b' * 5_000}\tb\nVersion:\n")
    (packages / "c-3.dist-info").mkdir()
    (packages / "d-4.dist-info").mkdir()
    (packages / "d-4.dist-info/METADATA").symlink_to("/etc/passwd")
    (packages / "e.dist-info").write_text("no folder")
    found = [*installed(packages.parents[2])]
    assert [(one.name[:3], one.version) for one in found] == [
        ("a", "1"), ("bbb", "2"), ("c", "3"), ("d", "4"), ("e", ""),
    ]  # fmt: skip
    assert len(found[1].name) == 200
    assert found[2].record_sha256 == ""


def test_more_packages_than_are_listed_make_it_incomplete() -> None:
    many = [Installed(f"p{number}", "1", "") for number in range(COMPONENTS_MOST + 1)]
    found = document(MANIFEST, digest="00" * 32, release=RELEASE, installed=many, agent="1")
    assert len(found["components"]) == COMPONENTS_MOST
    assert found["compositions"][0]["aggregate"] == "incomplete"
    assert len(json.dumps(found)) < 4 * 1024**2


@pytest.mark.parametrize("content", [b"{", b"[]", b"[" * 100_000, b" " * 5_000_000, None])
def test_one_that_is_missing_or_damaged_is_refused(release: Path, content: bytes | None) -> None:
    if content is not None:
        (metadata_folder(release) / "sbom.json").write_bytes(content)
    with pytest.raises(Refused) as caught:
        read_sbom(release)
    assert caught.value.code is Code.RELEASE_DAMAGED
