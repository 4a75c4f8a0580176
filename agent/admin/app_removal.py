"""Stopping an app for good, and removing what was set up for it.

Invariant: nothing that others own is removed. If the file of the app is gone or cannot be used, what only the file
names stays. If the command is interrupted, it can be run again.
"""

import os
import pwd
from collections.abc import Iterator
from contextlib import suppress

from agent.admin.app_setup import Run, check_root, config_of, stop_for_good
from agent.core.config.app import AppConfig
from agent.core.layout import HostLayout
from agent.core.units import AGENT, Units
from agent.host.setup import adoption, app_folders, app_user, user_processes
from agent.host.setup.app_folders import Entered
from agent.host.setup.config_files import read_app, read_apps
from agent.host.setup.polkit_rule import write_rule
from agent.host.storage.disk import Disk
from agent.host.systemd.unit_files import is_ours, known_units, rendered_beside
from pusher.wire import Code, Failed, Refused


def remove_app(layout: HostLayout, app: str, *, purge: bool, disk: Disk, run: Run) -> Iterator[str]:
    """Stop an app for good and remove what was set up; with `purge` also its releases, data and user.

    Reports what it did and what it leaves, in lines. Raises: Refused, with nothing changed; Failed.
    """
    check_root(layout)
    file, going = layout.app_toml(app), layout.app_going(app)
    config = _config_before_removal(layout, app, purge=purge)
    beside = rendered_beside(layout, app)
    ours = [name for name in Units.of(app).all if is_ours(layout.units / name, app)]
    if purge and config:
        app_folders.check_purgeable(layout.beneath(config.path))
    if os.path.lexists(file):
        disk.discard(going, op="apps.going")
        disk.rename(file, going, op="apps.going")
    named = going.exists()
    disk.unlink(layout.agent_drop_in(app), op="apps.drop-in")
    run(("systemctl", "daemon-reload"))
    # Before the rule: a deployment under way comes to its end, for which it may have to start units.
    run(("systemctl", "try-restart", f"{AGENT}.service"))
    write_rule(layout, disk)
    if named:
        yield f"removed {file}"
    if beside:
        stop_for_good(beside, layout=layout, disk=disk, run=run)
        yield f"stopped and removed {', '.join(beside)}"
    if ours:
        run(("systemctl", "disable", "--now", "--quiet", *ours))
        with suppress(Failed):  # systemd refuses this for units that have not failed
            run(("systemctl", "reset-failed", *ours))
        with suppress(Failed):  # there is none before the first build
            run(("systemctl", "clean", "--what=cache", Units.of(app).build))
        for name in ours:
            disk.unlink(layout.units / name, op="apps.unit")
        run(("systemctl", "daemon-reload"))
        yield f"stopped and removed {', '.join(ours)}"
    _remove_run_files(layout, app)
    if config is None:
        yield from _left_unknown(layout, app)
        return
    yield from _end_processes(layout, app, config, run=run)
    if purge:
        yield from _purge(layout, app, config, run=run)
    disk.unlink(going, op="apps.going")
    yield from _left(layout, app, config, purge=purge)


def _config_before_removal(layout: HostLayout, app: str, *, purge: bool) -> AppConfig | None:
    """The configuration of an app, removed in part or not at all; None if its file cannot be used."""
    file, going = layout.app_toml(app), layout.app_going(app)
    try:
        if os.path.lexists(file) or not going.exists():
            return config_of(layout, app)
        return read_app(going, app=app)
    except Refused as problem:
        lost = problem.code is Code.UNKNOWN_APP
        if lost and not any(is_ours(layout.units / name, app) for name in known_units(layout, app)):
            left = layout.beneath(f"/opt/{app}")
            if not app_folders.is_agents(left):
                raise
            hint = f"If it was removed, and what it left is to be removed as well: `rm -r {left}`"
            raise Refused(problem.code, problem.what, hint=hint) from problem
        if not purge:
            return None
        used = file if os.path.lexists(file) else going
        wrong, mend = (f"{file} is gone", f"Put {file} back") if lost else (problem.what, f"Fix {used}")
        raise Refused(
            Code.CONFIGURATION if lost else problem.code,
            f"{app} cannot be purged",
            why=f"only its file says where its releases and its data are, and {wrong}",
            hint=f"{mend}; or leave out --purge, and then remove the rest by hand",
        ) from problem


def _remove_run_files(layout: HostLayout, app: str) -> None:
    """Remove what the next boot would remove: the agent's notes, and the folder that systemd made for a socket."""
    if layout.notes(app).exists():
        app_folders.remove(layout.notes(app))
    with suppress(OSError):  # it does not exist, or is not empty
        (layout.root / "run" / app).rmdir()


def _end_processes(layout: HostLayout, app: str, config: AppConfig, *, run: Run) -> Iterator[str]:
    """End what the app's user runs outside of the units too: a user manager that lingers survives them."""
    if not app_user.exists(config.user):
        return
    if not _only_of(layout, app, config):
        yield f"left: what user {config.user} runs outside of these units, for that user is not only {app}'s"
        return
    uid = pwd.getpwnam(config.user).pw_uid
    no_linger = ("loginctl", "disable-linger", config.user)
    for argv in (no_linger, ("systemctl", "stop", f"user@{uid}.service")):
        with suppress(Failed):  # most hosts have neither for this user
            run(argv)
    ended = user_processes.end(uid)
    with suppress(Failed):  # until it ended, it could ask for lingering once more
        run(no_linger)
    if ended:
        yield f"ended {ended} processes that user {config.user} ran outside of the units"


def _only_of(layout: HostLayout, app: str, config: AppConfig) -> bool:
    """Whether the user was made for this app, and no other app runs as it."""
    apps = read_apps(layout)
    # The user of an app with an unusable file is not known: it may be this one.
    others = [*apps.unusable, *(name for name, other in apps.usable.items() if other.user == config.user)]
    return app_user.made_for(app, config.user) and not others


def _purge(layout: HostLayout, app: str, config: AppConfig, *, run: Run) -> Iterator[str]:
    path = layout.beneath(config.path)
    if path.exists():
        app_folders.remove(path)
        yield f"removed {path}"
    drop = layout.drop(app)
    if drop.exists():
        # The agent owns the folders above, and could replace them by links.
        with Entered(layout.state) as state, Entered(drop.parent.name, folder=state) as folder:
            app_folders.remove(app, folder=folder)
        yield f"removed {drop}"
    if layout.adopted(app).exists():
        # It leads back to an app whose shared data was just removed, and is in the way of the next `app adopt`.
        app_folders.remove(layout.adopted(app))
        yield f"removed {layout.adopted(app)}: there is no way back to its old service any more"
    if _only_of(layout, app, config):
        run(("userdel", config.user))
        yield f"removed user {config.user}"


def _left(layout: HostLayout, app: str, config: AppConfig, *, purge: bool) -> Iterator[str]:
    path = layout.beneath(config.path)
    if not purge:
        yield f"left: {path} (releases and shared data), user {config.user}"
    elif app_user.exists(config.user):
        yield f"left: user {config.user}, which was not created for {app}, or is perhaps used by another app"
    if purge and (before := adoption.aside(path)).exists():
        yield f"left: {before}, the releases of the tool before this one. When nobody needs them: rm -r {before}"
    for place in (
        layout.hooks(app),
        *([] if purge else [layout.drop(app)]),
        *([layout.beneath(config.environment_file)] if config.environment_file else []),
    ):
        if place.exists():
            yield f"left: {place}"
    yield "left: the history of its deployments, in the agent's journal"


def _left_unknown(layout: HostLayout, app: str) -> Iterator[str]:
    """What is left of an app whose file is gone or unusable: also that, because it says where the rest is."""
    going = layout.app_going(app)
    kept = f"; the file is now {going}" if going.exists() else ""
    yield f"left: its releases, shared data and user, which only its file names{kept}"
    for place in (layout.hooks(app), layout.drop(app)):
        if place.exists():
            yield f"left: {place}"
    yield "left: the history of its deployments, in the agent's journal"
    if kept:
        yield f"To remove these as well, fix {going} and run `pusher-agent app remove {app} --purge`"
