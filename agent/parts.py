"""The parts of an app's deployments that are made from its file.

Invariant: none of them has a state that must outlive it. When the file was changed, they are all made anew.
"""

from dataclasses import dataclass
from pathlib import Path

from agent.core.config.app import AppConfig
from agent.core.config.host import AgentConfig
from agent.core.layout import AppLayout, HostLayout
from agent.core.plan import Step
from agent.core.run import RunRules
from agent.deploy.admission import Admission
from agent.deploy.build import Build
from agent.deploy.executor import Executor
from agent.deploy.hooks import Hooks
from agent.deploy.in_force import Parts
from agent.deploy.retention import Retention
from agent.deploy.status_line import StatusLine
from agent.deploy.steps.cleanup import Cleanup
from agent.deploy.steps.confirm import Confirm
from agent.deploy.steps.dependencies import Dependencies
from agent.deploy.steps.link_shared import LinkShared
from agent.deploy.steps.preflight import Preflight
from agent.deploy.steps.processes import Processes
from agent.deploy.steps.restart import Restart
from agent.deploy.steps.switch import Switch
from agent.deploy.steps.unpack import Unpack
from agent.host.bundle.signatures import trust_files
from agent.host.dependencies.builder import Builder, LocalBuilder
from agent.host.dependencies.pythons import Pythons
from agent.host.dependencies.venvs import Venvs
from agent.host.ports import HookRunner
from agent.host.releases.revocations import Revocations
from agent.host.releases.store import ReleaseStore
from agent.host.storage.journal import Journal
from agent.machine import Machine, Supervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class HostParts:
    """What the apps of a host have in common."""

    layout: HostLayout
    config: AgentConfig
    machine: Machine
    journal: Journal
    uv_binary: Path
    pythons: Pythons

    @property
    def embedded(self) -> bool:
        """Whether the agent is the parent of the apps."""
        return self.config.service == "embedded"


def make_parts(
    name: str,
    config: AppConfig,
    *,
    host: HostParts,
    store: ReleaseStore,
    supervisor: Supervisor,
    status_line: StatusLine,
) -> Parts:
    """The parts of an app's deployments that are made from one reading of its file."""
    layout, disk, clock, journal = host.layout, host.machine.disk, host.machine.clock, host.journal
    service, processes, limits = supervisor.service, supervisor.processes, host.config.limits
    rules, trust = rules_of(name, config, host), trust_files(layout, host.config)
    revocations = Revocations(store.layout, files=trust, rules=config.signing, allowed=config.allow_revoked)
    retention = Retention(name, config.keep_releases, store, disk, journal, revocations)
    hooks, builder = _of_kind(name, config, host=host, store=store)
    venvs = _venvs(config, host=host, builder=builder)
    dependencies = Dependencies(store, disk, venvs, journal)
    executor = Executor(
        steps={
            Step.UNPACK: Unpack(store, disk, limits.tree, rules),
            Step.LINK_SHARED: LinkShared(store.layout, config, disk),
            Step.DEPENDENCIES: dependencies,
            Step.PREFLIGHT: Preflight(store, config, service, clock, processes, dependencies.renew),
            Step.SWITCH: Switch(store, revocations, disk, service, journal, clock, processes),
            Step.RESTART: Restart(store, service),
            Step.CONFIRM: Confirm(clock),
            Step.PROCESSES: Processes(store, config, processes, hooks, clock),
            Step.CLEANUP: Cleanup(store, retention, venvs, journal),
        },
        hooks=Hooks(store, layout.hooks(name), hooks, clock),
        build=_build(config, host=host, store=store, builder=builder).run,
        store=store,
        journal=journal,
        clock=clock,
        listener=status_line.happened,
        ending=service.ending,
    )
    admission = Admission(
        name,
        config=config,
        host=host.config.name,
        limits=limits,
        rules=rules,
        trust=trust,
        pythons=host.pythons,
        disk=disk,
        journal=journal,
        clock=clock,
    )
    return Parts(config, admission, executor, retention, venvs, revocations)


def rules_of(name: str, config: AppConfig, host: HostParts) -> RunRules:
    """What the host says of how the app's releases run."""
    return RunRules(name, config, str(host.layout.app_toml(name)), not host.embedded)


def _of_kind(name: str, config: AppConfig, *, host: HostParts, store: ReleaseStore) -> tuple[HookRunner, Builder]:
    """What runs the app's hooks, and what builds for it, on this kind of host."""
    disk, layout = host.machine.disk, host.layout
    if host.embedded:
        hooks = host.machine.embedded_hooks(config, host=layout)
        return hooks, LocalBuilder(disk, store.layout.staging / "build")
    from agent.host.systemd.dependencies import UnitBuilder  # here: no other kind of host needs it

    hooks = host.machine.systemd_hooks(name, config, host=layout)
    return hooks, UnitBuilder(name, disk, host=layout)


def _build(config: AppConfig, *, host: HostParts, store: ReleaseStore, builder: Builder) -> Build:
    return Build(
        store,
        builder,
        host.machine.disk,
        host.machine.clock,
        host.config.limits.tree,
        config.shared,
        host.layout.beneath(config.environment_file) if config.environment_file else None,
        config.dependencies.deadline_s,
    )


def _venvs(config: AppConfig, *, host: HostParts, builder: Builder) -> Venvs:
    layout, credentials = host.layout, config.dependencies.credentials_file
    return Venvs(
        AppLayout(layout.beneath(config.path)),
        host.machine.disk,
        layout.cache,
        config.dependencies,
        host.uv_binary,
        builder=builder,
        credentials=layout.beneath(credentials) if credentials else None,
        pythons=host.pythons,
    )
