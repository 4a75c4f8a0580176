"""The units that root renders for an app: their templates, and whether the files agree with the configuration."""

import os
from pathlib import Path

from agent.core.config import AppConfig, parse_app
from agent.core.layout import HostLayout
from agent.core.units import HARDENING, MARK, Units, render_units

TEMPLATES = Path(__file__).parent / "templates"
"""Part of the package; in the source tree, a link to packaging/systemd/app."""


def read_templates() -> dict[str, str]:
    """The templates, by name. Blocking."""
    return {name: (TEMPLATES / name).read_text() for name in (*Units.of("app").all, HARDENING)}


def rendered(app: str, config: AppConfig, *, host: HostLayout) -> dict[str, str]:
    """The text that each unit of an app should have, by name. Blocking. Raises: Refused(configuration)."""
    return render_units(app, config, templates=read_templates(), host=host)


def is_ours(path: Path, app: str) -> bool:
    """Whether root rendered a file for this app. Blocking."""
    try:
        with path.open(errors="replace") as lines:
            return f"{MARK} {app}`" in lines.readline()
    except OSError:
        return False


def established(host: HostLayout) -> list[str]:
    """The apps that have a configuration file, usable or not, and at least one rendered unit. Blocking."""
    apps = sorted(file.stem for file in host.apps.glob("*.toml"))
    return [app for app in apps if any(is_ours(host.units / unit, app) for unit in Units.of(app).all)]


def disagreement(app: str, config: AppConfig, *, host: HostLayout) -> str:
    """The first difference between the units of an app and its file, in words; empty if they agree. Blocking.

    `config` is what the agent works with: a file that has changed since is a difference too.
    Raises: Refused(configuration), for a file that cannot be used.
    """
    file = host.app_toml(app)
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        return f"{file} cannot be read: {error}"
    if parse_app(text, file=str(file), app=app) != config:
        return f"{file} was changed since the agent read it"
    for name, wanted in rendered(app, config, host=host).items():
        path = host.units / name
        try:
            if path.is_symlink() and str(path.readlink()) == os.devnull:
                return f"{path} is masked"
            if path.read_text() != wanted:
                return f"{path} does not agree with {file}"
        except (OSError, UnicodeDecodeError):
            return f"{path} does not exist, or cannot be read"
    return ""
