"""A person at a terminal: a command with a pseudo-terminal of its own, typed at and read from."""

import os
import pty
import select
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

PATIENCE_S = 30.0


class Terminal:
    """A command that was begun at a terminal."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self.said = ""
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            try:
                os.execvpe(argv[0], [*argv], environment)
            finally:
                os._exit(127)

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def until(self, text: str) -> None:
        """Read until it has written this, after what was waited for before."""
        deadline, begun = time.monotonic() + PATIENCE_S, len(self.said)
        while text not in self.said[begun:]:
            assert time.monotonic() < deadline, self.said
            if select.select([self._descriptor], [], [], 0.1)[0]:
                try:
                    self.said += os.read(self._descriptor, 65536).decode(errors="replace")
                except OSError as error:  # EIO: the last process at it has ended
                    raise AssertionError(self.said) from error

    def wait(self) -> int:
        """Its exit code, as `subprocess` says it; what it writes until then is read."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, self.said
            if select.select([self._descriptor], [], [], 0.05)[0]:
                try:
                    self.said += os.read(self._descriptor, 65536).decode(errors="replace")
                except OSError:
                    select.select([], [], [], 0.05)

    def ended(self, seconds: float) -> bool:
        """Whether it has ended; what it writes within that time is read."""
        if select.select([self._descriptor], [], [], seconds)[0]:
            try:
                self.said += os.read(self._descriptor, 65536).decode(errors="replace")
            except OSError:
                self.wait()
                return True
        return False

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._descriptor)


@contextmanager
def terminal(*argv: str, environment: Mapping[str, str] = os.environ) -> Iterator[Terminal]:
    found = Terminal(argv, {**environment, "TERM": "xterm"})
    try:
        yield found
    finally:
        found.close()
