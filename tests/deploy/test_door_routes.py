"""What each route of the HTTP door does, asked in process by the client of pytest-aiohttp."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from pusher.wire import Code, Failed, Refused
from tests.deploy.visitor import DoorServer, Visitor, visiting

Client = TestClient[Any, Any]


@pytest.fixture
async def at() -> AsyncIterator[Visitor]:
    async with visiting("shop") as visitor:
        yield visitor


@pytest.fixture
async def client(at: Visitor, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(DoorServer(at.door))


@pytest.mark.parametrize("path", ["/status", "/apps/shop/status"])
async def test_status_is_canonical_json_that_a_terminal_can_show(client: Client, path: str) -> None:
    response = await client.get(path)
    assert await response.read() == b'{"app":"shop","live":null}\n'
    assert response.content_type == "application/json"


@pytest.mark.parametrize("path", ["/releases", "/apps/shop/releases"])
async def test_releases_are_listed(client: Client, path: str) -> None:
    assert await (await client.get(path)).json() == {"app": "shop", "releases": []}


@pytest.mark.parametrize("path", ["/rollback", "/apps/shop/rollback"])
async def test_the_response_to_a_rollback_is_its_outcome(client: Client, path: str) -> None:
    response = await client.post(path)
    assert response.status == 200
    assert await response.json() == {"app": "shop", "deployment": "shop-1", "outcome": "done"}


async def test_a_rollback_goes_to_the_release_in_the_request(client: Client, at: Visitor) -> None:
    await client.post("/rollback?to=20261123020055Z")
    assert at.calls[0][2] == "20261123020055Z"


@pytest.mark.parametrize(
    "prefer", [["respond-async"], ["wait=10, Respond-Async; x=1"], ["wait=3", "respond-async"]]
)
async def test_a_caller_that_prefers_not_to_wait_gets_the_path_of_the_deployment(
    client: Client, at: Visitor, prefer: list[str]
) -> None:
    at.shop.goes_on.clear()
    response = await client.post("/rollback", headers=[("Prefer", value) for value in prefer])
    assert (response.status, await response.json()) == (202, {"app": "shop", "deployment": "shop-1"})
    assert response.headers["location"] == "/deployments/shop-1"
    assert response.headers["preference-applied"] == "respond-async"
    assert (await (await client.get(response.headers["location"])).json())["outcome"] is None
    at.shop.goes_on.set()


async def test_a_rollback_that_failed_is_answered_with_a_problem_that_names_its_deployment(
    client: Client, at: Visitor
) -> None:
    at.shop.failure = Failed(Code.APP_UNHEALTHY, "It does not answer", why="500", hint="Look", output="Traceback")
    response = await client.post("/rollback")
    assert (response.status, response.content_type) == (422, "application/problem+json")
    assert await response.json(content_type=None) == {
        "code": "app_unhealthy", "detail": "500", "hint": "Look", "instance": "/deployments/shop-1",
        "outcome": "failed", "output": "Traceback", "status": 422, "title": "It does not answer",
        "type": "about:blank",
    }  # fmt: skip


async def test_a_rollback_that_is_refused_is_answered_at_once(client: Client, at: Visitor) -> None:
    at.shop.refusal = Refused(Code.BUSY, "alice (uid 1000) is deploying v3 on shop")
    assert (await client.post("/rollback")).status == 409


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_release_is_pinned_and_unpinned(client: Client, at: Visitor, method: str) -> None:
    response = await client.request(method, "/apps/shop/pin?release=R")
    assert await response.json() == {"release": "R", "pinned": method == "POST"}
    assert at.calls[0][:3] == ("pin", "R", method == "POST")


ANOTHER = "To set up another one, as root there: pusher-agent app add NAME"


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "hint"),
    [
        ("POST", "/apps/shop/pin", 400, Code.BAD_REQUEST, "Add ?release=ID; /releases lists them"),
        ("GET", "/apps/blog/status", 404, Code.UNKNOWN_APP, f"Available: shop. {ANOTHER}"),
        ("GET", "/deployments/shop-9", 404, Code.UNKNOWN_DEPLOYMENT, "`pusher releases` lists the recent ones"),
    ],
)
async def test_a_request_for_something_that_is_not_there_is_refused_with_what_to_do(
    client: Client, method: str, path: str, status: int, code: Code, hint: str
) -> None:
    response = await client.request(method, path)
    problem = await response.json(content_type=None)
    assert (response.status, problem["code"], problem["hint"]) == (status, code, hint)


@pytest.mark.parametrize(("method", "path"), [("GET", "/status"), ("GET", "/releases"), ("POST", "/rollback")])
async def test_short_forms_with_several_apps_ask_for_a_name(
    aiohttp_client: Callable[..., Awaitable[Client]], method: str, path: str
) -> None:
    async with visiting("shop", "blog") as at:
        client = await aiohttp_client(DoorServer(at.door))
        response = await client.request(method, path)
        problem = await response.json(content_type=None)
        assert (response.status, problem["code"]) == (409, "several_apps")
        assert problem["detail"] == "they are blog, shop"
        assert problem["hint"] == f"Name one: /apps/blog{path}, or with `pusher`: --app blog"
        assert at.calls == []
        assert (await client.request(method, f"/apps/blog{path}")).status == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/status"), ("POST", "/rollback"), ("GET", "/apps/a1/status")]
)
async def test_on_a_host_without_apps_the_hint_is_how_to_add_one(
    aiohttp_client: Callable[..., Awaitable[Client]], method: str, path: str
) -> None:
    async with visiting() as at:
        response = await (await aiohttp_client(DoorServer(at.door))).request(method, path)
        problem = await response.json(content_type=None)
        assert (response.status, problem["code"]) == (404, "unknown_app")
        assert "pusher-agent app add" in problem["hint"]
