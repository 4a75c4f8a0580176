"""What is in force of an app's file: each deployment reads it, and a mistake in it never blocks a rollback."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from pusher.wire import RunProcess, RunSection
from tests.host import APP, Host, running, wsgi
from tests.ports import free_port

WORKER = "import time\nprint('at work', flush=True)\nwhile True:\n    time.sleep(60)\n"


def edit(host: Host, before: str, after: str, *, app: str = APP) -> Path:
    """Edit the app's file as a person does; its path."""
    file = host.layout.app_toml(app)
    text = re.sub(before, lambda _: after, file.read_text(), count=1, flags=re.M)
    assert text != file.read_text()
    file.write_text(text)
    return file


async def status_of(host: Host, app: str = APP) -> dict[str, Any]:
    return (await host.request("GET", f"/apps/{app}/status"))[1]


async def test_a_changed_file_counts_from_the_next_deployment_on(host: Host) -> None:
    """I changed an option and sent. I expect that it counts, without a thought about daemons."""
    file = edit(host, r"\A", "keep_releases = 1\n")
    for version in ("v1", "v2", "v3"):
        answer = await host.deploy(wsgi(version), version)
        assert "warning" not in answer
    known = (await host.request("GET", "/releases"))[1]["releases"]
    assert [one["version"] for one in known] == ["v3", "v2"]  # the live one, and where a rollback goes
    assert (await status_of(host))["warnings"] == []
    file.write_text(file.read_text().replace("keep_releases = 1", "keep_releases = 9"))
    why = f"not in force: {file} was changed since the agent read it: the next deployment reads it"
    assert (await status_of(host))["warnings"] == [why]
    await host.deploy(wsgi("v4"), "v4")
    assert (await status_of(host))["warnings"] == []


async def test_an_environment_file_a_shared_folder_and_a_deadline_need_no_serve(host: Host) -> None:
    """I was told to add a shared folder, a secret, a deadline. I do, and send again."""
    await host.deploy(wsgi("v1"), "v1")
    secrets = host.root / "etc/secrets.env"
    secrets.write_text("GREETING=hello\n")
    (host.app.shared / "uploads").mkdir()
    head = 'environment_file = "/etc/secrets.env"\nshared_paths = ["uploads"]\n'
    edit(host, r"\A", head)
    app = wsgi("v2")["app.py"].replace('"pid": os.getppid()', '"pid": os.environ["GREETING"]')
    await host.deploy({**wsgi("v2"), "app.py": app}, "v2")
    assert (await host.answer())["pid"] == "hello"
    assert (host.app.current / "uploads").readlink() == Path("../../shared/uploads")


async def test_a_worker_and_a_timer_that_the_host_was_told_of_run_after_the_next_send(host: Host) -> None:
    """The refusal named the lines for the host's file. I add them, and send again."""
    await host.deploy(wsgi("v1"), "v1")
    files = {**wsgi("v2"), "work.py": WORKER}
    run = RunSection(
        processes={"worker": RunProcess(start="python work.py")}, timers={"nightly": "python work.py"}
    )
    status, refusal = await host.send(files, "v2", run=run)
    assert (status, refusal["title"]) == (
        409,
        "The release has a process 'worker' and a timer 'nightly', which this host does not know",
    )
    assert "then: send again\n[processes.worker]" in refusal["hint"]
    file = host.layout.app_toml(APP)
    mended = file.read_text() + '[processes.worker]\n[timers.nightly]\nschedule = "*-*-* 03:00"\n'
    file.write_text(mended)
    assert (await status_of(host))["processes"] == []
    await host.send(files, "v2", run=run)
    status_now = await status_of(host)
    assert [(one["name"], one["running"], one["version"]) for one in status_now["processes"]] == [
        ("worker", True, "v2")
    ]
    assert [one["name"] for one in status_now["timers"]] == ["nightly"]
    file.write_text(mended.partition("[processes.worker]")[0])
    await host.deploy(wsgi("v3"), "v3")
    status_now = await status_of(host)
    assert (status_now["processes"], status_now["timers"]) == ([], [])


async def test_a_change_of_the_address_says_that_it_needs_serve_again(host: Host) -> None:
    """I changed `listen`: the release goes live, and I am told what is still missing."""
    before, after = host.ports[APP], free_port()
    file = edit(host, r"^listen = .*", f'listen = "127.0.0.1:{after}"')
    answer = await host.deploy(wsgi("v1"), "v1")
    why = f"{file} has another `listen` than is in force: to change that, run `serve` again"
    assert answer["warning"]["title"] == f"A change of {APP}'s file is not in force"
    assert answer["warning"]["detail"] == why
    assert (await status_of(host))["warnings"] == [f"not in force: {why}"]
    assert (await status_of(host))["listen"] == f"127.0.0.1:{before}"
    assert await host.serving() == "v1"
    await host.stop()
    host.ports[APP] = after
    await host.start()
    assert await host.serving() == "v1"
    assert (await status_of(host))["warnings"] == []


async def test_a_typo_refuses_a_send_before_anything_is_sent_and_the_mended_file_is_read(host: Host) -> None:
    """I mistyped a key: the next send says so, and how to go on. The one after it needs no restart."""
    await host.deploy(wsgi("v1"), "v1")
    file = edit(host, r"\A", "keep_release = 3\n")
    bundle = await asyncio.to_thread(host.bundle, wsgi("v2"), "v2")
    for route in ("missing", "deployments"):
        status, problem = await host.request("POST", f"/apps/{APP}/{route}", data=bundle)
        assert (status, problem["title"]) == (409, f"{file}: unknown key 'keep_release'")
        assert problem["hint"] == "Did you mean keep_releases? Correct it, then send again"
    assert await host.serving() == "v1"
    edit(host, "keep_release", "keep_releases")
    await host.deploy(wsgi("v2"), "v2")


async def test_a_typo_does_not_block_a_rollback(host: Host) -> None:
    """At three in the morning the old version comes back, whatever I mistyped meanwhile; I am told of it."""
    for version in ("v1", "v2"):
        await host.deploy(wsgi(version), version)
    file = host.layout.app_toml(APP)
    file.write_text("keep_releases = [\n")
    status, outcome = await host.rollback()
    assert (status, outcome["version"]) == (200, "v1")
    assert outcome["warning"]["title"] == f"A change of {APP}'s file is not in force"
    assert outcome["warning"]["detail"].startswith(f"{file} is not TOML: ")
    assert outcome["warning"]["hint"] == "Correct it, then send again"


async def test_a_typo_does_not_block_a_rollback_after_a_restart_of_the_agent(host: Host) -> None:
    """The machine rebooted at night with my typo in the file. The app serves, and the old version comes back."""
    file = edit(host, "^drain_s = .*", "drain_s = 3")
    for version in ("v1", "v2"):
        await host.deploy(wsgi(version), version)
    good = file.read_text()
    file.write_text(f"keep_release = 3\n{good}")
    await host.stop()
    with capture_logs() as logs:
        await host.start()
    said = f"{file}: unknown key 'keep_release'. Did you mean keep_releases?"
    (event,) = [one for one in logs if one["event"] == "app_file_not_used"]
    assert (event["app"], event["problem"], event["used"]) == (APP, said, "what was read last")
    assert await host.serving() == "v2"
    assert (await status_of(host))["warnings"] == [f"not in force: {said}"]
    status, problem = await host.send(wsgi("v3"), "v3")
    assert (status, problem["hint"]) == (409, "Did you mean keep_releases? Correct it, then send again")
    status, outcome = await host.rollback()
    assert (status, outcome["version"]) == (200, "v1")
    assert outcome["warning"]["detail"] == f"{file}: unknown key 'keep_release'"
    assert await host.serving() == "v1"
    file.write_text(good)
    await host.deploy(wsgi("v3"), "v3")
    assert (await status_of(host))["warnings"] == []


async def test_a_file_that_nobody_may_read_or_that_is_no_text_is_a_mistake_as_a_typo_is(host: Host) -> None:
    """I saved the file in UTF-16. The app serves after a restart all the same."""
    await host.deploy(wsgi("v1"), "v1")
    file = host.layout.app_toml(APP)
    file.write_bytes(file.read_text().encode("utf-16"))
    await host.stop()
    await host.start()
    assert await host.serving() == "v1"
    (warning,) = (await status_of(host))["warnings"]
    assert warning.startswith(f"not in force: {file} could not be read")


async def test_an_app_that_was_changed_to_clash_with_another_goes_on_as_before(host_off: Host) -> None:
    """I copied a file and forgot to change the port. Both apps serve where they served."""
    host_off.add_app("blog")
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
        bundle = await asyncio.to_thread(lambda: host.bundle(wsgi("v1"), "v1", app="blog"))
        assert (await host.post(bundle, app="blog"))[1]["outcome"] == "done"
        edit(host, "^listen = .*", f'listen = "127.0.0.1:{host.ports[APP]}"', app="blog")
        bundle = await asyncio.to_thread(lambda: host.bundle(wsgi("v2"), "v2", app="blog"))
        status, problem = await host.post(bundle, app="blog")
        assert (status, problem["title"]) == (409, "Two apps of this host clash")
    async with running(host):
        assert await host.serving() == "v1"
        assert await host.serving(app="blog") == "v1"
        await host.deploy(wsgi("v2"), "v2")
        (warning,) = (await status_of(host, "blog"))["warnings"]
        assert f"blog and {APP} cannot listen at" in warning


async def test_what_was_read_is_forgotten_with_the_file(host: Host) -> None:
    """An app that was taken away and comes back with a mistake is left alone: nothing of old counts."""
    await host.deploy(wsgi("v1"), "v1")
    kept = host.layout.last_read / f"{APP}.json"
    assert json.loads(kept.read_text())["drain_s"] == 5
    file = host.layout.app_toml(APP)
    text = file.read_text()
    file.unlink()
    await host.stop()
    await host.start()
    assert not kept.exists()
    file.write_text(f"keep_release = 3\n{text}")
    await host.stop()
    await host.start()
    assert (await host.request("POST", "/rollback"))[1]["code"] == "configuration"
