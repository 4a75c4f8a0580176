"""A running agent, in the loop of the test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.deploy.shell import Shell
from tests.host import Host, running


@pytest.fixture
def host_off(tmp_path: Path, uv_cache: Path, ready_venvs: Path) -> Host:
    """A host whose agent is not running yet: for tests that change its configuration first."""
    return Host(tmp_path / "root", uv_cache=uv_cache, venvs=ready_venvs)


@pytest.fixture
async def host(host_off: Host) -> AsyncIterator[Host]:
    """A host with its agent running."""
    async with running(host_off):
        yield host_off


@pytest.fixture
async def shell(host: Host) -> Shell:
    """The command, for a host with its agent running."""
    return Shell(host)
