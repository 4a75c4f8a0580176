"""Setting up an app on a server, as root: its user, folders, units, and part of the polkit rule.

Invariant: nothing that others own is changed. A unit file without the agent's mark, a user with rights of its own,
and a folder that is not the agent's are refused.
"""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from agent.core.config.app import AppConfig
from agent.core.layout import AppLayout, HostLayout
from agent.core.processes import instances, timer_of, unit_of, units_beside
from agent.core.units import AGENT, Units, render_drop_in
from agent.host.net import sockets
from agent.host.run.launch import find_start
from agent.host.setup import app_folders, app_user
from agent.host.setup.config_files import after_mending, read_agent, read_apps
from agent.host.setup.polkit_rule import write_rule
from agent.host.storage.disk import Disk
from agent.host.systemd.unit_files import abandoned, is_ours, leads_elsewhere, rendered, rendered_beside
from pusher.wire import Code, Failed, Refused, split_command

Run = Callable[[tuple[str, ...]], None]
"""Runs a command to its end. Raises: Failed."""


def run(argv: tuple[str, ...]) -> None:
    """`Run`, on this machine."""
    answer_of(argv)


def answer_of(argv: tuple[str, ...]) -> str:
    """Run a command to its end; what it wrote to its standard output. Raises: Failed."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).strip()
    except OSError as error:
        raise Failed(Code.SERVICE_FAILED, f"{argv[0]} could not be run", why=error.strerror or "") from error
    if done.returncode:
        raise Failed(Code.SERVICE_FAILED, f"`{' '.join(argv)}` failed", why=said or f"exit code {done.returncode}")
    return done.stdout


def check_root(layout: HostLayout) -> None:
    """Raises: Refused, if the user is not root, or the apps of this host have no units."""
    if os.geteuid() != 0:
        raise Refused(
            Code.NOT_ALLOWED,
            "Only root can set up apps",
            why="they need units, users and permissions",
            hint="Use sudo; or, without root, `pusher-agent init --root DIR --app NAME`",
        )
    if read_agent(layout).service != "systemd":
        raise Refused(
            Code.CONFIGURATION,
            "The apps of this host have no units",
            why=f'{layout.agent_toml} says service = "embedded"',
            hint=f"To add an app there: pusher-agent init --root {layout.root} --app NAME. A change in the file "
            "of an app needs no command: it counts from the next deployment",
        )


def config_of(layout: HostLayout, app: str) -> AppConfig:
    """The configuration of an app. Raises: Refused, if it has no file, or the file cannot be used."""
    apps = read_apps(layout)
    if app in apps.unusable:
        raise after_mending(app, apps.unusable[app], service="systemd")
    if app not in apps.usable:
        known = ", ".join(sorted({*apps.usable, *apps.unusable})) or "none"
        raise Refused(Code.UNKNOWN_APP, f"There is no app {app}", hint=f"Available: {known}")
    return apps.usable[app]


def checked_units(app: str, config: AppConfig, layout: HostLayout) -> dict[str, str]:
    """The texts of the app's units, by name, after checking its user, its folder and the units of others.

    Raises: Refused, with nothing changed.
    """
    units = rendered(app, config, host=layout)
    beside = {*units_beside(app, config)}
    for name in units:
        for folder in (
            layout.units,
            *(layout.root / one for one in ("lib/systemd/system", "usr/lib/systemd/system")),
        ):
            path = folder / name
            if os.path.lexists(path) and not is_ours(path, app):
                raise Refused(
                    Code.CONFIGURATION,
                    f"{app} cannot have the unit {name}" if name in beside else f"The app cannot be called {app}",
                    why=f"{path} belongs to another unit",
                    hint=f"Choose another name. If the file is a mask or a link for {app}, remove it first",
                )
    for name, timer in config.timers.items():
        check_schedule(f"timers.{name}.schedule", timer.schedule, run=run)
    app_user.check(config.user, group=read_agent(layout).door.group)
    app_user.check_free(Units.of(app).build.removesuffix(".service"))
    render_drop_in(app, config, host=layout)
    app_folders.check_place(layout.beneath(config.path))
    return units


def check_schedule(key: str, schedule: str, *, run: Run) -> None:
    """Check that a schedule is one of systemd.time(7), by asking systemd. Raises: Refused(configuration)."""
    try:
        run(("systemd-analyze", "calendar", "--", schedule))
    except Failed as problem:
        why = problem.why.partition("\n")[0]
        hint = 'Write it as in "*-*-* 03:00" or "Mon 08:30"; `systemd-analyze calendar` explains one'
        raise Refused(Code.CONFIGURATION, f"{key!r} is {schedule!r}", why=why, hint=hint) from problem


def check_free(names: Units, config: AppConfig, *, layout: HostLayout, run: Run) -> None:
    """Check that a running app can have a new address, before it is stopped for that. Raises: Refused."""
    before = _address(_read(layout.units / names.socket) or "")
    port = config.listen.rpartition(":")[2]
    if before and not any(line.endswith(f":{port}") for line in before) and _is_active(names, run):
        sockets.check_free(config.listen)


def set_up(
    app: str, config: AppConfig, units: dict[str, str], *, layout: HostLayout, disk: Disk, run: Run
) -> Iterator[str]:
    """Make user, folders, units and polkit rule as the configuration asks for; reports what it did, in lines.

    Raises: Failed.
    """
    if not app_user.exists(config.user):
        run(app_user.useradd_argv(config.user, app))
        yield f"created user {config.user}"
    elif not (layout.units / Units.of(app).service).exists() and not app_user.made_for(app, config.user):
        yield f"{app} runs as {config.user}, a user that existed before: it has all rights of that user"
    app_folders.make(AppLayout(layout.beneath(config.path)), user=config.user)
    app_folders.make_drop(layout, app, group=read_agent(layout).door.group)
    names = Units.of(app)
    before = {name: _read(layout.units / name) or "" for name in units}
    changed = [name for name, text in units.items() if before[name] != text]
    deployed = layout.beneath(config.path).joinpath("current").is_symlink()
    # An open socket keeps its old address, and systemd opens a new one only while the service is stopped. Stop it
    # before systemd reads the new address: when it stops, it removes the file of the address that it knows.
    reopened = before[names.socket] != "" and _address(before[names.socket]) != _address(units[names.socket])
    if reopened and (reopened := _is_active(names, run)):
        run(("systemctl", "stop", names.service, names.socket))
    for name in changed:
        disk.write(layout.units / name, units[name].encode(), op="apps.unit", replace=True)
    yield from _remove_beside(app, {*units}, layout=layout, disk=disk, run=run)
    write_rule(layout, disk)
    yield from _allow_folder(app, config, layout=layout, disk=disk)
    run(("systemctl", "daemon-reload"))
    if not (deployed and before[names.socket] and before[names.service]):
        # Not each time: an app that the operator has disabled must stay disabled after an upgrade.
        run(("systemctl", "enable", "--quiet", names.socket, names.service))
    if added := [name for name in units_beside(app, config) if not before[name] and "[Install]" in units[name]]:
        run(("systemctl", "enable", "--quiet", *added))
    if changed:
        yield f"rendered {', '.join(changed)}"
    for shared, target in leads_elsewhere(config, layout).items():
        yield f"{shared} leads to {target}: the units of {app} may write there"
    if reopened and deployed:
        run(("systemctl", "start", names.socket, names.service))
        yield f"reopened {names.socket}, and started {names.service}"
    elif reopened:
        yield f"stopped {app}: {config.path} has no release yet. Send one"
    elif names.service in changed and deployed and before[names.service]:
        yield f"{names.service} uses this from its next restart on: by a deployment, or by `systemctl restart`"
    workers = {unit_of(app, one.name) for one in instances(config)}
    if deployed:
        yield from _starting(app, config, added, live=AppLayout(layout.beneath(config.path)).current)
    if later := [name for name in changed if name in workers and before[name] and deployed]:
        yield f"{', '.join(later)}: as this says from the next deployment on, or the next `systemctl restart`"
    run(("systemctl", "try-restart", f"{AGENT}.service"))
    if not changed:
        yield f"the units of {app} are up to date; the agent reads its file again"
    yield from (f"warning: {sentence}" for sentence in left_behind(layout))


def left_behind(layout: HostLayout) -> Iterator[str]:
    """A sentence about each app whose units are here without its file: it runs on, and nobody deploys it."""
    for app in abandoned(layout):
        yield (
            f"the units of {app} are here, and its file {layout.app_toml(app)} is not: what they run goes on. To "
            f"stop and remove them: `pusher-agent app remove {app}`. If it shall stay: put the file back, or "
            f"`pusher-agent app add {app}`"
        )


def _starting(app: str, config: AppConfig, added: Sequence[str], *, live: Path) -> Iterator[str]:
    """What becomes of new units of an app that runs. What only a release can start, the live one does not know."""
    starts = {unit_of(app, one.name): one.config.start for one in instances(config)}
    starts |= {timer_of(app, name): one.start for name, one in config.timers.items()}
    lacking = {}
    for name in added:
        if starts[name]:
            try:
                find_start(split_command(starts[name]), release=live)
            except Failed as problem:
                lacking[name] = problem.why
    if now := [name for name in added if starts[name] and name not in lacking]:
        yield f"the agent starts {', '.join(now)} now"
    if later := [name for name in added if not starts[name]]:
        yield f"{', '.join(later)}: from the next release on, which has to say how that is started"
    for name, why in lacking.items():
        yield f"warning: {name} cannot start before a release is sent that can: {why}"


def _remove_beside(app: str, wanted: set[str], *, layout: HostLayout, disk: Disk, run: Run) -> Iterator[str]:
    """Stop and remove the units of processes and timers that the configuration does not have any more."""
    if gone := [name for name in rendered_beside(layout, app) if name not in wanted]:
        stop_for_good(gone, layout=layout, disk=disk, run=run)
        yield f"stopped and removed {', '.join(gone)}"


def stop_for_good(names: Sequence[str], *, layout: HostLayout, disk: Disk, run: Run) -> None:
    """Stop units, and remove their files. systemd reads that with the next `daemon-reload`. Raises: Failed."""
    run(("systemctl", "disable", "--now", "--quiet", *names))
    with suppress(Failed):  # systemd refuses this for units that have not failed
        run(("systemctl", "reset-failed", *names))
    for name in names:
        if name.endswith(".timer"):
            with suppress(Failed):  # when it last ran: a later timer of that name must not catch up with it
                run(("systemctl", "clean", "--what=state", name))
        disk.unlink(layout.units / name, op="apps.unit")


def _is_active(names: Units, run: Run) -> bool:
    for name in (names.socket, names.service):
        with suppress(Failed):
            run(("systemctl", "is-active", "--quiet", name))
            return True
    return False


def _allow_folder(app: str, config: AppConfig, *, layout: HostLayout, disk: Disk) -> Iterator[str]:
    """Let the agent write to the folder of the app: its unit allows /opt, a drop-in any other place."""
    file, text = layout.agent_drop_in(app), render_drop_in(app, config, host=layout)
    if not text:
        disk.unlink(file, op="apps.drop-in")
    elif _read(file) != text:
        disk.make_folders(file.parent, op="apps.drop-in")
        disk.write(file, text.encode(), op="apps.drop-in", replace=True)
        yield f"wrote {file}: the agent may write to {config.path}"


def _address(unit: str) -> list[str]:
    """The lines of a socket unit with its addresses."""
    return [line for line in unit.splitlines() if line.startswith("ListenStream=")]


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
