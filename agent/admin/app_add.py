"""`pusher-agent app add`: set up an app on a server. Nothing is started: the first deployment does that."""

import argparse
from dataclasses import replace
from pathlib import Path

from agent.admin.app_file import AppOptions, add_app_options, app_options, app_text, unchecked
from agent.admin.app_setup import check_root, checked_units, run, set_up
from agent.admin.command import Command
from agent.admin.text_file import read_text
from agent.core.config.app import parse_app
from agent.core.layout import HostLayout
from agent.core.procfile import procfile_processes
from agent.host.storage.disk import Disk


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the name of the app")
    add_app_options(parser)
    parser.add_argument(
        "--procfile",
        type=Path,
        metavar="FILE",
        help="have a process for each line of a Procfile but web and release; the release says how it is started",
    )


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    check_root(layout)
    app, disk = arguments.name, Disk()
    options = app_options(arguments)
    if arguments.procfile:
        options = _with_procfile(options, arguments.procfile)
    file, text = layout.app_toml(app), app_text(app, options, layout, user=app)
    config = parse_app(text, file=str(file), app=app)
    units = checked_units(app, config, layout)
    for line in unchecked(app, layout):
        print(line, flush=True)
    disk.make_folders(layout.apps, op="apps.folder")
    disk.write(file, text.encode(), op="apps.file")
    print(f"wrote {file}", flush=True)
    for line in set_up(app, config, units, layout=layout, disk=disk, run=run):
        print(line, flush=True)
    if layout.beneath(config.path).joinpath("current").is_symlink():
        print(f"{app} is set up again, and the agent starts the release that was live")
    else:
        print(f"{app} is set up; nothing runs yet. To deploy a first version: pusher send VERSION --host HOST")
    return 0


def _with_procfile(options: AppOptions, path: Path) -> AppOptions:
    """The options with the processes of a Procfile. How each is started, the release says. Raises: Refused."""
    text = read_text(path, encoding="utf-8-sig")
    return replace(options, processes=procfile_processes(text, file=str(path)))


COMMAND = Command(
    name="app add",
    help="set up an app on a server: file, user, folders, units",
    description="Sets up an app, as root: its file, user, folders and units, and its part of the polkit rule. "
    "Nothing is started: the first deployment does that.",
    options=_options,
    run=_run,
)
