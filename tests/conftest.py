"""What tests share: an event loop that nobody may block, one cache of wheels, one venv that has gunicorn.

Each tier has a budget of seconds, summed over its tests. A run of all tests ends with what each tier took of it.
"""

import asyncio
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv
from blockbuster import BlockBuster, blockbuster_ctx

from agent.core.config.app import Dependencies
from agent.core.layout import AppLayout
from agent.host.dependencies.builder import LocalBuilder
from agent.host.dependencies.venvs import Venvs
from agent.host.storage.disk import Disk
from tests.host import make_key
from tests.once import once
from tests.publishing import Publisher
from tests.sshd import Server, serving

SOURCES = Path(__file__).parent.parent / "app-src"

BUDGETS_S = {
    "unit": 90,
    "wire": 20,
    "docs": 30,
    "field": 60,
    "hostile": 60,
    "browser": 60,
    "deploy": 420,
    "crash": 180,
    "soak": 90,
    "fuzz": 60,
    "system": 900,
}
"""Seconds of tests, not of waiting: three workers run side by side. Over its budget, a tier is named, not failed:
a slow machine is no defect."""


# A shell ignores Ctrl-C for what it starts in the background, and each program inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def sender_offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a sender keeps is kept for one session; it asks no index, so each host resolves what has no lock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("xdg-cache")))
        patch.setenv("UV_OFFLINE", "1")
        patch.setenv("UV_CACHE_DIR", str(tmp_path_factory.mktemp("uv-cache")))
        yield


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key that signs."""
    file = tmp_path_factory.mktemp("keys") / "key"
    make_key(file)
    return file


@pytest.fixture
def publisher(tmp_path: Path, key: Path) -> Publisher:
    """A publisher whom the file `signers` beside its repository names."""
    made = Publisher(tmp_path / "repo", key=key)
    made.trust(tmp_path / "signers")
    return made


@pytest.fixture(autouse=True)
def event_loop_never_blocks() -> Iterator[BlockBuster]:
    with blockbuster_ctx(["agent", "pusher"]) as blockbuster:
        # What counts the lines run has a lock of its own.
        blockbuster.functions["threading.Lock.acquire"].can_block_in("coverage/collector.py", "lock_data")
        yield blockbuster


@pytest.fixture(autouse=True)
def nothing_remembered(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `pusher` remembers of hosts is remembered for one test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An sshd for one file's tests."""
    with serving(tmp_path_factory.mktemp("sshd")) as one:
        yield one


@pytest.fixture(scope="session")
def wheels_and_venvs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once for all workers: `cache` has the wheels, `flask` and `gunicorn` are folders as `shared/venvs`."""

    def make(folder: Path) -> None:
        cache = folder / "cache"
        (folder / "source").mkdir()
        (folder / "source/requirements.txt").write_text("gunicorn==22.0.0\n")
        for name, source in (("flask", SOURCES / "v1"), ("gunicorn", folder / "source")):
            (folder / "app" / name).mkdir(parents=True)
            (folder / name).symlink_to(make_venv(source, cache=cache, app=folder / "app" / name).parent)

    return once(tmp_path_factory, "wheels-and-venvs", make)


@pytest.fixture(scope="session")
def uv_cache(wheels_and_venvs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent's cache folder, with wheels. Each worker has its own, for agents build there."""
    return shutil.copytree(wheels_and_venvs / "cache", tmp_path_factory.mktemp("cache") / "agent", symlinks=True)


@pytest.fixture(scope="session")
def flask_venv(wheels_and_venvs: Path) -> Path:
    """A venv with what the sample application asks for, made as the agent makes them. Not to be changed."""
    [venv] = (wheels_and_venvs / "flask").resolve().iterdir()
    return venv


@pytest.fixture(scope="session")
def ready_venvs(wheels_and_venvs: Path) -> Path:
    """A folder as `shared/venvs`, with the venv that `tests.host.wsgi` applications need: to be copied."""
    return (wheels_and_venvs / "gunicorn").resolve()


def make_venv(release: Path, *, cache: Path, app: Path) -> Path:
    layout = AppLayout(app)
    venvs = Venvs(
        layout,
        Disk(),
        cache,
        Dependencies(),
        Path(uv.find_uv_bin()),
        builder=LocalBuilder(Disk(), cache / "build"),
    )

    async def make() -> Path:
        key = await venvs.key(release)
        await venvs.ensure(key, release, line=print)
        return layout.venv(key)

    return asyncio.run(make())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what each tier took."""
    took: Counter[str] = Counter()
    number: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                tier = report.nodeid.split("/")[1] if report.nodeid.count("/") > 1 else "other"
                took[tier] += report.duration
                number[tier] += report.when == "call"
    if len(took) < 2:
        return
    terminalreporter.section("seconds by tier")
    for tier, seconds in took.most_common():
        budget = BUDGETS_S.get(tier)
        over = "  OVER" if budget and seconds > budget else ""
        terminalreporter.write_line(
            f"{tier:<8} {number[tier]:5} tests {seconds:7.1f} s of {budget or 'no budget'}{over}"
        )
