"""`pusher dashboard` under attack: other pages, rebound names, other users, stolen addresses, and odd requests."""

import asyncio
import json
import os
import socket
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pusher.dashboard.connections import Connections
from pusher.dashboard.guards import Guard, Headers
from pusher.dashboard.routes import ROUTES, Asked, Routes, find
from pusher.dashboard.server import Dashboard
from pusher.dashboard.watch import Watch
from pusher.transport.hosts import Host, Loopback
from pusher.transport.listener import connected_by
from pusher.wire import Refused
from tests.deploy.simulated_agent import SimulatedApp, opened
from tests.deploy.visitor import Answer, parse

RELEASE = "20261123020055Z"
TYPED = {"release": RELEASE, "leaving": "20261123030000Z", "typed": "v1"}


@dataclass
class Place:
    """A dashboard over a simulated agent, and what a page of its own would send."""

    dashboard: Dashboard
    shop: SimulatedApp
    watch: Watch
    address: Loopback
    noted: list[str] = field(default_factory=list)
    cookie: str = ""

    @property
    def port(self) -> int:
        return int(self.dashboard.server_address[1])

    def headers(self, **other: str | None) -> dict[str, str]:
        """Those of a request of the page itself; with None, without one."""
        own = {
            "Host": f"127.0.0.1:{self.port}",
            "Origin": f"http://127.0.0.1:{self.port}",
            "Sec-Fetch-Site": "same-origin",
            "Cookie": self.cookie,
            "Content-Type": "application/json",
        }
        given = {name.replace("_", "-"): value for name, value in other.items()}
        return {name: value for name, value in (own | given).items() if value is not None}

    async def raw(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        try:
            async with asyncio.timeout(20):
                return await reader.read()
        finally:
            writer.close()

    async def ask(self, line: str, members: Any = None, **other: str | None) -> Answer:
        body = b"" if members is None else json.dumps(members).encode()
        headers = {**self.headers(**other), "Content-Length": str(len(body)), "Connection": "close"}
        head = "\r\n".join((f"{line} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""))
        return parse(await self.raw(head.encode() + body))

    @property
    def changes(self) -> list[object]:
        return [call for call in self.shop.calls if call[0] in ("rollback", "pin")]


@asynccontextmanager
async def placed(tmp_path: Path) -> AsyncIterator[Place]:
    async with opened("shop", drain_s=0.1) as (door, agent):
        host, _, port = door.address.partition(":")
        connections = Connections([Host("web1", Loopback(host, int(port)))], ssh="ssh")
        watch = Watch(connections, app="", folder=tmp_path, every_s=0.05)
        noted: list[str] = []
        server = Dashboard(0, Routes(connections, watch), note=noted.append)
        shop = agent.apps["shop"]

        async def releases() -> dict[str, Any]:
            return {"app": "shop", "releases": [{"id": RELEASE, "version": "v1"}]}

        shop.releases = releases  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        place = Place(server, shop, watch, Loopback(host, int(port)), noted)
        try:
            answer = await place.ask(f"GET /{server.guard.address.partition('/?')[2].join(['?', ''])}")
            place.cookie = answer.headers["set-cookie"].partition(";")[0]
            assert answer.status == 303
            yield place
        finally:
            watch.close()
            connections.close()
            await asyncio.to_thread(server.shutdown)
            server.server_close()
            await asyncio.to_thread(thread.join)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with placed(tmp_path) as found:
        yield found


async def test_the_page_itself_may_read_and_with_the_typed_version_change(place: Place):
    assert b"dashboard.js" in (await place.ask("GET /")).body
    assert (await place.ask("GET /page/actions.js")).headers["content-type"].startswith("text/javascript")
    assert (await place.ask("GET /hosts/0/apps")).json["host"] == "web1"
    assert (await place.ask("GET /hosts/0/apps/shop/status")).json["app"] == "shop"
    assert (await place.ask("GET /hosts/0/apps/shop/health")).json["healthy"]
    records = (await place.ask("GET /hosts/0/apps/shop/history?after=1")).body.splitlines()
    assert records == [b'{"record":2}', b'{"record":3}']
    begun = (await place.ask("POST /hosts/0/apps/shop/rollback", TYPED)).json["deployment"]
    events = (await place.ask(f"GET /hosts/0/deployments/{begun}/events")).body.splitlines()
    assert json.loads(events[-1])["event"] == "finished"
    pinned = {**TYPED, "pinned": True}
    assert (await place.ask("POST /hosts/0/apps/shop/pin", pinned)).json["pinned"] is True
    assert (await place.ask("POST /hosts/0/apps/shop/pin", {**pinned, "pinned": False})).json["pinned"] is False
    assert [call[:3] for call in place.changes][1:] == [("pin", RELEASE, True), ("pin", RELEASE, False)]


@pytest.mark.parametrize("typed", ["", "v2", "V1", "v1 ", "v11", None, 1, ["v1"], "v" * 300])
async def test_a_change_without_the_version_as_the_host_has_it_is_refused(place: Place, typed: object):
    for path, more in (("rollback", {}), ("pin", {"pinned": True})):
        answer = await place.ask(f"POST /hosts/0/apps/shop/{path}", {**TYPED, **more, "typed": typed})
        assert (answer.status, answer.json["code"]) == (400, "bad_request")
    answer = await place.ask("POST /hosts/0/apps/shop/rollback", {**TYPED, "release": "20200101000000Z"})
    assert (answer.status, answer.json["code"]) == (404, "unknown_release")
    assert place.changes == []


async def test_an_environment_that_wants_to_be_confirmed_is_typed_with_the_version(place: Place):
    connections = Connections([Host("web1", place.address)], ssh="ssh")
    routes = Routes(connections, place.watch, confirm="production")
    asked = Asked({"host": "0", "app": "shop"}, {}, TYPED)
    with pytest.raises(Refused, match="Type production v1 to confirm"):
        await asyncio.to_thread(routes.rollback, asked)
    assert place.changes == []
    asked = Asked(asked.names, {}, {**TYPED, "typed": "production v1"})
    assert (await asyncio.to_thread(routes.rollback, asked))["deployment"]
    connections.close()


FOREIGN = {
    "a rebound name": {"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"},
    "the name of another port": {"Host": "127.0.0.1:1"},
    "no port": {"Host": "127.0.0.1"},
    "no host": {"Host": None},
    "two hosts": {"Host": "127.0.0.1:{port}\r\nHost: evil.example"},
    "a page of another origin": {"Origin": "http://evil.example"},
    "a page at another port": {"Origin": "http://127.0.0.1:1", "Sec_Fetch_Site": "same-site"},
    "a page without an origin": {"Origin": "null"},
    "an image of another page": {"Origin": None, "Sec_Fetch_Site": "cross-site"},
    "a link on another page": {"Origin": None, "Sec_Fetch_Site": "cross-site"},
    "no cookie": {"Cookie": None},
    "another cookie": {"Cookie": "pusher-{port}=guess"},
    "a cookie of another run": {"Cookie": "pusher-1={value}"},
}


@pytest.mark.parametrize("who", FOREIGN)
async def test_a_request_from_elsewhere_gets_nothing_and_is_noted(place: Place, who: str):
    facts = {"port": place.port, "value": place.cookie.partition("=")[2]}
    headers = {name: value if value is None else value.format(**facts) for name, value in FOREIGN[who].items()}
    lines = ["GET /", "GET /page/app.js", "GET /all", "GET /hosts/0/apps", "GET /?secret=guess"]
    for line in lines:
        answer = await place.ask(line, **headers)
        assert (answer.status, answer.json["code"]) == (403, "not_allowed"), line
    answer = await place.ask("POST /hosts/0/apps/shop/rollback", TYPED, **headers)
    assert answer.status == 403
    assert place.shop.calls == []
    assert len(place.noted) == len(lines) + 1


ONLY_FOR_CHANGES = {
    "no origin": {"Origin": None},
    "no word of the browser": {"Sec_Fetch_Site": None},
    "typed by a person": {"Sec_Fetch_Site": "none"},
    "a form": {"Content_Type": "application/x-www-form-urlencoded"},
    "a text": {"Content_Type": "text/plain"},
    "no type": {"Content_Type": None},
}


@pytest.mark.parametrize("how", ONLY_FOR_CHANGES)
async def test_a_change_that_does_not_say_that_the_page_sent_it_is_refused(place: Place, how: str):
    answer = await place.ask("POST /hosts/0/apps/shop/rollback", TYPED, **ONLY_FOR_CHANGES[how])
    assert (answer.status, answer.json["code"]) == (403, "not_allowed")
    assert place.shop.calls == []


async def test_what_a_browser_is_started_with_is_good_once(place: Place):
    target = "/" + place.dashboard.guard.once.partition("/")[2].partition("/")[2].partition("/")[2]
    assert (await place.ask(f"GET {target}", Cookie=None)).status == 303
    assert (await place.ask(f"GET {target}", Cookie=None)).status == 403


async def test_the_cookie_is_hidden_from_scripts_and_from_other_sites(place: Place):
    target = "/" + place.dashboard.guard.address.partition("/")[2].partition("/")[2].partition("/")[2]
    cookie = (await place.ask(f"GET {target}", Cookie=None, Sec_Fetch_Site="none", Origin=None)).headers[
        "set-cookie"
    ]
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert len(cookie.partition("=")[2].partition(";")[0]) > 40
    assert not {*target.split("=")} & {cookie.partition("=")[2].partition(";")[0]}


@pytest.mark.parametrize(
    "line",
    ["GET /hosts/0/apps/shop/pin", "GET /hosts/1/apps", "GET /hosts/-1/apps", "GET /hosts/x/apps",
     "GET /hosts//apps", "GET /hosts/0/apps/shop/index", "GET /hosts/0/apps/shop/sbom",
     "GET /hosts/0/apps/shop/status?x=1",
     "GET /hosts/0/apps/shop/logs?lines=100000", "GET /hosts/0/apps/shop/history?after=-1", "GET /fleet",
     "GET /all?after=1&after=2", "GET /page/../../config.py", "GET /page/__init__.py", "GET /page/",
     "POST /hosts/0/apps/shop/deployments", "POST /hosts/0/apps/shop/cancel", "POST /all",
     "GET /all?" + "&".join(f"a{n}=1" for n in range(20))],
)  # fmt: skip
async def test_only_what_the_table_names_is_answered(place: Place, line: str):
    answer = await place.ask(line, TYPED if line.startswith("POST") else None)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert place.changes == []


async def test_no_name_in_a_path_leads_to_another_route_of_the_agent(place: Place):
    """What is decoded here is encoded again on the way: it stays one part of a path."""
    for app in ("shop%2Fstatus", "..%2F..%2Frollback", "shop%3Frelease=R", "shop%23", "%0d%0aX:%20y", "%"):
        answer = await place.ask(f"GET /hosts/0/apps/{app}/health")
        assert answer.status in (404, 409, 400, 502), app
    assert place.shop.calls == []


@pytest.mark.parametrize(
    "request_bytes",
    [b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"PUT / HTTP/1.1\r\nHost: x\r\n\r\n",
     b"DELETE /hosts/0/apps/shop/pin HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
     b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(200)) + b"\r\n"],
)  # fmt: skip
async def test_bytes_that_are_no_request_of_a_page_are_refused_with_its_policy(place: Place, request_bytes: bytes):
    answer = await place.raw(request_bytes)
    assert b'"code":"bad_request"' in answer or answer == b""
    assert place.shop.calls == []


@pytest.mark.parametrize("body", [b"[]", b"{", b"null", b'{"a":1,"a":2}', b"[" * 2_000, b"x" * 5_000, b""])
async def test_a_body_that_is_no_small_object_is_refused(place: Place, body: bytes):
    headers = {**place.headers(), "Content-Length": str(len(body)), "Connection": "close"}
    head = "\r\n".join(
        (
            "POST /hosts/0/apps/shop/rollback HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
            "",
            "",
        )
    )
    answer = parse(await place.raw(head.encode() + body))
    assert answer.status == 400
    assert place.changes == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.root
async def test_another_user_of_this_machine_gets_nothing_even_with_the_cookie(place: Place):
    """A cookie on 127.0.0.1 goes to every port there: one that another user listens at has seen it."""
    argv = (
        "setpriv",
        "--reuid=12345",
        "--regid=12345",
        "--clear-groups",
        "--",
        "curl",
        "--silent",
        "--max-time",
        "5",
    )
    argv += ("--cookie", place.cookie, f"http://127.0.0.1:{place.port}/hosts/0/apps")
    stranger = await asyncio.to_thread(lambda: subprocess.run(argv, capture_output=True, check=False))
    assert (stranger.returncode, stranger.stdout) == (52, b"")  # curl: the server answered nothing
    assert place.noted == ["refused a connection of uid 12345"]
    assert place.shop.calls == []


def test_an_orphaned_connection_belongs_to_nobody():
    """It seems to be root's: its row has uid 0, and no inode any more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        own = server.getsockname()
        caller = socket.create_connection(own)
        accepted, peer = server.accept()
        assert connected_by(peer, own) == os.geteuid()
        assert connected_by((peer[0], 1), own) is None
        caller.close()
        assert connected_by(peer, own) is None
        accepted.close()


def test_each_row_of_the_table_is_found_by_its_own_path_and_by_no_other_method():
    for row in ROUTES:
        path = row.path.format(host="0", app="shop", deployment="shop-1")
        found, asked = find(row.method, path)
        assert found is row
        assert set(asked.names) <= {"host", "app", "deployment"}
        other = "GET" if row.method == "POST" else "POST"
        with pytest.raises(Refused):
            find(other, path)
    assert [row.path for row in ROUTES if row.method == "POST"] == [
        "/hosts/{host}/apps/{app}/rollback",
        "/hosts/{host}/apps/{app}/pin",
    ]


def test_a_guard_knows_only_its_own_secrets():
    one, other = Guard(4000), Guard(4000)
    assert one.address != other.address
    with pytest.raises(Refused):
        other.admit(one.address.partition("=")[2])
    cookie = one.admit(one.address.partition("=")[2]).partition(";")[0]
    one.check_cookie(Headers(cookies=[f"a=b; {cookie}"]))
    for cookies in ([], ["ö=ä"], [cookie[:-1]], [f"x{cookie}"]):
        with pytest.raises(Refused):
            one.check_cookie(Headers(cookies=cookies))
    with pytest.raises(Refused):
        Asked(names={"host": "\u0661"}).place  # noqa: B018 - a digit, elsewhere
