"""How an app that fetches its releases stands to its channel."""

from pydantic import Field

from agent.core.channel import Awaited, State
from agent.doors.http.documents.document import DeploymentId, Document, Problem, Sha256, Time, Version


class Wanted(Document):
    """What a channel names."""

    version: Version
    manifest: Sha256


class Channel(Document):
    """How an app that fetches its releases stands to its channel."""

    channel: str = Field(description="The name of the channel")
    repository: list[str] = Field(description="The mirrors of its repository")
    state: State = Field(description="How it stands")
    awaited: Awaited | None = Field(description="What it waits for")
    wanted: Wanted | None = Field(description="What the channel names: `version` and `manifest`")
    attempt: int | None = Field(description="The number of the channel's attempt")
    signed: Time | None = Field(description="When the channel's document was signed")
    expires: Time | None = Field(description="And until when it counts")
    checked: Time | None = Field(description="When a mirror answered last")
    mirror: str = Field(description="The mirror that answered last")
    deployment: DeploymentId | None = Field(description="The deployment that it led to")
    problem: Problem | None = Field(description="What is in the way")
