"""The `pusher-agent` command: the one place where problems become exit codes."""

import argparse
import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Iterator

from agent.admin import app_add as server_apps
from agent.admin import app_remove, check, init
from agent.admin.cli import app_options, parse
from agent.assembly import serve_host
from agent.core.config import AgentConfig
from agent.core.layout import HostLayout
from agent.host.log import log
from agent.host.setup.config_files import Apps, read_agent, read_apps, set_apart
from agent.host.storage.disk import Disk
from agent.host.storage.lock import Lock
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
    # Under systemd, `shared` has the app's group, which may write to its shared paths (agent.host.setup).
    os.umask(0o002 if config.service == "systemd" else 0o022)
    lock = Lock(layout.lock)
    lock.acquire()
    try:
        asyncio.run(_until_signal(layout, config, apps))
    finally:
        lock.release()
    return 0


async def _until_signal(layout: HostLayout, config: AgentConfig, apps: Apps) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve_host(layout, config, apps, stop=stop)


if __name__ == "__main__":
    sys.exit(main())
