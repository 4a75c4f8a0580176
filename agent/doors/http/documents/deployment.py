"""Deployments, their steps and their events."""

from typing import Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from agent.core.plan import Kind
from agent.doors.http.documents.document import (
    AppName,
    By,
    DeploymentId,
    Document,
    Manifest,
    Ms,
    Outcome,
    Problem,
    ReleaseId,
    Time,
    Version,
)
from agent.doors.http.documents.history import Head, History
from pusher.wire import Happened


class Serving(Document):
    """What serves at the end of a deployment."""

    release: ReleaseId
    version: Version
    manifest: Manifest


class Facts(Document):
    """A deployment, and how it ended."""

    deployment: DeploymentId
    app: AppName
    kind: Kind = Field(description="`deploy` or `rollback`")
    version: Version
    release: ReleaseId
    previous: ReleaseId | None = Field(description="The release that was live before")
    manifest: Manifest
    by: By
    outcome: Outcome | None = Field(description="How it ended; null while it runs")


class Past(Document):
    """A deployment in a list."""

    deployment: DeploymentId
    kind: Kind = Field(description="`deploy` or `rollback`")
    version: Version
    release: ReleaseId
    manifest: Manifest
    outcome: Outcome | None = Field(description="How it ended; null while it runs")
    by: By
    started: Time = Field(description="When it began")
    ms: Ms | None = Field(description="How long it took, in milliseconds; null while it runs")
    problem: Problem | SkipJsonSchema[None] = Field(None, description="What went wrong, if anything did")


class Step(Document):
    """A step or hook that has ended."""

    kind: Literal["step", "hook", "undo"] = Field(description="What it is; `undo`: a step was taken back")
    name: str = Field(description="The name of the step or hook")
    outcome: Literal["done", "failed"] = Field(description="How it ended")
    ms: Ms | None = Field(description="How long it took, in milliseconds")


class Deployment(Facts):
    """One deployment."""

    signed_by: str | None = Field(description="Who signed it; null if that is not known")
    steps: list[Step] = Field(description="Its steps and hooks so far; those of old deployments are dropped")
    history: History | SkipJsonSchema[None] = Field(None, description="Missing if the app's file cannot be used")


class Finished(Document):
    """How a deployment ended: its last event, without `event`, `seq` and `time`."""

    outcome: Outcome
    deployment: DeploymentId
    app: AppName
    kind: Kind = Field(description="`deploy` or `rollback`")
    version: Version
    release: ReleaseId
    previous: ReleaseId | None = Field(description="The release that was live before")
    manifest: Manifest
    by: By | SkipJsonSchema[None] = None
    live: Serving | None = Field(None, description="What serves now")
    ms: Ms
    history: Head | SkipJsonSchema[None] = Field(None, description="The head that this end was added to")
    problem: Problem | SkipJsonSchema[None] = Field(None, description="Why it is not `done`")
    warning: Problem | SkipJsonSchema[None] = Field(None, description="What else is worth knowing")


class Begun(Document):
    """A deployment that is under way."""

    deployment: DeploymentId
    app: AppName


class Event(BaseModel):
    """One event of a deployment; its other members depend on `event`."""

    event: Happened | str
    seq: int = Field(ge=1)
    time: Time
