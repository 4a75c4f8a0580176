"""Which processes still have a socket open: a process, its children, or none."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from agent.host.net.socket_holders import holds

SCRIPT = """
import subprocess, sys
child = subprocess.Popen(["sleep", "60"], pass_fds=[{fd}]) if {child} else None
print("up", flush=True)
for line in sys.stdin:
    if line == "close\\n":
        import os
        os.close({fd})
    if line == "kill\\n":
        child.kill()
        child.wait()
    print("did", flush=True)
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def start(listener: socket.socket, *, child: bool) -> "subprocess.Popen[str]":
    script = SCRIPT.format(fd=listener.fileno(), child=child)
    process = subprocess.Popen(
        (sys.executable, "-c", script),
        pass_fds=[listener.fileno()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def tell(process: "subprocess.Popen[str]", what: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{what}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "did\n"


def test_a_process_holds_what_it_or_a_child_of_it_has_open(listener: socket.socket):
    with start(listener, child=True) as process:
        assert holds(process.pid, listener)
        tell(process, "close")
        assert holds(process.pid, listener)
        tell(process, "kill")
        assert not holds(process.pid, listener)
        process.kill()


def test_a_process_that_has_another_socket_or_has_ended_holds_nothing(listener: socket.socket):
    with start(listener, child=False) as process, socket.create_server(("127.0.0.1", 0)) as other:
        assert not holds(process.pid, other)
        process.kill()
        process.wait()
        assert not holds(process.pid, listener)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_process_that_cannot_be_seen_counts_as_a_holder(listener: socket.socket):
    child = os.fork()
    if child == 0:
        os.setuid(65533)
        os._exit(0 if holds(1, listener) else 1)
    assert os.waitpid(child, 0)[1] == 0
