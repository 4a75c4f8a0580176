"""The parts of one app that last as long as the agent.

Invariant: what is made from the app's file is reached through `InForce`, so none of these keeps an old reading.
"""

from dataclasses import dataclass
from functools import partial

from agent.core.config.app import AppConfig
from agent.core.layout import AppLayout
from agent.daemon import App
from agent.deploy.condition import Condition
from agent.deploy.deployer import Deployer
from agent.deploy.figures import Figures
from agent.deploy.ground import Ground, Place
from agent.deploy.in_force import InForce
from agent.deploy.lock import DeploymentLock
from agent.deploy.recovery import AppRecovery
from agent.deploy.status import Status
from agent.deploy.status_line import StatusLine
from agent.deploy.subscribed import Subscribed
from agent.host.releases.store import ReleaseStore
from agent.host.setup.config_files import file_differs
from agent.host.setup.last_read import LastRead, ReadFile
from agent.host.setup.rights import unrunnable
from agent.machine import Supervisor
from agent.parts import HostParts, make_parts, rules_of


def make_app(
    name: str,
    config: AppConfig,
    *,
    host: HostParts,
    supervisor: Supervisor,
    memory: LastRead,
    status_line: StatusLine,
) -> App:
    """The parts of an app that act for others. `memory` has what was read last of its file."""
    layout, clock, lock = host.layout, host.machine.clock, DeploymentLock(name)
    store = ReleaseStore(AppLayout(layout.beneath(config.path)), rules_of(name, config, host).unsaid())
    make = partial(make_parts, name, host=host, store=store, supervisor=supervisor, status_line=status_line)
    in_force = InForce(
        make(config),
        file=ReadFile(name, memory, host=layout) if host.embedded else None,
        make=make,
        apply=supervisor.adopt,
        lock=lock,
    )
    recovery = AppRecovery(
        name,
        executor=in_force.parts.executor,
        lock=lock,
        store=store,
        disk=host.machine.disk,
        service=supervisor.service,
        processes=supervisor.processes,
        journal=host.journal,
        clock=clock,
        status_line=status_line,
    )
    condition = Condition(
        lambda: in_force.parts.config.health,
        folder=layout.beneath(config.path),
        service=supervisor.service,
        clock=clock,
    )
    ground = _ground(name, host=host, in_force=in_force, store=store, supervisor=supervisor)
    parts = _AppParts(name, host, supervisor, lock, store, in_force, recovery, ground, condition)
    return App(
        name,
        deployer=parts.deployer(),
        status=parts.status(),
        admission=in_force,
        recovery=recovery,
        subscribed=Subscribed(
            name, host=host.config.name, lock=lock, store=store, journal=host.journal, clock=clock
        ),
        figures=parts.figures(),
    )


@dataclass(frozen=True, slots=True)
class _AppParts:
    """What those are made from that change an app, and that answer for it."""

    name: str
    host: HostParts
    supervisor: Supervisor
    lock: DeploymentLock
    store: ReleaseStore
    in_force: InForce
    recovery: AppRecovery
    ground: Ground
    condition: Condition

    def deployer(self) -> Deployer:
        return Deployer(
            self.name,
            in_force=self.in_force,
            recovery=self.recovery,
            lock=self.lock,
            store=self.store,
            service=self.supervisor.service,
            ground=self.ground,
            journal=self.host.journal,
            clock=self.host.machine.clock,
        )

    def status(self) -> Status:
        return Status(
            self.name,
            in_force=self.in_force,
            host=self.host.config.name,
            drop=str(self.host.layout.drop(self.name)),
            lock=self.lock,
            recovery=self.recovery,
            store=self.store,
            service=self.supervisor.service,
            ground=self.ground,
            condition=self.condition,
            processes=self.supervisor.processes,
            journal=self.host.journal,
            clock=self.host.machine.clock,
        )

    def figures(self) -> Figures:
        return Figures(
            self.name,
            lock=self.lock,
            recovery=self.recovery,
            store=self.store,
            service=self.supervisor.service,
            ground=self.ground,
            condition=self.condition,
            processes=self.supervisor.processes,
            journal=self.host.journal,
        )


def _ground(
    name: str, *, host: HostParts, in_force: InForce, store: ReleaseStore, supervisor: Supervisor
) -> Ground:
    def differs() -> str:
        config = in_force.parts.config
        if host.embedded:
            return file_differs(name, config, host=host.layout)
        from agent.host.systemd.unit_files import disagreement  # here: no other kind of host needs it

        return disagreement(name, config, host=host.layout)

    place = Place(
        name, host.layout.hooks(name), host.layout.state, partial(unrunnable, user=in_force.parts.config.user)
    )
    return Ground(place, store=store, service=supervisor.service, clock=host.machine.clock, differs=differs)
