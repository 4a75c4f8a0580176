"""`pusher dashboard`: a page in the browser that shows the hosts, and from which they can be rolled back."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from pusher.commands.command import Command
from pusher.commands.options import add_channel, add_options, count
from pusher.config import Settings, load
from pusher.errors import Usage
from pusher.terminal.screen import Screen

_NOTED_MOST = 50


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=lambda text: count(text, least=1, most=65535, of="a port"),
        default=0,
        metavar="N",
        help="the port on this machine (default: one that is free)",
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open no browser")
    parser.add_argument("--fleet", metavar="FILE", help="the inventory (default fleet.allowed) (PUSHER_FLEET)")
    add_channel(parser)
    add_options(parser, "host", "app", "ssh", "repository")


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings = load(vars(arguments))
    fleet = arguments.repository is not None
    if not settings.chosen and not fleet:
        hint = "Name hosts with --host or in pusher.toml, or the repository of a fleet with --repository"
        raise Usage("There is nothing to show", hint=hint)
    return _serve(settings, arguments, screen, fleet=fleet)


def _serve(settings: Settings, arguments: argparse.Namespace, screen: Screen, *, fleet: bool) -> int:
    # Imported here: `pusher --help` does not need a server.
    from pusher.dashboard.connections import Connections
    from pusher.dashboard.routes import Routes
    from pusher.dashboard.server import Dashboard
    from pusher.dashboard.watch import Watch
    from pusher.fleet.state import state_folder

    connections = Connections(() if fleet and arguments.host is None else settings.chosen, ssh=settings.ssh)
    watch = Watch(connections, app=settings.app, folder=state_folder())
    read_fleet = _fleet(settings, arguments) if fleet else None
    try:
        server = Dashboard(
            arguments.port,
            Routes(connections, watch, fleet=read_fleet, confirm=settings.confirm),
            note=_limited(screen),
        )
    except OSError as error:
        hint = "Leave out --port, or name another one"
        raise Usage(
            f"Port {arguments.port} cannot be used", why=error.strerror or str(error), hint=hint
        ) from error
    try:
        screen.line(server.guard.address)
        screen.line("Only your browser can use it, with this address. Ctrl-C ends it")
        if not arguments.no_browser:
            _open(server.guard.once)
        server.serve_forever(poll_interval=0.5)
    except KeyboardInterrupt:
        screen.line()
        return 0
    finally:
        watch.close()
        connections.close()
        server.server_close()
    return 0


COMMAND = Command(
    name="dashboard",
    help="show the hosts in the browser, and roll back from there",
    description="Serves a page on this machine that shows what is live on the hosts, and deployments as they "
    "happen. Releases can be rolled back to and pinned from there, by typing the version. With --repository, it "
    "shows the fleet of a repository, from its reports. It ends with Ctrl-C.",
    options=_options,
    run=_run,
)


def _fleet(settings: Settings, arguments: argparse.Namespace) -> Callable[[], dict[str, Any]]:
    from pusher.dashboard.fleet import Fleet
    from pusher.fleet.survey import SaidOnce, survey

    return Fleet(partial(survey, settings, arguments.channel, say=SaidOnce())).read


def _limited(screen: Screen) -> Callable[[str], None]:
    """A function that prints what was refused, each thing once, and stops before that fills the terminal."""
    left, last = [_NOTED_MOST], [""]

    def note(line: str) -> None:
        if line == last[0]:
            return  # a page that was left open asks on and on
        left[0], last[0] = left[0] - 1, line
        if left[0] >= 0:
            screen.line(line if left[0] else "more was refused, and is not shown any more")

    return note


def _open(address: str) -> None:
    import os
    import sys

    # Without a screen, `webbrowser` may start a browser in the terminal, and that one cannot show the page.
    if sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        import webbrowser

        webbrowser.open(address)
