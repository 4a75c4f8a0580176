"""An app whose file cannot be used: the agent serves the others, and leaves it alone until the file is mended."""

import asyncio
import os
from functools import partial
from pathlib import Path

from structlog.testing import capture_logs

from agent.core.plan import Attempt, Kind, deployment_id
from agent.host.storage.journal import Journal
from tests.host import APP, Host, running, wsgi

BLOG = "blog"
LATER = "20991123020055Z"


def snapshot(*places: Path) -> dict[str, tuple[int, int]]:
    """Everything below these places, with what changes when it is touched."""
    found = [path for place in places for path in (place, *place.rglob("*"))]
    return {str(path): ((state := os.lstat(path)).st_mtime_ns, state.st_ino) for path in found}


async def packed(host: Host) -> bytes:
    """v1 of the blog."""
    return await asyncio.to_thread(partial(host.bundle, wsgi("v1"), "v1", app=BLOG))


async def leave_unfinished(host: Host) -> str:
    """Leave what an agent leaves that dies while it unpacks a release of the blog; the deployment's id."""
    (host.root / f"opt/{BLOG}/.staging/{LATER}").mkdir(parents=True)
    journal = Journal(host.layout.journal)
    await journal.open()
    attempt = Attempt(
        id=deployment_id(BLOG, LATER),
        app=BLOG,
        kind=Kind.DEPLOY,
        release=LATER,
        version="v2",
        previous=None,
        by="tester",
    )
    await journal.begin(attempt, manifest="", created=1, now=1)
    await journal.close()
    return attempt.id


async def test_the_others_are_served_and_every_request_about_it_is_refused_with_what_to_mend(
    host_off: Host,
) -> None:
    host_off.add_app(BLOG)
    file = host_off.layout.app_toml(BLOG)
    file.write_text('listn = "127.0.0.1:1"\n')
    with capture_logs() as logs:
        async with running(host_off) as host:
            reported = [one for one in logs if one["event"] == "app_left_alone"]
            said = f"{file}: unknown key 'listn'. Did you mean listen? Correct it, then start the agent again"
            assert reported == [{"event": "app_left_alone", "log_level": "error", "app": BLOG, "problem": said}]
            await host.deploy(wsgi("v1"), "v1")
            assert await host.serving() == "v1"
            bundle = await packed(host)
            for method, path in (
                ("GET", "status"),
                ("GET", "releases"),
                ("GET", "logs"),
                ("GET", "index"),
                ("GET", f"drops/{'0' * 64}"),
                ("POST", "missing"),
                ("POST", "deployments"),
                ("POST", "rollback"),
                ("POST", "pin?release=x"),
                ("DELETE", "pin?release=x"),
            ):
                body = bundle if path in ("missing", "deployments") else None
                status, answer = await host.request(method, f"/apps/{BLOG}/{path}", data=body)
                found = (status, answer["code"], answer["title"], answer["outcome"])
                assert found == (409, "configuration", f"{file}: unknown key 'listn'", "refused"), path
                assert answer["hint"] == "Did you mean listen? Correct it, then start the agent again"
            for method, path in (("GET", "/status"), ("POST", "/rollback")):
                status, answer = await host.request(method, path)
                assert (status, answer["code"], answer["detail"]) == (
                    409,
                    "several_apps",
                    f"they are {BLOG}, {APP}",
                )
            assert (await host.request("GET", f"/apps/{APP}/status"))[0] == 200


async def test_as_the_only_app_it_answers_the_short_routes_with_what_to_mend(host_off: Host) -> None:
    host_off.layout.app_toml(APP).write_bytes(b"\xff")
    async with running(host_off) as host:
        for method, path in (("GET", "/status"), ("POST", "/rollback")):
            status, answer = await host.request(method, path)
            assert (status, answer["code"]) == (409, "configuration")
            assert f"{APP}.toml could not be read" in answer["title"]
        assert (await host.request("GET", "/healthz"))[0] == 200


async def test_nothing_of_it_is_touched_and_a_deployment_is_recovered_when_the_file_is_mended(
    host_off: Host,
) -> None:
    host_off.add_app(BLOG)
    async with running(host_off) as host:
        _, answer = await host.post(await packed(host), app=BLOG)
        assert answer["outcome"] == "done", answer
        past = f"/deployments/{answer['deployment']}"
    unfinished = f"/deployments/{await leave_unfinished(host)}"
    (host.layout.drop(BLOG) / "dropped.tar.zst").write_bytes(b"nothing that was signed")
    file = host.layout.app_toml(BLOG)
    good = file.read_text()
    file.write_text(f"{good}[helth]\n")
    (host.layout.last_read / f"{BLOG}.json").unlink()
    places = (host.root / "opt" / BLOG, host.layout.drop(BLOG))
    before = snapshot(*places)
    async with running(host):
        assert (await host.request("GET", past))[1]["outcome"] == "done"
        assert (await host.request("GET", f"/deployments/{BLOG}-19991123020055Z"))[0] == 404
        for path in (unfinished, f"{unfinished}/events"):
            status, answer = await host.request("GET", path)
            assert (status, answer["code"], answer["hint"][:20]) == (409, "configuration", "Did you mean health?")
    assert snapshot(*places) == before
    file.write_text(good)
    async with running(host):
        assert (await host.request("GET", unfinished))[1]["outcome"] == "failed"
        assert await host.serving(app=BLOG) == "v1"
        assert (await host.request("GET", f"/apps/{BLOG}/status"))[1]["live"]["version"] == "v1"


async def test_two_apps_in_conflict_are_both_not_served_and_the_third_is(host_off: Host) -> None:
    host_off.add_app(BLOG)
    host_off.add_app("shop", listen=f"127.0.0.1:{host_off.ports[BLOG]}")
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
        for app in (BLOG, "shop"):
            status, answer = await host.request("POST", f"/apps/{app}/rollback")
            assert (status, answer["code"]) == (409, "configuration")
            assert f"{BLOG} and shop cannot listen at" in answer["detail"]
