"""`pusher logs`: what an app wrote, and what systemd said about it."""

import json

from pusher.config import Settings
from pusher.errors import Unreachable, Usage
from pusher.fleet.fleet import on_each
from pusher.terminal.show import Screen, moment
from pusher.transport.client import Client
from pusher.wire import format_timestamp


def logs(settings: Settings, screen: Screen, *, lines: int, follow_it: bool, unit: str, as_json: bool) -> int:
    """What the app wrote, and was said about it, oldest first; with `follow_it` until Ctrl-C. The exit code."""
    if follow_it and len(settings.chosen) > 1:
        raise Usage(
            "The logs of several hosts cannot be followed at once", hint="Name one, or run it once for each"
        )

    def act(client: Client, screen: Screen) -> str:
        for line in client.logs(settings.app, lines=lines, follow=follow_it, unit=unit):
            if screen.lost:
                return ""  # `pusher logs -f | head`: nobody would see when to press Ctrl-C.
            if line is None:
                continue
            if as_json:
                screen.document({**json.loads(line.to_line()), "address": client.host.name})
            else:
                who = line.unit if line.pid is None else f"{line.unit}[{line.pid}]"
                screen.line(f"{moment(format_timestamp(line.time))}Z {who}: {line.message}")
        if follow_it:
            hint = "Follow it again when its agent is up"
            raise Unreachable(f"The agent of {client.host.name} ended the log", hint=hint)
        return ""

    return on_each(settings, screen, act)
