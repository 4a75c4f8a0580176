"""What a step says about what it cannot look at."""

from pathlib import Path

import pytest

from agent.core.config import AppConfig
from agent.core.layout import AppLayout
from agent.core.plan import Attempt, Kind
from agent.deploy.steps.link_shared import LinkShared
from agent.deploy.steps.step import Inputs
from agent.host.storage.disk import Disk
from pusher.wire import Code, Failed

RELEASE = "20261123020055Z"
ATTEMPT = Attempt(
    id=f"app-{RELEASE}", app="app", kind=Kind.DEPLOY, release=RELEASE, version="v1", previous=None, by="me"
)


@pytest.mark.parametrize("shared", [{"shared_files": ["conf/.env"]}, {"shared_paths": ["conf/uploads"]}])
async def test_what_is_shared_and_may_not_be_looked_at_is_named(
    shared: dict[str, list[str]], as_nobody: Path
) -> None:
    layout = AppLayout(as_nobody)
    layout.release(RELEASE).mkdir(parents=True)
    layout.shared.mkdir()
    (layout.shared / "conf").mkdir(mode=0)
    config = AppConfig.model_validate({"path": str(as_nobody), "user": "nobody", **shared})
    with pytest.raises(Failed, match=r"Could not look at .*/shared/conf/.*: Permission denied") as caught:
        await LinkShared(layout, config, Disk()).do(ATTEMPT, Inputs(), print)
    assert caught.value.code is Code.DISK_ERROR
    assert "the agent's user" in caught.value.hint
