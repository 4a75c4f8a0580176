"""The status line, as `systemctl status pusher-agent` shows it."""

from agent.core.plan import Attempt, Kind
from agent.deploy.status_line import StatusLines
from pusher.wire import Event, Happened

DEPLOY = Attempt(id="shop-1", app="shop", kind=Kind.DEPLOY, release="2", version="v2", previous="1", by="alice")
ROLLBACK = Attempt(
    id="shop-2", app="shop", kind=Kind.ROLLBACK, release="1", version="v1", previous="2", by="alice"
)


def event(happened: Happened, **data: object) -> Event:
    return Event(1, 0, happened, data)


def test_each_change_is_shown_once() -> None:
    said: list[str] = []
    status_lines = StatusLines(door="127.0.0.1:9000", say=said.append)
    status_lines.show()
    shop, blog = status_lines.of("shop"), status_lines.of("blog")
    shop.live("v1")
    blog.live(None)
    for attempt, happened in (
        (DEPLOY, event(Happened.STARTED)),
        (DEPLOY, event(Happened.STEP_STARTED, step="preflight")),
        (DEPLOY, event(Happened.OUTPUT, text="secret")),
        (DEPLOY, event(Happened.HOOK_STARTED, hook="before-symlink")),
        (DEPLOY, event(Happened.UNDO_STARTED, step="switch")),
        (DEPLOY, event(Happened.FINISHED, outcome="stuck", live={"version": "v1"})),
        (ROLLBACK, event(Happened.STEP_STARTED, step="restart")),
        (ROLLBACK, event(Happened.FINISHED, outcome="failed", live=None)),
    ):
        shop.happened(attempt, happened)
    assert said == [
        "Serving no app yet at 127.0.0.1:9000",
        "Serving shop (v1), blog at 127.0.0.1:9000",
        "Serving shop (v1), blog (no release yet) at 127.0.0.1:9000",
        "Deploying shop v2",
        "Deploying shop v2: preflight",
        "Deploying shop v2: hook before-symlink",
        "Taking back shop v2: switch",
        "Serving shop (v1, STUCK), blog (no release yet) at 127.0.0.1:9000",
        "Rolling shop back to v1: restart",
        "Serving shop (no release yet), blog (no release yet) at 127.0.0.1:9000",
    ]


def test_an_agent_that_stops_shows_what_it_waits_for() -> None:
    said: list[str] = []
    status_lines = StatusLines(door="127.0.0.1:9000", say=said.append)
    shop = status_lines.of("shop")
    shop.happened(DEPLOY, event(Happened.STEP_STARTED, step="confirm"))
    status_lines.stopping()
    shop.happened(DEPLOY, event(Happened.FINISHED, outcome="done", live={"version": "v2"}))
    assert said[1:] == ["Stopping when this has come to its end: Deploying shop v2: confirm", "Stopping"]
