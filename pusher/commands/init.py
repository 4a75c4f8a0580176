"""`pusher init`: write the `pusher.toml` of a project, with how it is started, and say why."""

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pusher.bundle.whole_file import write_whole
from pusher.commands.command import Command
from pusher.errors import Usage
from pusher.host_choice import CONFIG_NAME
from pusher.terminal.screen import Screen
from pusher.transport.hosts import parse_address
from pusher.wire import RunSection, WireError, check_app

if TYPE_CHECKING:
    from pusher.run.section import Said


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", default=".", metavar="FOLDER", help="the project (default: here)")
    parser.add_argument("--app", default="", metavar="NAME", help="the app (default: the name of the folder)")
    parser.add_argument(
        "--host", action="append", default=[], metavar="HOST", help="a host to write down; repeatable"
    )
    parser.add_argument("--key", default="", metavar="FILE", help="the SSH key that signs")


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    from pusher.dependencies.named import named_packages
    from pusher.run.procfile import read_procfile
    from pusher.run.section import run_section

    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise Usage(f"{folder} is no folder", hint="Name the folder of the project")
    file = folder / CONFIG_NAME
    if file.exists():
        raise Usage(f"{file} exists already", hint="Edit it, or move it away")
    for host in (hosts := [*dict.fromkeys(arguments.host)]):
        parse_address(host)  # before it is written down
    app = _app_name(arguments.app or folder.resolve().name, given=bool(arguments.app))
    said = run_section(folder, RunSection(), packages=named_packages(folder))
    procfile = bool(read_procfile(folder))
    text = "".join(f"{line}\n" for line in _lines(app, arguments.key, hosts, said, by_procfile=procfile))
    try:
        write_whole(file, [text.encode()])
    except OSError as error:
        raise Usage(f"{file} cannot be written", why=error.strerror or str(error)) from error
    screen.line(f"{file}: {app}")
    screen.line(said.note)
    where = "" if arguments.host else " --host HOST"
    screen.line(f"next: pusher send {arguments.folder}{where}")
    return 0


COMMAND = Command(
    name="init",
    help="write the pusher.toml of a project",
    description="Writes the pusher.toml of a project: its name, and how it is started, found in its Procfile or "
    "its code. Says why. Nothing is sent.",
    options=_options,
    run=_run,
)


def _app_name(name: str, *, given: bool) -> str:
    """The name of the app. One that is not given is bent until it is one. Raises: Usage."""
    bent = name if given else re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-").lstrip("0123456789-")[:31]
    try:
        return check_app(bent.rstrip("-") if not given else bent)
    except WireError as error:
        raise Usage("The name of the app is not valid", why=str(error), hint="Name it: --app NAME") from error


def _lines(app: str, key: str, hosts: list[str], said: "Said", *, by_procfile: bool) -> Iterator[str]:
    """The file. `by_procfile`: a Procfile says how the version runs, and is read anew at each send."""
    yield f"app = {_toml(app)}"
    yield (
        f"key = {_toml(key)}" if key else '# key = "~/.ssh/id_ed25519"   # without it, --key says which key signs'
    )
    yield ""
    for host in hosts:
        yield f"[hosts.{_key(host)}]"
        yield f"address = {_toml(host if ':' in host else f'ssh://{host}')}"
        yield ""
    members = said.section.members()
    yield f"# {said.note}"
    if not members:
        yield "# [run]"
        yield f"# start = {_toml(said.then or 'gunicorn -w 2 app:app')}"
        if not said.then:
            yield "# or a program that opens a port of its own, at 127.0.0.1 and where the variable PORT says:"
            yield '# start = "python main.py --port=$PORT"'
            yield '# listen_via = "port"'
        return
    if not by_procfile:
        yield from _table("run", members)
        return
    # Written as it counts, this would count more than the Procfile, whatever is changed there later.
    yield "# The Procfile says how the app runs. A key that is written here counts more than it:"
    yield from (f"# {line}".rstrip() for line in _table("run", members))


def _table(name: str, members: Mapping[str, object]) -> Iterator[str]:
    """A table of TOML, then those inside it."""
    inner = {key: value for key, value in members.items() if isinstance(value, dict)}
    if len(inner) < len(members):
        yield f"[{name}]"
        yield from (f"{key} = {_toml(value)}" for key, value in members.items() if key not in inner)
    for key, value in inner.items():
        if value:
            yield ""
            yield from _table(f"{name}.{_key(key)}", value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: object) -> str:
    """A text, number, truth value or list of them: JSON's spelling is TOML's too."""
    return json.dumps(value, ensure_ascii=False)
