"""Joining the parts of an agent.

Invariant: everything that touches the machine comes in through `Machine`, so a test gives it parts of its own and
patches nothing.
"""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uv

from agent.app import make_app
from agent.core.config.app import AppConfig
from agent.core.config.host import AgentConfig
from agent.core.layout import HostLayout
from agent.daemon import Agent, App, serve
from agent.deploy.status_line import StatusLines
from agent.deploy.unusable import Unusable
from agent.doors.drop.directory import DropDirectory
from agent.doors.http.server import HttpDoor
from agent.doors.refusals import Refusals
from agent.host.dependencies.pythons import Pythons
from agent.host.log.notify import Notifier
from agent.host.setup.config_files import Apps, after_mending
from agent.host.setup.last_read import LastRead
from agent.host.storage.journal import Journal
from agent.machine import Machine
from agent.notifications import courier, rules
from agent.parts import HostParts
from pusher.wire import Refused

if TYPE_CHECKING:
    from agent.doors.channel.subscription import Subscription

_log = structlog.get_logger()


async def serve_host(
    layout: HostLayout,
    config: AgentConfig,
    apps: Apps,
    *,
    stop: asyncio.Event,
    machine: Machine | None = None,
    sockets: Sequence[socket.socket] = (),
) -> None:
    """Run the agent of a host until `stop` is set. `sockets` are those of its HTTP door, if process 1 holds them.

    Raises: Problem, if it cannot begin.
    """
    await asyncio.to_thread(_import_seldom_used, config, apps)
    host = await _host_parts(layout, config, machine=machine or Machine())
    machine, clock, journal = host.machine, host.machine.clock, host.journal
    memory = LastRead(layout, machine.disk)
    apps = await asyncio.to_thread(memory.stand_in, apps)
    for name, problem in apps.held.items():
        _log.error("app_file_not_used", app=name, problem=str(problem), used="what was read last")
    notifier = Notifier(clock=clock)
    status_lines = StatusLines(door=config.door.address, say=notifier.say)
    supervisors = {
        name: await machine.supervisor(name, app, kind=config.service, host=layout)
        for name, app in apps.usable.items()
    }
    make = partial(make_app, host=host, memory=memory)
    usable = {
        name: make(name, app, supervisor=supervisors[name], status_line=status_lines.of(name))
        for name, app in apps.usable.items()
    }
    unusable = _unusable(apps.unusable, host=host, status_lines=status_lines)
    refusals = Refusals()
    drops = _drops(usable, host=host, refusals=refusals)
    channels = _channels(usable, apps.usable, host=host, refusals=refusals)
    notices = courier(config, layout=layout, journal=journal, clock=clock)
    agent = Agent(usable, unusable, host=config.name, drops=drops, channels=channels, notices=notices)
    door = _door(agent, host=host, stop=stop, held=sockets, refusals=refusals)

    def stopping() -> None:
        notifier.stopping()
        status_lines.stopping()

    try:
        status_lines.show()
        await serve(
            agent,
            # The drop directories first: once the agent answers, callers may drop.
            doors=[*drops.values(), door, *channels.values(), notices, notifier],
            services=[one for supervisor in supervisors.values() for one in supervisor.children],
            journal=journal,
            stop=stop,
            stopping=stopping,
        )
    finally:
        for supervisor in supervisors.values():
            supervisor.close()


def _import_seldom_used(config: AgentConfig, apps: Apps) -> None:
    """Import what only hosts like this one need, so that it is in the memory of no other.

    Blocking, so not for the event loop; those who need it import it again there, and find it.
    """
    if config.service == "embedded":
        import agent.host.embedded.processes
        import agent.host.embedded.service
        import agent.host.run.hooks
    else:
        import agent.host.systemd.dependencies
        import agent.host.systemd.hooks
        import agent.host.systemd.processes
        import agent.host.systemd.service
        import agent.host.systemd.unit_files
    if any(app.subscribe.repository for app in apps.usable.values()):
        import agent.subscriptions
    if config.notify.url or config.notify.url_file:
        import agent.host.notices.web
    if config.notify.email:
        import agent.host.notices.mail  # noqa: F401


async def _host_parts(layout: HostLayout, config: AgentConfig, *, machine: Machine) -> HostParts:
    return HostParts(
        layout=layout,
        config=config,
        machine=machine,
        journal=Journal(layout.journal, database=machine.database, notify=rules(config)),
        uv_binary=Path(await asyncio.to_thread(uv.find_uv_bin)),
        pythons=Pythons(layout.pythons, root=layout.root),
    )


def _unusable(
    problems: Mapping[str, Refused], *, host: HostParts, status_lines: StatusLines
) -> dict[str, Unusable]:
    return {
        name: Unusable(
            name,
            after_mending(name, problem, service=host.config.service),
            journal=host.journal,
            clock=host.machine.clock,
            status_line=status_lines.of(name),
        )
        for name, problem in problems.items()
    }


def _drops(usable: Mapping[str, App], *, host: HostParts, refusals: Refusals) -> dict[str, DropDirectory]:
    return {
        name: DropDirectory(
            app,
            path=host.layout.drop(name),
            disk=host.machine.disk,
            clock=host.machine.clock,
            settings=host.config.drop,
            make=host.embedded,
            refusals=refusals,
        )
        for name, app in usable.items()
    }


def _channels(
    usable: Mapping[str, App], configs: Mapping[str, AppConfig], *, host: HostParts, refusals: Refusals
) -> "dict[str, Subscription]":
    if not any(config.subscribe.repository for config in configs.values()):
        return {}
    from agent.subscriptions import subscribe  # here: most hosts fetch nothing by themselves

    return subscribe(
        usable,
        configs,
        layout=host.layout,
        host=host.config,
        clock=host.machine.clock,
        disk=host.machine.disk,
        refusals=refusals,
    )


def _door(
    agent: Agent, *, host: HostParts, stop: asyncio.Event, held: Sequence[socket.socket], refusals: Refusals
) -> HttpDoor:
    door = host.config.door
    return HttpDoor(
        agent,
        address=door.address,
        path=host.layout.api_socket,
        group=door.group,
        metrics_users=door.metrics_users,
        clock=host.machine.clock,
        limits=host.config.limits,
        stop=stop,
        held=held,
        refusals=refusals,
    )
