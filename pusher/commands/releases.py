"""`pusher releases`: the releases on the hosts, newest first, and their last deployments."""

import argparse
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pusher.commands.answers import members, problem_title, show_answers
from pusher.commands.command import Command, always
from pusher.commands.options import add_options
from pusher.config import Settings, load
from pusher.errors import Usage
from pusher.fleet.fleet import on_each
from pusher.terminal.screen import Screen
from pusher.terminal.text import Table, age, byte_count, commit_name, duration, moment
from pusher.transport.client import Client

_HISTORY = 10


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sbom", default="", metavar="ID", help="show what was installed for this release (CycloneDX, JSON)"
    )
    add_options(parser, "host", "app", "ssh", "json")


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings = load(vars(arguments))
    if arguments.sbom:
        return _show_sbom(settings, arguments.sbom, screen)
    return show_answers(
        settings, screen, lambda client: client.releases(settings.app), _lines, as_json=arguments.json
    )


COMMAND = Command(
    name="releases",
    help="list the releases, and the last deployments",
    description="Lists the releases on the hosts, newest first, and the last deployments.",
    options=_options,
    run=_run,
    reads=always,
)


def _show_sbom(settings: Settings, release: str, screen: Screen) -> int:
    """Nothing but the document, so that other programs can read it. So it is about one host."""
    if len(settings.chosen) > 1:
        raise Usage("--sbom is about one release of one host", hint="Name one host")
    app = settings.app_name()

    def act(client: Client, screen: Screen) -> str:
        screen.document(client.sbom(app, release))
        return ""

    return on_each(settings, screen, act)


def _lines(document: Mapping[str, Any]) -> Iterator[str | Table]:
    now = datetime.now(UTC)
    releases = members(document, "releases")
    # Without git, and with an older agent, there would be empty columns.
    size = ["SIZE"] if any(one.get("size") for one in releases) else []
    signed = ["SIGNED BY"] if any(one.get("signed_by") for one in releases) else []
    commit = ["COMMIT"] if any(one.get("source") for one in releases) else []
    rows = [
        (
            "*" if one.get("live") else "",
            one.get("version"),
            one.get("id"),
            _state(one),
            age(one.get("created"), now=now),
            *(_size(one.get("size")) for _ in size),
            one.get("by") or "",
            *(one.get("signed_by") or "" for _ in signed),
            *(commit_name(one.get("source")) for _ in commit),
        )
        for one in releases
    ]
    if not rows:
        yield "no releases yet"
    else:
        yield Table(
            ("", "VERSION", "RELEASE", "STATE", "AGE", *size, "BY", *signed, *commit),
            rows,
            ("SIZE", "COMMIT", "BY", "SIGNED BY"),
        )
    history = members(document, "deployments")[:_HISTORY]
    if history:
        yield ""
        yield Table(
            ("DEPLOYMENT", "KIND", "VERSION", "OUTCOME", "STARTED (UTC)", "TOOK", "BY", ""),
            [
                (
                    one.get("deployment"),
                    one.get("kind"),
                    one.get("version"),
                    one.get("outcome") or "running",
                    moment(one.get("started")),
                    duration(one.get("ms")),
                    one.get("by") or "",
                    problem_title(one),
                )
                for one in history
            ],
            ("DEPLOYMENT", "BY"),
        )


def _state(release: Mapping[str, Any]) -> str:
    """What a release is, in words: `live`, `good, fallback`, `withdrawn, pinned`."""
    live, standing = release.get("live"), str(release.get("standing"))
    words = ["live"] if live else []
    if not (live and standing == "good"):
        words.append(standing)
    return ", ".join([*words, *(word for word in ("fallback", "pinned", "revoked") if release.get(word))])


def _size(size: object) -> str:
    return byte_count(size) if isinstance(size, int) else ""
