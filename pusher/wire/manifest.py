"""The manifest: the small document that is signed. Through its digests, the signature covers the whole bundle."""

import re
from dataclasses import dataclass, field
from typing import Any, Self

from pusher.wire.run import RunSection
from pusher.wire.text import (
    WireError,
    canonical,
    check_app,
    check_sha256,
    check_version,
    format_timestamp,
    parse_object,
    parse_timestamp,
    take,
    take_count,
)

SCHEMA = 1
SIGNATURE_NAMESPACE = "pusher-release"
MANIFEST_NAME, SIGNATURE_NAME, INDEX_NAME = "manifest.json", "manifest.json.sig", "index.jsonl"
PAYLOAD_PREFIX = "files/"
MANIFEST_BYTES = 64 * 1024
SIGNATURE_BYTES = 64 * 1024
BUNDLE_TYPE = "application/zstd"


ORIGIN = "origin"
"""An agent with this in `accepts` of its status reads branch, author date and remote in `source`."""
FOLDERS = "folders"
"""An agent with this in `accepts` of its status reads an index with empty folders."""
REQUIRES_PYTHON = "requires_python"
"""An agent with this in `accepts` of its status reads which Pythons a release admits."""
ADDITIONS = (ORIGIN, FOLDERS, REQUIRES_PYTHON)
"""What was added to schema 1. An agent that does not name one of them refuses a manifest that has it."""

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_ORIGIN_CHARACTERS = 512
_SPECIFIERS = re.compile(r"[<>=!~][0-9A-Za-z.*+!<>=~, -]{1,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Source:
    """The git commit that a tree comes from, and how many of its files are not as they are there.

    `branch` and `remote` are empty, and `authored` is None, where git does not say; `authored` is in milliseconds
    since 1970 (UTC). Raises: WireError, for what is no commit, and for text that would not fit on a line.
    """

    commit: str
    changed: int
    branch: str = ""
    authored: int | None = None
    remote: str = ""

    def __post_init__(self) -> None:
        if not _COMMIT.fullmatch(self.commit):
            raise WireError(f"{self.commit[:80]!r} is no commit")
        for text in (self.branch, self.remote):
            if len(text) > _ORIGIN_CHARACTERS or not text.isprintable():
                raise WireError(f"{text[:80]!r} is no branch and no remote")

    def members(self) -> dict[str, Any]:
        """It as JSON members: what git does not say is left out."""
        authored = {} if self.authored is None else {"authored": format_timestamp(self.authored)}
        named = {"branch": self.branch, "remote": self.remote}
        there = {key: text for key, text in named.items() if text}
        return {"commit": self.commit, "changed": self.changed, **there, **authored}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One version of one app, with the digest of the index of its tree.

    `created` and `expires` are milliseconds since 1970 (UTC); `created` is also the sequence number. `hosts` is
    empty for a bundle that any host may deploy. `files` counts the lines of the index, and `folders` those among
    them that are empty folders: an agent that cannot read these refuses the manifest. `source` is what the signer
    says; nobody can check it without the repository. `run` is how the release runs, as far as it says so itself.
    `requires_python` is which Pythons it admits, as `>=3.12`; empty: any.
    """

    app: str
    version: str
    created: int
    expires: int
    index_sha256: str
    index_size: int
    files: int
    unpacked_size: int
    hosts: tuple[str, ...] = ()
    source: Source | None = None
    run: RunSection = field(default_factory=RunSection)
    folders: int = 0
    requires_python: str = ""

    def to_bytes(self) -> bytes:
        """Canonical JSON (the subset of RFC 8785 that strings and integers need)."""
        members: dict[str, Any] = {
            "schema": SCHEMA,
            "app": self.app,
            "version": self.version,
            "created": format_timestamp(self.created),
            "expires": format_timestamp(self.expires),
            "index": {"sha256": self.index_sha256, "size": self.index_size},
            "files": self.files,
            "unpacked_size": self.unpacked_size,
        }
        if self.hosts:
            members["hosts"] = list(self.hosts)
        if self.folders:
            members["folders"] = self.folders
        if self.source is not None:
            members["source"] = self.source.members()
        if self.requires_python:
            members["requires_python"] = self.requires_python
        if run := self.run.members():
            members["run"] = run
        return canonical(members)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The manifest in `raw`. Raises: WireError, for anything but its canonical form."""
        if len(raw) > MANIFEST_BYTES:
            raise WireError(f"the manifest has {len(raw)} bytes; the limit is {MANIFEST_BYTES}")
        members = parse_object(raw, "the manifest")
        if members.get("schema") != SCHEMA:
            raise WireError(f"the manifest's schema is {members.get('schema')!r}; this version reads {SCHEMA}")
        index = take(members, "index", dict)
        hosts = members.get("hosts", [])
        if not isinstance(hosts, list) or not all(isinstance(host, str) and host for host in hosts):
            raise WireError("the manifest's hosts is not a list of names")
        manifest = cls(
            app=check_app(take(members, "app", str)),
            version=check_version(take(members, "version", str)),
            created=parse_timestamp(take(members, "created", str)),
            expires=parse_timestamp(take(members, "expires", str)),
            index_sha256=check_sha256(take(index, "sha256", str)),
            index_size=take_count(index, "size"),
            files=take_count(members, "files"),
            unpacked_size=take_count(members, "unpacked_size"),
            hosts=tuple(hosts),
            source=_source(members),
            run=RunSection.from_members(take(members, "run", dict) if "run" in members else {}),
            folders=take_count(members, "folders") if "folders" in members else 0,
            requires_python=_requires_python(members),
        )
        if manifest.to_bytes() != raw:
            raise WireError("the manifest is not in canonical form, or has members that schema 1 lacks")
        return manifest


def _requires_python(members: dict[str, Any]) -> str:
    if "requires_python" not in members:
        return ""
    text = take(members, "requires_python", str)
    if not _SPECIFIERS.fullmatch(text):
        raise WireError(f"the manifest's requires_python is {text[:80]!r}")
    return text


def _source(members: dict[str, Any]) -> Source | None:
    if "source" not in members:
        return None
    source = take(members, "source", dict)
    authored = parse_timestamp(take(source, "authored", str)) if "authored" in source else None
    branch, remote = (take(source, key, str) if key in source else "" for key in ("branch", "remote"))
    return Source(take(source, "commit", str), take_count(source, "changed"), branch, authored, remote)
