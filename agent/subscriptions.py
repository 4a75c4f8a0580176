"""Joining the parts of the apps that fetch their releases.

Invariant: an app without [subscribe] has no part here, not even a timer.
"""

import random
from collections.abc import Mapping
from pathlib import Path

from agent.core.config.app import AppConfig, Subscribe
from agent.core.config.host import AgentConfig
from agent.core.layout import HostLayout
from agent.daemon import App
from agent.doors.channel.bell import Bell
from agent.doors.channel.reading import ChannelReader
from agent.doors.channel.reporter import Reporter
from agent.doors.channel.subscription import Subscription
from agent.doors.refusals import Refusals
from agent.host.bundle.signatures import trust_files
from agent.host.channel.identity import Identity
from agent.host.channel.local_folder import LocalFolder
from agent.host.channel.mirror import Mirror
from agent.host.channel.nats_bus import NatsBus
from agent.host.channel.object_store import ObjectStore
from agent.host.channel.web import Web, WebLimits
from agent.host.ports import Clock
from agent.host.storage.disk import Disk
from pusher.wire.channel import bell_name


def subscribe(
    usable: Mapping[str, App],
    configs: Mapping[str, AppConfig],
    *,
    layout: HostLayout,
    host: AgentConfig,
    clock: Clock,
    disk: Disk,
    refusals: Refusals,
) -> dict[str, Subscription]:
    """The subscriptions of the apps that have one, by the name of the app."""
    subscriptions = {}
    for name, app in usable.items():
        settings = configs[name].subscribe
        if not settings.repository:
            continue
        bus = _bus(settings, layout=layout)
        reader = ChannelReader(
            name,
            settings.channel,
            mirrors=[_mirror(address, settings, layout=layout, host=host) for address in settings.repository],
            files=trust_files(layout, host),
            subscribed=app.subscribed,
            now=clock.now,
            shuffle=random.shuffle,
        )
        reporter = Reporter(
            name,
            channel=settings.channel,
            host=host.name,
            every_s=settings.report_s,
            labels=settings.labels,
            identity=Identity(layout.identity, host=host.name, disk=disk),
            reader=reader,
            now=clock.now,
            chance=random.random,  # noqa: S311 - pauses, no secrets
            bus=bus,
        )
        subscriptions[name] = Subscription(
            app,
            settings=settings,
            host=host.name,
            reader=reader,
            subscribed=app.subscribed,
            folder=layout.fetched(name),
            clock=clock,
            reporter=reporter if settings.reports else None,
            bell=Bell(
                bell_name(name, settings.channel),
                reader=reader,
                clock=clock,
                chance=random.random,  # noqa: S311 - pauses, no secrets
                bus=bus,
            )
            if bus or (settings.notify and any(one.startswith("http") for one in settings.repository))
            else None,
            refusals=refusals,
        )
    return subscriptions


def _bus(settings: Subscribe, *, layout: HostLayout) -> NatsBus | None:
    """NATS, if that is where bells ring."""
    if "://" not in settings.notify:
        return None
    credentials = settings.notify_credentials_file or settings.credentials_file
    return NatsBus(
        settings.notify.split(","),
        ca_file=layout.beneath(settings.ca_file) if settings.ca_file else None,
        credentials=layout.beneath(credentials) if credentials else None,
    )


def _mirror(address: str, settings: Subscribe, *, layout: HostLayout, host: AgentConfig) -> Mirror:
    if address.startswith("file://"):
        return LocalFolder(Path(address.removeprefix("file://")))
    kind = ObjectStore if address.startswith("s3://") else Web
    return kind(
        address,
        limits=WebLimits(stall_s=host.limits.stall_s, total_s=host.limits.total_s),
        ca_file=layout.beneath(settings.ca_file) if settings.ca_file else None,
        credentials=layout.beneath(settings.credentials_file) if settings.credentials_file else None,
    )
