"""What the agent says to a workshop that runs build steps, and what it believes of the answer.

Invariant: nothing replaces a file of the release, and nothing lies outside of the paths that the steps may make.
The files are created anew, and hashed as they are written.
"""

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.core.build_paths import build_path_matcher
from agent.core.work_folder import VENV
from agent.host.dependencies.build_steps import RELEASE, BuildSteps, StepsOutcome
from agent.host.dependencies.stream import FILE, FOLDER, Limits, Malformed, read_outcome, read_tree, write_order
from agent.host.run.process import plain_text
from agent.host.storage.disk import Disk
from agent.host.storage.folders import Folders
from pusher.wire import Entry, File, Link, WireError, check_path, reserved

_STRAYS_MOST = 100


@dataclass(frozen=True, slots=True)
class BuildJob:
    """A release whose steps are to be run: its folder, the entries of its index, and its venv.

    `others` are paths in it that are neither: links to shared ones. At most `size` bytes in `files` may come back.
    """

    release: Path
    entries: tuple[Entry, ...]
    venv: Path
    others: Collection[str]
    steps: BuildSteps
    files: int
    size: int


def exchange(
    stream: BinaryIO, job: BuildJob, *, disk: Disk, say: Callable[[bytes], None]
) -> tuple[StepsOutcome, list[File]]:
    """Send the job, and take in what was made. Blocking. Returns what came of it, and the files that came.

    Raises: Malformed, OSError, Failed(disk_*).
    """
    write_order(stream, {"steps": job.steps.members()}, _files(job), _links(job))
    outcome = _outcome(read_outcome(stream, say))
    if outcome.ending or outcome.strays:
        return outcome, []
    return outcome, _take_in(stream, job, disk)


def _files(job: BuildJob) -> Iterator[tuple[str, Path]]:
    for entry in job.entries:
        if isinstance(entry, File):
            yield f"{RELEASE}/{entry.path}", job.release / entry.path
    for path in _venv_leaves(job.venv):
        if not path.is_symlink():
            yield f"{VENV}/{path.relative_to(job.venv)}", path


def _links(job: BuildJob) -> Iterator[tuple[str, str]]:
    yield f"{RELEASE}/{VENV}", f"../{VENV}"
    for entry in job.entries:
        if isinstance(entry, Link):
            yield f"{RELEASE}/{entry.path}", entry.target
    for path in _venv_leaves(job.venv):
        if path.is_symlink():
            yield f"{VENV}/{path.relative_to(job.venv)}", os.readlink(path)


def _venv_leaves(venv: Path) -> Iterator[Path]:
    for above, folders, files in os.walk(venv):
        for name in [*files, *(one for one in folders if os.path.islink(f"{above}/{one}"))]:
            yield Path(above, name)


def _outcome(answer: dict[str, object]) -> StepsOutcome:
    ending, said, step, strays = (answer.get(key) for key in ("ending", "said", "step", "strays"))
    if not (
        isinstance(ending, str) and isinstance(said, str) and isinstance(step, str) and isinstance(strays, list)
    ):
        raise Malformed("its outcome is none")
    if len(strays) > _STRAYS_MOST or not all(isinstance(one, str) for one in strays):
        raise Malformed("its outcome is none")
    plain = [plain_text(str(one).encode(errors="replace"))[:200] for one in (ending, step, *strays)]
    text = "\n".join(plain_text(one.encode(errors="replace")) for one in said.splitlines())
    return StepsOutcome(plain[0], text, plain[1], tuple(plain[2:]))


def _take_in(stream: BinaryIO, job: BuildJob, disk: Disk) -> list[File]:
    matches = build_path_matcher(job.steps.paths)
    there = {entry.path for entry in job.entries} | {*job.others}
    made: dict[str, File] = {}
    with Folders(job.release) as folders:
        for item in read_tree(stream, limits=Limits(files=job.files, size=job.size)):
            try:
                path = check_path(item.path)
            except WireError as error:
                raise Malformed(str(error)) from error
            if item.kind == FOLDER:
                descriptor, name = folders.of(path)
                disk.make_folder(name, folder=descriptor, mode=0o755, op="build.folder")
                continue
            if item.kind != FILE or not matches(path) or reserved(path) or path in there or path in made:
                raise Malformed(f"{path!r} is no file that the build steps may make")
            descriptor, name = folders.of(path)
            mode = 0o755 if item.executable else 0o644
            size, digest = disk.create(name, item.content, folder=descriptor, mode=mode, op="build.file")
            made[path] = File(path, mode, size, digest)
    return [made[path] for path in sorted(made)]
