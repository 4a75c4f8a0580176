"""A changed mind: `cancel` ends what is not live yet; a rollback may name a version; who signed is told."""

import asyncio

from tests.deploy.embedded_place import alive
from tests.deploy.test_stopping import doing, until, version_that_waits
from tests.host import APP, Host, wsgi


async def test_a_cancelled_deployment_is_taken_back_and_names_who_wanted_that(host: Host):
    await host.deploy(wsgi("v1"), "v1")
    before = host.state()
    assert (await host.request("POST", "/cancel"))[1]["code"] == "unknown_deployment"
    sending = asyncio.create_task(host.send(version_that_waits("preflight"), "v2"))
    await until(lambda: doing(host, "preflight"))
    assert (await host.request("POST", f"/apps/{APP}/cancel?deployment=other"))[0] == 404
    status, begun = await host.request("POST", f"/apps/{APP}/cancel")
    assert (status, begun["app"]) == (202, APP)
    status, answer = await sending
    assert (status, answer["code"]) == (503, "interrupted")
    assert answer["title"].endswith("cancelled the deployment")
    assert answer["detail"] == "nothing live had been changed, and nothing was"
    assert host.state() == before
    await host.deploy(wsgi("v3"), "v3")  # the agent goes on


async def test_a_candidate_that_hangs_in_its_import_is_gone_when_its_deployment_was_cancelled(host: Host):
    await host.deploy(wsgi("v1"), "v1")
    records = host.layout.run / APP
    # The candidate of v1 ends a moment later, and only runner and app are left.
    await until(lambda: asyncio.to_thread(lambda: len([*records.iterdir()]) == 2))
    before = {*records.iterdir()}
    hangs = f"import time\nopen({str(host.root / 'hangs')!r}, 'w').close()\ntime.sleep(60)\n"
    sending = asyncio.create_task(host.send(wsgi("v2") | {"app.py": hangs}, "v2"))
    await until(lambda: asyncio.to_thread((host.root / "hangs").exists))
    (candidate,) = (path for path in {*records.glob("*.pid")} - before)
    assert (await host.request("POST", f"/apps/{APP}/cancel"))[0] == 202
    assert (await sending)[1]["code"] == "interrupted"
    assert not alive(int(candidate.stem))
    assert {*records.iterdir()} == before


async def test_a_deployment_tells_its_signer_and_what_each_step_took(host: Host):
    await host.deploy(wsgi("v1"), "v1")
    _, releases = await host.request("GET", "/releases")
    (release,) = releases["releases"]
    assert release["signed_by"]
    _, status = await host.request("GET", "/status")
    assert status["live"]["signed_by"] == release["signed_by"]
    _, deployment = await host.request("GET", f"/deployments/{releases['deployments'][0]['deployment']}")
    assert deployment["signed_by"] == release["signed_by"]
    assert [step["name"] for step in deployment["steps"] if step["kind"] == "step"][:3] == [
        "receive",
        "verify",
        "unpack",
    ]
    assert {step["outcome"] for step in deployment["steps"]} == {"done"}
    assert all(isinstance(step["ms"], int) for step in deployment["steps"])


async def test_a_rollback_may_name_a_version_if_only_one_release_has_it(host: Host):
    for version in ("v1", "v2", "v3"):
        await host.deploy(wsgi(version), version)
    assert (await host.request("POST", "/rollback?to=v1"))[0] == 200
    assert await host.serving() == "v1"
    await host.deploy(wsgi("v2", more="x"), "v2")
    await host.deploy(wsgi("v4"), "v4")
    status, answer = await host.request("POST", "/rollback?to=v2")
    assert (status, answer["code"]) == (404, "unknown_release")
    assert answer["detail"].startswith("several releases have that version: ")
    status, answer = await host.request("POST", "/rollback?to=v4")
    assert answer["detail"] == "it is the live release"
