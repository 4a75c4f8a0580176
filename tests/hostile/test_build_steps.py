"""A workshop that build code has taken over can put nothing into a release but files that its steps may make."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from agent.host.dependencies.build_steps import BuildSteps
from agent.host.dependencies.steps_exchange import BuildJob, exchange
from agent.host.dependencies.stream import END, FILE, FOLDER, LINE, LINK, OUTCOME, Malformed, write_frame
from agent.host.storage.disk import Disk
from pusher.wire import File, Problem

WELL = {"ending": "", "said": "", "step": "x", "strays": []}
Parts = tuple[bytes, object, bytes]


class Taken:
    """The stream of a workshop that says what it likes. What is written to it is forgotten."""

    def __init__(self, *parts: Parts, outcome: object = WELL) -> None:
        answer = io.BytesIO()
        out = cast(BinaryIO, answer)
        write_frame(out, LINE, b"working\x1b[2J")
        write_frame(out, OUTCOME, json.dumps(outcome).encode())
        for kind, payload, content in parts:
            write_frame(out, kind, json.dumps(payload).encode())
            answer.write(content)
        write_frame(out, END)
        answer.seek(0)
        self.read: Callable[[int], bytes] = answer.read

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None: ...


def file(path: str, content: bytes = b"x", *, executable: bool = False) -> Parts:
    return FILE, [path, executable, len(content)], content


def folder(path: str) -> Parts:
    return FOLDER, [path], b""


@pytest.fixture
def job(tmp_path: Path) -> BuildJob:
    release = tmp_path / "releases/one"
    (release / "static").mkdir(parents=True)
    (release / "app.py").write_text("app")
    (release / "static/there.css").write_text("there")
    (release / "static/link").symlink_to("/etc")
    (tmp_path / "venv").mkdir()
    entries = tuple(File(path, 0o644, 1, "0" * 64) for path in ("app.py", "static/there.css"))
    steps = BuildSteps(commands=(("x",),), paths=("static", "out/*.mo"), environment={}, deadline_s=1)
    return BuildJob(release, entries, tmp_path / "venv", ("uploads",), steps, files=4, size=100)


def names(top: Path) -> dict[str, str]:
    return {str(one.relative_to(top)): one.read_text() for one in top.rglob("*") if one.is_file()}


def take(job: BuildJob, stream: Taken) -> list[File]:
    _, made = exchange(cast(BinaryIO, stream), job, disk=Disk(), say=lambda _: None)
    return made


def test_what_the_steps_may_make_is_taken_in_and_hashed(job: BuildJob) -> None:
    made = take(job, Taken(folder("static"), file("static/a.css", b"css", executable=True)))
    assert [(one.path, one.mode, one.size) for one in made] == [("static/a.css", 0o755, 3)]
    assert (job.release / "static/a.css").read_text() == "css"


@pytest.mark.parametrize(
    "parts",
    [
        (file("app.py"),),
        (file("other.py"),),
        (folder("static"), file("static/there.css")),
        (folder("static"), file("static/a"), file("static/a")),
        (folder("static"), (LINK, ["static/b", "/etc/passwd"], b"")),
        (folder("static"), folder("static/link"), file("static/link/passwd")),
        (folder(".pusher"), file(".pusher/start")),
        (folder("static"), file("static/../../outside")),
        (file("/etc/outside"),),
        (folder("static"), file("static/" + "a" * 300)),
        (folder("static"), file("static/a", b"x" * 101)),
        (folder("static"), *(file(f"static/{number}") for number in range(5))),
        (folder("uploads"), file("uploads/a")),
    ],
)
def test_anything_else_is_refused_and_nothing_outside_is_touched(
    job: BuildJob, parts: tuple[Parts, ...], tmp_path: Path
) -> None:
    before = names(tmp_path)
    with pytest.raises((Malformed, Problem)):
        take(job, Taken(*parts))
    after = names(tmp_path)
    assert {name: after[name] for name in before} == before
    new = {*after} - {*before}
    assert all(name.startswith("releases/one/static/") for name in new), new


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        {},
        WELL | {"ending": 1},
        WELL | {"strays": "all"},
        WELL | {"strays": ["x"] * 101},
        WELL | {"said": ["x"]},
    ],
)
def test_an_outcome_that_is_none_is_refused(job: BuildJob, outcome: object) -> None:
    with pytest.raises(Malformed):
        take(job, Taken(outcome=outcome))
