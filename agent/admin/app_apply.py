"""`pusher-agent app apply`: apply the configuration of an app after its file has changed."""

import argparse

from agent.admin.app_file import unchecked
from agent.admin.app_setup import check_free, check_root, checked_units, config_of, run, set_up
from agent.admin.command import Command
from agent.core.layout import HostLayout
from agent.core.units import Units
from agent.host.run.environment import unusable_environment
from agent.host.setup.config_files import check_apart, read_apps
from agent.host.storage.disk import Disk
from pusher.wire import Code, Refused


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the name of the app")


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    check_root(layout)
    app = arguments.name
    config = config_of(layout, app)
    check_apart(app, config, read_apps(layout), layout)
    units = checked_units(app, config, layout)
    if wrong := unusable_environment(config, layout):
        # Before anything stops: if the address has changed, the running service is stopped first.
        raise Refused(
            Code.CONFIGURATION,
            f"{app} could not be started as its environment file says",
            why=wrong,
            hint=f"Its place is `environment_file` in {layout.app_toml(app)}: root's, mode 0600",
        )
    check_free(Units.of(app), config, layout=layout, run=run)
    for line in unchecked(app, layout):
        print(line, flush=True)
    for line in set_up(app, config, units, layout=layout, disk=Disk(), run=run):
        print(line, flush=True)
    return 0


COMMAND = Command(
    name="app apply",
    help="apply the app's configuration",
    description="Applies the configuration of an app after its file has changed, as root: its units, folders and "
    "user, and its part of the polkit rule.",
    options=_options,
    run=_run,
)
