"""What root takes down again of an app on a server, and what is left of it.

Invariant: what was set up for the app goes, and nothing of somebody else's; what only the app's file could name is
left alone where the file cannot be used. Cut off in the middle, it can be run again.
"""

import os
from collections.abc import Iterator
from contextlib import suppress

from agent.admin.app_add import Run, check_root, config_of, run
from agent.core.config import AppConfig
from agent.core.layout import HostLayout
from agent.core.units import AGENT, Units
from agent.host.setup import app_folders, app_user
from agent.host.setup.app_folders import Entered
from agent.host.setup.config_files import read_app, read_apps
from agent.host.setup.polkit_rule import write_rule
from agent.host.storage.disk import Disk
from agent.host.systemd.unit_files import is_ours
from pusher.wire import Code, Failed, Refused


def remove(layout: HostLayout, app: str, *, purge: bool, disk: Disk, run: Run = run) -> Iterator[str]:
    """Stop an app for good and take down what was set up; with `purge` its releases, data and user as well.

    Says what it leaves. Raises: Refused, with nothing changed; Failed.
    """
    check_root(layout)
    file, going = layout.app_toml(app), layout.app_going(app)
    config = _config_of_leaving(layout, app, purge=purge)
    ours = [name for name in Units.of(app).all if is_ours(layout.units / name, app)]
    if purge and config:
        app_folders.check_purgeable(layout.beneath(config.path))
    if os.path.lexists(file):
        disk.discard(going, op="apps.going")
        disk.rename(file, going, op="apps.going")
    write_rule(layout, disk)
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
    if config is None:
        yield from _left_unknown(layout, app)
        return
    if purge:
        yield from _purge(layout, app, config, run=run)
    disk.unlink(going, op="apps.going")
    yield from _left(layout, app, config, purge=purge)


def _config_of_leaving(layout: HostLayout, app: str, *, purge: bool) -> AppConfig | None:
    """That of an app that is to go, or whose going was cut off; None if its file cannot be used."""
    file, going = layout.app_toml(app), layout.app_going(app)
    try:
        if os.path.lexists(file) or not going.exists():
            return config_of(layout, app)
        return read_app(going, app=app)
    except Refused as problem:
        if problem.code is Code.UNKNOWN_APP:
            left = layout.beneath(f"/opt/{app}")
            if not app_folders.is_agents(left):
                raise
            hint = f"If it was removed, and what it left in {left} is to go as well: `rm -r {left}`"
            raise Refused(problem.code, problem.what, hint=hint) from problem
        if not purge:
            return None
        used = file if os.path.lexists(file) else going
        raise Refused(
            problem.code,
            f"{app} cannot be purged",
            why=f"only its file could say where its releases and its data are, and {problem.what}",
            hint=f"Mend {used}, or leave out --purge, and remove by hand what that leaves",
        ) from problem


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
    apps = read_apps(layout)
    # What an app runs as whose file cannot be used is not known: it may be this user.
    others = [*apps.unusable, *(name for name, other in apps.usable.items() if other.user == config.user)]
    if app_user.made_for(app, config.user) and not others:
        run(("userdel", config.user))
        yield f"removed user {config.user}"


def _left(layout: HostLayout, app: str, config: AppConfig, *, purge: bool) -> Iterator[str]:
    path = layout.beneath(config.path)
    if not purge:
        yield f"left: {path} (releases and shared data), user {config.user}"
    elif app_user.exists(config.user):
        yield f"left: user {config.user}, who was not made for {app}, or may be another app's too"
    for place in (
        layout.hooks(app),
        *([] if purge else [layout.drop(app)]),
        *([layout.beneath(config.environment_file)] if config.environment_file else []),
    ):
        if place.exists():
            yield f"left: {place}"
    yield "left: the history of its deployments, in the agent's journal"


def _left_unknown(layout: HostLayout, app: str) -> Iterator[str]:
    """What is left of an app whose file cannot be used: the file itself as well, for it says where the rest is."""
    going = layout.app_going(app)
    yield f"left: its releases and shared data, and its user, which only its file could name: it is {going} now"
    for place in (layout.hooks(app), layout.drop(app)):
        if place.exists():
            yield f"left: {place}"
    yield "left: the history of its deployments, in the agent's journal"
    yield f"For these to go too, mend {going} and run `pusher-agent app remove {app} --purge`"
