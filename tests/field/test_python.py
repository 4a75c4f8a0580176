"""A Python that the host does not have is told before anything travels, with both versions."""

import asyncio
import sys

import pytest

from tests.host import APP, Host, wsgi
from tests.unit.scripted_agent import STATUS, Run, sent
from tests.unit.scripted_door import ScriptedDoor, answer

HERE = f"3.{sys.version_info.minor}"


async def test_a_release_that_admits_no_python_of_the_host_is_refused_before_the_upload(host: Host) -> None:
    """My project needs a newer Python than the server has. I am told both versions, and wait for no upload."""
    bundle = await asyncio.to_thread(lambda: host.bundle(wsgi("v1"), "v1", requires_python=">=3.39"))
    for route in ("missing", "deployments"):
        status, problem = await host.request("POST", f"/apps/{APP}/{route}", data=bundle)
        assert (status, problem["code"]) == (422, "dependencies_failed")
        assert problem["title"].startswith(
            "The release needs Python >=3.39, so it asks for Python 3.39, and this host"
        )
        assert HERE in problem["title"]
        assert "python add 3.39" in problem["hint"]
    assert not host.app.releases.exists()


async def test_the_python_that_root_chose_counts_and_is_named(host: Host) -> None:
    """The server's file says which Python: that one is compared, whatever else is installed."""
    file = host.layout.app_toml(APP)
    file.write_text(f'{file.read_text()}[dependencies]\npython = "/usr/bin/python3"\n')
    status, problem = await host.send(wsgi("v1"), "v1", requires_python="<3.8")
    assert (status, problem["code"]) == (422, "dependencies_failed")
    assert problem["title"].startswith("The release needs Python <3.8, and this host has 3.")
    await host.deploy(wsgi("v2"), "v2")


async def test_what_is_no_requirement_is_refused_as_a_malformed_bundle(host: Host) -> None:
    """Somebody else's packer wrote nonsense."""
    status, problem = await host.send(wsgi("v1"), "v1", requires_python="=>3.8")
    assert (status, problem["code"]) == (400, "bundle_malformed")
    assert problem["detail"] == "its requires_python is '=>3.8'"


def test_what_the_project_requires_travels_signed(
    door: ScriptedDoor, pusher: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """requires-python of my pyproject.toml is enough; an older agent gets a manifest that it can read."""
    shop = tmp_path_factory.mktemp("shop")
    (shop / "app.py").write_text("app = None\n")
    (shop / "pylock.toml").write_text('lock-version = "1.0"\ncreated-by = "me"\npackages = []\n')
    (shop / "pyproject.toml").write_text('[project]\nname = "shop"\nrequires-python = ">=3.11"\n')
    for accepts, requires in (([], ""), (["requires_python"], ">=3.11")):
        door.requests.clear()
        door.on("GET", "/apps/flask-demo/status", answer({**STATUS, "accepts": accepts}))
        pusher("send", str(shop), "--as", "v1", "--host", door.address)
        (bundle,) = sent(door, tmp_path_factory.mktemp("sent"))
        assert bundle.manifest.requires_python == requires
