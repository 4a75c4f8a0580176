"""`pusher-agent app adopt`: take over an app that Ansistrano or Capistrano deployed, with a way back.

Invariant: the old app runs on, and nothing of it is deleted. What was found is kept in root's folder of the agent:
`--undo` needs nothing that others may write.
"""

import argparse
import json
import os
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.admin.app_file import AppOptions, add_app_options, app_options, app_text
from agent.admin.app_removal import remove_app
from agent.admin.app_setup import Run, answer_of, check_root, checked_units, run, set_up
from agent.admin.command import Command
from agent.core.adoption import ASKED, OldUnit, parse_unit, shared_of
from agent.core.config.app import parse_app
from agent.core.layout import HostLayout
from agent.core.units import Units
from agent.host.setup import adoption, app_folders, app_user
from agent.host.setup.config_files import read_agent
from agent.host.storage.disk import Disk
from agent.host.systemd.unit_files import is_ours
from pusher.wire import Code, Problem, Refused, WireError, check_app

_RECORD = "record.json"


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the name of its service, without .service")
    parser.add_argument("--path", default="", metavar="FOLDER", help="its folder (default: /opt/NAME)")
    parser.add_argument("--undo", action="store_true", help="give the app back to its old service")
    add_app_options(parser)


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    check_root(layout)
    try:
        app = check_app(arguments.name)
    except WireError as error:
        raise Refused(Code.CONFIGURATION, "The app cannot be taken over", why=str(error)) from error
    if arguments.undo:
        lines = _undo(app, layout=layout, disk=Disk(), run=run)
    else:
        chosen = app_options(arguments)
        listen_given = arguments.listen != AppOptions().listen
        options = replace(chosen, path=arguments.path or f"/opt/{app}")
        lines = _adopt(app, options, listen_given, layout=layout, disk=Disk(), run=run)
    for line in lines:
        print(line, flush=True)
    return 0


COMMAND = Command(
    name="app adopt",
    help="take over an app that Ansistrano or Capistrano deployed",
    description="Takes over an app that Ansistrano or Capistrano deployed, as root. The old app runs on until the "
    "first release of this agent is well. Its folder becomes NAME.before; what its releases share moves along. "
    "--undo gives it back.",
    options=_options,
    run=_run,
)


def _adopt(
    app: str, options: AppOptions, listen_given: bool, *, layout: HostLayout, disk: Disk, run: Run
) -> Iterator[str]:
    """Take the app over; what is done, in lines. Raises: Refused, with nothing changed; Failed."""
    path, names = layout.beneath(options.path), Units.of(app)
    record = layout.adopted(app) / _RECORD
    if layout.app_toml(app).exists() or record.exists():
        hint = (
            f"To give it back to its old service: pusher-agent app adopt {app} --undo" if record.exists() else ""
        )
        raise Refused(Code.CONFIGURATION, f"{app} is an app of this agent already", hint=hint)
    old = _old_unit(app, layout)
    adoption.check_adoptable(path)
    options = _as_found(app, options, old, path, listen_given=listen_given, layout=layout)
    yield from _found(app, old, options)
    user = old.user or app
    file, text = layout.app_toml(app), app_text(app, options, layout, user=user)
    config = parse_app(text, file=str(file), app=app)
    app_user.check(user, group=read_agent(layout).door.group)

    app_user.check_free(names.build.removesuffix(".service"))
    shared = [*options.shared, *options.shared_files]
    unit = layout.units / names.service
    kept = {"path": options.path, "enabled": old.enabled, "shared": shared, "unit": unit.read_text("utf-8")}
    disk.make_folders(record.parent, op="adopted.folder")
    disk.write(record, (json.dumps(kept, indent=1) + "\n").encode(), op="adopted.record")
    try:
        run(("systemctl", "disable", "--quiet", names.service))
        disk.unlink(unit, op="adopted.unit")
        adoption.relocate(path, adoption.aside(path))
        yield f"{path} is now {adoption.aside(path)}; the old app runs on from there"
        units = checked_units(app, config, layout)
        disk.make_folders(layout.apps, op="apps.folder")
        disk.write(file, text.encode(), op="apps.file")
        yield f"wrote {file}"
        yield from set_up(app, config, units, layout=layout, disk=disk, run=run)
        gid = pwd.getpwnam(config.user).pw_gid
        for name in shared:
            adoption.take(name, old=adoption.aside(path) / "shared", new=path / "shared", gid=gid)
            yield f"moved shared/{name}; the old app finds it through a link"
    except Problem:
        yield from _undo(app, layout=layout, disk=disk, run=run)
        raise
    yield f"{app} is set up. The old app serves until a first release is well: pusher send VERSION --host HOST"
    yield f"To give it back: sudo pusher-agent app adopt {app} --undo"


def _undo(app: str, *, layout: HostLayout, disk: Disk, run: Run) -> Iterator[str]:
    """Give the app back to its old service; what is done, in lines. Raises: Refused, if it cannot be; Failed."""
    kept = _read_record(app, layout)
    path, unit = layout.beneath(kept["path"]), layout.units / Units.of(app).service
    before, after = adoption.aside(path), path.with_name(f"{path.name}.after")
    if before.exists() and path.exists() and os.path.lexists(after):
        raise Refused(
            Code.CONFIGURATION, f"{app} cannot be given back", why=f"{after} is in the way", hint="Move it"
        )
    if layout.app_toml(app).exists() or layout.app_going(app).exists():
        yield from remove_app(layout, app, purge=False, disk=disk, run=run)
    for name in kept["shared"]:
        adoption.give_back(name, old=before / "shared", new=path / "shared")
    if before.exists():
        if path.exists():
            adoption.relocate(path, after)
            yield f"{path}, with the releases of this agent, is now {after}"
        adoption.relocate(before, path)
        yield f"{path} is again as it was"
    disk.write(unit, kept["unit"].encode(), op="adopted.unit", replace=True)
    run(("systemctl", "daemon-reload"))
    if kept["enabled"]:
        run(("systemctl", "enable", "--quiet", unit.name))
    run(("systemctl", "start", unit.name))
    yield f"{unit.name} is the old one again, and runs"
    disk.unlink(layout.adopted(app) / _RECORD, op="adopted.record")
    app_folders.remove(layout.adopted(app))


def _old_unit(app: str, layout: HostLayout) -> OldUnit:
    """Raises: Refused, if there is none, or it is not an administrator's own."""
    unit = layout.units / Units.of(app).service
    shown = answer_of(("systemctl", "show", f"--property={','.join(ASKED)}", "--", unit.name))
    old = parse_unit(shown)
    if old.file == str(unit) and is_ours(unit, app):
        raise Refused(
            Code.CONFIGURATION,
            f"{unit.name} is a unit of this agent already",
            why=f"{layout.app_toml(app)} is gone, and {app} runs on without it",
            hint=f"To set it up again, with the options that it had: pusher-agent app add {app}",
        )
    if old.file != str(unit) or unit.is_symlink():
        raise Refused(
            Code.CONFIGURATION,
            f"There is no {unit.name} to take over",
            why=f"systemd reads it from {old.file}" if old.file else f"{unit} does not exist",
            hint="The app gets the name of its service: pusher-agent app adopt SERVICE --path FOLDER",
        )
    return old


def _as_found(
    app: str, options: AppOptions, old: OldUnit, path: Path, *, listen_given: bool, layout: HostLayout
) -> AppOptions:
    """The options, with what the old app says where they say nothing."""
    release = (path / "current").resolve()
    shared = path.resolve() / "shared"
    links = shared_of(adoption.links_in(release), shared=str(shared))
    paths = [at for at, target in links.items() if at == target and (shared / target).is_dir()]
    files = [at for at, target in links.items() if at == target and (shared / target).is_file()]
    outside = [one for one in old.environment_files if not Path(one).is_relative_to(path)]
    return replace(
        options,
        listen=options.listen if listen_given or not old.listen else old.listen,
        env_file=options.env_file or (outside[0] if len(outside) == 1 else ""),
        shared=tuple(dict.fromkeys((*options.shared, *paths))),
        shared_files=tuple(files),
    )


def _found(app: str, old: OldUnit, options: AppOptions) -> Iterator[str]:
    """What was found, and what a person must see to, in lines."""
    yield f"found {old.file}: {'running' if old.active else 'not running'}, as {old.user or 'root'}"
    if old.command:
        yield f"it starts {' '.join(old.command)}; from now on each release says how it is started, or --start"
    yield f"it listens at {options.listen}"
    for name in (*options.shared, *options.shared_files):
        yield f"its releases share {name}"
    for one in old.environment_files:
        if one != options.env_file:
            yield f"warning: it reads {one}, which the new service does not: --env-file names root's file"
    if old.variables:
        names = ", ".join(old.variables)
        yield f"warning: {names}: set in the old unit itself. What the app needs of that belongs into --env-file"
    if old.memory_max:
        yield f"warning: MemoryMax={old.memory_max}: set in the old unit. Here it is memory_max in [resources]"


def _read_record(app: str, layout: HostLayout) -> Mapping[str, Any]:
    """Raises: Refused, if nothing was taken over."""
    file = layout.adopted(app) / _RECORD
    try:
        found: Mapping[str, Any] = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise Refused(Code.UNKNOWN_APP, f"{app} was not taken over", why=f"{file} does not exist") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Refused(Code.CONFIGURATION, f"{file} cannot be read", why=why) from error
    return found
