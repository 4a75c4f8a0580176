"""Attacks on the agent of a booted host by local users who may not deploy, and how it answers meanwhile.

Each attack is a program that runs inside the host as root, becomes its users, and ends with its standard input.
"""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.system.server import APP, Server

_FIRST_UID = 20_001
_BEGIN = f"""
import os, select, socket, sys, time
def become(number):
    os.setgroups([]); os.setgid({_FIRST_UID} + number); os.setuid({_FIRST_UID} + number)
def connect():
    sock = socket.socket(); sock.settimeout(10); sock.connect(("127.0.0.1", 9000)); return sock
def over():
    return bool(select.select([sys.stdin], [], [], 0)[0])
def ready():
    print("ready", flush=True)
"""
_IDLE = """
told, tell = os.pipe()
for number in range(20):
    if os.fork() == 0:
        become(number)
        held = [connect() for _ in range(65)]
        os.write(tell, b"x")
        while not over():
            for at, sock in enumerate(held):
                try:
                    closed = False
                    while not closed and select.select([sock], [], [], 0)[0]:
                        closed = not sock.recv(4096)
                except OSError:
                    closed = True
                if closed:
                    sock.close()
                    held[at] = connect()
            time.sleep(1)
        os._exit(0)
for _ in range(20): os.read(told, 1)
ready()
while not over(): select.select([sys.stdin], [], [])
"""
_FLOOD = """
for number in range(2):
    if os.fork() == 0:
        become(number)
        while not over():
            try: connect().close()
            except OSError: pass
        os._exit(0)
ready()
while not over(): select.select([sys.stdin], [], [])
"""
_BOMBS = """
FRAME = bytes.fromhex("28b52ffd0068")
for number in range(8):
    if os.fork() == 0:
        os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[2]))
        while not over():
            try:
                sock = connect()
                sock.sendall(b"POST /apps/APP/deployments HTTP/1.1\\r\\nHost: agent:9000\\r\\n"
                             b"Content-Type: application/zstd\\r\\nContent-Length: 900000\\r\\n\\r\\n")
                sock.sendall(FRAME + bytes(899994))
                sock.recv(4096)
            except OSError: pass
            finally: sock.close()
        os._exit(0)
ready()
while not over(): select.select([sys.stdin], [], [])
"""
_DROP = """
path = "/var/lib/pusher-agent/drop/APP/hole.tar.zst"
with open(path, "wb") as file:
    file.write(bytes.fromhex("28b52ffd0068")); file.truncate(1024**4)
ready()
while not over():
    os.utime(path)
    select.select([sys.stdin], [], [], 0.5)
os.unlink(path)
"""
ATTACKS = {
    "1,300 idle connections by 20 users": _IDLE,
    "a flood of connections by 2 users": _FLOOD,
    "eight bombs at a time by a member": _BOMBS,
    "a dropped file of 1 TB": _DROP,
}


@dataclass(slots=True)
class Healthz:
    """How long each answer to `GET /healthz` took, in seconds, and what went wrong instead."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def percentile(self, part: float) -> float:
        """For example 0.99."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(part * len(self.seconds)))]


@contextmanager
def besieged(server: Server, *names: str) -> Iterator[Healthz]:
    """The attacks of these names, all together, while root asks for /healthz ten times a second."""
    with ExitStack() as undo:
        group, user = (server.machine.says("id", what, "alice").strip() for what in ("-g", "-u"))
        for name in names:
            program = _BEGIN + ATTACKS[name].replace("APP", APP)
            attack = undo.enter_context(server.machine.running("/usr/bin/python3", "-c", program, group, user))
            undo.callback(_end, attack)
            assert attack.stdout is not None
            assert attack.stdout.readline() == b"ready\n", name
        yield undo.enter_context(_asking(server))


@contextmanager
def _asking(server: Server) -> Iterator[Healthz]:
    found = Healthz()
    with server.machine.running("/usr/bin/python3", "-c", _BEGIN + _ASK) as asking:
        assert asking.stdout is not None
        lines = asking.stdout

        def read() -> None:
            for line in lines:
                said = json.loads(line)
                (found.seconds if isinstance(said, float) else found.failures).append(said)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield found
        finally:
            _end(asking)
            reader.join()


_ASK = """
import json
due = time.monotonic()
while not over():
    began = time.monotonic()
    try:
        sock = connect()
        sock.sendall(b"GET /healthz HTTP/1.1\\r\\nHost: agent:9000\\r\\nConnection: close\\r\\n\\r\\n")
        answer = b""
        while piece := sock.recv(4096): answer += piece
        sock.close()
        said = time.monotonic() - began if answer.startswith(b"HTTP/1.1 200") else answer[:100].decode()
    except OSError as error: said = repr(error)
    print(json.dumps(said), flush=True)
    due = max(due + 0.1, time.monotonic() - 1)
    time.sleep(max(0, due - time.monotonic()))
"""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Have a program end by itself, with all processes that it has made."""
    assert process.stdin is not None
    process.stdin.close()
    process.wait(30)


def until_asked(found: Healthz, times: int) -> None:
    """Wait until /healthz was answered so often."""
    deadline = time.monotonic() + 60
    while len(found.seconds) + len(found.failures) < times:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
