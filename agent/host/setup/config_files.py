"""Root's configuration files, of the host and of its apps.

Invariant: an unusable file of an app affects only this app. Everything here blocks.
"""

import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.core.config.app import AppConfig, parse_app
from agent.core.config.clashes import clashes
from agent.core.config.host import AgentConfig, parse_agent
from agent.core.in_force import difference
from agent.core.layout import HostLayout
from pusher.wire import Code, Refused, WireError, check_app


@dataclass(frozen=True, slots=True)
class Apps:
    """The apps of a host by name: the configuration of the usable ones, and what is wrong with the others.

    An app in `held` is usable with what was read before: that is what is wrong with its file.
    """

    usable: Mapping[str, AppConfig]
    unusable: Mapping[str, Refused]
    held: Mapping[str, Refused] = field(default_factory=dict)


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


def check_apart(app: str, config: AppConfig, apps: Apps, layout: HostLayout, *, new: bool = False) -> None:
    """Check that an app with this configuration clashes with no usable one. Raises: Refused(configuration).

    `new`: it has no file yet, but options.
    """
    for clash in clashes({**apps.usable, app: config}):
        if app in clash.apps:
            problem = _clash(clash.sentence, layout)
            if new:
                other = next(one for one in clash.apps if one != app)
                problem.hint = (
                    f"Give {app} an address of its own with --listen, or change {layout.app_toml(other)}"
                )
            raise problem


def after_mending(app: str, problem: Refused, *, service: str, runs: bool = False) -> Refused:
    """The same problem of an app's file; its hint also says how the agent reads the corrected file.

    `runs`: the agent runs the app all the same.
    """
    embedded = "send again" if runs else "start the agent again"
    then = f"run `pusher-agent app apply {app}` as root" if service == "systemd" else embedded
    first = f"{problem.hint}." if problem.hint and not problem.hint.endswith("?") else problem.hint
    return Refused(problem.code, problem.what, why=problem.why, hint=f"{first} Correct it, then {then}".lstrip())


def read_again(app: str, in_force: AppConfig, *, host: HostLayout) -> AppConfig:
    """The configuration of an app whose agent runs, with `in_force`. Blocking.

    Raises: Refused(configuration), also if it clashes with another app when the agent starts again.
    """
    file = host.app_toml(app)
    config = read_app(file, app=app)
    if (config.listen, config.path) != (in_force.listen, in_force.path):
        check_apart(app, config, read_apps(host), host)
    return config


def file_differs(app: str, in_force: AppConfig, *, host: HostLayout) -> str:
    """How an app's file is not what is in force, in words; empty if it is. Blocking."""
    try:
        return difference(read_again(app, in_force, host=host), in_force, file=str(host.app_toml(app)))
    except Refused as problem:
        return str(problem)


def signer_lines(file: Path) -> list[str]:
    """The lines of an `allowed_signers` file that are not empty or comments; none if it cannot be read."""
    try:
        lines = file.read_text("utf-8").splitlines()
        return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
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
