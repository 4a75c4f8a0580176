"""What root sets up on a server for an app, and takes down again: its file, user, folders, units and permission.

Invariant: nothing of somebody else's is touched: a unit file without our mark, a user who has rights of his own,
a folder that is not the agent's are refused.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from agent.commands import AppOptions, app_text, check_apart, missing_environment, read_agent, read_apps
from agent.core.config import AppConfig, parse_app
from agent.core.layout import AppLayout, HostLayout
from agent.core.polkit import render_rule
from agent.core.units import AGENT, MARK, Units, render_drop_in
from agent.host import app_folders, app_user, sockets
from agent.host.app_folders import Entered
from agent.host.disk import Disk
from agent.host.unit_files import rendered
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
    _check_root(layout)
    file, text = layout.app_toml(app), app_text(app, options, layout, user=app)
    config = parse_app(text, file=str(file), app=app)
    units = _units(app, config, layout)
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
    _check_root(layout)
    config = _config(layout, app)
    check_apart(read_apps(layout), layout)
    units = _units(app, config, layout)
    if missing := missing_environment(config, layout):
        # systemd starts nothing without it, and a socket that has moved takes the running service down first.
        hint = f"Create it, root's and mode 0600, or empty `environment_file` in {layout.app_toml(app)}"
        raise Refused(Code.CONFIGURATION, f"{app} could not start any more", why=missing, hint=hint)
    _check_free(Units.of(app), config, layout=layout, run=run)
    yield from _establish(app, config, units, layout=layout, disk=disk, run=run)


def remove(layout: HostLayout, app: str, *, purge: bool, disk: Disk, run: Run = run) -> Iterator[str]:
    """Stop an app for good and take down what was set up; with `purge` its releases, data and user as well.

    Says what it leaves. Cut off in the middle, it can be run again. Raises: Refused, with nothing changed; Failed.
    """
    _check_root(layout)
    file, going = layout.app_toml(app), layout.app_going(app)
    config = _config_of_leaving(layout, app)
    path = layout.beneath(config.path)
    ours = [name for name in Units.of(app).all if _is_ours(layout.units / name, app)]
    if purge:
        app_folders.check_purgeable(path)
    if file.exists():
        going.unlink(missing_ok=True)
        disk.rename(file, going, op="apps.going")
    _write_rule(layout, disk)
    disk.unlink(layout.agent_drop_in(app), op="apps.drop-in")
    run(("systemctl", "daemon-reload"))
    run(("systemctl", "try-restart", f"{AGENT}.service"))
    yield f"removed {file}"
    if ours:
        run(("systemctl", "disable", "--now", "--quiet", *ours))
        with suppress(Failed):  # only those that failed can be told to forget it
            run(("systemctl", "reset-failed", *ours))
        for name in ours:
            disk.unlink(layout.units / name, op="apps.unit")
        run(("systemctl", "daemon-reload"))
        yield f"stopped and removed {', '.join(ours)}"
    _tidy_run(layout, app)
    if purge:
        yield from _purge(layout, app, config, run=run)
    disk.unlink(going, op="apps.going")
    yield from _left(layout, app, config, purge=purge)


def _tidy_run(layout: HostLayout, app: str) -> None:
    """What would be gone after the next boot: the agent's notes, the folder that systemd made for a socket."""
    if layout.notes(app).exists():
        app_folders.remove(layout.notes(app))
    with suppress(OSError):  # it is not there, or not empty
        (layout.root / "run" / app).rmdir()


def _purge(layout: HostLayout, app: str, config: AppConfig, *, run: Run) -> Iterator[str]:
    path = layout.beneath(config.path)
    if path.exists():
        app_folders.remove(path)
        yield f"removed {path}"
    drop = layout.drop(app)
    if drop.exists():
        # Above it, the agent may put other things in the place of folders.
        with Entered(layout.state) as state, Entered(drop.parent.name, folder=state) as folder:
            app_folders.remove(app, folder=folder)
        yield f"removed {drop}"
    others = [name for name, other in read_apps(layout).items() if other.user == config.user]
    if app_user.made_for(app, config.user) and not others:
        run(("userdel", config.user))
        yield f"removed user {config.user}"


def _left(layout: HostLayout, app: str, config: AppConfig, *, purge: bool) -> Iterator[str]:
    path = layout.beneath(config.path)
    if not purge:
        yield f"left: {path} (releases and shared data), user {config.user}"
    elif app_user.exists(config.user):
        yield f"left: user {config.user}, who was not made for {app} alone"
    for place in (
        layout.hooks(app),
        *([] if purge else [layout.drop(app)]),
        *([layout.beneath(config.environment_file)] if config.environment_file else []),
    ):
        if place.exists():
            yield f"left: {place}"
    yield "left: the history of its deployments, in the agent's journal"


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
    _write_rule(layout, disk)
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


def _check_root(layout: HostLayout) -> None:
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


def _config(layout: HostLayout, app: str) -> AppConfig:
    apps = read_apps(layout)
    if app not in apps:
        known = ", ".join(apps) or "none"
        raise Refused(Code.UNKNOWN_APP, f"There is no app {app}", hint=f"There are: {known}")
    return apps[app]


def _config_of_leaving(layout: HostLayout, app: str) -> AppConfig:
    """That of an app that is to go, or whose going was cut off."""
    going = layout.app_going(app)
    text = _read(going)
    if layout.app_toml(app).exists() or text is None:
        try:
            return _config(layout, app)
        except Refused as problem:
            left = layout.beneath(f"/opt/{app}")
            if problem.code is not Code.UNKNOWN_APP or not app_folders.is_agents(left):
                raise
            hint = f"If it was removed, and what it left in {left} is to go as well: `rm -r {left}`"
            raise Refused(problem.code, problem.what, hint=hint) from problem
    return parse_app(text, file=str(going), app=app)


def _units(app: str, config: AppConfig, layout: HostLayout) -> dict[str, str]:
    """The units as they are to be, once it is clear that nobody's rights or files are in the way."""
    units = rendered(app, config, host=layout)
    for name in units:
        for folder in (
            layout.units,
            *(layout.root / one for one in ("lib/systemd/system", "usr/lib/systemd/system")),
        ):
            path = folder / name
            if os.path.lexists(path) and not _is_ours(path, app):
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


def _write_rule(layout: HostLayout, disk: Disk) -> None:
    apps = [file.stem for file in layout.apps.glob("*.toml")]
    disk.write(layout.polkit_rules, render_rule(apps).encode(), op="apps.rule", replace=True)


def _address(unit: str) -> list[str]:
    """Where a socket unit listens."""
    return [line for line in unit.splitlines() if line.startswith("ListenStream=")]


def _is_ours(path: Path, app: str) -> bool:
    return f"{MARK} {app}`" in (_read(path) or "").partition("\n")[0]


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None
