"""The plans: order of steps and hooks, and what a hook learns."""

from agent.core.plan import (
    BEGINS,
    ENDED,
    PLANS,
    RETURN_AFTER,
    RETURN_BEFORE,
    Attempt,
    Commit,
    Hook,
    Kind,
    ReleaseCommand,
    Scene,
    Step,
    deployment_id,
    finish_at,
    resume_at,
    time_id,
)

PLACES = ("setup", "update-code", "symlink-shared", "symlink", "cleanup")


def attempt(kind: Kind, *, previous: str | None = "20261123020000Z") -> Attempt:
    return Attempt(
        id="flask-demo-20261123020055Z",
        app="flask-demo",
        kind=kind,
        release="20261123020055Z" if kind is Kind.DEPLOY else "20261123010000Z",
        version="v3",
        previous=previous,
        by="alice",
    )


def hooks(items) -> list[str]:
    return [item.name for item in items if isinstance(item, Hook)]


def test_a_deploy_runs_all_ten_hooks_in_ansistranos_order():
    assert hooks(PLANS[Kind.DEPLOY]) == [f"{side}-{place}" for place in PLACES for side in ("before", "after")]


def test_a_rollback_and_an_automatic_return_run_the_same_hooks_in_the_same_order():
    names = [
        f"rollback-{side}-{place}" for place in ("setup", "symlink", "cleanup") for side in ("before", "after")
    ]
    assert hooks(PLANS[Kind.ROLLBACK]) == names
    assert hooks(RETURN_BEFORE) + hooks(RETURN_AFTER) == names


def test_migrations_run_after_the_dependencies_and_before_the_preflight():
    items = PLANS[Kind.DEPLOY]
    at = items.index(Hook("before-symlink"))
    assert items[at - 2 : at] == (Step.DEPENDENCIES, ReleaseCommand.BUILD)
    assert items[at + 1 : at + 3] == (ReleaseCommand.RELEASE, Step.PREFLIGHT)


def test_a_rollback_runs_the_steps_of_a_deploy_from_the_preflight_on():
    steps = [item for item in PLANS[Kind.DEPLOY] if isinstance(item, Step)]
    assert [item for item in PLANS[Kind.ROLLBACK] if isinstance(item, Step)] == steps[
        steps.index(Step.PREFLIGHT) :
    ]


def test_only_the_clean_up_and_its_last_hook_come_after_the_commit():
    for items in PLANS.values():
        after = items[finish_at(items) :]
        assert after[0] is Step.CLEANUP
        assert [item.name.removeprefix("rollback-") for item in after[1:]] == ["after-cleanup"]


def test_a_resumed_deployment_continues_with_the_restart():
    for items in PLANS.values():
        assert items[resume_at(items)] is Step.RESTART
        assert items[resume_at(items) - 1] in ENDED
        assert Commit.HERE in items[resume_at(items) :]
    assert set(BEGINS) == {Step.SWITCH, Step.CONFIRM}


def test_a_deploy_runs_its_own_hooks_and_a_rollback_those_of_the_release_it_leaves():
    deploy, rollback = attempt(Kind.DEPLOY), attempt(Kind.ROLLBACK)
    assert deploy.scene(returning=False) == Scene(
        source=deploy.release, release=deploy.release, previous=deploy.previous
    )
    assert rollback.scene(returning=False) == Scene(
        source="20261123020000Z", release=rollback.release, previous="20261123020000Z"
    )
    assert rollback.items is PLANS[Kind.ROLLBACK]


def test_an_automatic_return_leaves_the_release_that_failed():
    for kind in Kind:
        failed = attempt(kind)
        assert failed.scene(returning=True) == Scene(
            source=failed.release, release=failed.previous, previous=failed.release
        )


def test_a_rollback_while_nothing_is_live_runs_the_hooks_of_its_target():
    lost = attempt(Kind.ROLLBACK, previous=None)
    assert lost.scene(returning=False).source == lost.release


def test_the_time_can_be_read_from_the_id_of_a_deployment():
    assert time_id(deployment_id("flask-demo", "20261123020055Z")) == "20261123020055Z"
