"""What tests share: an event loop that nobody may block, one cache of wheels, one venv that has gunicorn."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv
from blockbuster import BlockBuster, blockbuster_ctx

from agent.core.config import Dependencies
from agent.core.layout import AppLayout
from agent.host.releases.venvs import Venvs
from agent.host.storage.disk import Disk
from tests.sshd import Server, serving

SOURCES = Path(__file__).parent.parent / "app-src"


@pytest.fixture(autouse=True)
def event_loop_never_blocks() -> Iterator[BlockBuster]:
    with blockbuster_ctx(["agent", "pusher"]) as blockbuster:
        yield blockbuster


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An sshd for one file's tests."""
    with serving(tmp_path_factory.mktemp("sshd")) as one:
        yield one


@pytest.fixture(scope="session")
def uv_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent's cache folder: wheels are downloaded once a session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def flask_venv(uv_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv with what the sample application asks for, made as the agent makes them. Not to be changed."""
    return make_venv(SOURCES / "v1", cache=uv_cache, app=tmp_path_factory.mktemp("app"))


@pytest.fixture(scope="session")
def ready_venvs(uv_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `shared/venvs`, with the venv that `tests.host.wsgi` applications need: to be copied."""
    source = tmp_path_factory.mktemp("source")
    (source / "requirements.txt").write_text("gunicorn==22.0.0\n")
    return make_venv(source, cache=uv_cache, app=tmp_path_factory.mktemp("app")).parent


def make_venv(release: Path, *, cache: Path, app: Path) -> Path:
    layout = AppLayout(app)
    venvs = Venvs(layout, Disk(), cache, Dependencies(), Path(uv.find_uv_bin()))

    async def make() -> Path:
        key = await venvs.key(release)
        await venvs.ensure(key, release, line=print)
        return layout.venv(key)

    return asyncio.run(make())
