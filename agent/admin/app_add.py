"""What root sets up on a server for an app: its file, user, folders, units and permission.

Invariant: nothing of somebody else's is touched: a unit file without our mark, a user who has rights of his own,
a folder that is not the agent's are refused.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from agent.admin.init import AppOptions, app_text, unjudged
from agent.core.config import AppConfig, parse_app
from agent.core.layout import AppLayout, HostLayout
from agent.core.units import AGENT, Units, render_drop_in
from agent.host.net import sockets
from agent.host.setup import app_folders, app_user
from agent.host.setup.config_files import after_mending, check_apart, missing_environment, read_agent, read_apps
from agent.host.setup.polkit_rule import write_rule
from agent.host.storage.disk import Disk
from agent.host.systemd.unit_files import is_ours, rendered
from pusher.wire import Code, Failed, Refused

Run = Callable[[tuple[str, ...]], None]
"""Runs a command to its end. Raises: Failed."""


def run(argv: tuple[str, ...]) -> None:
    """`Run`, on this machine."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).strip()
    except OSError as error:
        raise Failed(Code.SERVICE_FAILED, f"{argv[0]} could not be run", why=error.strerror or "") from error
    if done.returncode:
        raise Failed(Code.SERVICE_FAILED, f"`{' '.join(argv)}` failed", why=said or f"exit code {done.returncode}")


def add(layout: HostLayout, app: str, options: AppOptions, *, disk: Disk, run: Run = run) -> Iterator[str]:
    """Set up a new app; says what it did, a line each. Nothing is started: the first deployment does that.

    Raises: Refused, with nothing changed; Failed.
    """
    check_root(layout)
    file, text = layout.app_toml(app), app_text(app, options, layout, user=app)
    config = parse_app(text, file=str(file), app=app)
    units = _units(app, config, layout)
    yield from unjudged(app, layout)
    disk.make_folders(layout.apps, op="apps.folder")
    disk.write(file, text.encode(), op="apps.file")
    yield f"wrote {file}"
    yield from _establish(app, config, units, layout=layout, disk=disk, run=run)
    if layout.beneath(config.path).joinpath("current").is_symlink():
        yield f"{app} is set up again, and the agent starts the release that was live"
    else:
        yield f"{app} is set up; nothing runs yet. Send a first version: pusher send VERSION --host HOST"


def apply(layout: HostLayout, app: str, *, disk: Disk, run: Run = run) -> Iterator[str]:
    """Make everything what the app's file says, after a change of it.

    Raises: Refused, with nothing changed; Failed.
    """
    check_root(layout)
    config = config_of(layout, app)
    check_apart(app, config, read_apps(layout), layout)
    units = _units(app, config, layout)
    if missing := missing_environment(config, layout):
        # systemd starts nothing without it, and a socket that has moved takes the running service down first.
        hint = f"Create it, root's and mode 0600, or empty `environment_file` in {layout.app_toml(app)}"
        raise Refused(Code.CONFIGURATION, f"{app} could not start any more", why=missing, hint=hint)
    _check_free(Units.of(app), config, layout=layout, run=run)
    yield from unjudged(app, layout)
    yield from _establish(app, config, units, layout=layout, disk=disk, run=run)


def check_root(layout: HostLayout) -> None:
    """Raises: Refused, for who may not set apps up, and where they have no units."""
    if os.geteuid() != 0:
        raise Refused(
            Code.NOT_ALLOWED,
            "Apps are set up by root",
            why="their units, users and permissions are root's",
            hint="Use sudo; without root there is `pusher-agent init --root DIR --app NAME`",
        )
    if read_agent(layout).service != "systemd":
        raise Refused(
            Code.CONFIGURATION,
            "The apps of this host have no units",
            why=f'{layout.agent_toml} says service = "embedded"',
            hint="`pusher-agent init --app NAME` adds an app there",
        )


def config_of(layout: HostLayout, app: str) -> AppConfig:
    """What the file of an app says. Raises: Refused, if there is none, or it cannot be used."""
    apps = read_apps(layout)
    if app in apps.unusable:
        raise after_mending(app, apps.unusable[app], service="systemd")
    if app not in apps.usable:
        known = ", ".join(sorted({*apps.usable, *apps.unusable})) or "none"
        raise Refused(Code.UNKNOWN_APP, f"There is no app {app}", hint=f"There are: {known}")
    return apps.usable[app]


def _establish(
    app: str, config: AppConfig, units: dict[str, str], *, layout: HostLayout, disk: Disk, run: Run
) -> Iterator[str]:
    if not app_user.exists(config.user):
        run(app_user.useradd_argv(config.user, app))
        yield f"made user {config.user}"
    elif not (layout.units / Units.of(app).service).exists() and not app_user.made_for(app, config.user):
        yield f"{app} runs as {config.user}, who was there already: it may do whatever that user may"
    app_folders.make(AppLayout(layout.beneath(config.path)), user=config.user)
    app_folders.make_drop(layout, app, group=read_agent(layout).door.group)
    names = Units.of(app)
    before = {name: _read(layout.units / name) or "" for name in units}
    changed = [name for name, text in units.items() if before[name] != text]
    deployed = layout.beneath(config.path).joinpath("current").is_symlink()
    # An open socket keeps its old address, and systemd opens a new one only while the service is down. Stopped
    # before systemd reads the new address, for it takes the old one's file away.
    reopened = before[names.socket] != "" and _address(before[names.socket]) != _address(units[names.socket])
    if reopened and (reopened := _is_active(names, run)):
        run(("systemctl", "stop", names.service, names.socket))
    for name in changed:
        disk.write(layout.units / name, units[name].encode(), op="apps.unit", replace=True)
    write_rule(layout, disk)
    yield from _open_place(app, config, layout=layout, disk=disk)
    run(("systemctl", "daemon-reload"))
    if not (deployed and before[names.socket] and before[names.service]):
        # Not each time: who has disabled an app that was running must not find it enabled after an upgrade.
        run(("systemctl", "enable", "--quiet", names.socket, names.service))
    if changed:
        yield f"rendered {', '.join(changed)}"
    if reopened and deployed:
        run(("systemctl", "start", names.socket, names.service))
        yield f"opened {names.socket} anew, and started {names.service}"
    elif reopened:
        yield f"stopped {app}: there is no release in {config.path} yet, so send one"
    elif names.service in changed and deployed and before[names.service]:
        yield f"{names.service} takes it up when it is next restarted: by a deployment, or by `systemctl restart`"
    run(("systemctl", "try-restart", f"{AGENT}.service"))
    if not changed:
        yield f"the units of {app} stay as they are; the agent reads its file anew"


def _is_active(names: Units, run: Run) -> bool:
    for name in (names.socket, names.service):
        with suppress(Failed):
            run(("systemctl", "is-active", "--quiet", name))
            return True
    return False


def _open_place(app: str, config: AppConfig, *, layout: HostLayout, disk: Disk) -> Iterator[str]:
    """The agent's unit may write beneath /opt, and to what such a drop-in names."""
    file, text = layout.agent_drop_in(app), render_drop_in(app, config, host=layout)
    if not text:
        disk.unlink(file, op="apps.drop-in")
    elif _read(file) != text:
        disk.make_folders(file.parent, op="apps.drop-in")
        disk.write(file, text.encode(), op="apps.drop-in", replace=True)
        yield f"wrote {file}, so that the agent may write to {config.path}"


def _units(app: str, config: AppConfig, layout: HostLayout) -> dict[str, str]:
    """The units as they are to be, once it is clear that nobody's rights or files are in the way."""
    units = rendered(app, config, host=layout)
    for name in units:
        for folder in (
            layout.units,
            *(layout.root / one for one in ("lib/systemd/system", "usr/lib/systemd/system")),
        ):
            path = folder / name
            if os.path.lexists(path) and not is_ours(path, app):
                raise Refused(
                    Code.CONFIGURATION,
                    f"The app cannot be called {app}",
                    why=f"{path} is a unit of something else",
                    hint=f"Choose another name. If it was masked or linked there for {app}, remove it first",
                )
    app_user.check(config.user, group=read_agent(layout).door.group)
    render_drop_in(app, config, host=layout)
    app_folders.check_place(layout.beneath(config.path))
    return units


def _check_free(names: Units, config: AppConfig, *, layout: HostLayout, run: Run) -> None:
    """A running app is not stopped for an address that it could not have; systemd tells of the port it has."""
    before = _address(_read(layout.units / names.socket) or "")
    port = config.listen.rpartition(":")[2]
    if before and not any(line.endswith(f":{port}") for line in before) and _is_active(names, run):
        sockets.check_free(config.listen)


def _address(unit: str) -> list[str]:
    """Where a socket unit listens."""
    return [line for line in unit.splitlines() if line.startswith("ListenStream=")]


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None
