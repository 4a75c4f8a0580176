"""What a deployment will do, as data: a dry run only has to print it.

Invariant: the tables of this file alone hold the order of all steps and hooks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent.core.phases import Signal


class Kind(StrEnum):
    """Why a release goes live."""

    DEPLOY = "deploy"
    ROLLBACK = "rollback"


class Step(StrEnum):
    """The steps, by the names that people see. `receive` and `verify` run before a deployment exists."""

    RECEIVE = "receive"
    VERIFY = "verify"
    UNPACK = "unpack"
    LINK_SHARED = "link-shared"
    DEPENDENCIES = "dependencies"
    PREFLIGHT = "preflight"
    SWITCH = "switch"
    RESTART = "restart"
    CONFIRM = "confirm"
    PROCESSES = "processes"
    CLEANUP = "cleanup"


class Commit(StrEnum):
    """The point in a plan after which nothing is taken back (docs/adr/0004-commit.md)."""

    HERE = "commit"


@dataclass(frozen=True, slots=True)
class Hook:
    """A place in a plan where the executables of this name run, those of the release and of the host."""

    name: str


class ReleaseCommand(StrEnum):
    """A place in a plan where commands run that the release's run section has, if it has any."""

    BUILD = "build"
    RELEASE = "release"


Item = Step | Hook | ReleaseCommand | Commit

PLANS: Mapping[Kind, tuple[Item, ...]] = {
    Kind.DEPLOY: (
        Step.UNPACK,
        # The release brings its hooks, so the first of them run after it is unpacked.
        Hook("before-setup"),
        Hook("after-setup"),
        Hook("before-update-code"),
        Hook("after-update-code"),
        Hook("before-symlink-shared"),
        Step.LINK_SHARED,
        Hook("after-symlink-shared"),
        Step.DEPENDENCIES,
        ReleaseCommand.BUILD,
        Hook("before-symlink"),
        ReleaseCommand.RELEASE,
        Step.PREFLIGHT,
        Step.SWITCH,
        Step.RESTART,
        Step.CONFIRM,
        Step.PROCESSES,
        Hook("after-symlink"),
        Hook("before-cleanup"),
        Commit.HERE,
        Step.CLEANUP,
        Hook("after-cleanup"),
    ),
    Kind.ROLLBACK: (
        Hook("rollback-before-setup"),
        Hook("rollback-after-setup"),
        Hook("rollback-before-symlink"),
        Step.PREFLIGHT,
        Step.SWITCH,
        Step.RESTART,
        Step.CONFIRM,
        Step.PROCESSES,
        Hook("rollback-after-symlink"),
        Hook("rollback-before-cleanup"),
        Commit.HERE,
        Step.CLEANUP,
        Hook("rollback-after-cleanup"),
    ),
}

RETURN_BEFORE = (Hook("rollback-before-setup"), Hook("rollback-after-setup"), Hook("rollback-before-symlink"))
RETURN_AFTER = (
    Hook("rollback-after-symlink"),
    Hook("rollback-before-cleanup"),
    Hook("rollback-after-cleanup"),
)
"""The hooks around an automatic return: they run before and after the undo of `switch`."""

HOOK_NAMES = frozenset(
    item.name
    for items in (*PLANS.values(), RETURN_BEFORE, RETURN_AFTER)
    for item in items
    if isinstance(item, Hook)
)
"""The names of all hooks."""

BEGINS: Mapping[Step, Signal] = {Step.SWITCH: Signal.SWITCH_BEGINS, Step.CONFIRM: Signal.CONFIRM_BEGINS}
ENDED: Mapping[Step, Signal] = {Step.SWITCH: Signal.SWITCH_ENDED}
"""The steps that move a deployment to another phase when they begin, and when they have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The facts of one deployment, which never change: what it makes live, over what, and who asked for it.

    `id` is `<app>-<time>`. The time is the id of the new release; a rollback has an older `release`. `previous` is
    the release that was live when the deployment was planned.
    """

    id: str
    app: str
    kind: Kind
    release: str
    version: str
    previous: str | None
    by: str
    manifest: str = ""
    """SHA-256 of the signed manifest of `release`; empty where it is not known."""

    @property
    def items(self) -> tuple[Item, ...]:
        """All items of the plan, in order."""
        return PLANS[self.kind]

    def scene(self, *, returning: bool) -> "Scene":
        """Where the hooks of this attempt run; with `returning`, those of an automatic return."""
        if returning:
            return Scene(source=self.release, release=self.previous, previous=self.release)
        source = self.release if self.kind is Kind.DEPLOY else self.previous or self.release
        return Scene(source=source, release=self.release, previous=self.previous)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The releases around a hook: `release` becomes live, `previous` was live, `source` has the executables.

    The hooks of a deploy come from the new release. Those of a rollback or a return come from the release that is
    being left.
    """

    source: str
    release: str | None
    previous: str | None


def deployment_id(app: str, time_id: str) -> str:
    """The id of a deployment. Release and deployment ids of an app come from one rising sequence."""
    return f"{app}-{time_id}"


def resume_at(items: tuple[Item, ...]) -> int:
    """Where a resumed deployment continues: the index of the first item after the switch."""
    return items.index(Step.SWITCH) + 1


def finish_at(items: tuple[Item, ...]) -> int:
    """Where a committed deployment continues: the index of the first item after the commit."""
    return items.index(Commit.HERE) + 1


def time_id(deployment: str) -> str:
    """The inverse of `deployment_id`."""
    return deployment.rpartition("-")[2]
