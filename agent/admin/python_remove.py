"""`pusher-agent python remove`: take a Python out of root's folder, unless a kept release needs it."""

import argparse

from agent.admin.command import Command
from agent.core.layout import HostLayout
from agent.host.setup.config_files import read_apps
from agent.host.setup.managed_pythons import check_may_change, remove
from agent.host.storage.disk import Disk


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", metavar="VERSION", help="its version, or the name of its folder")


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    check_may_change(layout)
    for line in remove(arguments.version, layout=layout, apps=read_apps(layout).usable, disk=Disk()):
        print(line, flush=True)
    return 0


COMMAND = Command(
    name="python remove",
    help="remove a Python that no app needs any more",
    description="Removes a Python that `python add` has added. Refused while a kept release was made with it.",
    options=_options,
    run=_run,
)
