"""`pusher-agent repository serve`: serve a folder as a repository, until SIGTERM or SIGINT."""

import argparse
import asyncio
import os
import signal
import ssl
from pathlib import Path

from agent.admin.command import Command
from agent.core.config.repository import RepositoryConfig, parse_repository
from agent.core.layout import HostLayout
from agent.core.listen import parse_listen
from agent.host.log import log
from agent.host.storage.disk import Disk
from agent.repository.logins import Logins
from agent.repository.objects import Objects
from agent.repository.publishing import Publishing
from agent.repository.server import RepositoryServer
from pusher.wire import Code, Refused


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="FOLDER",
        help="the folder that `pusher publish` writes to (default: `folder` in the file of --config)",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the server's file; options count more")
    parser.add_argument("--listen", metavar="ADDR", help="where to listen (default: 127.0.0.1:8180)")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="serve https with this certificate (PEM)")
    parser.add_argument("--certificate-key", type=Path, metavar="FILE", help="the key of the certificate (PEM)")
    parser.add_argument("--fleet", type=Path, metavar="FILE", help="an inventory: only its hosts may report")


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    config = _config(arguments)
    where = parse_listen(config.listen)
    if isinstance(where, str):
        why = "an address with a port is needed"
        raise Refused(Code.CONFIGURATION, f"{config.listen!r} is no address to listen at", why=why)
    folder = Path(config.folder)
    if not config.folder or not folder.is_dir():
        what = f"{folder} is no folder" if config.folder else "No folder is named"
        raise Refused(Code.CONFIGURATION, what, hint="Make it, and name it: FOLDER, or `folder` in the file")
    log.set_up()
    server = RepositoryServer(
        Objects(folder, fleet=Path(config.fleet) if config.fleet else None),
        host=where[0],
        port=where[1],
        publishing=Publishing(folder, disk=Disk(), bundle_most=config.bundle_most),
        logins=Logins(config.publishers),
        tls=_tls(config),
    )
    asyncio.run(_until_stopped(server, config.listen))
    return 0


COMMAND = Command(
    name="repository serve",
    help="serve a folder as a repository",
    description="Serves a folder as a repository for hosts that fetch by themselves, until SIGTERM or SIGINT: "
    "with the bell, so that they fetch at once, and reports, which it writes into the folder. Publishers whom its "
    "file names write there by https.",
    options=_options,
    run=_run,
)


def _config(arguments: argparse.Namespace) -> RepositoryConfig:
    """The file of the server, with what the options say in its place. Raises: Refused."""
    text = ""
    if arguments.config is not None:
        try:
            text = arguments.config.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(Code.CONFIGURATION, f"{arguments.config} cannot be read", why=str(error)) from error
    named = str(arguments.config or "the command line")
    given = {
        key: os.path.abspath(value)
        for key in ("folder", "certificate", "certificate_key", "fleet")
        if (value := getattr(arguments, key)) is not None
    }
    if arguments.listen is not None:
        given["listen"] = arguments.listen
    return parse_repository(text, file=named, instead=given)


def _tls(config: RepositoryConfig) -> ssl.SSLContext | None:
    if not config.certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.certificate, config.certificate_key or None)
    except (OSError, ssl.SSLError) as error:
        raise Refused(Code.CONFIGURATION, f"{config.certificate} cannot be used", why=str(error)) from error
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
