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

from agent.core.config import AgentConfig, AppConfig
from agent.core.layout import AppLayout, HostLayout
from agent.daemon import Agent, App, serve
from agent.deploy.condition import Condition
from agent.deploy.deployer import Deployer
from agent.deploy.figures import Figures
from agent.deploy.ground import Ground, Place
from agent.deploy.in_force import InForce
from agent.deploy.lock import DeploymentLock
from agent.deploy.recovery import AppRecovery
from agent.deploy.status import Status
from agent.deploy.status_line import StatusLine, StatusLines
from agent.deploy.subscribed import Subscribed
from agent.deploy.unusable import Unusable
from agent.doors.drop.directory import DropDirectory
from agent.doors.http.server import HttpDoor
from agent.doors.refusals import Refusals
from agent.host.dependencies.pythons import Pythons
from agent.host.embedded.log_buffer import LogBuffer
from agent.host.log.notify import Notifier
from agent.host.ports import Clock, Service, SideProcesses
from agent.host.releases.store import ReleaseStore
from agent.host.setup.config_files import Apps, after_mending, file_differs
from agent.host.setup.last_read import LastRead, ReadFile
from agent.host.setup.rights import unrunnable
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from agent.machine import Machine
from agent.notifications import courier, rules
from agent.parts import make_parts, rules_of

if TYPE_CHECKING:
    from agent.doors.channel.subscription import Subscription
    from agent.host.systemd.processes import UnitProcesses
    from agent.host.systemd.service import Systemd

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
    machine = machine or Machine()
    await asyncio.to_thread(_import_seldom_used, config, apps)
    clock, journal = machine.clock, Journal(layout.journal, database=machine.database, notify=rules(config))
    memory = LastRead(layout, machine.disk)
    apps = await asyncio.to_thread(memory.stand_in, apps)
    for name, problem in apps.held.items():
        _log.error("app_file_not_used", app=name, problem=str(problem), used="what was read last")
    notifier = Notifier(clock=clock)
    status_lines = StatusLines(door=config.door.address, say=notifier.say)
    embedded: dict[str, Service] = {}
    units: dict[str, Systemd] = {}
    children: dict[str, SideProcesses] = {}
    beside: dict[str, UnitProcesses] = {}
    for name, app in apps.usable.items():
        if config.service == "embedded":
            log = LogBuffer(clock)
            embedded[name] = machine.embedded(name, app, host=layout, clock=clock, log=log)
            children[name] = machine.embedded_processes(
                name, app, host=layout, clock=clock, log=log, disk=machine.disk
            )
        else:
            units[name] = await machine.systemd(name, app, host=layout, clock=clock)
            beside[name] = machine.systemd_processes(name, app, host=layout, clock=clock)
    uv_binary = Path(await asyncio.to_thread(uv.find_uv_bin))
    pythons = Pythons(layout.pythons, root=layout.root)
    usable = {
        name: _app(
            name,
            app,
            layout=layout,
            host=config,
            service=embedded.get(name) or units[name],
            processes=children.get(name) or beside[name],
            memory=memory,
            machine=machine,
            journal=journal,
            uv_binary=uv_binary,
            pythons=pythons,
            status_line=status_lines.of(name),
        )
        for name, app in apps.usable.items()
    }
    unusable = {
        name: Unusable(
            name,
            after_mending(name, problem, service=config.service),
            journal=journal,
            clock=clock,
            status_line=status_lines.of(name),
        )
        for name, problem in apps.unusable.items()
    }
    refusals = Refusals()
    drops = _drops(usable, layout=layout, host=config, disk=machine.disk, clock=clock, refusals=refusals)
    channels: dict[str, Subscription] = {}
    if any(app.subscribe.repository for app in apps.usable.values()):
        from agent.subscriptions import subscribe  # here: most hosts fetch nothing by themselves

        channels = subscribe(
            usable, apps.usable, layout=layout, host=config, clock=clock, disk=machine.disk, refusals=refusals
        )
    notices = courier(config, layout=layout, journal=journal, clock=clock)
    agent = Agent(usable, unusable, host=config.name, drops=drops, channels=channels, notices=notices)
    door = HttpDoor(
        agent,
        address=config.door.address,
        path=layout.api_socket,
        group=config.door.group,
        metrics_users=config.door.metrics_users,
        clock=clock,
        limits=config.limits,
        stop=stop,
        held=sockets,
        refusals=refusals,
    )

    def stopping() -> None:
        notifier.stopping()
        status_lines.stopping()

    try:
        status_lines.show()
        await serve(
            agent,
            # The drop directories first: once the agent answers, callers may drop.
            doors=[*drops.values(), door, *channels.values(), notices, notifier],
            # The agent is the parent of embedded apps, so they end with it. Those of systemd go on.
            services=[*children.values(), *embedded.values()],
            journal=journal,
            stop=stop,
            stopping=stopping,
        )
    finally:
        for processes in beside.values():
            processes.close()
        for service in units.values():
            service.close()


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


def _app(
    name: str,
    config: AppConfig,
    *,
    layout: HostLayout,
    host: AgentConfig,
    service: Service,
    processes: SideProcesses,
    memory: LastRead,
    machine: Machine,
    journal: Journal,
    uv_binary: Path,
    pythons: Pythons,
    status_line: StatusLine,
) -> App:
    disk, clock, lock = machine.disk, machine.clock, DeploymentLock(name)
    embedded = host.service == "embedded"
    store = ReleaseStore(AppLayout(layout.beneath(config.path)), rules_of(name, config, layout, host).unsaid())
    make = partial(
        make_parts,
        name,
        store=store,
        layout=layout,
        host=host,
        service=service,
        processes=processes,
        machine=machine,
        journal=journal,
        uv_binary=uv_binary,
        pythons=pythons,
        status_line=status_line,
    )

    def apply(read: AppConfig) -> None:
        service.adopt(read)
        processes.adopt(read)

    in_force = InForce(
        make(config),
        file=ReadFile(name, memory, host=layout) if embedded else None,
        make=make,
        apply=apply,
        lock=lock,
    )
    recovery = AppRecovery(
        name,
        executor=in_force.parts.executor,
        lock=lock,
        store=store,
        disk=disk,
        service=service,
        processes=processes,
        journal=journal,
        clock=clock,
        status_line=status_line,
    )

    def differs() -> str:
        if embedded:
            return file_differs(name, in_force.parts.config, host=layout)
        from agent.host.systemd.unit_files import disagreement  # here: no other kind of host needs it

        return disagreement(name, in_force.parts.config, host=layout)

    place = Place(name, layout.hooks(name), partial(unrunnable, user=config.user))
    ground = Ground(place, store=store, service=service, clock=clock, differs=differs)
    deployer = Deployer(
        name,
        in_force=in_force,
        recovery=recovery,
        lock=lock,
        store=store,
        service=service,
        ground=ground,
        journal=journal,
        clock=clock,
    )
    condition = Condition(
        lambda: in_force.parts.config.health,
        folder=layout.beneath(config.path),
        service=service,
        clock=clock,
    )
    status = Status(
        name,
        in_force=in_force,
        host=host.name,
        drop=str(layout.drop(name)),
        lock=lock,
        recovery=recovery,
        store=store,
        service=service,
        ground=ground,
        condition=condition,
        processes=processes,
        journal=journal,
        clock=clock,
    )
    figures = Figures(
        name,
        lock=lock,
        recovery=recovery,
        store=store,
        service=service,
        ground=ground,
        condition=condition,
        processes=processes,
        journal=journal,
    )
    subscribed = Subscribed(name, host=host.name, lock=lock, store=store, journal=journal, clock=clock)
    return App(
        name,
        deployer=deployer,
        status=status,
        admission=in_force,
        recovery=recovery,
        subscribed=subscribed,
        figures=figures,
    )


def _drops(
    apps: Mapping[str, App],
    *,
    layout: HostLayout,
    host: AgentConfig,
    disk: Disk,
    clock: Clock,
    refusals: Refusals,
) -> dict[str, DropDirectory]:
    return {
        name: DropDirectory(
            app,
            path=layout.drop(name),
            disk=disk,
            clock=clock,
            settings=host.drop,
            make=host.service == "embedded",
            refusals=refusals,
        )
        for name, app in apps.items()
    }
