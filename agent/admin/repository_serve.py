"""`pusher-agent repository serve`: serve a folder as a repository, until SIGTERM or SIGINT."""

import argparse
import asyncio
import signal
import ssl
from pathlib import Path

from agent.admin.command import Command
from agent.core.config import parse_listen
from agent.core.layout import HostLayout
from agent.host.log import log
from agent.repository.objects import Objects
from agent.repository.server import RepositoryServer
from pusher.wire import Code, Refused


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the folder that `pusher publish` writes to")
    parser.add_argument(
        "--listen", default="127.0.0.1:8180", metavar="ADDR", help="where to listen (default: 127.0.0.1:8180)"
    )
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="serve https with this certificate (PEM)")
    parser.add_argument("--certificate-key", type=Path, metavar="FILE", help="the key of the certificate (PEM)")
    parser.add_argument("--fleet", type=Path, metavar="FILE", help="an inventory: only its hosts may report")


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    try:
        where = parse_listen(arguments.listen)
        if isinstance(where, str):
            raise ValueError("an address with a port is needed")
    except ValueError as error:
        raise Refused(Code.CONFIGURATION, f"--listen is {arguments.listen!r}", why=str(error)) from error
    if not arguments.folder.is_dir():
        raise Refused(Code.CONFIGURATION, f"{arguments.folder} is no folder", hint="Publish into it first")
    log.set_up()
    server = RepositoryServer(
        Objects(arguments.folder, fleet=arguments.fleet),
        host=where[0],
        port=where[1],
        tls=_tls(arguments.certificate, arguments.certificate_key),
    )
    asyncio.run(_until_stopped(server, arguments.listen))
    return 0


COMMAND = Command(
    name="repository serve",
    help="serve a folder as a repository",
    description="Serves a folder as a repository for hosts that fetch by themselves, until SIGTERM or SIGINT: "
    "with the bell, so that they fetch at once, and reports, which it writes into the folder.",
    options=_options,
    run=_run,
)


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise Refused(Code.CONFIGURATION, f"{certificate} cannot be used", why=str(error)) from error
    return context


async def _until_stopped(server: RepositoryServer, address: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await server.start()
    except OSError as error:
        what = f"Cannot listen at {address}"
        raise Refused(Code.PORT_TAKEN, what, why=error.strerror or str(error)) from error
    print(f"serving at {address}", flush=True)
    await stop.wait()
    await server.stop()
