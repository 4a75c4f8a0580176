"""The service of an app, as systemd shows it: whether the live release serves.

Invariant: nothing is changed. That somebody stopped the app is said, and is no mistake: that is somebody's will.
"""

from collections.abc import Iterator
from contextlib import suppress

from agent.admin.app_setup import answer_of
from agent.core.config.app import AppConfig
from agent.core.layout import AppLayout, HostLayout
from agent.core.units import Units
from agent.host.releases.store import ReleaseStore
from agent.host.systemd import outage
from pusher.wire import Problem


def findings(name: str, config: AppConfig, layout: HostLayout) -> Iterator[tuple[bool, str]]:
    """Whether that is in order, and a sentence about it. Nothing, if no release is live, or it simply serves."""
    if ReleaseStore(AppLayout(layout.beneath(config.path))).live() is None:
        return
    with suppress(Problem):  # no systemd runs here: an image is being built
        found, drop_ins = outage.answer(name, answer_of(outage.question(name)))
        if found:
            yield not found.failing, f"{name}: it does not serve: {found.why}"
        elif drop_ins:
            yield True, f"{name}: {Units.of(name).service} is changed by {', '.join(drop_ins)}"
