"""The HTTP door over real sockets: who may use it, which requests are meant for it, and its responses."""

import asyncio
import contextlib
import os
import resource
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.core.config.host import BundleLimits
from agent.doors.http.guards import allowed_hosts
from agent.doors.http.responses import STATUS, problem_response
from agent.doors.http.routes import ROUTES, Match, Policy, Row, find
from agent.doors.http.server import HttpDoor
from pusher.wire import Code, Happened, Refused, Route, Stuck
from tests.deploy.simulated_agent import SimulatedAgent, bundle, until
from tests.deploy.visitor import Visitor, visiting

STRANGER, UNMAPPED = 12_345, 65_534
CALLERS = {
    "the agent's own user": (None, True),
    "a member of the group": (1, True),
    "a stranger": (STRANGER, False),
    "an unknown user": (UNMAPPED, False),
}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
transports = pytest.mark.parametrize("unix", [False, True], ids=["over tcp", "over the unix socket"])


@pytest.fixture
async def at() -> AsyncIterator[Visitor]:
    async with visiting("shop") as visitor:
        yield visitor


def example(row: Row) -> tuple[str, tuple[str, ...], bytes]:
    """A request that a route serves."""
    path = row.path.format(app="shop", deployment="shop-1", manifest="ab" * 32, file="page.css")
    if row.path is Route.APP_PIN:
        path += "?release=20261123020055Z"
    if row.path is Route.APP_COMMANDS:
        path += "?run=1&by=root&release=20261123020055Z&command=true"
    uploads = row.path in (Route.APP_MISSING, Route.APP_DEPLOYMENTS)
    options = ("--data-binary", "@-") if uploads else ("--head",) if row.method == "HEAD" else ()
    return path, ("--request", row.method, *options), bundle() if uploads else b""


@as_root
@pytest.mark.root
@transports
@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("row", ROUTES, ids=lambda row: f"{row.method} {row.path}")
async def test_each_route_serves_those_its_policy_names_and_nobody_else(at, row, who, unix):
    uid, operator = CALLERS[who]
    await at.curl("/rollback", "-X", "POST")
    before = len(at.calls)
    path, options, body = example(row)
    answer = await at.curl(path, *options, uid=uid, unix=unix, body=body)
    allowed = {Policy.ANYONE: True, Policy.WATCHER: operator, Policy.OPERATOR: operator, Policy.ROOT: uid is None}
    if allowed[row.policy]:
        assert answer.status in (200, 202)
    else:
        assert answer.status == 403
        assert row.method == "HEAD" or answer.json["code"] == "not_allowed"
        assert len(at.calls) == before


@as_root
@pytest.mark.root
@transports
async def test_a_user_that_is_named_reads_the_metrics_and_nothing_else(unix):
    """`bin` has uid 2 on every Debian, and is in no group but its own."""
    async with visiting("shop", metrics_users=["nobody-here", "bin"]) as at:
        answer = await at.curl("/metrics", uid=2, unix=unix)
        assert (answer.status, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")
        assert (await at.curl("/status", uid=2, unix=unix)).status == 403
        refused = await at.curl("/metrics", uid=3, unix=unix)
        assert (refused.status, refused.json["code"]) == (403, "not_allowed")
        assert 'metrics_users = ["sys"]' in refused.json["hint"]
        assert "bin" not in refused.json["detail"]
        assert (await at.curl("/metrics", uid=UNMAPPED)).json["title"] == "The caller is unknown"


@as_root
@pytest.mark.root
async def test_a_refused_caller_learns_its_own_name_and_who_may(at):
    document = (await at.curl("/status", uid=STRANGER)).json
    assert document["title"] == "uid 12345 may not deploy on this host"
    assert document["detail"] == "only root, the agent's own user and members of group daemon may"
    assert "adduser LOGIN daemon" in document["hint"]


@as_root
@pytest.mark.root
async def test_an_operators_actions_carry_the_operators_name(at):
    await at.curl("/rollback", "-X", "POST", uid=1)
    await at.curl("/apps/shop/pin?release=R", "-X", "DELETE", uid=1)
    assert at.calls == [("rollback", "daemon (uid 1)", None), ("pin", "R", False, "daemon (uid 1)")]


@as_root
@pytest.mark.root
async def test_a_caller_that_sends_and_closes_at_once_rolls_nothing_back(at):
    """The orphaned-socket trick, through the door: the loop is kept busy until the sender is gone."""
    send = (
        "import socket, sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); "
        "c.sendall(sys.argv[2].encode()); c.close()"
    )
    port = at.door.address.rpartition(":")[2]
    argv = ("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--")
    argv += ("/usr/bin/python3", "-IS", "-c", send, port, at.head("POST /rollback").decode())
    for _ in range(5):
        subprocess.run(argv, check=True)  # noqa: ASYNC221 - blocks the loop on purpose
    assert (await at.curl("/healthz")).status == 200
    assert at.calls == []


# --- which requests are meant for this door ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["agent", "localhost", "127.0.0.1", "[::1]", "LocalHost"])
async def test_the_door_answers_to_its_names_with_its_port(at, name):
    port = at.door.address.rpartition(":")[2]
    answer = await at.raw(f"GET /healthz HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n".encode())
    assert (answer.status, answer.json) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    "host",
    ["Host: evil.example:{port}\r\n", "Host: localhost:1\r\n", "Host: localhost\r\n", "Host: \r\n", "",
     "Host: localhost.evil.example:{port}\r\n", "Host: localhost:{port}@evil\r\n"],
)  # fmt: skip
async def test_the_name_of_another_server_is_refused(at, host):
    port = at.door.address.rpartition(":")[2]
    request = f"POST /rollback HTTP/1.1\r\n{host.format(port=port)}Connection: close\r\n\r\n"
    answer = await at.raw(request.encode())
    assert (answer.status, answer.json["code"]) == ((403, "not_allowed") if host else (400, "bad_request"))
    assert at.calls == []


async def test_two_host_headers_are_refused(at):
    answer = await at.raw(at.head("POST /rollback", "Host: evil.example", "Connection: close"))
    assert answer.status in (400, 403)
    assert at.calls == []


@pytest.mark.parametrize("host", ["localhost", "agent", "localhost:{port}"])
async def test_on_the_unix_socket_a_name_needs_no_port(at, host):
    port = at.door.address.rpartition(":")[2]
    request = f"GET /healthz HTTP/1.1\r\nHost: {host.format(port=port)}\r\nConnection: close\r\n\r\n"
    assert (await at.raw(request.encode(), unix=True)).status == 200


async def test_on_the_unix_socket_the_name_of_another_server_is_refused_too(at):
    request = b"POST /rollback HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert (await at.raw(request, unix=True)).status == 403


def test_on_port_80_names_may_come_without_the_port():
    assert {"agent", "agent:80", "127.0.0.3"} <= allowed_hosts("127.0.0.3", 80)
    assert "agent" not in allowed_hosts("127.0.0.1", 9000)


@transports
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:9000", ""])
async def test_a_request_from_a_web_page_is_refused(at, origin, unix):
    answer = await at.raw(at.head("POST /rollback", f"Origin: {origin}", "Connection: close"), unix=unix)
    assert (answer.status, answer.json["code"]) == (403, "not_allowed")
    assert at.calls == []


@pytest.mark.parametrize("line", ["POST http://{}/rollback", "POST http:/rollback", "OPTIONS *", "CONNECT {}"])
async def test_a_target_that_is_not_a_path_is_refused(at, line):
    answer = await at.raw(at.head(line.format(at.door.address), "Connection: close"))
    assert answer.status in (400, 403)
    assert answer.json["outcome"] == "refused"
    assert at.calls == []


async def test_a_request_to_a_proxy_is_refused_with_a_hint_about_no_proxy(at):
    answer = await at.curl("/rollback", "-X", "POST", "--proxy", f"http://{at.door.address}")
    assert answer.status == 403
    assert "NO_PROXY" in answer.json["hint"]


@pytest.mark.parametrize(
    "request_bytes",
    [b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET /healthz HTTP/9.9\r\n\r\n",
     b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
     b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
     b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(200)) + b"\r\n",
     b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"],
)  # fmt: skip
async def test_bytes_that_are_not_http_are_answered_with_a_problem_document(at, request_bytes):
    answer = await at.raw(request_bytes)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/apps/shop", "/healthz/", "//healthz", "/x/../healthz", "/%68ealthz", "/apps/sh%6fp/status",
     "/apps/../status", "/deployments/a/b/events"],
)  # fmt: skip
async def test_an_unknown_path_is_answered_with_a_problem_document(at, path):
    answer = await at.raw(at.head(f"GET {path}", "Connection: close"))
    expected = (404, "unknown_app") if path == "/apps/../status" else (404, "bad_request")
    assert (answer.status, answer.json["code"]) == expected


async def test_the_hint_for_an_unknown_path_is_the_nearest_one(at):
    assert (await at.curl("/rolback", "-X", "POST")).json["hint"] == "Did you mean /rollback?"


@pytest.mark.parametrize("path", ["/healthz", "/status", "/apps/shop/status", "/apps/other/status"])
async def test_head_has_the_headers_of_get(at, path):
    """RFC 9110, 9.3.2: the same fields, and no content."""
    got, asked = await at.curl(path), await at.curl(path, "--head")
    assert (asked.status, asked.body) == (got.status, b"")
    assert {**asked.headers, "date": ""} == {**got.headers, "date": ""}


@pytest.mark.parametrize("path", ["/rollback?to=", "/apps/shop/rollback?to="])
async def test_an_empty_release_is_refused_and_not_replaced_by_the_rollback_target(at, path):
    answer = await at.curl(path, "-X", "POST")
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert answer.json["title"] == "The request gives the parameter to no value"
    assert at.calls == []


async def test_the_response_to_a_wrong_method_lists_the_right_ones(at):
    answer = await at.curl("/apps/shop/pin", "-X", "PUT")
    assert (answer.status, answer.headers["allow"]) == (405, "POST, DELETE")
    assert answer.json["hint"] == "Use POST or DELETE"


@pytest.mark.parametrize(
    ("query", "hint"),
    [("too=R", "Did you mean to?"), ("zzz=1", "Available: to, from"), ("to=R&to=S", None),
     ("%00=1", "Available: to, from"),
     ("&".join(f"p{n}=" for n in range(20)), None)],
)  # fmt: skip
async def test_an_unknown_parameter_is_refused_with_the_nearest_one(at, query, hint):
    answer = await at.curl(f"/rollback?{query}", "-X", "POST")
    assert (answer.status, answer.json["code"], answer.json.get("hint")) == (400, "bad_request", hint)
    assert at.calls == []


async def test_where_a_route_has_no_parameters_the_hint_says_so(at):
    assert (await at.curl("/status?verbose=1")).json["hint"] == "This route has no parameters"


def test_a_route_is_found_by_method_and_whole_path():
    match = find("POST", "/apps/shop/rollback")
    assert isinstance(match, Match)
    assert (match.row.path, match.names) == (Route.APP_ROLLBACK, {"app": "shop"})
    assert find("GET", "/apps/shop/pin") == ("POST", "DELETE")
    assert find("GET", "/apps/shop/pins") == ()


def test_every_path_of_the_contract_has_a_route():
    assert {row.path for row in ROUTES} == set(Route)


# --- responses ---------------------------------------------------------------------------------------------------


def test_every_code_has_a_status():
    assert set(STATUS) == set(Code)
    assert all(400 <= status < 600 for status in STATUS.values())


def test_the_documentation_has_every_route_and_code_and_event_as_they_are():
    rows = [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        for line in (Path(__file__).parents[2] / "docs/reference/http-api.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    methods = {"GET", "HEAD", "POST", "DELETE"}
    routes = {(method, *row[1:4]) for row in rows for method in row[0].split(", ") if method in methods}
    assert routes == {(row.method, row.path, row.policy.name, " ".join(row.parameters)) for row in ROUTES}
    assert {row[0]: row[1] for row in rows if row[0] in set(Code)} == {
        code: str(status) for code, status in STATUS.items()
    }
    assert set(Happened) <= {row[0] for row in rows}


def test_a_problem_that_needs_a_person_has_status_500_whatever_its_code():
    assert problem_response(Stuck(Code.APP_UNHEALTHY, "It is down")).status == 500


@pytest.mark.parametrize("bug", [KeyError("x"), TimeoutError(), ConnectionResetError(), BrokenPipeError()])
async def test_a_bug_is_answered_with_an_id_that_is_in_the_log_and_the_door_goes_on(at, bug):
    at.shop.bug = bug
    with capture_logs() as logs:
        answer = await at.curl("/status")
    assert (answer.status, answer.json["code"]) == (500, "internal")
    (entry,) = [entry for entry in logs if entry["event"] == "request_failed"]
    assert entry["incident"] in answer.json["detail"]
    assert (entry["path"], bool(entry["exc_info"])) == ("/status", True)
    assert (await at.curl("/healthz")).status == 200


async def test_requests_on_one_connection_share_its_caller(at):
    reader, writer = await at.connect()
    for _ in range(3):
        writer.write(at.head("GET /status"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head
        await reader.readexactly(len(b'{"app":"shop","live":null}\n'))
    writer.close()


async def test_responses_may_not_be_cached(at):
    headers = (await at.curl("/healthz")).headers
    assert (headers["cache-control"], headers["server"]) == ("no-store", "pusher-agent")


# --- connections -------------------------------------------------------------------------------------------------


@transports
@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: "], ids=["nothing", "half a head"])
async def test_a_connection_without_a_whole_request_is_closed(sent, unix):
    async with visiting("shop", idle_s=0.2, withheld_s=0) as at:
        assert await at.raw_bytes(sent, unix=unix) == b""


async def test_a_request_head_that_arrives_byte_by_byte_is_cut_off():
    async with visiting("shop", idle_s=0.3) as at:
        reader, writer = await at.connect()

        async def creep() -> None:
            for byte in at.head("GET /healthz", *(f"X-{n}: y" for n in range(50))):
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)

        creeping = asyncio.create_task(creep())
        with contextlib.suppress(ConnectionResetError):  # a byte may arrive after the end
            assert await reader.read() == b""
        creeping.cancel()
        writer.close()


async def test_one_user_cannot_take_all_connections():
    async with visiting("shop", connections_each=3, withheld_s=0) as at:
        held = [await at.connect() for _ in range(3)]
        for _, writer in held:
            writer.write(at.head("GET /healthz"))
        for reader, _ in held:
            await reader.readuntil(b"\r\n\r\n")
        answer = await at.raw(b"")
        assert (answer.status, answer.json["code"]) == (429, "busy")
        held[0][1].close()
        await held[0][1].wait_closed()
        await until(lambda: at.door.connections == 2)
        assert (await at.curl("/healthz")).status == 200
        for _, writer in held[1:]:
            writer.close()


async def test_many_callers_at_once_are_all_served():
    async with visiting("shop", lookups=2) as at:
        request = at.head("GET /healthz", "Connection: close")
        answers = await asyncio.gather(*(at.raw(request, unix=bool(n % 2)) for n in range(50)))
        assert {answer.status for answer in answers} == {200}


async def test_the_door_survives_a_shortage_of_files():
    async with visiting("shop", accept_retry_s=0.01, withheld_s=0) as at:
        host, _, port = at.door.address.partition(":")
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        with capture_logs() as logs, socket.create_connection((host, int(port))) as caller:
            # Before the loop can accept it: from now on, no descriptor is left.
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, before[1]))
            try:
                await until(lambda: logs)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            caller.sendall(at.head("GET /healthz", "Connection: close"))
            assert b" 200 " in await asyncio.to_thread(caller.recv, 100)
        assert {entry["event"] for entry in logs} == {"accept_failed"}


# --- open and close ----------------------------------------------------------------------------------------------


async def test_anybody_can_connect_to_the_unix_socket(at):
    assert at.door.path.stat().st_mode & 0o777 == 0o666


async def test_an_occupied_port_is_refused_with_what_to_do(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        address = f"127.0.0.1:{occupied.getsockname()[1]}"
        door = closed_door(address, tmp_path / "api.sock")
        with pytest.raises(Refused) as caught:
            await door.start()
    assert caught.value.code is Code.PORT_TAKEN
    assert "[door]" in caught.value.hint
    assert not (tmp_path / "api.sock").exists()
    await door.stop()


async def test_a_unix_socket_that_cannot_be_made_leaves_no_port_open(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "file").touch()
    with pytest.raises(Refused):
        await closed_door(address, tmp_path / "file" / "api.sock").start()
    socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))).close()


async def test_a_socket_left_by_an_agent_that_died_is_replaced(tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "api.sock"))
    door = closed_door("127.0.0.1:0", tmp_path / "api.sock")
    await door.start()
    assert (await Visitor(door, SimulatedAgent()).curl("/healthz", unix=True)).status == 200
    await door.stop()


async def test_a_socket_deep_below_a_root_works_as_well(tmp_path):
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    door = closed_door("127.0.0.1:0", folder / "api.sock")
    await door.start()
    assert (folder / "api.sock").is_socket()
    await door.stop()


async def test_a_closing_door_finishes_the_requests_under_way_and_accepts_no_others(at):
    at.shop.goes_on.clear()
    reader, writer = await at.connect()
    writer.write(at.head("GET /healthz"))
    await reader.readuntil(b'{"status":"ok"}\n')
    waiting = asyncio.create_task(at.curl("/rollback", "-X", "POST"))
    await until(lambda: at.shop.deployments and at.shop.deployments[0].watchers)
    stopping = asyncio.create_task(at.door.stop())
    await until(lambda: not at.door.path.exists())
    with pytest.raises(ConnectionRefusedError):
        await at.connect()
    writer.write(at.head("POST /rollback"))
    assert b" 503 " in await reader.read()
    writer.close()
    assert not stopping.done()
    at.shop.goes_on.set()
    assert (await waiting).json["outcome"] == "done"
    await stopping


async def test_a_closing_door_does_not_wait_for_ever():
    async with visiting("shop", drain_s=0.1) as at:
        at.shop.goes_on.clear()
        reader, writer = await at.connect()
        writer.write(at.head("POST /rollback"))
        await until(lambda: at.shop.deployments and at.shop.deployments[0].watchers)
        await at.door.stop()
        assert await reader.read() == b""
        assert at.shop.deployments[0].watchers == 0
        writer.close()


async def test_a_door_can_be_closed_twice_and_without_having_been_opened(at, tmp_path):
    await at.door.stop()
    await at.door.stop()
    await closed_door("127.0.0.1:0", tmp_path / "api.sock").stop()


def closed_door(address: str, path: Path) -> HttpDoor:
    return HttpDoor(SimulatedAgent(), address=address, path=path, group="pusher", limits=BundleLimits())
