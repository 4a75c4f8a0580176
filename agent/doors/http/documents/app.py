"""One app: its status, its health and its log."""

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from agent.doors.http.documents.channel import Channel
from agent.doors.http.documents.deployment import Facts, Past
from agent.doors.http.documents.document import AppName, Document, Ms, ReleaseId, Time, Version
from agent.doors.http.documents.history import History
from agent.doors.http.documents.notices import Way
from agent.doors.http.documents.release import Current, Live


class Disk(Document):
    """The room for releases."""

    path: str
    free: int
    total: int


class Answered(Document):
    """What an app answers to its health check."""

    healthy: bool | None = Field(description="Whether it is well; null if nothing runs")
    why: str = Field(description="Why it is not; empty if it is")
    ms: Ms
    asked: Time = Field(description="When it was asked")


class Process(Document):
    """A worker."""

    name: str = Field(description="As in the app's file; of several, with a number")
    running: bool = Field(description="Whether it runs")
    release: ReleaseId | None = Field(description="The release that it runs")
    version: Version | None = Field(description="The version of that")
    pid: int | None = Field(description="Its process id")
    why: str = Field(description="Why it does not run; empty if it does")


class Timer(Document):
    """A timer."""

    name: str = Field(description="As in the app's file")
    schedule: str = Field(description="When it runs, as in the app's file")
    running: bool = Field(description="Whether it runs now")
    last: Time | None = Field(description="When it last ran")
    next: Time | None = Field(description="When it runs next")
    ending: str = Field(description="How its last run ended, as `exit code 0`; empty if it did not run yet")


class Status(Document):
    """What is live of an app, and what is under way."""

    app: AppName
    host: str = Field(description="The host's name, as bundles for certain hosts must list it")
    agent: str = Field(description="The agent's version")
    accepts: list[str] = Field(description="What was added to schema 1 of the bundle format and is read here")
    listen: str = Field(description="The app's public address")
    start: str = Field(description="How the live release is started; empty if none is live")
    host_start: str = Field(description="`start` in the app's file; empty: the release says it")
    requirements: str = Field(description="`requirements` in the app's file")
    drop: str = Field(description="The path of the drop directory")
    live: Current | None = Field(description="The release that is live; null if none is")
    previous: Live | None = Field(description="Where a rollback would go; null if nowhere")
    running: bool = Field(description="Whether the live release runs")
    processes: list[Process] = Field(description="The workers")
    timers: list[Timer] = Field(description="The timers")
    trouble: str = Field(description="Why the agent could not recover or start the app; empty if it could")
    disk: Disk | None = Field(description="`path`, and the `free` and `total` bytes there; null if not known")
    drift: str | None = Field(
        description="The first difference between the live release and what was signed; null while it is read"
    )
    warnings: list[str] = Field(description="What people should know beside that")
    newest_created: Time | None = Field(description="`created` of the newest manifest that was accepted")
    deploying: Facts | None = Field(description="The deployment that is under way")
    last: Past | None = Field(description="The last deployment")
    history: History = Field(description="The head of the [history](#the-history)")
    channel: Channel | SkipJsonSchema[None] = Field(None, description="Only of an app that fetches its releases")
    notices: list[Way] | SkipJsonSchema[None] = Field(None, description="Only of a host that tells others")


class LogLine(Document):
    """One message of an app's log."""

    time: Time
    unit: str
    message: str
    priority: int = Field(ge=0, le=7, description="As syslog's, from 0 (emergency) to 7 (debug)")
    pid: int | None


class Command(Document):
    """A command that was recorded."""

    run: str
