"""The JSON documents that the door sends, as models: what each member is, for clients and for the reference.

Invariant: the models describe what the parts behind the door make; a test compares them with the answers of a
running agent, member by member. Only the description of the door imports them: no answer is made from them, so
they cost nothing until somebody asks for `/openapi.json`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from agent.core.channel import Awaited, State
from agent.core.plan import Kind
from agent.core.releases import Standing
from pusher.wire import Code, Happened


class Document(BaseModel):
    """A document. Clients ignore members that they do not know."""

    model_config = ConfigDict(extra="forbid", strict=False)


AppName = Annotated[
    str,
    Field(pattern=r"^[a-z][a-z0-9-]*[a-z0-9]$", min_length=2, max_length=31, description="The name of the app"),
]
Version = Annotated[str, Field(description="What its sender calls it, as `v3`")]
DeploymentId = Annotated[str, Field(description="The app's name, a dash, and when it began")]
ReleaseId = Annotated[str, Field(description="The id of a release")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Manifest = Annotated[Sha256 | None, Field(description="SHA-256 of the signed manifest; null if it is not known")]
Time = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", json_schema_extra={"format": "date-time"})
]
Ms = Annotated[int, Field(description="How long it took, in milliseconds")]
Outcome = Annotated[Literal["done", "failed", "stuck"], Field(description="How it ended")]
By = Annotated[str, Field(description="Who asked for it, for people")]


class Health(Document):
    """The agent is up."""

    status: Literal["ok"]


class Problem(Document):
    """What could not be done (RFC 9457)."""

    type: Literal["about:blank"] = "about:blank"
    title: str = Field(description="What could not be done")
    detail: str | SkipJsonSchema[None] = Field(None, description="Why")
    hint: str | SkipJsonSchema[None] = Field(None, description="What to do next")
    output: str | SkipJsonSchema[None] = Field(None, description="The output of another program")
    code: Code = Field(description="What a program should read")
    outcome: Literal["refused", "failed", "stuck"] = Field(
        description="Nothing was done; it was undone; a person is needed"
    )
    status: int | SkipJsonSchema[None] = Field(None, description="The status of the answer")
    instance: str | SkipJsonSchema[None] = Field(None, description="The path of the deployment, if there was one")


class Head(Document):
    """The head of the history that the end of a deployment was added to."""

    records: int = Field(ge=0)
    head: Sha256


class History(Document):
    """The head of an app's history."""

    records: int = Field(ge=0, description="How many records there are")
    head: Sha256 = Field(description="The hash of the last one")
    problem: str = Field(description="The first thing that does not fit; empty if all does")


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


class Known(Document):
    """An app of the host."""

    app: AppName
    problem: Problem | None = Field(description="Why its file cannot be used; null if it can")


class Apps(Document):
    """The apps of a host."""

    host: str = Field(description="The name of the host")
    apps: list[Known] = Field(description="`app`, and the `problem` with its file, or null")


class Serving(Document):
    """What serves at the end of a deployment."""

    release: ReleaseId
    version: Version
    manifest: Manifest


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


class Way(Document):
    """How a way to tell others how deployments end stands."""

    way: Literal["web", "mail"] = Field(description="By HTTP, or by mail")
    address: str = Field(description="Who is told; of an address only its host")
    waiting: int = Field(description="How many notices wait")
    left_out: int = Field(description="How many were never delivered")
    failures: int = Field(description="How many attempts in a row have failed")
    problem: str = Field(description="What was wrong last; empty if nothing is")
    since: Time | None = Field(description="Since when it fails")
    next: Time | None = Field(description="When it is tried again")


class TestedWay(Document):
    """How the test of a way went."""

    way: Literal["web", "mail"] = Field(description="By HTTP, or by mail")
    address: str = Field(description="Who is told; of an address only its host")
    problem: str = Field(description="Why the test did not arrive; empty if it did")


class Tested(Document):
    """How the tests went."""

    ways: list[TestedWay] = Field(description="Each way that `[notify]` in agent.toml names")


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
    warnings: list[str] = Field(description="What people should know although the app serves")
    newest_created: Time | None = Field(description="`created` of the newest manifest that was accepted")
    deploying: Facts | None = Field(description="The deployment that is under way")
    last: Past | None = Field(description="The last deployment")
    history: History = Field(description="The head of the [history](#the-history)")
    channel: Channel | SkipJsonSchema[None] = Field(None, description="Only of an app that fetches its releases")
    notices: list[Way] | SkipJsonSchema[None] = Field(None, description="Only of a host that tells others")


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


class Missing(Document):
    """What a bundle must bring."""

    missing: list[Sha256] = Field(description="The SHA-256 of each file that the host lacks")


class Pinned(Document):
    """Whether retention leaves a release alone."""

    release: ReleaseId
    pinned: bool


class Command(Document):
    """A command that was recorded."""

    run: str


class Bom(BaseModel):
    """A CycloneDX document of what was installed for a release."""

    bomFormat: Literal["CycloneDX"]  # noqa: N815 - CycloneDX says so
    specVersion: str  # noqa: N815


class Event(BaseModel):
    """One event of a deployment; its other members depend on `event`."""

    event: Happened | str
    seq: int = Field(ge=1)
    time: Time


class LogLine(Document):
    """One message of an app's log."""

    time: Time
    unit: str
    message: str
    priority: int = Field(ge=0, le=7, description="As syslog's, from 0 (emergency) to 7 (debug)")
    pid: int | None


class Entry(BaseModel):
    """One file or link of a release: `path` with `mode`, `size` and `sha256`, or with `target`."""

    path: str


class Record(BaseModel):
    """One record of an app's history; its other members depend on `what`."""

    app: AppName
    record: int = Field(ge=1)
    what: str


class Api(BaseModel):
    """A description in the form of OpenAPI 3.1."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
