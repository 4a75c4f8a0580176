"""`pusher-agent door apply`: make the socket unit of the agent agree with agent.toml."""

import argparse

from agent.admin.app_setup import check_root, run
from agent.admin.command import Command, no_options
from agent.admin.door_unit import apply
from agent.core.layout import HostLayout
from agent.host.storage.disk import Disk


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    check_root(layout)
    for line in apply(layout, disk=Disk(), run=run):
        print(line, flush=True)
    return 0


COMMAND = Command(
    name="door apply",
    help="make the socket unit listen where agent.toml says",
    description="Makes the socket unit of the agent listen where agent.toml says, as root. While they disagree, "
    "the agent does not start.",
    options=no_options,
    run=_run,
)
