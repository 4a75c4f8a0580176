"""Ground truth: what is really on the host is found before anything changes, and shown."""

import os
import stat
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from agent.core.layout import AppLayout
from agent.deploy.ground import Ground, Place
from agent.host.clock import SystemClock
from agent.host.ports import Service
from agent.host.releases.store import ReleaseStore
from agent.host.setup.rights import unrunnable
from pusher.wire import Refused
from tests.host import APP, Host, wsgi
from tests.unit.scripted_agent import STATUS, Run
from tests.unit.scripted_door import ScriptedDoor, answer


async def test_current_that_is_a_folder_is_refused_with_the_command(host: Host):
    """I copied my old app to `current`. Nothing is stuck; I am told what to type."""
    current = host.app.current
    current.mkdir()
    status, problem = await host.send(wsgi("v1"), "v1")
    assert (status, problem["code"]) == (409, "configuration")
    assert problem["title"] == f"{current} is a folder, and not a link to a release"
    assert problem["hint"] == f"Move it away, as root: mv -T {current} {current}.before"
    assert os.listdir(host.app.path) in ([], ["current"], ["current", "shared"], ["shared", "current"])
    warned = (await host.request("GET", "/status"))[1]["warnings"]
    assert [one.partition(":")[0] for one in warned] == [problem["title"]]
    current.rename(f"{current}.before")
    await host.deploy(wsgi("v1"), "v1")
    assert await host.serving() == "v1"


async def test_drift_and_a_file_that_is_not_in_force_are_in_the_status(host: Host):
    """Somebody edited the live release, and the app's file: `status` knows both."""
    await host.deploy(wsgi("v1"), "v1")
    assert (await host.request("GET", "/status"))[1]["drift"] == ""
    await host.deploy(wsgi("v2"), "v2")
    (host.app.current / "app.py").write_text("# a hot fix\n")
    file = host.layout.app_toml(APP)
    file.write_text(file.read_text() + "keep_release = 3\n")
    _, status = await host.request("GET", "/status")
    assert status["drift"] == "app.py has changed"
    (warning,) = status["warnings"]
    assert warning.startswith(f"not in force: {file}: ")
    assert "keep_releases" in warning


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file of root's")
def test_a_hook_of_the_host_that_the_app_may_not_run_is_found_first(tmp_path: Path) -> None:
    """`after-symlink` of 0700 would fail when everything is live already."""
    hook = tmp_path / "hooks/after-symlink"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\n")
    hook.parent.chmod(0o755)
    app, service = AppLayout(tmp_path / "app"), cast("Service", None)
    place = Place("shop", hook.parent, tmp_path, partial(unrunnable, user="nobody"))
    ground = Ground(place, store=ReleaseStore(app), service=service, clock=SystemClock(), differs=str)
    for path, verb in ((hook, "run"), (hook.parent, "enter")):
        path.chmod(0o700)
        with pytest.raises(Refused) as caught:
            ground.check()
        assert caught.value.what == "The host's hooks of shop cannot be run"
        shown = f"{path} ({stat.filemode(path.stat().st_mode)} root:root)"
        assert caught.value.why == f"nobody may not {verb} {shown}; run `chmod 0755 {path}` as root"
        path.chmod(0o755)
    ground.check()


def test_what_an_agent_finds_is_said_by_status_diff_and_send(
    door: ScriptedDoor, pusher: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """I see it where I look."""
    found = {
        **STATUS,
        "drift": "app.py has changed",
        "warnings": ["it is disabled, and stays down after a reboot"],
    }
    door.on("GET", "/apps/flask-demo/status", answer(found))
    assert pusher("status", "--host", door.address) == 0
    said = capsys.readouterr().out
    assert "  drift      app.py has changed: the live release is not as it was signed\n" in said
    assert "  warning    it is disabled, and stays down after a reboot\n" in said
