"""What root sets up on a server for an app, and takes down again: its file, user, folders, units and permission.

Invariant: nothing of somebody else's is touched: a unit file without our mark, a user who has rights of his own,
a folder that is not the agent's are refused. Folders are entered one name at a time and never through a
link, for what lies in an app's folder is the agent's, and this runs as root.
"""

import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from agent.commands import AppOptions, app_text, read_agent, read_apps
from agent.core.config import AppConfig, parse_app
from agent.core.layout import AppLayout, HostLayout
from agent.core.polkit import render_rule
from agent.core.units import AGENT, MARK, Units
from agent.host.disk import Disk
from agent.host.unit_files import rendered
from pusher.wire import Code, Failed, Refused

Run = Callable[[tuple[str, ...]], None]
"""Runs a command to its end. Raises: Failed."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
    yield f"{app} is set up; nothing runs yet. Send a first version: pusher send VERSION --host HOST"


def apply(layout: HostLayout, app: str, *, disk: Disk, run: Run = run) -> Iterator[str]:
    """Make everything what the app's file says, after a change of it.

    Raises: Refused, with nothing changed; Failed.
    """
    _check_root(layout)
    config = _config(layout, app)
    units = _units(app, config, layout)
    yield from _establish(app, config, units, layout=layout, disk=disk, run=run)


def remove(layout: HostLayout, app: str, *, purge: bool, disk: Disk, run: Run = run) -> Iterator[str]:
    """Stop an app for good and take down what was set up; with `purge` its releases, data and user as well.

    Says what it leaves. Raises: Refused, with nothing changed; Failed.
    """
    _check_root(layout)
    config = _config(layout, app)
    path = layout.beneath(config.path)
    ours = [name for name in Units.of(app).all if _is_ours(layout.units / name, app)]
    if purge:
        _check_purgeable(path)
    disk.unlink(layout.app_toml(app), op="apps.file")
    _write_rule(layout, disk)
    run(("systemctl", "try-restart", f"{AGENT}.service"))
    yield f"removed {layout.app_toml(app)}"
    if ours:
        run(("systemctl", "disable", "--now", "--quiet", *ours))
        for name in ours:
            disk.unlink(layout.units / name, op="apps.unit")
        run(("systemctl", "daemon-reload"))
        yield f"stopped and removed {', '.join(ours)}"
    drop = layout.drop(app)
    if not purge:
        yield f"left: {path} (releases and shared data), {drop}, user {config.user}; --purge removes them as well"
        return
    if drop.exists():
        shutil.rmtree(drop)
        yield f"removed {drop}"
    if path.exists():
        shutil.rmtree(path)
        yield f"removed {path}"
    if _made_here(config.user, app):
        run(("userdel", config.user))
        yield f"removed user {config.user}"
    yield "left: the history of its deployments, in the agent's journal"


def useradd_argv(user: str, app: str) -> tuple[str, ...]:
    """Make a user that an app runs as: no password, no shell, no home."""
    return (
        *("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"),
        *("--shell", "/usr/sbin/nologin", "--comment", _comment(app), "--", user),
    )


def _establish(
    app: str, config: AppConfig, units: dict[str, str], *, layout: HostLayout, disk: Disk, run: Run
) -> Iterator[str]:
    try:
        pwd.getpwnam(config.user)
    except KeyError:
        run(useradd_argv(config.user, app))
        yield f"made user {config.user}"
    _make_folders(AppLayout(layout.beneath(config.path)), user=config.user)
    _make_drop(layout, app)
    changed = [name for name, text in units.items() if _read(layout.units / name) != text]
    for name in changed:
        disk.write(layout.units / name, units[name].encode(), op="apps.unit", replace=True)
    _write_rule(layout, disk)
    names = Units.of(app)
    run(("systemctl", "daemon-reload"))
    run(("systemctl", "enable", "--quiet", names.socket, names.service))
    if changed:
        yield f"rendered {', '.join(changed)}"
    if names.socket in changed and layout.beneath(config.path).joinpath("current").is_symlink():
        # An open socket keeps its old address, and systemd opens a new one only while the service is down.
        run(("systemctl", "stop", names.service, names.socket))
        run(("systemctl", "start", names.socket, names.service))
        yield f"opened {names.socket} anew, and started {names.service}"
    elif names.service in changed:
        yield f"{names.service} takes it up when it is next restarted: by a deployment, or by `systemctl restart`"
    run(("systemctl", "try-restart", f"{AGENT}.service"))


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
    _check_user(config.user, group=read_agent(layout).door.group)
    return units


def _check_user(user: str, *, group: str) -> None:
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return
    try:
        may_deploy = grp.getgrnam(group).gr_gid in os.getgrouplist(user, account.pw_gid)
    except KeyError:
        may_deploy = False
    if account.pw_uid == 0 or user == AGENT or may_deploy:
        raise Refused(
            Code.CONFIGURATION,
            f"The app cannot run as {user}",
            why="that user may deploy, and whoever breaks into the app could then as well",
            hint="Name a user of the app's own; one that does not exist is made",
        )


def _make_folders(layout: AppLayout, *, user: str) -> None:
    """The folders of an app: the agent's, but for what the app's group may see or write.

    Neither `shared` nor `shared/venvs` is writable to the app, else it could put other code in the place of its
    venv. A folder made within `shared` takes on the app's group, and is writable to it (UMask=0002).
    """
    agent, group = pwd.getpwnam(AGENT), pwd.getpwnam(user).pw_gid
    layout.path.parent.mkdir(parents=True, exist_ok=True)
    with _Entered(layout.path) as top:
        for name, gid, mode in (
            (layout.releases.name, agent.pw_gid, 0o755),
            (layout.exchange.name, group, 0o2750),
            (layout.shared.name, group, 0o2755),
        ):
            with _Entered(name, folder=top) as descriptor:
                os.fchown(descriptor, agent.pw_uid, gid)
                os.fchmod(descriptor, mode)
                if name == layout.shared.name:
                    with _Entered(layout.venvs.name, folder=descriptor) as venvs:
                        os.fchown(venvs, agent.pw_uid, agent.pw_gid)
                        os.fchmod(venvs, 0o755)
        os.fchown(top, agent.pw_uid, agent.pw_gid)
        os.fchmod(top, 0o755)


def _make_drop(layout: HostLayout, app: str) -> None:
    """The app's drop directory: the agent's, and setgid to the group whose members may deploy."""
    agent, group = pwd.getpwnam(AGENT), read_agent(layout).door.group
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise Failed(
            Code.CONFIGURATION,
            f"The drop directory of {app} could not be made",
            why=f"there is no group {group}",
            hint=f"groupadd --system {group}, or name another under [door] group in {layout.agent_toml}",
        ) from error
    with _Entered(layout.state) as state:
        with _Entered(layout.drop(app).parent.name, folder=state) as top:
            with _Entered(app, folder=top) as own:
                os.fchown(own, agent.pw_uid, gid)
                os.fchmod(own, 0o2770)
            os.fchown(top, agent.pw_uid, agent.pw_gid)
            os.fchmod(top, 0o755)
        # Others must get through to it; there is nothing else in it that they may open (pusher-agent.service).
        os.fchown(state, agent.pw_uid, agent.pw_gid)
        os.fchmod(state, 0o711)


class _Entered:
    """A folder, made if it was not there, opened and never through a link."""

    def __init__(self, name: Path | str, *, folder: int | None = None) -> None:
        self._name, self._folder = name, folder

    def __enter__(self) -> int:
        try:
            with suppress(FileExistsError):
                os.mkdir(self._name, 0o755, dir_fd=self._folder)
            self._descriptor = os.open(self._name, _FOLDER, dir_fd=self._folder)
        except OSError as error:
            raise Failed(
                Code.DISK_ERROR, f"Could not make the folder {self._name}", why=error.strerror or str(error)
            ) from error
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _check_purgeable(path: Path) -> None:
    try:
        owner = path.lstat().st_uid
    except FileNotFoundError:
        return
    if path.is_symlink() or owner != pwd.getpwnam(AGENT).pw_uid:
        raise Refused(
            Code.CONFIGURATION,
            f"{path} cannot be purged",
            why="it is a link, or does not belong to the agent",
            hint="Leave out --purge, and remove by hand what is to go",
        )


def _write_rule(layout: HostLayout, disk: Disk) -> None:
    apps = [file.stem for file in layout.apps.glob("*.toml")]
    disk.write(layout.polkit_rules, render_rule(apps).encode(), op="apps.rule", replace=True)


def _is_ours(path: Path, app: str) -> bool:
    return f"{MARK} {app}`" in (_read(path) or "").partition("\n")[0]


def _made_here(user: str, app: str) -> bool:
    try:
        return pwd.getpwnam(user).pw_gecos == _comment(app)
    except KeyError:
        return False


def _comment(app: str) -> str:
    return f"{app} - deployed by pusher-agent"


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None
