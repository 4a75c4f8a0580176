"""One agent per root."""

import os

import pytest

from agent.host.storage.lock import Lock
from pusher.wire import Code, Failed, Refused


def test_a_second_agent_learns_which_process_has_the_root(tmp_path):
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    first.acquire()
    with pytest.raises(Refused, match=str(os.getpid())) as caught:
        second.acquire()
    assert caught.value.code is Code.BUSY
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_the_lock_dies_with_its_holder(tmp_path):
    child = os.fork()
    if child == 0:
        Lock(tmp_path / "lock").acquire()
        os._exit(0)
    os.waitpid(child, 0)
    survivor = Lock(tmp_path / "lock")
    survivor.acquire()
    survivor.release()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_that_cannot_be_opened_is_no_bug_and_says_why(tmp_path):
    with pytest.raises(Failed, match=f"Could not open {tmp_path}/away/lock: No such file"):
        Lock(tmp_path / "away/lock").acquire()
