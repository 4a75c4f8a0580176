"""`pusher-agent python add`: put a Python into root's folder, for the apps of this host."""

import argparse
import os
from pathlib import Path

import uv

from agent.admin.app_setup import answer_of
from agent.admin.command import Command
from agent.core.layout import HostLayout
from agent.host.setup.managed_pythons import check_may_change, install
from agent.host.storage.disk import Disk


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", metavar="VERSION", help="the version, as 3.13 or 3.13.1")
    parser.add_argument(
        "--from",
        dest="source",
        default="",
        metavar="MIRROR|FILE",
        help="a mirror of the builds (URL or folder), or one archive; default: where uv gets them",
    )
    parser.add_argument(
        "--digest", default="", metavar="SHA256", help="the SHA-256 of an archive that uv does not know"
    )


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    check_may_change(layout)
    os.umask(0o022)  # apps must be able to read it
    lines = install(
        arguments.version,
        source=arguments.source,
        sha256=arguments.digest.lower(),
        layout=layout,
        disk=Disk(),
        uv=Path(uv.find_uv_bin()),
        ask=answer_of,
    )
    for line in lines:
        print(line, flush=True)
    return 0


COMMAND = Command(
    name="python add",
    help="add a Python for the apps",
    description="Puts a Python into /opt/pusher-agent/pythons, where apps can use it. It is a build that uv "
    "knows; its digest is checked. Nothing of the system changes.",
    options=_options,
    run=_run,
)
