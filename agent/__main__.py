"""The `pusher-agent` command: the only place where parts are joined, and where problems become exit codes."""

import argparse
import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

import uv

from agent.admin import app_add as server_apps
from agent.admin import app_remove, check, init
from agent.admin.cli import app_options, parse
from agent.core.config import AgentConfig, AppConfig
from agent.core.layout import AppLayout, HostLayout
from agent.core.plan import Step
from agent.daemon import Agent, serve
from agent.deploy.admission import Admission
from agent.deploy.deployer import Deployer
from agent.deploy.deployment import Deployment
from agent.deploy.executor import Execution
from agent.deploy.hooks import HookCalls
from agent.deploy.recovery import AppRecovery
from agent.deploy.status_line import StatusLine, StatusLines
from agent.deploy.steps import (
    Cleanup,
    Confirm,
    Dependencies,
    Doable,
    LinkShared,
    Preflight,
    Restart,
    Switch,
    Unpack,
)
from agent.deploy.unusable import Unusable
from agent.doors.drop.directory import DropDirectory
from agent.doors.http.server import HttpDoor
from agent.host.clock import SystemClock
from agent.host.embedded.service import Embedded
from agent.host.log import log
from agent.host.log.notify import Notifier
from agent.host.ports import Bundle, Clock, HookRunner, Service
from agent.host.releases.store import ReleaseStore
from agent.host.releases.venvs import Venvs
from agent.host.run.hooks import EmbeddedHookRunner
from agent.host.setup.config_files import Apps, after_mending, read_agent, read_apps, set_apart
from agent.host.storage.disk import Disk
from agent.host.storage.journal import Journal
from agent.host.storage.lock import Lock
from agent.host.systemd.hooks import SystemdHookRunner
from agent.host.systemd.service import Systemd
from pusher.wire import Problem, Refused

_OUR_BUG = 3


def main(argv: list[str] | None = None) -> int:
    """Run `pusher-agent` with these arguments; its exit code (docs/explanation/concepts.md, 3 for our own bug)."""
    arguments = parse(argv)
    try:
        return _run(arguments)
    except Problem as problem:
        print(f"pusher-agent: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        print("pusher-agent: this is a bug of its own; please report it with the lines above", file=sys.stderr)
        return _OUR_BUG


def _run(arguments: argparse.Namespace) -> int:
    layout, disk = HostLayout(arguments.root), Disk()
    match arguments.command:
        case "serve":
            return _serve(layout)
        case "init":
            for line in init.init(
                layout,
                disk=disk,
                trust=arguments.trust,
                who=arguments.who,
                app=arguments.app,
                options=app_options(arguments),
                address=arguments.local,
            ):
                print(line)
        case "trust":
            print(init.trust(layout, key=arguments.key, who=arguments.who, disk=disk))
        case "app":
            for line in _app(arguments, layout, disk):
                print(line, flush=True)
        case "check":
            findings = list(check.check(layout))
            for well, sentence in findings:
                print(f"{'ok  ' if well else 'BAD '}  {sentence}")
            return 0 if all(well for well, _ in findings) else Refused.exit_code
    return 0


def _app(arguments: argparse.Namespace, layout: HostLayout, disk: Disk) -> Iterator[str]:
    match arguments.app_command:
        case "add":
            return server_apps.add(layout, arguments.name, app_options(arguments), disk=disk)
        case "apply":
            return server_apps.apply(layout, arguments.name, disk=disk)
        case "remove":
            return app_remove.remove(layout, arguments.name, purge=arguments.purge, disk=disk)
        case _:
            return init.app_list(layout)


def _serve(layout: HostLayout) -> int:
    config, apps = read_agent(layout), set_apart(read_apps(layout), layout)
    log.set_up()
    # Under systemd, `shared` has the group of the app, which may write to its shared paths (agent.admin).
    os.umask(0o002 if config.service == "systemd" else 0o022)
    lock = Lock(layout.lock)
    lock.acquire()
    try:
        asyncio.run(_until_told(layout, config, apps))
    finally:
        lock.release()
    return 0


async def _until_told(layout: HostLayout, config: AgentConfig, apps: Apps) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve_host(layout, config, apps, stop=stop)


async def serve_host(layout: HostLayout, config: AgentConfig, apps: Apps, *, stop: asyncio.Event) -> None:
    """The agent of a host, until `stop` is set. Raises: Problem, if it cannot begin."""
    clock, disk, journal = SystemClock(), Disk(), Journal(layout.journal)
    notifier = Notifier(clock=clock)
    status_lines = StatusLines(door=config.door.address, say=notifier.say)
    embedded: dict[str, Embedded] = {}
    units: dict[str, Systemd] = {}
    for name, app in apps.usable.items():
        if config.service == "embedded":
            embedded[name] = Embedded(name, app, host=layout, clock=clock)
        else:
            units[name] = await Systemd.find(name, app, host=layout, clock=clock)
    binary = Path(await asyncio.to_thread(uv.find_uv_bin))
    deployers = {
        name: _deployer(
            name,
            app,
            layout=layout,
            host=config,
            service=embedded.get(name) or units[name],
            hooks=EmbeddedHookRunner(app, host=layout)
            if name in embedded
            else SystemdHookRunner(name, app, host=layout),
            journal=journal,
            disk=disk,
            clock=clock,
            uv_binary=binary,
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
    drops = _drops(deployers, layout=layout, host=config, disk=disk, clock=clock)
    agent = Agent({**deployers, **unusable}, drops={**drops, **unusable})
    door = HttpDoor(
        agent,
        address=config.door.address,
        path=layout.api_socket,
        group=config.door.group,
        limits=config.limits,
        stop=stop,
    )

    def stopping() -> None:
        notifier.stopping()
        status_lines.stopping()

    try:
        status_lines.show()
        # Apps that the agent is the parent of end with it; those of systemd do not notice.
        await serve(
            agent,
            # The folders before the answers: whom the agent answers may drop.
            doors=[*drops.values(), door, notifier],
            services=[*embedded.values()],
            journal=journal,
            stop=stop,
            stopping=stopping,
        )
    finally:
        for service in units.values():
            service.close()


def _drops(
    deployers: Mapping[str, Deployer], *, layout: HostLayout, host: AgentConfig, disk: Disk, clock: Clock
) -> dict[str, DropDirectory]:
    return {
        name: DropDirectory(
            name,
            deployer,
            path=layout.drop(name),
            disk=disk,
            clock=clock,
            settings=host.drop,
            make=host.service == "embedded",
        )
        for name, deployer in deployers.items()
    }


def _deployer(
    name: str,
    config: AppConfig,
    *,
    layout: HostLayout,
    host: AgentConfig,
    service: Service,
    hooks: HookRunner,
    journal: Journal,
    disk: Disk,
    clock: Clock,
    uv_binary: Path,
    status_line: StatusLine,
) -> Deployer:
    store = ReleaseStore(AppLayout(layout.beneath(config.path)))
    steps = _steps(
        config,
        store=store,
        disk=disk,
        service=service,
        journal=journal,
        clock=clock,
        venvs=_venvs(config, layout=layout, disk=disk, uv_binary=uv_binary),
    )
    calls = HookCalls(store, layout.hooks(name), hooks, clock, config.hook_deadline_s)

    def execute(deployment: Deployment, bundle: Bundle | None) -> Execution:
        deployment.tell(status_line.happened)
        every = {**steps, Step.UNPACK: Unpack(store, disk, host.limits.tree, bundle, deployment.body_read)}
        return Execution(deployment, steps=every, hooks=calls, store=store, journal=journal, clock=clock)

    return Deployer(
        name,
        admission=Admission(
            name,
            config=config,
            host=host.name,
            limits=host.limits,
            allowed_signers=layout.allowed_signers,
            disk=disk,
            clock=clock,
        ),
        execute=execute,
        recovery=AppRecovery(
            name,
            execute=execute,
            store=store,
            disk=disk,
            service=service,
            journal=journal,
            clock=clock,
            status_line=status_line,
        ),
        store=store,
        disk=disk,
        service=service,
        journal=journal,
        clock=clock,
        drop=str(layout.drop(name)),
    )


def _steps(
    config: AppConfig,
    *,
    store: ReleaseStore,
    disk: Disk,
    service: Service,
    journal: Journal,
    clock: Clock,
    venvs: Venvs,
) -> dict[Step, Doable]:
    """All but the one that unpacks: that is made for each bundle."""
    restart = Restart(store, service)
    return {
        Step.LINK_SHARED: LinkShared(store.layout, config, disk),
        Step.DEPENDENCIES: Dependencies(store, disk, venvs, journal),
        Step.PREFLIGHT: Preflight(store, config, service, clock),
        Step.SWITCH: Switch(store, config, disk, service, journal, clock),
        Step.RESTART: restart,
        Step.CONFIRM: Confirm(config, restart, clock),
        Step.CLEANUP: Cleanup(store, config, disk, venvs, journal),
    }


def _venvs(config: AppConfig, *, layout: HostLayout, disk: Disk, uv_binary: Path) -> Venvs:
    credentials = config.dependencies.credentials_file
    return Venvs(
        AppLayout(layout.beneath(config.path)),
        disk,
        layout.cache,
        config.dependencies,
        uv_binary,
        credentials=layout.beneath(credentials) if credentials else None,
    )


if __name__ == "__main__":
    sys.exit(main())
