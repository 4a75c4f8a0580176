"""`pusher-agent identity`: print the public key of this host, with which it signs its reports."""

import argparse

from agent.admin.command import Command, no_options
from agent.core.layout import HostLayout
from agent.host.channel.identity import Identity
from agent.host.setup.config_files import read_agent
from agent.host.storage.disk import Disk


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    print(Identity(layout.identity, host=read_agent(layout).name, disk=Disk()).public())
    return 0


COMMAND = Command(
    name="identity",
    help="print this host's own public key",
    description="Prints the public key with which this host signs its reports, and its name. "
    "`pusher fleet adopt` takes that.",
    options=no_options,
    run=_run,
)
