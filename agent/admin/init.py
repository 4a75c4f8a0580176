"""`pusher-agent init`: make a root for an embedded agent, or add a key or an app to it.

Invariant: wrong input changes nothing, and existing files stay as they are.
"""

import argparse
import getpass
import socket
from collections.abc import Iterator
from pathlib import Path

from agent.admin.app_file import AppOptions, add_app_options, app_options, app_text, toml_text, unchecked
from agent.admin.command import Command
from agent.admin.trust import add_signer, check_named, signer_line
from agent.core.config.host import parse_agent
from agent.core.layout import HostLayout
from agent.host.storage.disk import Disk
from pusher.wire import Code, Refused


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trust", type=Path, metavar="KEY.pub", help="accept bundles that this key has signed")
    parser.add_argument(
        "--as", dest="who", default="", metavar="WHO", help="name of the signer (default: the comment of the key)"
    )
    parser.add_argument("--app", default="", metavar="NAME", help="add an app with this name")
    parser.add_argument(
        "--local", default="", metavar="ADDR", help="loopback address of the agent (default: 127.0.0.1:9000)"
    )
    add_app_options(parser)


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    if arguments.root is None:
        # Beneath / lies what the Debian package makes: another kind of agent, or the beginning of a mixture.
        raise Refused(
            Code.BAD_REQUEST,
            "No folder is named for the agent",
            why="it keeps everything beneath one",
            hint="Name it: pusher-agent init --root DIR. A server gets its agent by the Debian package",
        )
    check_named(arguments.who, arguments.trust)
    options = app_options(arguments)
    if options != AppOptions() and not arguments.app:
        raise Refused(Code.BAD_REQUEST, "There are options of an app, and no app", hint="Name it: --app NAME")
    for line in init(
        layout,
        disk=Disk(),
        trust=arguments.trust,
        who=arguments.who,
        app=arguments.app,
        options=options,
        address=arguments.local,
    ):
        print(line)
    return 0


COMMAND = Command(
    name="init",
    help="make a root for an embedded agent, or add a key or an app to it",
    description="Makes a folder for an agent that needs neither root nor systemd; or adds a key or an app to it.",
    options=_options,
    run=_run,
)


def init(
    layout: HostLayout,
    *,
    disk: Disk,
    trust: Path | None = None,
    who: str = "",
    app: str = "",
    options: AppOptions | None = None,
    address: str = "",
) -> Iterator[str]:
    """Make a root for an embedded agent, or add a key or an app to it. Reports what it did, in lines.

    Raises: Refused, with nothing written.
    """
    new_agent = "" if layout.agent_toml.exists() else _agent_text(address, layout.agent_toml)
    if address and not new_agent:
        raise Refused(
            Code.CONFIGURATION,
            f"{layout.agent_toml} exists already",
            hint=f'Set address = "{address}" in its [door] table, and restart the agent',
        )
    line = signer_line(trust, who) if trust else ""
    new_app = app_text(app, options or AppOptions(), layout, user=getpass.getuser()) if app else ""

    for folder in (layout.apps, layout.state, layout.cache, layout.run):
        disk.make_folders(folder, op="init.folder")
    if new_agent:
        disk.write(layout.agent_toml, new_agent.encode(), op="init.agent")
        yield f"wrote {layout.agent_toml}"
    if line:
        yield add_signer(disk, layout.allowed_signers, line)
    if new_app:
        disk.write(layout.app_toml(app), new_app.encode(), op="init.app")
        disk.make_folders(layout.beneath(f"/opt/{app}"), op="init.folder")
        yield f"wrote {layout.app_toml(app)}"
        yield from unchecked(app, layout)


def _agent_text(address: str, file: Path) -> str:
    name = toml_text(socket.gethostname())
    text = f'name = {name}\n# The agent is the parent of its apps.\nservice = "embedded"\n'
    if address:
        text += f"\n[door]\naddress = {toml_text(address)}\n"
    parse_agent(text, file=str(file))
    return text
