"""How the releases that tests make by hand say how they run."""

from pathlib import Path

from agent.core.layout import metadata_folder
from agent.core.run import Run
from agent.host.releases.run_files import write_run
from agent.host.storage.disk import Disk
from pusher.wire import split_command


def say_run(release: Path, start: str, **settings: object) -> Run:
    """Write how a release runs into its metadata folder. `settings` are those of `Run`."""
    run = Run.model_validate({"start": split_command(start), **settings})
    metadata_folder(release).mkdir(parents=True, exist_ok=True)
    write_run(release, run, disk=Disk())
    return run
