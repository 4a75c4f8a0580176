"""All hooks: their order, where they come from, what they learn, and what their failure does."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.host.run.hooks import EmbeddedHookRunner
from agent.host.storage.database import Database
from agent.machine import Machine
from tests.host import APP, Host, hook, running, wsgi

PLACES = ("setup", "update-code", "symlink-shared", "symlink", "cleanup")
DEPLOY = [f"{side}-{place}" for place in PLACES for side in ("before", "after")]
ROLLBACK = [
    f"rollback-{side}-{place}" for place in ("setup", "symlink", "cleanup") for side in ("before", "after")
]


def with_hooks(version: str) -> dict[str, str]:
    """An app whose hooks all print their name, their release, and what they were given."""
    given = '$PUSHER_APP $PUSHER_VERSION $(basename "$PUSHER_RELEASE_PATH") $(basename "$PUSHER_PREVIOUS_PATH")'
    script = hook(f'echo "{version} $(basename "$0") $(basename "$PWD") {given}"')
    return wsgi(version) | {f"hooks/{name}": script for name in (*DEPLOY, *ROLLBACK)}


async def ran(host: Host, deployment: str) -> list[list[str]]:
    """What the hooks of a deployment printed, a list of words each."""
    return [
        event["text"].split()
        for event in await host.events(deployment)
        if event["event"] == "output" and event["source"].startswith("hook ")
    ]


def story(events: list[dict[str, Any]]) -> str:
    """Steps, hooks and undos of a deployment, in order, as one line."""
    words = []
    for event in events:
        match event["event"]:
            case "step_done":
                words.append(event["step"])
            case "step_failed":
                words.append(f"{event['step']}:failed")
            case "hook_done":
                words.append(f"[{event['hook']}]")
            case "hook_failed":
                words.append(f"[{event['hook']}:failed]")
            case "undo_done":
                words.append(f"{event['step']}:undone")
    return " ".join(words)


async def test_a_deploy_runs_its_own_ten_hooks_around_its_steps(host: Host):
    first = await host.deploy(with_hooks("v1"), "v1")
    answer = await host.deploy(with_hooks("v2"), "v2")
    said = await ran(host, answer["deployment"])
    assert [words[:2] for words in said] == [["v2", name] for name in DEPLOY]
    assert {tuple(words[2:]) for words in said} == {
        (answer["release"], APP, "v2", answer["release"], first["release"])
    }
    assert story(await host.events(answer["deployment"])) == (
        "receive verify unpack [before-setup] [after-setup] [before-update-code] [after-update-code] "
        "[before-symlink-shared] link-shared [after-symlink-shared] dependencies [before-symlink] preflight "
        "switch restart confirm processes [after-symlink] [before-cleanup] cleanup [after-cleanup]"
    )


async def test_a_rollback_runs_the_hooks_of_the_release_it_leaves(host: Host):
    first = await host.deploy(with_hooks("v1"), "v1")
    second = await host.deploy(with_hooks("v2"), "v2")
    _, answer = await host.rollback()
    said = await ran(host, answer["deployment"])
    assert [words[:2] for words in said] == [["v2", name] for name in ROLLBACK]
    assert {tuple(words[2:]) for words in said} == {
        (second["release"], APP, "v1", first["release"], second["release"])
    }
    assert story(await host.events(answer["deployment"])) == (
        "[rollback-before-setup] [rollback-after-setup] [rollback-before-symlink] preflight switch restart "
        "confirm processes [rollback-after-symlink] [rollback-before-cleanup] cleanup [rollback-after-cleanup]"
    )


async def test_an_automatic_return_runs_the_rollback_hooks_of_the_release_that_failed(host: Host):
    first = await host.deploy(with_hooks("v1"), "v1")
    bad = with_hooks("v2") | {"hooks/after-symlink": hook("echo cannot warm up; exit 7")}
    status, problem = await host.send(bad, "v2")
    assert (status, problem["code"], problem["output"]) == (422, "hook_failed", "cannot warm up")
    deployment = problem["instance"].rpartition("/")[2]
    events = await host.events(deployment)
    assert story(events).partition("confirm ")[2] == (
        "processes [after-symlink:failed] processes:undone confirm:undone restart:undone "
        "[rollback-before-setup] [rollback-after-setup] [rollback-before-symlink] switch:undone "
        "[rollback-after-symlink] [rollback-before-cleanup] [rollback-after-cleanup]"
    )
    said = [words for words in await ran(host, deployment) if words[1].startswith("rollback-")]
    assert {words[0] for words in said} == {"v2"}
    assert {(words[4], words[5]) for words in said} == {("v1", first["release"])}
    assert await host.serving() == "v1"


async def test_a_rollback_hook_that_fails_cannot_stop_the_automatic_return(host: Host):
    await host.deploy(wsgi("v1"), "v1")
    bad = wsgi("v2") | {
        "hooks/after-symlink": hook("exit 1"),
        "hooks/rollback-before-symlink": hook("echo no down migration; exit 1"),
    }
    status, _ = await host.send(bad, "v2")
    assert status == 422
    assert await host.serving() == "v1"


async def test_a_bug_in_running_hooks_cannot_stop_it_either(host_off: Host):
    class Broken(EmbeddedHookRunner):
        async def run(self, executable: Path, **options: Any) -> str:
            raise RuntimeError("a bug")

    host_off.machine = Machine(embedded_hooks=Broken)
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
        hooks = {"hooks/after-symlink": hook("true"), "hooks/rollback-before-symlink": hook("true")}
        status, problem = await asyncio.wait_for(host.send(wsgi("v2") | hooks, "v2"), timeout=30)
        assert (status, problem["code"], problem["outcome"]) == (500, "internal", "failed")
        assert await host.serving() == "v1"


async def test_a_failing_rollback_hook_fails_a_rollback_that_was_asked_for(host: Host):
    await host.deploy(wsgi("v1"), "v1")
    await host.deploy(wsgi("v2") | {"hooks/rollback-before-symlink": hook("echo irreversible; exit 1")}, "v2")
    status, problem = await host.rollback()
    assert (status, problem["code"], problem["output"]) == (422, "hook_failed", "irreversible")
    assert await host.serving() == "v2"


async def test_a_failing_hook_after_the_commit_is_a_warning(host: Host):
    answer = await host.deploy(wsgi("v1") | {"hooks/after-cleanup": hook("echo mail is down; exit 1")}, "v1")
    assert answer["warning"]["code"] == "hook_failed"
    assert await host.serving() == "v1"


async def test_the_hosts_hooks_go_around_those_of_the_release(host_off: Host):
    for name in ("before-symlink", "after-symlink"):
        path = host_off.layout.hooks(APP) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(hook(f"echo host {name}"))
        path.chmod(0o755)
    async with running(host_off) as host:
        answer = await host.deploy(with_hooks("v1"), "v1")
        said = [words[:2] for words in await ran(host, answer["deployment"])]
        at = said.index(["host", "before-symlink"])
        assert said[at + 1] == ["v1", "before-symlink"]
        at = said.index(["host", "after-symlink"])
        assert said[at - 1] == ["v1", "after-symlink"]


async def test_a_hook_has_the_venv_on_its_path_and_a_deadline(host_off: Host):
    host_off.add_app(APP, hook_deadline_s=1)
    async with running(host_off) as host:
        good = wsgi("v1") | {
            "hooks/before-symlink": "#!/usr/bin/env python\nimport gunicorn; print(gunicorn.__version__)\n"
        }
        answer = await host.deploy(good, "v1")
        assert await ran(host, answer["deployment"]) == [["22.0.0"]]
        endless = wsgi("v2") | {"hooks/before-symlink": hook("echo started; sleep 60 & sleep 60")}
        status, problem = await host.send(endless, "v2")
        assert status == 422
        assert re.search(r"\b1 s", problem["detail"])
        assert problem["output"] == "started"
        hint = "A hook has hook_deadline_s in the app's file, or in [run] of the release: 1. "
        assert problem["hint"].startswith(hint)
        assert problem["hint"].endswith("not undone; its output is below")
        status, problem = await host.send(wsgi("v3") | {"hooks/before-symlink": hook("exit 3")}, "v3")
        assert problem["hint"] == "What it did outside of the release is not undone; it wrote nothing"
        assert await host.serving() == "v1"


class CountingDatabase(Database):
    """Counts what is written."""

    writes = 0

    async def write(self, change: Callable[..., Any]) -> Any:
        CountingDatabase.writes += 1
        return await super().write(change)


async def test_a_place_for_hooks_where_there_are_none_costs_no_write(
    tmp_path: Path, uv_cache: Path, ready_venvs: Path
):
    machine = Machine(database=CountingDatabase)
    async with running(Host(tmp_path / "root", uv_cache=uv_cache, venvs=ready_venvs, machine=machine)) as host:
        await host.deploy(wsgi("v1"), "v1")
        await host.deploy(wsgi("v2"), "v2")
        CountingDatabase.writes = 0
        await host.rollback()
        # Begin, commit and end; before each of six steps; before the first place for hooks after the begin, the
        # processes and the clean-up; and the clean-up itself.
        assert CountingDatabase.writes == 3 + 6 + 3 + 1
