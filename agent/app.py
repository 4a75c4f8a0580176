"""The parts of one app that last as long as the agent.

Invariant: what is made from the app's file is reached through `InForce`, so none of these keeps an old reading.
"""

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
    layout, journal, clock, lock = host.layout, host.journal, host.machine.clock, DeploymentLock(name)
    service, processes = supervisor.service, supervisor.processes
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
        service=service,
        processes=processes,
        journal=journal,
        clock=clock,
        status_line=status_line,
    )
    ground = _ground(name, host=host, in_force=in_force, store=store, supervisor=supervisor)
    condition = Condition(
        lambda: in_force.parts.config.health, folder=layout.beneath(config.path), service=service, clock=clock
    )
    return App(
        name,
        deployer=Deployer(
            name,
            in_force=in_force,
            recovery=recovery,
            lock=lock,
            store=store,
            service=service,
            ground=ground,
            journal=journal,
            clock=clock,
        ),
        status=Status(
            name,
            in_force=in_force,
            host=host.config.name,
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
        ),
        admission=in_force,
        recovery=recovery,
        subscribed=Subscribed(name, host=host.config.name, lock=lock, store=store, journal=journal, clock=clock),
        figures=Figures(
            name,
            lock=lock,
            recovery=recovery,
            store=store,
            service=service,
            ground=ground,
            condition=condition,
            processes=processes,
            journal=journal,
        ),
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

    place = Place(name, host.layout.hooks(name), partial(unrunnable, user=in_force.parts.config.user))
    return Ground(place, store=store, service=supervisor.service, clock=host.machine.clock, differs=differs)
