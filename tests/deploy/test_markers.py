"""The examples of hooks that mark releases elsewhere do so, and a receiver that is down fails no deployment."""

import json
import shutil
from pathlib import Path

from tests.host import APP, Host, running, wsgi
from tests.receiver import receiving

EXAMPLES = Path(__file__).parents[2] / "packaging/examples"


def install(host: Host, example: str, variables: dict[str, str]) -> None:
    """What the head of each example says."""
    folder = host.layout.hooks(APP)
    folder.mkdir(parents=True)
    for name in ("after-cleanup", "rollback-after-cleanup"):
        shutil.copy(EXAMPLES / example, folder / name)
    file = host.root / "environment"
    file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    host.add_app(APP, environment_file="/environment")


async def test_grafana_gets_an_annotation_for_each_release_that_went_live(host_off: Host):
    async with receiving() as receiver:
        install(host_off, "grafana-annotation", {"GRAFANA_URL": receiver.url, "GRAFANA_TOKEN": "glsa_x"})
        async with running(host_off) as host:
            await host.deploy(wsgi("v1"), "v1")
            await host.deploy(wsgi("feature/login"), "feature/login")
            await host.rollback()
        found = await receiver.count(3)
    assert {(one.method, one.path) for one in found} == {("POST", "/api/annotations")}
    assert {one.headers["Authorization"] for one in found} == {"Bearer glsa_x"}
    annotations = [json.loads(one.body) for one in found]
    assert [one["tags"] for one in annotations] == [["deployment", APP]] * 3
    texts = [one["text"].partition(" on ")[0] for one in annotations]
    assert texts == [f"{APP} v1", f"{APP} feature/login", f"{APP} v1"]


async def test_sentry_gets_the_release_and_its_deploy(host_off: Host):
    variables = {"SENTRY_ORG": "acme", "SENTRY_PROJECT": "shop", "SENTRY_TOKEN": "sntrys_x"}
    async with receiving() as receiver:
        install(host_off, "sentry-release", {"SENTRY_URL": receiver.url, **variables})
        async with running(host_off) as host:
            await host.deploy(wsgi("v1/x"), "v1/x")
            found = await receiver.count(2)
    assert [one.path for one in found] == [
        "/api/0/organizations/acme/releases/",
        f"/api/0/organizations/acme/releases/{APP}%40v1_x/deploys/",
    ]
    assert json.loads(found[0].body) == {"version": f"{APP}@v1_x", "projects": ["shop"]}
    assert json.loads(found[1].body) == {"environment": "production"}


async def test_a_receiver_that_is_down_fails_no_deployment(host_off: Host):
    install(host_off, "grafana-annotation", {"GRAFANA_URL": "http://127.0.0.1:1", "GRAFANA_TOKEN": "x"})
    async with running(host_off) as host:
        answer = await host.deploy(wsgi("v1"), "v1")
        assert answer["warning"]["title"] == "The host's hook after-cleanup failed"
        assert await host.serving() == "v1"
