"""Joining the parts of an agent.

Invariant: everything that touches the machine comes in through `Machine`, so a test gives it parts of its own and
patches nothing.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import uv

from agent.core.config import AgentConfig, AppConfig
from agent.core.layout import AppLayout, HostLayout
from agent.core.plan import Step
from agent.core.run import RunRules
from agent.daemon import Agent, App, serve
from agent.deploy.admission import Admission
from agent.deploy.build import Build
from agent.deploy.deployer import Deployer
from agent.deploy.executor import Executor
from agent.deploy.ground import Ground, Place
from agent.deploy.hooks import Hooks
from agent.deploy.lock import DeploymentLock
from agent.deploy.recovery import AppRecovery
from agent.deploy.retention import Retention
from agent.deploy.status import Status
from agent.deploy.status_line import StatusLine, StatusLines
from agent.deploy.steps.cleanup import Cleanup
from agent.deploy.steps.confirm import Confirm
from agent.deploy.steps.dependencies import Dependencies
from agent.deploy.steps.link_shared import LinkShared
from agent.deploy.steps.preflight import Preflight
from agent.deploy.steps.processes import Processes
from agent.deploy.steps.restart import Restart
from agent.deploy.steps.switch import Switch
from agent.deploy.steps.unpack import Unpack
from agent.deploy.subscribed import Subscribed
from agent.deploy.unusable import Unusable
from agent.doors.drop.directory import DropDirectory
from agent.doors.http.server import HttpDoor
from agent.doors.refusals import Refusals
from agent.host.clock import SystemClock
from agent.host.dependencies.builder import Builder, LocalBuilder
from agent.host.dependencies.pythons import Pythons
from agent.host.dependencies.venvs import Venvs
from agent.host.embedded.log_buffer import LogBuffer
from agent.host.embedded.processes import EmbeddedProcesses
from agent.host.embedded.service import Embedded
from agent.host.log.notify import Notifier
from agent.host.ports import Clock, HookRunner, Service, SideProcesses
from agent.host.releases.revocations import Revocations
from agent.host.releases.store import ReleaseStore
from agent.host.run.hooks import EmbeddedHookRunner
from agent.host.setup.config_files import Apps, after_mending, file_differs
from agent.host.setup.rights import unrunnable
from agent.host.storage.database import Database
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from agent.host.systemd.dependencies import UnitBuilder
from agent.host.systemd.hooks import SystemdHookRunner
from agent.host.systemd.processes import UnitProcesses
from agent.host.systemd.service import Systemd
from agent.host.systemd.unit_files import disagreement
from agent.subscriptions import subscribe, trust_files


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine that an agent runs on. The defaults are the real one.

    `embedded` and `systemd` make the service of an app, `..._hooks` what runs its hooks, `..._processes` what runs
    its workers and timers; the configuration of the host says which kind is used.
    """

    clock: Clock = field(default_factory=SystemClock)
    disk: Disk = field(default_factory=Disk)
    database: type[Database] = Database
    embedded: Callable[..., Service] = Embedded
    embedded_hooks: Callable[..., HookRunner] = EmbeddedHookRunner
    embedded_processes: Callable[..., SideProcesses] = EmbeddedProcesses
    systemd: Callable[..., Awaitable[Systemd]] = Systemd.find
    systemd_hooks: Callable[..., HookRunner] = SystemdHookRunner
    systemd_processes: Callable[..., UnitProcesses] = UnitProcesses


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
    clock, journal = machine.clock, Journal(layout.journal, database=machine.database)
    notifier = Notifier(clock=clock)
    status_lines = StatusLines(door=config.door.address, say=notifier.say)
    embedded: dict[str, Service] = {}
    units: dict[str, Systemd] = {}
    hooks: dict[str, HookRunner] = {}
    children: dict[str, SideProcesses] = {}
    beside: dict[str, UnitProcesses] = {}
    for name, app in apps.usable.items():
        if config.service == "embedded":
            log = LogBuffer(clock)
            embedded[name] = machine.embedded(name, app, host=layout, clock=clock, log=log)
            hooks[name] = machine.embedded_hooks(app, host=layout)
            children[name] = machine.embedded_processes(
                name, app, host=layout, clock=clock, log=log, disk=machine.disk
            )
        else:
            units[name] = await machine.systemd(name, app, host=layout, clock=clock)
            hooks[name] = machine.systemd_hooks(name, app, host=layout)
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
            hooks=hooks[name],
            journal=journal,
            disk=machine.disk,
            clock=clock,
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
    channels = subscribe(
        usable, apps.usable, layout=layout, host=config, clock=clock, disk=machine.disk, refusals=refusals
    )
    agent = Agent(usable, unusable, drops=drops, channels=channels)
    door = HttpDoor(
        agent,
        address=config.door.address,
        path=layout.api_socket,
        group=config.door.group,
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
            doors=[*drops.values(), door, *channels.values(), notifier],
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


def _app(
    name: str,
    config: AppConfig,
    *,
    layout: HostLayout,
    host: AgentConfig,
    service: Service,
    processes: SideProcesses,
    hooks: HookRunner,
    journal: Journal,
    disk: Disk,
    clock: Clock,
    uv_binary: Path,
    pythons: Pythons,
    status_line: StatusLine,
) -> App:
    rules, lock = (
        RunRules(name, config, str(layout.app_toml(name)), host.service == "systemd"),
        DeploymentLock(name),
    )
    store = ReleaseStore(AppLayout(layout.beneath(config.path)), rules.unsaid())
    trust = trust_files(layout, host)
    revocations = Revocations(store.layout, files=trust, rules=config.signing, allowed=config.allow_revoked)
    retention = Retention(name, config.keep_releases, store, disk, journal, revocations)
    builder = (
        LocalBuilder(disk, store.layout.staging / "build")
        if host.service == "embedded"
        else UnitBuilder(name, disk, host=layout)
    )
    build = Build(
        store,
        builder,
        disk,
        clock,
        host.limits.tree,
        config.shared,
        layout.beneath(config.environment_file) if config.environment_file else None,
        config.dependencies.deadline_s,
    )
    venvs = _venvs(config, layout=layout, disk=disk, uv_binary=uv_binary, builder=builder, pythons=pythons)
    dependencies = Dependencies(store, disk, venvs, journal)
    executor = Executor(
        steps={
            Step.UNPACK: Unpack(store, disk, host.limits.tree, rules),
            Step.LINK_SHARED: LinkShared(store.layout, config, disk),
            Step.DEPENDENCIES: dependencies,
            Step.PREFLIGHT: Preflight(store, config, service, clock, processes, dependencies.renew),
            Step.SWITCH: Switch(store, revocations, disk, service, journal, clock, processes),
            Step.RESTART: Restart(store, service),
            Step.CONFIRM: Confirm(clock),
            Step.PROCESSES: Processes(store, processes, hooks, clock),
            Step.CLEANUP: Cleanup(store, retention, venvs, journal),
        },
        hooks=Hooks(store, layout.hooks(name), hooks, clock),
        build=build.run,
        store=store,
        journal=journal,
        clock=clock,
        listener=status_line.happened,
    )
    admission = Admission(
        name,
        config=config,
        host=host.name,
        limits=host.limits,
        rules=rules,
        trust=trust,
        pythons=pythons,
        disk=disk,
        journal=journal,
        clock=clock,
    )
    recovery = AppRecovery(
        name,
        executor=executor,
        lock=lock,
        store=store,
        disk=disk,
        service=service,
        processes=processes,
        journal=journal,
        clock=clock,
        status_line=status_line,
    )
    differs = partial(disagreement if host.service == "systemd" else file_differs, name, config, host=layout)
    place = Place(name, layout.hooks(name), partial(unrunnable, user=config.user))
    ground = Ground(place, store=store, service=service, clock=clock, differs=differs)
    deployer = Deployer(
        name,
        admission=admission,
        executor=executor,
        recovery=recovery,
        retention=retention,
        lock=lock,
        store=store,
        venvs=venvs,
        revocations=revocations,
        service=service,
        ground=ground,
        journal=journal,
        clock=clock,
    )
    status = Status(
        name,
        config,
        host=host.name,
        drop=str(layout.drop(name)),
        lock=lock,
        recovery=recovery,
        store=store,
        revocations=revocations,
        service=service,
        ground=ground,
        processes=processes,
        journal=journal,
        clock=clock,
    )
    subscribed = Subscribed(name, host=host.name, lock=lock, store=store, journal=journal, clock=clock)
    return App(
        name,
        deployer=deployer,
        status=status,
        admission=admission,
        recovery=recovery,
        subscribed=subscribed,
    )


def _venvs(
    config: AppConfig, *, layout: HostLayout, disk: Disk, uv_binary: Path, builder: Builder, pythons: Pythons
) -> Venvs:
    credentials = config.dependencies.credentials_file
    return Venvs(
        AppLayout(layout.beneath(config.path)),
        disk,
        layout.cache,
        config.dependencies,
        uv_binary,
        builder=builder,
        credentials=layout.beneath(credentials) if credentials else None,
        pythons=pythons,
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
