"""One booted server for each worker; skipped, loudly, where there cannot be one."""

import os
import shutil
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.once import once
from tests.system.machine import NEEDED
from tests.system.server import REPOSITORY, Server, build_package, installed, make_image
from tests.system.ssh import Ssh


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nothing of this tier without root."""
    here = Path(__file__).parent
    missing = [name for name in NEEDED if not shutil.which(name)]
    why = "not root" if os.geteuid() else f"missing: {', '.join(missing)}" if missing else ""
    mine = [item for item in items if here in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.system)
        if why:
            item.add_marker(pytest.mark.skip(reason=f"REAL SYSTEMD HOSTS ARE NOT TESTED ({why})"))
    if mine and why:
        warnings.warn(
            pytest.PytestWarning(f"{len(mine)} tests on real systemd hosts left out: {why}"), stacklevel=1
        )


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package of this tree, built once for all workers."""
    [file] = once(tmp_path_factory, "package", partial(build_package, REPOSITORY)).glob("*.deb")
    return file


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory, uv_cache: Path, flask_venv: Path, package: Path) -> Path:
    """What `make_image` makes, once for all workers: for hosts whose installation is not what is tested."""
    return once(tmp_path_factory, "image", partial(make_image, uv_cache=uv_cache, package=package))


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, uv_cache: Path, image: Path, package: Path
) -> Iterator[Server]:
    """A server with the agent installed and flask-demo added; which release is live is up to the tests before."""
    folder = tmp_path_factory.mktemp("server")
    with installed(folder, "web1", image=image, uv_cache=uv_cache, package=package) as server:
        server.add_app("--health", "/version", "--version-member", "version")
        yield server
        server.uninstall()


@pytest.fixture
def live(server: Server) -> Server:
    """The server, with a release of flask-demo that answers."""
    if server.units()["flask-demo.service"] != "active":
        server.deploy("v1")
    return server


@pytest.fixture(scope="session")
def ssh(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Ssh:
    """The server's sshd, and the client's side of it: `ssh.command` and the name `web1`."""
    ssh = Ssh(tmp_path_factory.mktemp("ssh"))
    ssh.open(server.machine)
    return ssh
