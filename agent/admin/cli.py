"""The words of the `pusher-agent` command: what it takes, not what it does."""

import argparse
import os
from importlib.metadata import version
from pathlib import Path

from agent.admin.init import AppOptions


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments, checked as far as their form goes. Exits with 2 for wrong ones."""
    arguments = parser().parse_args(argv)
    arguments.root = Path(os.path.abspath(arguments.root))
    return arguments


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="pusher-agent", description="Takes signed bundles, makes releases of them, and keeps one serving."
    )
    top.add_argument("--version", action="version", version=f"pusher-agent {version('pusher-agent')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    root = argparse.ArgumentParser(add_help=False)
    root.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="everything lies beneath DIR (default: /)"
    )

    init = commands.add_parser(
        "init", parents=[root], help="make a root for an embedded agent, or add a key or an app to one"
    )
    init.add_argument("--trust", type=Path, metavar="KEY.pub", help="whose bundles are taken")
    init.add_argument(
        "--as", dest="who", default="", metavar="WHO", help="name of the signer (default: the key's comment)"
    )
    init.add_argument("--app", default="", metavar="NAME", help="add an app of this name")
    init.add_argument(
        "--local", default="", metavar="ADDR", help="loopback address of the door (default: 127.0.0.1:9000)"
    )
    _add_app_options(init)

    commands.add_parser("serve", parents=[root], help="run the agent")
    commands.add_parser("check", parents=[root], help="look over configuration and host; change nothing")
    trust = commands.add_parser("trust", parents=[root], help="let the holder of a key deploy to this host")
    trust.add_argument("key", type=Path, metavar="KEY.pub")
    trust.add_argument(
        "--as", dest="who", required=True, metavar="WHO", help="name of the signer, such as alice@example.com"
    )
    app = commands.add_parser("app", help="the apps of this host").add_subparsers(
        dest="app_command", required=True, metavar="COMMAND"
    )
    app.add_parser("list", parents=[root], help="a line for each app")
    add = app.add_parser("add", parents=[root], help="set up an app on a server: file, user, folders, units")
    add.add_argument("name", metavar="NAME")
    _add_app_options(add)
    apply = app.add_parser("apply", parents=[root], help="make everything what the app's file says by now")
    apply.add_argument("name", metavar="NAME")
    remove = app.add_parser("remove", parents=[root], help="stop an app for good, and take down its units")
    remove.add_argument("name", metavar="NAME")
    remove.add_argument("--purge", action="store_true", help="its releases, its data and its user too")
    return top


def app_options(arguments: argparse.Namespace) -> AppOptions:
    """The APP-OPTIONS among the arguments."""
    return AppOptions(
        listen=arguments.listen,
        start=arguments.start,
        keep=arguments.keep,
        health=arguments.health,
        version_member=arguments.version_member,
    )


def _add_app_options(parser: argparse.ArgumentParser) -> None:
    options, default = parser.add_argument_group("options of the app"), AppOptions()
    options.add_argument("--listen", default=default.listen, metavar="ADDR", help=f"(default: {default.listen})")
    options.add_argument(
        "--start",
        default=default.start,
        metavar="COMMAND",
        help=f"found in the release's venv; takes the socket it is handed (default: {default.start})",
    )
    options.add_argument(
        "--keep", type=int, default=default.keep, metavar="N", help=f"releases to keep (default: {default.keep})"
    )
    options.add_argument(
        "--health", default=default.health, metavar="PATH", help=f"what is asked (default: {default.health})"
    )
    options.add_argument(
        "--version-member",
        default=default.version_member,
        metavar="NAME",
        help="member of the health answer's JSON that must be the bundle's version (default: none)",
    )
