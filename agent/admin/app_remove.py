"""`pusher-agent app remove`: stop an app for good, and remove its units."""

import argparse

from agent.admin.app_removal import remove_app
from agent.admin.app_setup import run
from agent.admin.command import Command
from agent.core.layout import HostLayout
from agent.host.storage.disk import Disk


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the name of the app")
    parser.add_argument("--purge", action="store_true", help="also remove its releases, its data and its user")


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    for line in remove_app(layout, arguments.name, purge=arguments.purge, disk=Disk(), run=run):
        print(line, flush=True)
    if layout.adopted(arguments.name).exists():
        print(f"To give it back to its old service: pusher-agent app adopt {arguments.name} --undo")
    return 0


COMMAND = Command(
    name="app remove",
    help="stop an app for good, and remove its units",
    description="Stops an app for good and removes its units, as root. Reports what it leaves.",
    options=_options,
    run=_run,
)
