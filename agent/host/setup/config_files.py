"""Root's configuration files, of the host and of its apps.

Invariant: an unusable file of an app affects only this app. Everything here blocks.
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
    """The apps of a host by name: the configuration of the usable ones, and what is wrong with the others."""

    usable: Mapping[str, AppConfig]
    unusable: Mapping[str, Refused]


def read_agent(layout: HostLayout) -> AgentConfig:
    """The host's configuration; its name defaults to the hostname. Raises: Refused(configuration)."""
    file, hint = layout.agent_toml, f"`pusher-agent init --root {layout.root}` makes one"
    config = parse_agent(_text(file, missing=hint), file=str(file))
    return config if config.name else config.model_copy(update={"name": socket.gethostname()})


def read_apps(layout: HostLayout) -> Apps:
    """Every app of the host. Raises: Refused(configuration), if their folder cannot be read."""
    usable, unusable = {}, {}
    for file in _files(layout.apps):
        try:
            usable[file.stem] = read_app(file, app=_app_name(file))
        except Refused as problem:
            unusable[_printable(file.stem)] = problem
    return Apps(usable, unusable)


def read_app(file: Path, *, app: str) -> AppConfig:
    """The configuration of one app. Raises: Refused(configuration)."""
    return parse_app(_text(file), file=str(file), app=app)


def set_apart(apps: Apps, layout: HostLayout) -> Apps:
    """The same apps, but those that clash are unusable too: nothing says which of them is right."""
    unusable = dict(apps.unusable)
    for clash in clashes(apps.usable):
        for app in clash.apps:
            unusable.setdefault(app, _clash(clash.sentence, layout))
    return Apps({app: config for app, config in apps.usable.items() if app not in unusable}, unusable)


def check_apart(app: str, config: AppConfig, apps: Apps, layout: HostLayout) -> None:
    """Check that an app with this configuration clashes with no usable one. Raises: Refused(configuration)."""
    for clash in clashes({**apps.usable, app: config}):
        if app in clash.apps:
            raise _clash(clash.sentence, layout)


def after_mending(app: str, problem: Refused, *, service: str) -> Refused:
    """The same problem of an app's file; its hint also says how the agent reads the corrected file."""
    then = f"run `pusher-agent app apply {app}` as root" if service == "systemd" else "start the agent again"
    first = f"{problem.hint}." if problem.hint and not problem.hint.endswith("?") else problem.hint
    return Refused(problem.code, problem.what, why=problem.why, hint=f"{first} Correct it, then {then}".lstrip())


def file_differs(app: str, config: AppConfig, *, host: HostLayout) -> str:
    """How an app's file is not what is in force any more; empty if it is. Blocking."""
    file = host.app_toml(app)
    try:
        now = parse_app(file.read_text("utf-8"), file=str(file), app=app)
    except Refused as problem:
        return str(problem)
    except (OSError, UnicodeDecodeError) as error:
        return f"{file} cannot be read: {error}"
    return "" if now == config else f"{file} was changed since the agent read it; to read it, run `serve` again"


def signer_lines(file: Path) -> list[str]:
    """The lines of an `allowed_signers` file that are not empty or comments; none if it cannot be read."""
    try:
        return [line for line in file.read_text("utf-8").splitlines() if line.strip() and not line.startswith("#")]
    except (OSError, UnicodeDecodeError):
        return []


def _files(folder: Path) -> list[Path]:
    """The files of apps, without hidden ones, which editors leave."""
    try:  # not `Path.glob`: for it, an unreadable folder is empty
        return sorted(one for one in folder.iterdir() if one.suffix == ".toml" and not one.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Refused(
            Code.CONFIGURATION, f"The apps in {folder} could not be read", why=error.strerror or str(error)
        ) from error


def _text(file: Path, *, missing: str = "") -> str:
    """The content of a file. Raises: Refused(configuration), with the hint `missing` if it does not exist."""
    try:
        return file.read_text("utf-8")
    except FileNotFoundError as error:
        raise Refused(Code.CONFIGURATION, f"{file} does not exist", hint=missing) from error
    except OSError as error:
        denied = isinstance(error, PermissionError)
        hint = f"Run `chmod a+r {shlex.quote(str(file))}` as root" if denied else ""
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
    """A name that can be written as UTF-8; the names of files need not be."""
    return name.encode(errors="backslashreplace").decode()


def _clash(sentence: str, layout: HostLayout) -> Refused:
    return Refused(
        Code.CONFIGURATION,
        "Two apps of this host clash",
        why=sentence,
        hint=f"Change `listen` or `path` of one in {layout.apps}",
    )
