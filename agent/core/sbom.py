"""What a release consists of, as a bill of materials.

Invariant: it lists what was installed, as the venv itself says, and nothing that was only asked for.
Format: CycloneDX 1.5 (ECMA-424).
"""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pusher.wire import Manifest, canonical

COMPONENTS_MOST = 5_000
"""How many packages are listed. A document with more says that it is incomplete."""
_NAMES = uuid.UUID("5f9e2b3c-6d1a-4f0e-9a57-0b8e5a2f7c11")


@dataclass(frozen=True, slots=True, order=True)
class Installed:
    """One installed package; `record_sha256` is that of its RECORD, which has a digest of each of its files."""

    name: str
    version: str
    record_sha256: str

    @property
    def purl(self) -> str:
        """Its package URL (https://github.com/package-url/purl-spec, type `pypi`)."""
        name = re.sub(r"[-_.]+", "-", self.name).lower()
        return f"pkg:pypi/{quote(name, safe='')}@{quote(self.version, safe='')}"


def document(
    manifest: Manifest, *, digest: str, release: str, installed: Sequence[Installed], agent: str
) -> dict[str, Any]:
    """The bill of materials of a release. `digest` is the SHA-256 of its manifest, `agent` the agent's version."""
    listed = sorted(set(installed))[:COMPONENTS_MOST]
    reference = f"release:{manifest.app}/{release}"
    members = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "pusher-agent", "version": agent}]},
            "component": {
                "type": "application",
                "bom-ref": reference,
                "name": manifest.app,
                "version": manifest.version,
                "hashes": [_sha256(digest)],
                "properties": [
                    _property("hash-of", "manifest.json, whose digests cover the whole bundle"),
                    _property("release", release),
                    *_source(manifest),
                ],
            },
        },
        "components": [_component(one) for one in listed],
        "compositions": [
            {
                "aggregate": "complete" if len(listed) == len(set(installed)) else "incomplete",
                "assemblies": [reference],
            }
        ],
    }
    number = uuid.uuid5(_NAMES, canonical(members).decode())
    return {**members, "serialNumber": f"urn:uuid:{number}"}


def _component(one: Installed) -> dict[str, Any]:
    hashed = {"hashes": [_sha256(one.record_sha256)]} if one.record_sha256 else {}
    return {
        "type": "library",
        "bom-ref": f"{one.purl}#{one.record_sha256[:16]}",
        "name": one.name,
        "version": one.version,
        "purl": one.purl,
        **hashed,
        "properties": [_property("hash-of", "its RECORD as installed, which has a digest of each file")],
    }


def _source(manifest: Manifest) -> list[dict[str, str]]:
    if manifest.source is None:
        return []
    branch, remote = manifest.source.branch, manifest.source.remote
    return [
        _property("source-commit", manifest.source.commit),
        _property("source-files-changed", str(manifest.source.changed)),
        *([_property("source-branch", branch)] if branch else []),
        *([_property("source-remote", remote)] if remote else []),
    ]


def _sha256(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": f"pusher-agent:{name}", "value": value}
