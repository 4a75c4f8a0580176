"""What tests share: an event loop that nobody may block, one cache of wheels, one venv that has gunicorn."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv
from blockbuster import BlockBuster, blockbuster_ctx

from agent.core.config import Dependencies
from agent.core.layout import AppLayout
from agent.host.disk import Disk
from agent.host.venvs import Venvs

SOURCES = Path(__file__).parent.parent / "app-src"


@pytest.fixture(autouse=True)
def event_loop_never_blocks() -> Iterator[BlockBuster]:
    with blockbuster_ctx(["agent", "pusher"]) as blockbuster:
        yield blockbuster


@pytest.fixture(scope="session")
def uv_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent's cache folder: wheels are downloaded once a session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def flask_venv(uv_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv with what the sample application asks for, made as the agent makes them. Not to be changed."""
    layout = AppLayout(tmp_path_factory.mktemp("app"))
    venvs = Venvs(layout, Disk(), uv_cache, Dependencies(), Path(uv.find_uv_bin()))

    async def make() -> Path:
        key = await venvs.key(SOURCES / "v1")
        await venvs.ensure(key, SOURCES / "v1", line=print)
        return layout.venv(key)

    return asyncio.run(make())
