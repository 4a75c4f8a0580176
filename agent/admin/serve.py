"""`pusher-agent serve`: run the agent until SIGTERM or SIGINT."""

import argparse
import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from importlib import import_module

from agent.admin.command import Command, no_options
from agent.core.config.host import AgentConfig
from agent.core.layout import HostLayout
from agent.host.log import log
from agent.host.net import activation
from agent.host.own_process import share_memory
from agent.host.setup.config_files import Apps, read_agent, read_apps, set_apart
from agent.host.storage.lock import Lock

_WHILE_IMPORTING = {"SSL_CERT_FILE": os.devnull, "FROZENLIST_NO_EXTENSIONS": "1"}


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    sockets = activation.handed_over()
    config, apps = read_agent(layout), set_apart(read_apps(layout), layout)
    if sockets:
        activation.check(sockets, address=config.door.address, path=layout.api_socket, file=layout.agent_toml)
    log.set_up()
    share_memory()
    _import_aiohttp()
    # Under systemd, `shared` has the app's group, which may write to its shared paths (agent.host.setup).
    os.umask(0o002 if config.service == "systemd" else 0o022)
    lock = Lock(layout.lock)
    lock.acquire()
    try:
        asyncio.run(_until_stopped(layout, config, apps, sockets))
    finally:
        lock.release()
    return 0


COMMAND = Command(
    name="serve",
    help="run the agent",
    description="Runs the agent until SIGTERM or SIGINT. An app whose file cannot be used is left alone.",
    options=no_options,
    run=_run,
)


def _import_aiohttp() -> None:
    """Import aiohttp, without what an agent has no use for, and would keep in memory.

    It reads the certificates of the system as it is imported, for connections that bring no context of their own:
    2.5 MB and 0.1 s. Nothing here speaks TLS without a context; if something did, it would trust nobody.
    The C part of frozenlist, in which it keeps a few callbacks, loads the library of C++: 1 MB.
    """
    before = {name: os.environ.get(name) for name in _WHILE_IMPORTING}
    os.environ.update(_WHILE_IMPORTING)
    try:
        import_module("aiohttp")
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


async def _until_stopped(
    layout: HostLayout, config: AgentConfig, apps: Apps, sockets: Sequence[socket.socket]
) -> None:
    from agent.assembly import serve_host  # here: it imports aiohttp

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve_host(layout, config, apps, stop=stop, sockets=sockets)
