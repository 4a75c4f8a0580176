"""What a deployment will do: data, so that a dry run is printing it.

Invariant: the order of all steps and hooks stands in the tables of this file and nowhere else.
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
    """The steps, by the names that people see. `receive` and `verify` come before a deployment exists."""

    RECEIVE = "receive"
    VERIFY = "verify"
    UNPACK = "unpack"
    LINK_SHARED = "link-shared"
    DEPENDENCIES = "dependencies"
    PREFLIGHT = "preflight"
    SWITCH = "switch"
    RESTART = "restart"
    CONFIRM = "confirm"
    CLEANUP = "cleanup"


class Commit(StrEnum):
    """The point in a plan from which on nothing is taken back (docs/adr/0004)."""

    HERE = "commit"


@dataclass(frozen=True, slots=True)
class Hook:
    """A place where the release's and the host's executables of this name run."""

    name: str


Item = Step | Hook | Commit

PLANS: Mapping[Kind, tuple[Item, ...]] = {
    Kind.DEPLOY: (
        Step.UNPACK,
        # A release brings its hooks along: the first ones cannot run before it is unpacked.
        Hook("before-setup"),
        Hook("after-setup"),
        Hook("before-update-code"),
        Hook("after-update-code"),
        Hook("before-symlink-shared"),
        Step.LINK_SHARED,
        Hook("after-symlink-shared"),
        Step.DEPENDENCIES,
        Hook("before-symlink"),
        Step.PREFLIGHT,
        Step.SWITCH,
        Step.RESTART,
        Step.CONFIRM,
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
"""The hooks around an automatic return: before and after the undo of `switch`, if it was begun."""

HOOK_NAMES = frozenset(
    item.name
    for items in (*PLANS.values(), RETURN_BEFORE, RETURN_AFTER)
    for item in items
    if isinstance(item, Hook)
)
"""Every name by which a hook is looked for."""

BEGINS: Mapping[Step, Signal] = {Step.SWITCH: Signal.SWITCH_BEGINS, Step.CONFIRM: Signal.CONFIRM_BEGINS}
ENDED: Mapping[Step, Signal] = {Step.SWITCH: Signal.SWITCH_ENDED}
"""Which steps move the deployment on to another phase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One deployment: what it makes live and what was live when it was planned.

    `id` is `<app>-<time>`; a new release has the same time as its id, a rollback names an older one.
    """

    id: str
    app: str
    kind: Kind
    release: str
    version: str
    previous: str | None
    by: str

    @property
    def items(self) -> tuple[Item, ...]:
        """Everything that will be done, in order."""
        return PLANS[self.kind]

    def scene(self, *, returning: bool) -> "Scene":
        """Where the hooks of this attempt run; `returning` for those of an automatic return."""
        if returning:
            return Scene(source=self.release, release=self.previous, previous=self.release)
        source = self.release if self.kind is Kind.DEPLOY else self.previous or self.release
        return Scene(source=source, release=self.release, previous=self.previous)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a hook is told: `release` is becoming live, `previous` was; its executables come from `source`.

    A deploy's hooks are its own; those of a rollback or a return come from the release that is being left.
    """

    source: str
    release: str | None
    previous: str | None


def deployment_id(app: str, time_id: str) -> str:
    """The id of a deployment. Release ids and deployment ids of an app come from one rising sequence."""
    return f"{app}-{time_id}"


def resume_at(items: tuple[Item, ...]) -> int:
    """Where a resumed deployment goes on: the first item after the switch."""
    return items.index(Step.SWITCH) + 1


def finish_at(items: tuple[Item, ...]) -> int:
    """Where a committed deployment goes on."""
    return items.index(Commit.HERE) + 1


def time_id(deployment: str) -> str:
    """The inverse of `deployment_id`."""
    return deployment.rpartition("-")[2]
