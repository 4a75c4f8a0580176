"""`pusher-agent app add`: set up an app on a server. Nothing is started: the first deployment does that."""

import argparse
from dataclasses import replace
from pathlib import Path

from agent.admin.app_file import AppOptions, add_app_options, app_options, app_text, unchecked
from agent.admin.app_setup import check_root, checked_units, run, set_up
from agent.admin.command import Command
from agent.core.config import parse_app
from agent.core.layout import HostLayout
from agent.core.procfile import parse_procfile
from agent.host.storage.disk import Disk
from pusher.wire import Code, Refused

_MIGRATIONS = "before-symlink"


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the name of the app")
    add_app_options(parser)
    parser.add_argument(
        "--procfile",
        type=Path,
        metavar="FILE",
        help="take the commands from a Procfile: web becomes --start, release the hook before-symlink, every "
        "other line a process",
    )


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    check_root(layout)
    app, disk = arguments.name, Disk()
    options, hook = app_options(arguments), ""
    if arguments.procfile:
        options, hook = _with_procfile(options, arguments.procfile, hook=layout.hooks(app) / _MIGRATIONS)
    file, text = layout.app_toml(app), app_text(app, options, layout, user=app)
    config = parse_app(text, file=str(file), app=app)
    units = checked_units(app, config, layout)
    for line in unchecked(app, layout):
        print(line, flush=True)
    disk.make_folders(layout.apps, op="apps.folder")
    disk.write(file, text.encode(), op="apps.file")
    print(f"wrote {file}", flush=True)
    if hook:
        disk.make_folders(layout.hooks(app), op="apps.hooks")
        disk.write(layout.hooks(app) / _MIGRATIONS, hook.encode(), op="apps.hook", mode=0o755)
        print(f"wrote {layout.hooks(app) / _MIGRATIONS}", flush=True)
    for line in set_up(app, config, units, layout=layout, disk=disk, run=run):
        print(line, flush=True)
    if layout.beneath(config.path).joinpath("current").is_symlink():
        print(f"{app} is set up again, and the agent starts the release that was live")
    else:
        print(f"{app} is set up; nothing runs yet. To deploy a first version: pusher send VERSION --host HOST")
    return 0


def _with_procfile(options: AppOptions, path: Path, *, hook: Path) -> tuple[AppOptions, str]:
    """The options with the commands of a Procfile; the text of the hook that its `release` becomes, else "".

    Raises: Refused(configuration).
    """
    try:
        found = parse_procfile(path.read_text(), file=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(Code.CONFIGURATION, f"{path} cannot be read", why=str(error)) from error
    if found.web and options.start not in (found.web, AppOptions().start):
        why = f"it starts {found.web!r} as web, and --start says {options.start!r}"
        raise Refused(Code.CONFIGURATION, f"{path} and --start disagree", why=why, hint="Leave --start out")
    if found.release and hook.exists():
        raise Refused(
            Code.CONFIGURATION,
            f"{hook} exists already",
            why=f"the line `release` of {path} would become this hook",
            hint="Remove the hook or the line",
        )
    options = replace(options, start=found.web or options.start, processes=found.processes)
    return (
        options,
        f"#!/bin/sh\n# The line `release` of a Procfile.\nset -e\n{found.release}\n" if found.release else "",
    )


COMMAND = Command(
    name="app add",
    help="set up an app on a server: file, user, folders, units",
    description="Sets up an app, as root: its file, user, folders and units, and its part of the polkit rule. "
    "Nothing is started: the first deployment does that.",
    options=_options,
    run=_run,
)
