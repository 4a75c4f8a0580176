"""The parts of an app's deployments that are made from its file.

Invariant: none of them has a state that must outlive it. When the file was changed, they are all made anew.
"""

from pathlib import Path

from agent.core.config import AgentConfig, AppConfig
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
from agent.host.ports import HookRunner, Service, SideProcesses
from agent.host.releases.revocations import Revocations
from agent.host.releases.store import ReleaseStore
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from agent.machine import Machine


def make_parts(
    name: str,
    config: AppConfig,
    *,
    store: ReleaseStore,
    layout: HostLayout,
    host: AgentConfig,
    service: Service,
    processes: SideProcesses,
    machine: Machine,
    journal: Journal,
    uv_binary: Path,
    pythons: Pythons,
    status_line: StatusLine,
) -> Parts:
    """The parts of an app's deployments that are made from one reading of its file."""
    disk, clock, rules = machine.disk, machine.clock, rules_of(name, config, layout, host)
    trust = trust_files(layout, host)
    revocations = Revocations(store.layout, files=trust, rules=config.signing, allowed=config.allow_revoked)
    retention = Retention(name, config.keep_releases, store, disk, journal, revocations)
    hooks: HookRunner
    builder: Builder
    if host.service == "embedded":
        hooks = machine.embedded_hooks(config, host=layout)
        builder = LocalBuilder(disk, store.layout.staging / "build")
    else:
        from agent.host.systemd.dependencies import UnitBuilder  # here: no other kind of host needs it

        hooks = machine.systemd_hooks(name, config, host=layout)
        builder = UnitBuilder(name, disk, host=layout)
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
    return Parts(config, admission, executor, retention, venvs, revocations)


def rules_of(name: str, config: AppConfig, layout: HostLayout, host: AgentConfig) -> RunRules:
    """What the host says of how the app's releases run."""
    return RunRules(name, config, str(layout.app_toml(name)), host.service == "systemd")


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
