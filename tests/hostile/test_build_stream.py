"""What a build unit sends back is another user's: whatever it is, only a venv's own files come of it."""

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.host.dependencies import workshop
from agent.host.dependencies.receipt import take_in
from agent.host.dependencies.stream import (
    END,
    FILE,
    FOLDER,
    LINE,
    LINK,
    OUTCOME,
    Limits,
    Malformed,
    read_outcome,
    read_tree,
    write_frame,
    write_order,
    write_tree,
)
from agent.host.storage.disk import Disk

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An empty venv, as the agent makes it."""
    venv = tmp_path / "work/venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "lib/python3/site-packages").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (venv / "bin/python").symlink_to("/usr/bin/python3")
    (venv / "lib64").symlink_to("lib")
    return venv


def frames(*parts: tuple[bytes, Any, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    for kind, payload, content in parts:
        write_frame(out, kind, payload if isinstance(payload, bytes) else json.dumps(payload).encode())
        out.write(content)
    out.seek(0)
    return out


def folder(path: str) -> tuple[bytes, Any, bytes]:
    return FOLDER, [path], b""


def file(path: str, content: bytes = b"x", *, executable: bool = False) -> tuple[bytes, Any, bytes]:
    return FILE, [path, executable, len(content)], content


def link(path: str, target: str) -> tuple[bytes, Any, bytes]:
    return LINK, [path, target], b""


LAST = (END, b"", b"")
FOLDERS = (folder("bin"), folder("lib"), folder("lib/python3"), folder("lib/python3/site-packages"))


def receive(venv: Path, *parts: tuple[bytes, Any, bytes]) -> None:
    take_in(read_tree(frames(*parts)), into=venv, disk=Disk())


def everything(folder: Path) -> dict[str, str]:
    """All that is in a folder: kind, mode and content, by path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        what = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
        found[str(path.relative_to(folder))] = f"{path.lstat().st_mode:o} {what}"
    return found


def test_a_venv_as_uv_makes_it_arrives(venv: Path) -> None:
    receive(
        venv,
        *FOLDERS,
        folder("lib/python3/site-packages/tiny"),
        file("lib/python3/site-packages/tiny/__init__.py", b"1"),
        file("bin/tiny", b"#!", executable=True),
        file("pyvenv.cfg", b"other"),
        link("lib64", "lib"),
        link("bin/python", "/usr/bin/python3"),
        LAST,
    )
    assert (venv / "lib/python3/site-packages/tiny/__init__.py").read_text() == "1"
    assert f"{(venv / 'bin/tiny').stat().st_mode:o}" == "100755"
    assert (venv / "pyvenv.cfg").read_text() == "home = /usr/bin\n", "the agent's own stays"


@pytest.mark.parametrize(
    "parts",
    [
        (file("../out"),),
        (file("/tmp/out"),),
        (file("bin/../../out"),),
        (file("bin//out"),),
        (file("./out"),),
        (file(""),),
        (file("out\0"),),
        (file("out\ud800"),),
        (file("a" * 300),),
        (folder("bin"), file("bin/" + "/".join("a" * 70))),
        (file("nowhere/out"),),
        (folder("bin"), file("bin/python/out")),
        (folder("bin"), folder("bin/python"), file("bin/python/out")),
        (folder("bin"), file("bin/python")),
        (folder("lib64"), file("lib64/out")),
        (link("lib64", "/"), file("lib64/out")),
        (link("lib64", "lib"), file("lib64/out")),
        (link("out", "/etc"), file("out/passwd")),
        (link("out", "lib"),),
        (folder("bin"), link("bin/python", "/bin/sh")),
        (folder("bin"), link("bin/other", "python")),
        (link("lib", "/etc"),),
        (file("lib"),),
        (file("out"), file("out")),
        (file("out"), folder("out"), file("out/in")),
        ((FILE, ["out", False, 5], b"x"),),
        ((FILE, ["out", False, -1], b""),),
        ((FILE, ["out", False, 10**15], b""),),
        ((FILE, ["out", 0o4755, 1], b"x"),),
        ((FILE, ["out", False], b""),),
        ((b"B", ["out"], b""),),
        ((LINK, ["out", None], b""),),
        ((FOLDER, b"[", b""),),
        ((FOLDER, b"[" * 100_000, b""),),
        ((FOLDER, [], b""),),
        ((FOLDER, {"a": 1}, b""),),
        ((FOLDER, [["out"]], b""),),
        (),
    ],
    ids=range(38),
)
def test_what_is_no_venv_is_refused_and_nothing_outside_of_it_is_touched(
    venv: Path, parts: tuple[tuple[bytes, Any, bytes], ...]
) -> None:
    with pytest.raises(Malformed):
        receive(venv, *parts, *([LAST] if parts else []))
    assert sorted(os.listdir(venv.parent)) == ["venv"]
    assert os.readlink(venv / "bin/python") == "/usr/bin/python3"
    assert os.readlink(venv / "lib64") == "lib"
    allowed = {
        "bin",
        "bin/python",
        "lib",
        "lib/python3",
        "lib/python3/site-packages",
        "lib64",
        "out",
        "pyvenv.cfg",
    }
    assert set(everything(venv)) <= allowed


def test_no_more_is_taken_than_a_venv_can_have(venv: Path) -> None:
    few = Limits(lines=10, files=10, size=10)
    many = frames(*[file(f"f{number}", b"") for number in range(20)])
    with pytest.raises(Malformed, match="more than 10 files"):
        take_in(read_tree(many, limits=few), into=venv, disk=Disk())
    large = frames(file("one", b"12345"), file("two", b"678901"))
    with pytest.raises(Malformed, match="'two' is of another kind, or larger"):
        take_in(read_tree(large, limits=few), into=venv, disk=Disk())
    with pytest.raises(Malformed, match="has 5000000 bytes"):
        read_outcome(io.BytesIO(b"L" + (5_000_000).to_bytes(4, "big")), print)
    with pytest.raises(Malformed, match="more than 10 lines"):
        read_outcome(frames(*[(LINE, b"x", b"")] * 20), print, limits=few)
    with pytest.raises(Malformed, match="before the outcome"):
        read_outcome(frames(file("x")), print)
    with pytest.raises(Malformed, match="no JSON object"):
        read_outcome(frames((OUTCOME, [1], b"")), print)


def test_what_is_neither_file_nor_folder_nor_link_is_not_sent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Malformed, match="fifo is neither"):
        write_tree(io.BytesIO(), tmp_path)


@contextmanager
def unit(cache: Path, path: Path) -> Iterator[socket.socket]:
    """A connection to the program of the unit, started as systemd starts it: with its socket as descriptor 3."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as connection:
        listener.bind(str(path))
        listener.listen()
        argv = ("/bin/sh", "-c", 'exec "$@" 3<&0 </dev/null', "sh", sys.executable, "-m", workshop.__name__)
        environment = {"PATH": "/usr/bin:/bin", "CACHE_DIRECTORY": str(cache), "PYTHONPATH": str(REPOSITORY)}
        with subprocess.Popen(argv, stdin=listener, env=environment, cwd="/") as process:
            connection.connect(str(path))
            yield connection
            assert process.wait(10) == 0


def test_an_order_is_carried_out_and_its_venv_comes_back(venv: Path, tmp_path: Path) -> None:
    uv = tmp_path / "uv"
    uv.write_text(
        "#!/bin/sh\nset -e\n"
        'if [ "$1" = make ]; then mkdir -p venv/bin; exit; fi\n'
        'echo "$HOME"; cat wheels/deep/x.whl requirements.txt >venv/bin/made; chmod 4755 venv/bin/made\n'
    )
    uv.chmod(0o755)
    given = tmp_path / "given"
    (given / "wheels/deep").mkdir(parents=True)
    (given / "wheels/deep/x.whl").write_text("wheel ")
    (given / "requirements.txt").write_text("x\n")
    order = {
        "make": [str(uv), "make"],
        "attempts": [["index", [str(uv), "install"]]],
        "environment": {"PATH": "/usr/bin:/bin", "HOME": "/root"},
        "deadline_s": 10,
    }
    cache, lines = tmp_path / "cache", list[bytes]()
    (cache / "work/left").mkdir(parents=True)
    with unit(cache, tmp_path / "socket") as connection, connection.makefile("rwb") as both:
        names = ("wheels/deep/x.whl", "requirements.txt")
        write_order(both, order, [(name, given / name) for name in names])  # type: ignore[arg-type]
        outcome = read_outcome(both, lines.append)  # type: ignore[arg-type]
        take_in(read_tree(both), into=venv, disk=Disk())  # type: ignore[arg-type]
    assert (outcome["ending"], outcome["source"]) == ("", "index")
    assert lines == [str(cache).encode()]
    assert (venv / "bin/made").read_text() == "wheel x\n"
    assert f"{(venv / 'bin/made').stat().st_mode:o}" == "100755", "no set-id bit comes along"
    assert not (cache / "work").exists()
