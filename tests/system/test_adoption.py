"""An app that Ansistrano deployed is taken over while it serves, and given back."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.test_no_failed_request import Load
from tests.system.server import APP, REPOSITORY, Server, installed

UNIT = f"""\
[Unit]
Description=Flask demo served by gunicorn (rsync/ansistrano)
[Service]
Environment="PATH=/opt/{APP}/shared/venv/bin"
WorkingDirectory=/opt/{APP}/current
ExecStart=/opt/{APP}/shared/venv/bin/python -m gunicorn -w 2 -b 0.0.0.0:8000 app:app
Restart=on-failure
[Install]
WantedBy=multi-user.target
"""
APP_PY = """
from pathlib import Path
from flask import Flask
app = Flask(__name__)

@app.get("/version")
def version():
    return {{"version": {version!r}, "secret": Path(".env").read_text().strip()}}

@app.post("/write")
def write():
    Path("uploads/{version}.txt").write_text("written by {version}")
    return {{"uploads": sorted(path.name for path in Path("uploads").iterdir())}}
"""


@pytest.fixture(scope="module")
def workshop(
    tmp_path_factory: pytest.TempPathFactory, uv_cache: Path, flask_venv: Path, image: Path, package: Path
) -> Iterator[Server]:
    """A server as the workshop leaves it, with the agent installed beside."""
    folder = tmp_path_factory.mktemp("workshop")
    with installed(folder, "old", image=image, uv_cache=uv_cache, package=package) as server:
        host = server.machine
        place = host.root / f"opt/{APP}"
        release = place / "releases/20260101000000Z"
        release.mkdir(parents=True)
        (place / "shared/uploads").mkdir(parents=True)
        (place / "shared/uploads/old.txt").write_text("old")
        (place / "shared/.env").write_text("hush\n")
        shutil.copytree(flask_venv, place / "shared/venv", symlinks=True)
        (place / "current").symlink_to("./releases/20260101000000Z")
        for name in ("uploads", ".env", "venv"):
            (release / name).symlink_to(f"../../shared/{name}")
        (release / "app.py").write_text(APP_PY.format(version="old"))
        (host.root / f"etc/systemd/system/{APP}.service").write_text(UNIT)
        host.run("chown", "-R", "alice:alice", f"/opt/{APP}")
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "enable", "--now", f"{APP}.service")
        yield server
        server.bring_home()


def ask(server: Server, path: str, *options: str) -> str:
    return server.machine.says("curl", "-sS", *options, f"localhost:8000{path}").strip()


def version_folder(folder: Path, version: str) -> Path:
    (folder / version).mkdir(parents=True, exist_ok=True)
    (folder / version / "app.py").write_text(APP_PY.format(version=version))
    shutil.copy(REPOSITORY / "app-src/v1/requirements.txt", folder / version)
    return folder


@pytest.mark.timeout(300)
async def test_a_running_app_is_taken_over_goes_on_with_its_data_and_can_be_given_back(
    workshop: Server, tmp_path: Path
) -> None:
    machine = workshop.machine
    machine.until(lambda: "old" in ask(workshop, "/version"), seconds=30)
    old = ask(workshop, "/version")
    health = ("--health", "/version", "--version-member", "version")
    async with Load(f"http://{machine.address}:8000/version", per_second=50) as load:
        done = await asyncio.to_thread(machine.run, "pusher-agent", "app", "adopt", APP, *health)
        await asyncio.sleep(0.5)
    said = done.stdout
    assert [*load.endings] == ["200"], load.endings
    assert f"found /etc/systemd/system/{APP}.service: running, as root" in said
    assert "it listens at 0.0.0.0:8000" in said
    assert "its releases share uploads" in said
    assert "its releases share .env" in said
    assert "warning: PATH: set in the old unit itself." in said
    assert ask(workshop, "/version") == old
    assert ask(workshop, "/write", "-X", "POST") == '{"uploads":["old.txt"]}'

    again = machine.run("pusher-agent", "app", "adopt", APP, check=False)
    assert (again.returncode, "is an app of this agent already" in again.stderr) == (4, True)

    broken = version_folder(tmp_path, "broken")
    (broken / "broken/app.py").write_text("import nothing_of_that_name\n")
    async with Load(f"http://{machine.address}:8000/version", per_second=50) as load:
        answer = await asyncio.to_thread(workshop.send, "broken", source=broken)
    assert (answer["outcome"], [*load.endings]) == ("failed", ["200"]), (answer, load.endings)
    assert ask(workshop, "/version") == old

    async with Load(f"http://{machine.address}:8000/version", per_second=50) as load:
        answer = await asyncio.to_thread(workshop.send, "v1", source=version_folder(tmp_path, "v1"))
    assert {*load.endings} <= {"200", "ClientConnectorError"}, (
        load.endings
    )  # the old one must leave the port first
    assert answer.get("outcome") == "done", answer
    assert ask(workshop, "/version") == '{"secret":"hush","version":"v1"}'
    assert ask(workshop, "/write", "-X", "POST") == '{"uploads":["old.txt","v1.txt"]}'
    machine.reboot()
    machine.until(lambda: "v1" in ask(workshop, "/version"), seconds=30)

    said = machine.run("pusher-agent", "app", "adopt", APP, "--undo").stdout
    assert f"{APP}.service is the old one again, and runs" in said
    machine.until(lambda: ask(workshop, "/version") == old, seconds=30)
    assert ask(workshop, "/write", "-X", "POST") == '{"uploads":["old.txt","v1.txt"]}'
    assert (machine.root / f"etc/systemd/system/{APP}.service").read_text() == UNIT
    assert machine.says("systemctl", "is-enabled", f"{APP}.service").strip() == "enabled"
    assert machine.says("pusher-agent", "app", "list").strip() == ""
    undone = machine.run("pusher-agent", "app", "adopt", APP, "--undo", check=False)
    assert (undone.returncode, "was not taken over" in undone.stderr) == (4, True)


def test_what_cannot_be_taken_over_is_refused_and_nothing_is_changed(workshop: Server) -> None:
    run, root = workshop.machine.run, workshop.machine.root
    place, before = root / f"opt/{APP}", root / f"opt/{APP}.before"
    workshop.machine.until(lambda: "old" in ask(workshop, "/version"), seconds=30)

    def refused(*words: str) -> str:
        done = run("pusher-agent", "app", "adopt", *words, check=False)
        assert done.returncode == 4, done
        assert place.exists()
        assert "old" in ask(workshop, "/version")
        return done.stderr

    assert "There is no nothing.service to take over" in refused("nothing")
    left = root / "etc/systemd/system/left.service"  # the package was purged and installed again: the app runs on
    left.write_text("# Rendered by `pusher-agent app apply left`.\n[Service]\nExecStart=/bin/true\n")
    said = refused("left")
    assert "left.service is a unit of this agent already" in said
    assert "pusher-agent app add left" in said
    left.unlink()
    assert "/opt/none cannot be taken over: there is no such folder" in refused(APP, "--path", "/opt/none")
    assert "/usr cannot be taken over: it has no releases" in refused(APP, "--path", "/usr")
    before.mkdir()
    assert f"/opt/{APP}.before is in the way" in refused(APP)
    before.rmdir()
    (place / "current").rename(place / "kept")
    (place / "current").symlink_to("releases/none")
    assert "its `current` leads to no release" in refused(APP)
    (place / "kept").rename(place / "current")

    # What is refused only after the folder was moved is taken back.
    strange = root / f"etc/systemd/system/{APP}-build.service"
    strange.write_text("[Service]\nExecStart=/bin/true\n")
    assert "belongs to another unit" in refused(APP)
    assert (root / f"etc/systemd/system/{APP}.service").read_text() == UNIT
    assert workshop.machine.says("systemctl", "is-enabled", f"{APP}.service").strip() == "enabled"
    assert not before.exists()
    strange.unlink()


def test_who_removes_it_for_good_after_all_is_told_what_is_left_and_has_no_way_back(workshop: Server) -> None:
    machine = workshop.machine
    kept, before = machine.root / f"etc/pusher-agent/adopted/{APP}", machine.root / f"opt/{APP}.before"
    if (after := machine.root / f"opt/{APP}.after").exists():
        shutil.rmtree(after)
    assert not kept.exists()
    machine.run("pusher-agent", "app", "adopt", APP)
    said = machine.run("pusher-agent", "app", "remove", APP).stdout
    assert f"To give it back to its old service: pusher-agent app adopt {APP} --undo" in said
    machine.run("pusher-agent", "app", "adopt", APP, "--undo")
    assert not kept.exists()
    machine.until(lambda: "old" in ask(workshop, "/version"), seconds=30)

    shutil.rmtree(machine.root / f"opt/{APP}.after")
    machine.run("pusher-agent", "app", "adopt", APP)
    said = machine.run("pusher-agent", "app", "remove", APP, "--purge").stdout
    assert f"removed /etc/pusher-agent/adopted/{APP}: there is no way back" in said
    assert f"left: /opt/{APP}.before, the releases of the tool before this one" in said
    assert (kept.exists(), before.exists(), (machine.root / f"opt/{APP}").exists()) == (False, True, False)
    undone = machine.run("pusher-agent", "app", "adopt", APP, "--undo", check=False)
    assert (undone.returncode, "was not taken over" in undone.stderr) == (4, True)
