"""The units that root renders for an app: their templates, and whether the files agree with the configuration."""

import os
import time
from pathlib import Path, PurePosixPath

from agent.core.config.app import AppConfig, parse_app
from agent.core.layout import AppLayout, HostLayout
from agent.core.units import BESIDE, HARDENING, MARK, Units, render_units
from pusher.wire import Refused

TEMPLATES = Path(__file__).parent / "templates"
"""Part of the package; in the source tree, a link to packaging/systemd/app."""


def read_templates() -> dict[str, str]:
    """The templates, by name. Blocking."""
    return {name: (TEMPLATES / name).read_text("utf-8") for name in (*Units.of("app").all, *BESIDE, HARDENING)}


def rendered(app: str, config: AppConfig, *, host: HostLayout) -> dict[str, str]:
    """The text that each unit of an app should have, by name. Blocking. Raises: Refused(configuration)."""
    elsewhere = [*dict.fromkeys(leads_elsewhere(config, host).values())]
    return render_units(app, config, templates=read_templates(), host=host, elsewhere=elsewhere)


def leads_elsewhere(config: AppConfig, host: HostLayout) -> dict[str, str]:
    """Where the shared paths lead that are links out of the app's folder, by their names. Blocking.

    Only root's links count: the agent could make others, and where the app may write is for root to decide.
    """
    layout, found = AppLayout(host.beneath(config.path)), {}
    for name in config.shared:
        path = layout.shared / name
        for one in (path, *(layout.shared / above for above in PurePosixPath(name).parents if above.name)):
            try:
                if one.is_symlink() and one.lstat().st_uid == 0:
                    target = os.path.normpath(one.parent / os.readlink(one) / path.relative_to(one))
                    if not f"{target}/".startswith(f"{layout.path}/"):
                        found[name] = target
            except OSError:
                continue
    return found


def is_ours(path: Path, app: str) -> bool:
    """Whether root rendered a file for this app. Blocking."""
    return _rendered_for(path) == app


def abandoned(host: HostLayout) -> list[str]:
    """The apps whose file is gone, or has another name by now, while their units are still there. Blocking."""
    kinds = (".service", ".socket", ".timer")
    found = {path.name: _rendered_for(path) for path in host.units.glob("*.*") if path.suffix in kinds}
    # Not a copy that somebody made of a unit: it is not the agent's to remove.
    apps = {app for unit, app in found.items() if app and unit.startswith((f"{app}.", f"{app}-"))}
    return sorted(app for app in apps if not os.path.lexists(host.app_toml(app)))


def known_units(host: HostLayout, app: str) -> list[str]:
    """The units that every app has, and those that root has rendered for the processes and timers of this one."""
    return [*Units.of(app).all, *rendered_beside(host, app)]


def rendered_beside(host: HostLayout, app: str) -> list[str]:
    """The units that root has rendered for processes and timers, whatever the app's file says by now. Blocking.

    Timers come first: they would start the others.
    """
    found = {path.name for path in host.units.glob(f"{app}-*.*") if is_ours(path, app)} - {*Units.of(app).all}
    return sorted(found, key=lambda unit: (not unit.endswith(".timer"), unit))


def established(host: HostLayout) -> list[str]:
    """The apps that have a configuration file, usable or not, and at least one rendered unit. Blocking."""
    apps = sorted(file.stem for file in host.apps.glob("*.toml"))
    return [app for app in apps if any(is_ours(host.units / unit, app) for unit in Units.of(app).all)]


def disagreement(app: str, config: AppConfig, *, host: HostLayout) -> str:
    """The first difference between the units of an app and its file, in words; empty if they agree. Blocking.

    `config` is what the agent works with: a file that has changed since is a difference too. One that cannot be
    used comes with what to do: applying alone would not help.
    """
    file = host.app_toml(app)
    try:
        text = file.read_text("utf-8")
    except PermissionError:
        return f"{file} cannot be read by the agent: run `chmod 0644 {file}` as root"
    except FileNotFoundError:
        return f"{file} is gone: put it back, then run `pusher-agent app apply {app}` as root"
    except (OSError, UnicodeDecodeError) as error:
        return f"{file} cannot be read: {error}"
    try:
        now = parse_app(text, file=str(file), app=app)
    except Refused as problem:
        end = "" if str(problem).endswith("?") else "."
        return f"{problem}{end} Correct it, then run `pusher-agent app apply {app}` as root"
    if now != config:
        return f"{file} was changed since the agent read it"
    units = rendered(app, config, host=host)
    if left := [name for name in rendered_beside(host, app) if name not in units]:
        return f"{file} does not have {left[0]} any more"
    for name, wanted in units.items():
        path = host.units / name
        try:
            if path.is_symlink() and str(path.readlink()) == os.devnull:
                return f"{path} is masked"
            if path.read_text("utf-8") != wanted:
                return f"{path} does not agree with {file}"
        except (OSError, UnicodeDecodeError):
            return f"{path} does not exist, or cannot be read"
    return ""


def _rendered_for(path: Path) -> str | None:
    """The app that root rendered a file for; None for any other file."""
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            _, _, marked = lines.readline().partition(f"{MARK} ")
    except OSError:
        return None
    app, closed, _ = marked.partition("`")
    return app if closed else None


def changed_since(started_us: int, unit: str, config: AppConfig, *, host: HostLayout) -> bool:
    """Whether what systemd read before it started a unit's main process has changed. Blocking.

    `started_us` is CLOCK_MONOTONIC in microseconds. A reload reads neither unit nor environment file again.
    """
    started = time.time() - (time.monotonic_ns() // 1000 - started_us) / 1_000_000
    file = host.units / unit
    files = [file, *file.with_name(f"{file.name}.d").glob("*.conf")]
    if config.environment_file:
        files.append(host.beneath(config.environment_file))
    try:
        return any(one.stat().st_ctime > started for one in files)
    except OSError:
        return True
