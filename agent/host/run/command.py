"""A command that a person has begun: it has their terminal, and ends with them.

Invariant: when this process ends, by whatever cause, the command does too (the parent-death signal). When the
reader of its output has gone, which is how a lost SSH connection shows, it is asked to end.
"""

import ctypes
import os
import pwd
import select
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pusher.wire import Code, Failed

ENDS = (signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1  # prctl(2)
_AT_LEAST = 128


def has_terminal() -> bool:
    """Whether input, output and errors all are a terminal."""
    return all(os.isatty(descriptor) for descriptor in (0, 1, 2))


def run_to_its_end(
    argv: Sequence[str],
    *,
    folder: Path = Path("/"),
    environment: Mapping[str, str] | None = None,
    apart: bool,
    interrupt: Callable[[int], None],
    end: Callable[[int], None],
) -> int:
    """Run `argv` with the descriptors of this process; its exit code, or 128 and the signal that has ended it.

    `apart`: keep it from Ctrl-C at the terminal. `interrupt` is called for that, `end` when the caller is gone
    or wants an end; both get its process id. Raises: Failed, if it cannot be run.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    handlers = {number: signal.signal(number, _wake) for number in (signal.SIGINT, signal.SIGQUIT, *ENDS)}
    waker = signal.set_wakeup_fd(writing)
    ctypes.CDLL(None).prctl(
        _PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0
    )  # so that `kill -9` of sudo ends it as well
    try:
        try:
            process = subprocess.Popen(argv, cwd=folder, env=environment, process_group=0 if apart else None)
        except OSError as error:
            why = error.strerror or str(error)
            raise Failed(Code.SERVICE_FAILED, f"{argv[0]} cannot be run", why=why) from error
        ending = 0
        for number in _until_it_ends(process, reading):
            if number in ENDS:
                ending = number
                end(process.pid)
            else:
                interrupt(process.pid)
        code = process.wait()
        if ending:
            return _AT_LEAST + ending
        return code if code >= 0 else _AT_LEAST - code
    finally:
        signal.set_wakeup_fd(waker)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


@contextmanager
def seen_as(user: str) -> Iterator[None]:
    """Within the block, files are seen with the rights of `user`, if this is root. Raises: KeyError."""
    if os.geteuid() != 0:
        yield
        return
    account, groups = pwd.getpwnam(user), os.getgroups()
    os.setgroups(os.getgrouplist(user, account.pw_gid))
    os.setegid(account.pw_gid)
    os.seteuid(account.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _until_it_ends(process: "subprocess.Popen[bytes]", reading: int) -> Iterator[int]:
    """The signals that come until the process has ended; SIGHUP also when all readers of its output have gone."""
    ended = os.pidfd_open(process.pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(reading, select.POLLIN)
    readers = {descriptor for descriptor in (1, 2) if _has_reader(descriptor)}
    for descriptor in readers:
        poll.register(descriptor, 0)
    try:
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == ended:
                    return
                if descriptor == reading:
                    yield from os.read(reading, 64)
                    continue
                poll.unregister(descriptor)
                readers.discard(descriptor)
                if not readers:
                    yield signal.SIGHUP
    finally:
        os.close(ended)


def _has_reader(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


def _wake(_: int, __: FrameType | None) -> None:
    """Nothing: its number is read from the wake-up descriptor."""
