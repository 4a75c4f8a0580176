"""How the releases that tests make by hand say how they run."""

from pathlib import Path

from agent.core.layout import metadata_folder
from agent.core.run import Run, run_text, start_text
from pusher.wire import split_command


def say_run(release: Path, start: str, **settings: object) -> Run:
    """Write how a release runs into its metadata folder, as the agent does. `settings` are those of `Run`."""
    run = Run.model_validate({"start": split_command(start), **settings})
    folder = metadata_folder(release)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(run_text(run))
    (folder / "start").write_text(start_text(run))
    return run
