"""`pusher-agent app list`: the apps of this host, a line each."""

import argparse
from collections.abc import Iterator

from agent.admin.command import Command, no_options
from agent.core.layout import HostLayout
from agent.host.setup.config_files import read_apps


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    for line in _lines(layout):
        print(line)
    return 0


COMMAND = Command(
    name="app list",
    help="list the apps of this host",
    description="Lists the apps of this host, a line each. If the file of one cannot be used, the line says why.",
    options=no_options,
    run=_run,
)


def _lines(layout: HostLayout) -> Iterator[str]:
    apps = read_apps(layout)
    for name in sorted({*apps.usable, *apps.unusable}):
        if problem := apps.unusable.get(name):
            yield f"{name}  cannot be used: {problem}"
        else:
            config = apps.usable[name]
            start = config.start or "started as the release says"
            yield f"{name}  {layout.beneath(config.path)}  {config.listen}  {start}"
