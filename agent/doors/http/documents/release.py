"""Releases, and what is in them."""

from typing import Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from agent.core.releases import Standing
from agent.doors.http.documents.deployment import Past
from agent.doors.http.documents.document import AppName, By, Document, Manifest, ReleaseId, Sha256, Time, Version
from agent.doors.http.documents.history import History


class Source(Document):
    """The git commit that a release comes from, as its signer says."""

    commit: str
    changed: int = Field(description="How many files differ from the commit")
    branch: str | SkipJsonSchema[None] = None
    remote: str | SkipJsonSchema[None] = None
    authored: Time | SkipJsonSchema[None] = None


class Live(Document):
    """A release, shortly."""

    release: ReleaseId
    version: Version
    manifest: Manifest
    source: Source | None = Field(description="The commit it comes from; null if it is not known")
    signed_by: str | None = Field(description="Those whose signatures counted; null if that is not known")
    size: int | None = Field(description="How many bytes its files have; null if that is not known")
    lock: str | None = Field(description="The SHA-256 of its `pylock.toml`; null if it has none")


class Current(Live):
    """The release that is live."""

    since: Time | None = Field(description="Since when; null if the journal does not tell")
    by: str | None = Field(description="Who made it live; null if the journal does not tell")


class Release(Document):
    """A release on the host."""

    id: ReleaseId
    version: Version
    standing: Standing = Field(description="What became of it")
    live: bool = Field(description="Whether it is live")
    fallback: bool = Field(description="Whether a rollback that names no release goes there")
    pinned: bool = Field(description="Whether retention leaves it alone")
    revoked: str | None = Field(description="Why no rollback goes there: its keys have ended")
    created: Time = Field(description="When it was signed")
    venv: str = Field(description="The key of its venv; empty if it has none")
    by: By
    manifest: Manifest
    source: Source | None = Field(description="The commit it comes from; null if it is not known")
    signed_by: str | None = Field(description="Those whose signatures counted; null if that is not known")
    size: int | None = Field(description="How many bytes its files have; null if that is not known")
    lock: str | None = Field(description="The SHA-256 of its `pylock.toml`; null if it has none")


class Releases(Document):
    """The releases of an app, newest first, and its newest deployments."""

    app: AppName
    releases: list[Release] = Field(description="Newest first")
    deployments: list[Past] = Field(description="The newest 20, newest first")
    history: History = Field(description="The head of the [history](#the-history)")


class Pinned(Document):
    """Whether retention leaves a release alone."""

    release: ReleaseId
    pinned: bool


class Missing(Document):
    """What a bundle must bring."""

    missing: list[Sha256] = Field(description="The SHA-256 of each file that the host lacks")


class Entry(BaseModel):
    """One file or link of a release: `path` with `mode`, `size` and `sha256`, or with `target`."""

    path: str


class Bom(BaseModel):
    """A CycloneDX document of what was installed for a release."""

    bomFormat: Literal["CycloneDX"]  # noqa: N815 - CycloneDX says so
    specVersion: str  # noqa: N815
