"""`pusher-agent repository serve`: serve a folder as a repository, until SIGTERM or SIGINT."""

import argparse
import asyncio
import os
import signal
from pathlib import Path

from agent.admin.command import Command
from agent.admin.text_file import read_text
from agent.core.config.repository import RepositoryConfig, parse_repository
from agent.core.layout import HostLayout
from agent.core.listen import parse_listen
from agent.host.log import log
from agent.host.own_process import raise_descriptors
from agent.host.storage.disk import Disk
from agent.repository.certificate import Certificate
from agent.repository.logins import Logins
from agent.repository.objects import Objects
from agent.repository.publishing import Publishing
from agent.repository.server import RepositoryServer
from pusher.wire import Code, Refused

_RENEWED_S = 10.0
"""How often the files of the certificate are looked at."""


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
    if config.fleet:
        _check_inventory(Path(config.fleet))
    certificate = _certificate(config)
    log.set_up()
    raise_descriptors()  # each host keeps a connection open, for the bell
    server = RepositoryServer(
        Objects(folder, fleet=Path(config.fleet) if config.fleet else None),
        host=where[0],
        port=where[1],
        publishing=Publishing(folder, disk=Disk(), bundle_most=config.bundle_most),
        logins=Logins(config.publishers),
        tls=certificate.context if certificate else None,
    )
    asyncio.run(_until_stopped(server, config.listen, certificate))
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
    text = "" if arguments.config is None else read_text(arguments.config)
    named = str(arguments.config or "the command line")
    given = {
        key: os.path.abspath(value)
        for key in ("folder", "certificate", "certificate_key", "fleet")
        if (value := getattr(arguments, key)) is not None
    }
    if arguments.listen is not None:
        given["listen"] = arguments.listen
    return parse_repository(text, file=named, instead=given)


def _check_inventory(file: Path) -> None:
    """Refuse an inventory that cannot be read: every report would be refused later. Raises: Refused."""
    try:
        file.read_bytes()
    except OSError as error:
        raise Refused(
            Code.CONFIGURATION,
            f"The inventory {file} cannot be read",
            why=error.strerror or str(error),
            hint="Without it, no host could report. `pusher fleet adopt HOST.pub` makes it; until there is a "
            "host, an empty file will do",
        ) from error


def _certificate(config: RepositoryConfig) -> Certificate | None:
    if not config.certificate:
        return None
    return Certificate(Path(config.certificate), Path(config.certificate_key) if config.certificate_key else None)


async def _until_stopped(server: RepositoryServer, address: str, certificate: Certificate | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await server.start()
    except OSError as error:
        what = f"Cannot listen at {address}"
        raise Refused(Code.PORT_TAKEN, what, why=error.strerror or str(error)) from error
    print(f"serving at {address}", flush=True)
    renewing = asyncio.create_task(_renew(certificate)) if certificate else None
    await stop.wait()
    if renewing:
        renewing.cancel()
    await server.stop()


async def _renew(certificate: Certificate) -> None:
    while True:
        await asyncio.sleep(_RENEWED_S)
        await asyncio.to_thread(certificate.renew)
