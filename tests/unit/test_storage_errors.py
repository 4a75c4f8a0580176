"""Errors of the operating system are explained so that a person can act on them."""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from agent.host.storage.disk import Disk
from agent.host.storage.errors import path_of
from pusher.wire import Code, Failed


@pytest.mark.parametrize(
    ("number", "code", "hint"),
    [
        (errno.ENOSPC, Code.DISK_FULL, "Make room"),
        (errno.EDQUOT, Code.DISK_FULL, "quota"),
        (errno.EROFS, Code.DISK_ERROR, "read-only"),
        (errno.EACCES, Code.DISK_ERROR, "Give the agent's user the right"),
        (errno.ENOTTY, Code.DISK_ERROR, ""),
    ],
)
def test_an_error_says_what_why_and_what_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: Code, hint: str
) -> None:
    def failing(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", failing)
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(Failed) as caught:
        Disk().create("file", [b"x"], folder=folder, mode=0o644, op="x")
    os.close(folder)
    assert caught.value.code is code
    assert caught.value.what == f"Could not create {tmp_path}/file"
    assert caught.value.why == os.strerror(number)
    assert hint in caught.value.hint
    assert path_of(folder) == "..."


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small filesystem needs root")
def test_a_disk_that_is_really_full_says_so(tmp_path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    small = tmp_path / "small"
    small.mkdir()
    if libc.mount(b"none", os.fsencode(small), b"tmpfs", 0, b"size=64k"):
        pytest.skip("no tmpfs can be mounted here")
    try:
        with pytest.raises(Failed) as caught:
            Disk().create(small / "large", [bytes(200_000)], mode=0o644, op="x")
        assert caught.value.code is Code.DISK_FULL
        assert "keep_releases" in caught.value.hint
    finally:
        libc.umount(os.fsencode(small))
