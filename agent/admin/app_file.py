"""The file of a new app, as `init` and `app add` write it, and the options it is made of.

Invariant: the text can be read by `agent.core.config`, and the app is in no other app's way.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass

from agent.core.config import AppConfig, parse_app, parse_listen
from agent.core.layout import HostLayout
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
    processes: tuple[str, ...] = ()


def add_app_options(parser: argparse.ArgumentParser) -> None:
    """The options of a new app."""
    options, default = parser.add_argument_group("options of the app"), AppOptions()
    options.add_argument(
        "--listen",
        default=default.listen,
        metavar="ADDR",
        help=f"the address of the app (default: {default.listen})",
    )
    options.add_argument(
        "--start",
        default=default.start,
        metavar="COMMAND",
        help="how to start the app: a program of the release's own dependencies that accepts a listening socket "
        f"(default: as the release says, or {DEFAULT_START})",
    )
    options.add_argument(
        "--keep",
        type=int,
        default=default.keep,
        metavar="N",
        help=f"how many good releases to keep (default: {default.keep})",
    )
    options.add_argument(
        "--health",
        default=default.health,
        metavar="PATH",
        help=f"the path of the health check (default: as the release says, or {_DEFAULTS.health.path})",
    )
    options.add_argument(
        "--version-member",
        default=default.version_member,
        metavar="NAME",
        help="the member of the health check's JSON answer that must equal the version (default: as the release "
        "says, or none)",
    )


def app_options(arguments: argparse.Namespace) -> AppOptions:
    """The options of `add_app_options` among the arguments."""
    return AppOptions(
        listen=arguments.listen,
        start=arguments.start,
        keep=arguments.keep,
        health=arguments.health,
        version_member=arguments.version_member,
    )


def app_text(app: str, options: AppOptions, layout: HostLayout, *, user: str) -> str:
    """The text of the file of a new app. Raises: Refused(configuration), also if the app has a file already."""
    file = layout.app_toml(app)
    try:
        check_app(app)
        parse_listen(options.listen)
    except (WireError, ValueError) as error:
        raise Refused(Code.CONFIGURATION, "The app cannot be added", why=str(error)) from error
    if file.exists():
        raise Refused(
            Code.CONFIGURATION, f"{file} exists already", hint="Edit the file, or choose another name for the app"
        )
    health = {"path": options.health, "version_member": options.version_member}
    text = "".join(
        [
            f"path = {toml_text(f'/opt/{app}')}\n",
            f"user = {toml_text(user)}\n",
            f"listen = {toml_text(options.listen)}\n",
            f"start = {toml_text(options.start)}\n" if options.start else "",
            f"keep_releases = {options.keep}\n",
            "\n[health]\n" if any(health.values()) else "",
            *(f"{key} = {toml_text(value)}\n" for key, value in health.items() if value),
            *(f"\n[processes.{name}]\n" for name in options.processes),
        ]
    )
    check_apart(app, parse_app(text, file=str(file), app=app), read_apps(layout), layout)
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
