"""What root wrote: the files of the host and of its apps, read.

Invariant: an app's file that cannot be used keeps nothing but this app from being known.
"""

import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.core.config import AgentConfig, AppConfig, clashes, parse_agent, parse_app
from agent.core.layout import HostLayout
from pusher.wire import Code, Refused, WireError, check_app


@dataclass(frozen=True, slots=True)
class Apps:
    """The apps of a host: those with files that are `usable`, and what is wrong with those that are `unusable`."""

    usable: Mapping[str, AppConfig]
    unusable: Mapping[str, Refused]


def read_agent(layout: HostLayout) -> AgentConfig:
    """The host's configuration; its name defaults to the hostname. Raises: Refused(configuration)."""
    file, hint = layout.agent_toml, f"`pusher-agent init --root {layout.root}` makes one"
    config = parse_agent(_text(file, missing=hint), file=str(file))
    return config if config.name else config.model_copy(update={"name": socket.gethostname()})


def read_apps(layout: HostLayout) -> Apps:
    """Every app, by name. Raises: Refused(configuration), if nobody can tell which there are."""
    usable, unusable = {}, {}
    for file in _files(layout.apps):
        try:
            usable[file.stem] = read_app(file, app=_app_name(file))
        except Refused as problem:
            unusable[_printable(file.stem)] = problem
    return Apps(usable, unusable)


def read_app(file: Path, *, app: str) -> AppConfig:
    """What one file says of an app. Raises: Refused(configuration)."""
    return parse_app(_text(file), file=str(file), app=app)


def set_apart(apps: Apps, layout: HostLayout) -> Apps:
    """The same apps; those that are in each other's way are unusable too, for nobody can tell which is right."""
    unusable = dict(apps.unusable)
    for clash in clashes(apps.usable):
        for app in clash.apps:
            unusable.setdefault(app, _in_the_way(clash.sentence, layout))
    return Apps({app: config for app, config in apps.usable.items() if app not in unusable}, unusable)


def check_apart(app: str, config: AppConfig, apps: Apps, layout: HostLayout) -> None:
    """Raises: Refused(configuration), if an app with this configuration is in the way of a usable other one."""
    for clash in clashes({**apps.usable, app: config}):
        if app in clash.apps:
            raise _in_the_way(clash.sentence, layout)


def after_mending(app: str, problem: Refused, *, service: str) -> Refused:
    """What is wrong with the file of an app, and how the agent learns that it is not any more."""
    then = f"`pusher-agent app apply {app}`, as root" if service == "systemd" else "start the agent again"
    first = f"{problem.hint}." if problem.hint and not problem.hint.endswith("?") else problem.hint
    return Refused(problem.code, problem.what, why=problem.why, hint=f"{first} Mend it, then {then}".lstrip())


def missing_environment(config: AppConfig, layout: HostLayout) -> str:
    """What is said of an app's environment file that is not there; empty if it is, or nobody may look."""
    path = layout.beneath(config.environment_file)
    try:
        if config.environment_file:
            path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return f"its environment file {path} does not exist"
    except OSError:
        pass  # in a folder of root's, as secrets are
    return ""


def signer_lines(file: Path) -> list[str]:
    """The lines of an `allowed_signers` file that say something; none if it cannot be read."""
    try:
        return [line for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]
    except (OSError, UnicodeDecodeError):
        return []


def _files(folder: Path) -> list[Path]:
    """The files of apps; not hidden ones, which editors leave. `Path.glob` would take an unreadable folder for
    an empty one."""
    try:
        return sorted(one for one in folder.iterdir() if one.suffix == ".toml" and not one.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Refused(
            Code.CONFIGURATION, f"The apps in {folder} could not be read", why=error.strerror or str(error)
        ) from error


def _text(file: Path, *, missing: str = "") -> str:
    """What stands in it. Raises: Refused, with the hint `missing`, if there is none."""
    try:
        return file.read_text()
    except FileNotFoundError as error:
        raise Refused(Code.CONFIGURATION, f"{file} does not exist", hint=missing) from error
    except OSError as error:
        denied = isinstance(error, PermissionError)
        hint = f"`chmod a+r {shlex.quote(str(file))}`, as root" if denied else ""
        why = error.strerror or str(error)
        raise Refused(Code.CONFIGURATION, f"{file} could not be read", why=why, hint=hint) from error
    except UnicodeDecodeError as error:
        raise Refused(Code.CONFIGURATION, f"{file} could not be read", why=str(error)) from error


def _app_name(file: Path) -> str:
    try:
        return check_app(file.stem)
    except WireError as error:
        what = f"{_printable(str(file))} is not named after an app"
        raise Refused(Code.CONFIGURATION, what, why=str(error)) from error


def _printable(name: str) -> str:
    """A name that can be written as UTF-8, which those of files need not be."""
    return name.encode(errors="backslashreplace").decode()


def _in_the_way(clash: str, layout: HostLayout) -> Refused:
    return Refused(
        Code.CONFIGURATION,
        "Apps of this host are in each other's way",
        why=clash,
        hint=f"Change `listen` or `path` of one in {layout.apps}",
    )
