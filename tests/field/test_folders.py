"""Empty folders travel, and what keeps one in git is no clash."""

import asyncio
import io
import os
import shutil
from pathlib import Path

import pytest

from agent.core.config.app import AppConfig
from agent.core.layout import AppLayout
from agent.core.plan import Attempt, Kind
from agent.deploy.steps.link_shared import LinkShared
from agent.deploy.steps.step import Inputs
from agent.host.drop.directory import Missing, OpenDirectory
from agent.host.drop.dropped_folder import DroppedFolder
from agent.host.releases.content import intact
from agent.host.storage.disk import Disk
from pusher.bundle.archive import read_bundle
from pusher.bundle.tree import read_tree
from pusher.wire import DROP_FOLDER, Directory
from tests.hostile.receiving import Receiver
from tests.unit.scripted_agent import STATUS, Run, sent
from tests.unit.scripted_door import ScriptedDoor, answer

EMPTY = ("media", "var/run")
ATTEMPT = Attempt(
    id="app-20261127120000Z",
    app="app",
    kind=Kind.DEPLOY,
    release="20261127120000Z",
    version="v3",
    previous=None,
    by="me",
)


@pytest.fixture
def version(project: Path) -> Path:
    for name in (*EMPTY, "pkg/__pycache__"):
        (project / "app-src/v3" / name).mkdir(parents=True)
    return project / "app-src/v3"


def test_empty_folders_are_packed_and_cache_folders_are_not(version: Path, pusher: Run) -> None:
    """My app writes into `media/`: it is there. What Python left of a module that I removed is not."""
    assert pusher("pack", "v3", "-o", "out") == 0
    found = read_bundle(Path("out"))
    assert found.entries[1:] == tuple(map(Directory, EMPTY))
    assert (found.manifest.files, found.manifest.folders) == (3, 2)


def test_an_older_agent_gets_none_and_i_am_told(
    version: Path, door: ScriptedDoor, pusher: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host that I have not upgraded yet is sent what it understands."""
    note = "left out, because an agent is older than empty folders: media, var/run\n"
    for accepts, folders in (([], 0), (["folders"], 2)):
        door.requests.clear()
        door.on("GET", "/apps/flask-demo/status", answer({**STATUS, "accepts": accepts}))
        pusher("send", "v3", "--host", door.address)
        (bundle,) = sent(door, tmp_path)
        assert bundle.manifest.folders == folders
        assert (note in capsys.readouterr().out) is not bool(folders)


def test_what_keeps_a_shared_folder_in_git_gives_way_to_it(version: Path, pusher: Run, tmp_path: Path) -> None:
    """`uploads/.gitkeep` is in my repository, uploads are shared on the server. That is no reason to refuse it."""
    for name in ("requirements.txt", "uploads/.gitkeep", "var/data/.gitignore"):
        (version / name).parent.mkdir(parents=True, exist_ok=True)
        (version / name).touch()
    assert pusher("pack", "v3", "-o", "out") == 0
    shared = ["uploads", "media", "var/data"]
    raw = Path("out").read_bytes()
    receiver = Receiver(tmp_path, shared=shared)
    tree, _ = receiver.receive(io.BytesIO(raw).read)
    assert sorted(one.name for one in tree.iterdir() if one.is_dir()) == [".pusher", "media", "uploads", "var"]
    assert intact(tree) == ""
    layout = AppLayout(tmp_path / "app")
    layout.releases.mkdir()
    release = tree.rename(layout.release("20261127120000Z"))
    config = AppConfig(path=str(layout.path), user="demo", shared_paths=shared)
    asyncio.run(LinkShared(layout, config, Disk()).do(ATTEMPT, Inputs(), print))
    assert [os.readlink(release / name) for name in shared] == [
        "../../shared/uploads",
        "../../shared/media",
        "../../../shared/var/data",
    ]
    assert intact(release, extra=False) == ""
    (release / "var/run").rmdir()
    assert intact(release, extra=False) == "var/run is missing"


def test_a_dropped_folder_waits_for_its_empty_folders(tmp_path: Path, version: Path, pusher: Run) -> None:
    """A drop is complete when all of it is there."""
    drop = tmp_path / "drop"
    assert pusher("pack", "v3", "--manifest", str(drop)) == 0
    shutil.copytree(version, drop / DROP_FOLDER)
    entries = read_tree(version).entries
    directory = OpenDirectory(drop, Disk())
    folder = DroppedFolder(directory)
    folder.check(folder.bundle(), entries)
    folder.forget()
    (drop / DROP_FOLDER / "media").rmdir()
    with pytest.raises(Missing, match="the folder tree/media"):
        folder.check(folder.bundle(), entries)
    directory.close()
