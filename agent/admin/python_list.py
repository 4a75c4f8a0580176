"""`pusher-agent python list`: the Pythons that apps of this host can use, a line each."""

import argparse
import asyncio

from agent.admin.command import Command, no_options
from agent.core.layout import HostLayout
from agent.host.dependencies.pythons import Pythons
from agent.host.setup.config_files import read_apps
from agent.host.setup.managed_pythons import managed, users_of


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    folders, apps = managed(layout), read_apps(layout).usable
    for one in asyncio.run(Pythons(layout.pythons, root=layout.root).found()):
        folder = next((folder for folder in folders if one.path.startswith(f"{folder}/")), None)
        users = users_of(folder, layout=layout, apps=apps) if folder else []
        needed = f"  needed by {', '.join(users)}" if users else ""
        print(f"{one.version:8}  {one.path}{needed}")
    return 0


COMMAND = Command(
    name="python list",
    help="list the Pythons that apps can use",
    description="Lists the Pythons that apps of this host can use, a line each: those that were added, then those "
    "of the system.",
    options=no_options,
    run=_run,
)
