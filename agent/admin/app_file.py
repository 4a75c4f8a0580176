"""The file of a new app, as `init` and `app add` write it, and the options it is made of.

Invariant: the text can be read by `agent.core.config`, and the app is in no other app's way.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from agent.core.config.app import AppConfig, parse_app
from agent.core.layout import HostLayout
from agent.core.listen import parse_listen
from agent.core.run import DEFAULT_START
from agent.host.setup.config_files import check_apart, read_apps
from pusher.wire import Code, Refused, WireError, check_app

_DEFAULTS = AppConfig(path="/opt/app", user="app")


@dataclass(frozen=True, slots=True)
class AppOptions:
    """The values in the file of a new app; `processes` has the names of its workers.

    What is empty is not written: the release may say it, and root's word would count more.
    """

    listen: str = _DEFAULTS.listen
    start: str = ""
    keep: int = _DEFAULTS.keep_releases
    health: str = ""
    version_member: str = ""
    health_host: str = ""
    health_deadline: float | None = None
    requirements: str = ""
    python: str = ""
    env_file: str = ""
    shared: tuple[str, ...] = ()
    shared_files: tuple[str, ...] = ()
    path: str = ""
    processes: tuple[str, ...] = ()


class _Option(NamedTuple):
    """An option with a value. Its name is that of the member of `AppOptions`, where its default is."""

    flag: str
    metavar: str
    help: str
    kind: Callable[[str], str | int | float] = str

    @property
    def member(self) -> str:
        return self.flag.removeprefix("--").replace("-", "_")


_OPTIONS = (
    _Option("--listen", "ADDR", f"the address of the app (default: {_DEFAULTS.listen})"),
    _Option(
        "--start",
        "COMMAND",
        "how to start the app: a program of the release's own dependencies that accepts a listening socket "
        f"(default: as the release says, or {DEFAULT_START})",
    ),
    _Option("--keep", "N", f"how many good releases to keep (default: {_DEFAULTS.keep_releases})", int),
    _Option(
        "--health",
        "PATH",
        f"the path of the health check (default: as the release says, or {_DEFAULTS.health.path})",
    ),
    _Option(
        "--version-member",
        "NAME",
        "the member of the health check's JSON answer that must equal the version (default: as the release "
        "says, or none)",
    ),
    _Option("--health-host", "NAME", "the Host header of the health check (default: localhost)"),
    _Option(
        "--health-deadline",
        "SECONDS",
        "how long the app may take until it answers (default: as the release says, or "
        f"{_DEFAULTS.health.deadline_s:g})",
        float,
    ),
    _Option(
        "--requirements",
        "FILE",
        f"the file of a release that names its dependencies (default: {_DEFAULTS.dependencies.requirements})",
    ),
    _Option("--python", "PATH", "the Python of the app, a path or a version like 3.12"),
    _Option("--env-file", "FILE", "root's file with the environment of the app, in lines NAME=value"),
)


def add_app_options(parser: argparse.ArgumentParser) -> None:
    """The options of a new app."""
    options, defaults = parser.add_argument_group("options of the app"), AppOptions()
    for one in _OPTIONS:
        default = getattr(defaults, one.member)
        options.add_argument(one.flag, type=one.kind, default=default, metavar=one.metavar, help=one.help)
    options.add_argument(
        "--shared",
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder that all releases share, such as uploads; repeatable",
    )


def app_options(arguments: argparse.Namespace) -> AppOptions:
    """The options of `add_app_options` among the arguments."""
    given = {one.member: getattr(arguments, one.member) for one in _OPTIONS}
    return AppOptions(**given, shared=tuple(dict.fromkeys(arguments.shared)))


def app_text(app: str, options: AppOptions, layout: HostLayout, *, user: str) -> str:
    """The text of the file of a new app. Raises: Refused(configuration), also if the app has a file already."""
    file = layout.app_toml(app)
    try:
        check_app(app)
        parse_listen(options.listen)
    except (WireError, ValueError) as error:
        raise Refused(Code.CONFIGURATION, "The app cannot be added", why=str(error)) from error
    if options.env_file and not options.env_file.startswith("/"):
        why = f"--env-file is {options.env_file!r}, and a path from / is needed"
        raise Refused(Code.CONFIGURATION, "The app cannot be added", why=why)
    if file.exists():
        raise Refused(
            Code.CONFIGURATION, f"{file} exists already", hint="Edit the file, or choose another name for the app"
        )
    health = {"path": options.health, "host": options.health_host, "version_member": options.version_member}
    deadline = options.health_deadline
    dependencies = {"requirements": options.requirements, "python": options.python}
    shared, files = (", ".join(map(toml_text, names)) for names in (options.shared, options.shared_files))
    text = "".join(
        [
            f"path = {toml_text(options.path or f'/opt/{app}')}\n",
            f"user = {toml_text(user)}\n",
            f"listen = {toml_text(options.listen)}\n",
            f"start = {toml_text(options.start)}\n" if options.start else "",
            f"keep_releases = {options.keep}\n",
            f"environment_file = {toml_text(options.env_file)}\n" if options.env_file else "",
            f"shared_paths = [{shared}]\n" if shared else "",
            f"shared_files = [{files}]\n" if files else "",
            "\n[health]\n" if any(health.values()) or deadline is not None else "",
            *(f"{key} = {toml_text(value)}\n" for key, value in health.items() if value),
            f"deadline_s = {deadline:g}\n" if deadline is not None else "",
            "\n[dependencies]\n" if any(dependencies.values()) else "",
            *(f"{key} = {toml_text(value)}\n" for key, value in dependencies.items() if value),
            *(f"\n[processes.{name}]\n" for name in options.processes),
        ]
    )
    check_apart(app, parse_app(text, file=str(file), app=app), read_apps(layout), layout, new=True)
    return text


def unchecked(app: str, layout: HostLayout) -> Iterator[str]:
    """Warnings about apps with an unusable file, with which `app` may share something. Raises: Refused."""
    for name, problem in read_apps(layout).unusable.items():
        if name != app:
            yield f"warning: {problem}"
            yield f"warning: {app} may have the same address, folder or user as {name}: this cannot be checked"


def toml_text(text: str) -> str:
    """A TOML basic string. It has all escapes of JSON."""
    return json.dumps(text, ensure_ascii=False)
