"""Who answers where the agent is asked: process 1 holds the addresses, and no user of the server gets them."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pusher.wire import DOOR, SSH_DOOR
from pusher.wire.page import AGENT_FILES
from tests.system.server import APP, Server

GREEDY = """
import select, socket, sys
print("begun", flush=True)
while not select.select([sys.stdin], [], [], 0.005)[0]:
    for port in map(int, sys.argv[1:]):
        for host in ("127.0.0.1", "0.0.0.0", "::1", "::"):
            try:
                sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if ":" in host:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
                sock.bind((host, port))
                sock.listen()
            except OSError:
                sock.close()
                continue
            if host != "::1":
                print("GOT IT", host, port, flush=True)
            sock.close()
"""
"""Tries to listen in the agent's place, all the time, in every way there is."""

LISTENS = """
import select, socket, sys
sock = socket.create_server(("127.0.0.1", 9000))
print("listening", flush=True)
visitors = []
while sys.stdin not in select.select([sys.stdin, sock, *visitors], [], [])[0]:
    if select.select([sock], [], [], 0)[0]:
        visitors.append(sock.accept()[0])
    for visitor in select.select(visitors, [], [], 0)[0]:
        print("heard", visitor.recv(100), flush=True)
        visitors.remove(visitor)
"""


@contextmanager
def greedy(server: Server, *ports: int) -> Iterator[list[str]]:
    """Mallory, while the block lasts; what mallory printed is in the list afterwards."""
    said: list[str] = []
    python = ("/usr/bin/python3", "-c", GREEDY, *map(str, ports or (9000, 290)))
    with server.machine.running(*python, user="mallory") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield said
        assert process.stdin is not None
        process.stdin.close()
        said += process.stdout.read().decode().splitlines()


async def asked(server: Server, done: asyncio.Event, *where: str) -> list[str]:
    """Ask whether the agent is up, ten times a second, each time on a connection of its own; how it went."""
    found: list[asyncio.Task[str]] = []
    while not done.is_set():
        found.append(asyncio.create_task(asyncio.to_thread(healthz, server, *where)))
        await asyncio.sleep(0.1)
    return list(await asyncio.gather(*found))


def healthz(server: Server, *where: str) -> str:
    return server.machine.says("curl", "-sS", "--max-time", "60", *(where or ("agent:9000/healthz",))).strip()


def says(server: Server, *argv: str) -> str:
    return server.machine.says(*argv).strip()


def test_process_1_holds_every_address_of_the_agent(live: Server) -> None:
    for port in (9000, 290):
        (line,) = says(live, "ss", "-Hlntpe", f"sport = :{port}").splitlines()
        assert f"127.0.0.1:{port} " in line
        assert '("systemd",pid=1,' in line
        assert "uid:" not in line  # root's
        assert json.loads(says(live, "curl", "-sS", f"127.0.0.1:{port}/healthz")) == {"status": "ok"}
    assert '("systemd",pid=1,' in says(live, "ss", "-Hlxp", "src = /run/pusher-agent/api.sock")
    assert says(live, "stat", "--format=%a", "/run/pusher-agent/api.sock") == "666"
    assert says(live, "systemctl", "is-enabled", "pusher-agent.socket") == "enabled"
    assert live.curl("/status", user="alice")["live"] is not None
    assert live.curl("/status", user="mallory")["code"] == "not_allowed"
    unix = ("--unix-socket", "/run/pusher-agent/api.sock", "http://localhost/status")
    for user, member in (("alice", "live"), ("mallory", "code")):
        assert member in json.loads(live.machine.says("curl", "-sS", *unix, user=user))


def test_the_page_is_in_the_package_and_shows_an_operator_what_is_there(live: Server) -> None:
    assert "/page/agent.js" in live.machine.says("curl", "-sS", "agent:9000/", user="alice")
    for name in AGENT_FILES:
        assert live.machine.says("curl", "-sSf", f"agent:9000/page/{name}", user="alice")
    assert live.curl("/", user="mallory")["code"] == "not_allowed"
    assert live.curl("/apps", user="alice")["apps"] == [{"app": APP, "problem": None}]
    assert live.curl(f"/apps/{APP}/health", user="alice")["healthy"] is True
    status = live.curl("/status", user="alice")
    assert status["live"]["since"]
    assert status["live"]["by"]
    assert 0 < status["disk"]["free"] <= status["disk"]["total"]


async def test_while_the_agent_restarts_connections_wait_and_nobody_else_gets_its_place(live: Server) -> None:
    done = asyncio.Event()
    with greedy(live) as said:
        asking = asyncio.create_task(asked(live, done))
        for how in (("restart",), ("restart",)):
            await asyncio.to_thread(live.machine.run, "systemctl", *how, "pusher-agent.service")
            await asyncio.to_thread(live.machine.until, lambda: live.says("is-active", "pusher-agent") == "active")
        done.set()
        answers = await asking
    assert set(answers) == {'{"status":"ok"}'}, answers
    assert said == []


def test_after_a_boot_the_addresses_are_held_before_anybody_asks(live: Server) -> None:
    live.machine.run("systemctl", "stop", "pusher-agent.service")
    with greedy(live) as said:
        assert json.loads(healthz(live)) == {"status": "ok"}  # and that starts it
    assert said == []


def test_who_listens_where_the_agent_let_go_hears_nothing(live: Server) -> None:
    live.machine.run("systemctl", "stop", "pusher-agent.socket", "pusher-agent.service")
    try:
        argv = ("/usr/bin/python3", "-c", LISTENS)
        with live.machine.running(*argv, user="mallory") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n"
            for user in ("alice", ""):
                done = live.machine.run(
                    *("pusher", "status", "--app", APP, "--host", f"http://{DOOR}"), user=user, check=False
                )
                assert done.returncode == 5
                assert "What listens at http://127.0.0.1:9000 is not the agent" in done.stderr
                assert "it is run by mallory (uid " in done.stderr
            started = live.machine.run("systemctl", "start", "pusher-agent.service", check=False)
            assert started.returncode != 0  # rather than to be asked where mallory answers
            assert process.stdin is not None
            process.stdin.close()
            assert b"GET" not in process.stdout.read()
        mallory = live.machine.run(
            *("/usr/bin/python3", "-c", LISTENS.replace("9000", SSH_DOOR.partition(":")[2])),
            user="mallory",
            check=False,
        )
        assert "Permission denied" in mallory.stderr
    finally:
        live.machine.run("systemctl", "reset-failed", "pusher-agent.socket", "pusher-agent.service")
        live.machine.run("systemctl", "start", "pusher-agent.service")
    assert json.loads(healthz(live)) == {"status": "ok"}


def test_another_address_in_the_configuration_is_refused_until_root_applies_it(live: Server) -> None:
    file = "/etc/pusher-agent/agent.toml"
    live.machine.run("cp", file, "/etc/kept.toml")
    live.machine.run("sh", "-c", f"printf '\\n[door]\\naddress = \"127.0.0.1:9100\"\\n' >>{file}")
    try:
        live.machine.run("systemctl", "restart", "pusher-agent.service", check=False, seconds=10)
    except subprocess.TimeoutExpired:
        pytest.fail("the agent did not say that it could not start")
    assert "Process 1 does not hold 127.0.0.1:9100 for the agent" in live.log()
    assert "`pusher-agent door apply`" in says(live, "pusher-agent", "check")
    live.machine.run("pusher-agent", "door", "apply")
    assert json.loads(says(live, "curl", "-sS", "agent:9100/healthz")) == {"status": "ok"}
    assert says(live, "ss", "-Hlnt", "sport = :9000") == ""
    assert "127.0.0.1:290" in says(live, "ss", "-Hlnt", "sport = :290")
    live.machine.run("cp", "/etc/kept.toml", file)
    said = live.machine.run("pusher-agent", "door", "apply").stdout
    assert "removed /etc/systemd/system/pusher-agent.socket.d/door.conf" in said
    assert json.loads(healthz(live)) == {"status": "ok"}
    assert "BAD" not in says(live, "pusher-agent", "check")
