"""`pusher channel`: show what hosts of a channel fetch, renew it, or let no host begin."""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pusher.commands.command import Command
from pusher.commands.confirm import add_confirm, confirm
from pusher.commands.options import add_channel, add_good_for, add_options
from pusher.config import load
from pusher.fleet.survey import open_channels
from pusher.repository.address import open_repository
from pusher.repository.channel import Channels, SignedChannel
from pusher.terminal.screen import Screen
from pusher.terminal.text import byte_count, moment
from pusher.wire import Code, Refused, format_timestamp
from pusher.wire.channel import Wave

_ACTIONS = ("show", "renew", "pause", "resume")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=_ACTIONS,
        metavar="ACTION",
        help="show; renew, before the document expires; pause: no host begins; resume",
    )
    add_channel(parser)
    add_good_for(parser)
    add_options(parser, "repository", "app", "key", "json")
    add_confirm(parser)


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings = load(vars(arguments))
    app, name = settings.app_name(), arguments.channel
    if arguments.action == "resume":  # hosts begin; what stops them must not wait for anything
        confirm(arguments, settings, doing=f"does `channel resume` for the channel {name}")
    repository = open_repository(settings.repository, ssh=settings.ssh, credentials=settings.credentials_file)
    channels = open_channels(settings, repository)
    before = read_channel(channels, app, name, repository.address)
    if arguments.action != "show":
        document = before.document
        if arguments.action != "renew":
            document = replace(document, state="paused" if arguments.action == "pause" else "going")
        made = channels.put(document, key=settings.key, before=before, days=arguments.good_for)
        said = {"renew": "is renewed", "pause": "is paused: no host begins", "resume": "goes on"}[arguments.action]
        screen.line(f"The channel {name} of {app} {said}. Good until {moment(format_timestamp(made.expires))} UTC")
        return 0
    if arguments.json:
        screen.document(_members(before))
    else:
        for line in _lines(before, now=int(time.time() * 1000)):
            screen.line(line)
    return 0


COMMAND = Command(
    name="channel",
    help="show, renew, pause or resume a channel",
    description="Shows which release the hosts of a channel fetch. Renews the channel before it expires. "
    "Pauses it, so that no host begins, and resumes it.",
    options=_options,
    run=_run,
    reads=lambda arguments: bool(arguments.action == "show"),
)


def read_channel(channels: Channels, app: str, name: str, address: str) -> SignedChannel:
    """The document of a channel. Raises: Refused, also if there is none."""
    found = channels.read(app, name)
    if found is None:
        hint = f"To make one: pusher publish VERSION --to {address} --channel {name}"
        raise Refused(Code.WRONG_CHANNEL, f"{address} has no channel {name} of {app}", hint=hint)
    return found


def wave_text(wave: Wave) -> str:
    """A wave in the form of --waves."""
    return f"{wave}%" if isinstance(wave, int) else "+".join(wave)


def _lines(one: SignedChannel, *, now: int) -> Iterator[str]:
    document, release = one.document, one.document.target.release
    rollout = document.rollout
    yield f"{document.app} {document.channel}: {release.version}" + (
        ", PAUSED" if document.state == "paused" else ""
    )
    yield f"  manifest  {release.manifest}"
    expired = ", EXPIRED" if document.expires <= now else ""
    created, expires = (moment(format_timestamp(time_)) for time_ in (document.created, document.expires))
    yield f"  signed    {created}, good until {expires} (UTC){expired}"
    yield f"            {one.signer.key_type} {one.signer.fingerprint}"
    waves = [
        wave_text(wave) + (" (open)" if at <= rollout.open else "") for at, wave in enumerate(rollout.waves, 1)
    ]
    yield f"  waves     {', '.join(waves)}; attempt {rollout.attempt}"
    for bundle in document.target.bundles:
        kind = f"for {bundle.base[:12]}" if bundle.base else "in full"
        yield f"  bundle    {byte_count(bundle.size):>9}  {kind}"
    if document.before is not None:
        yield f"  before    {document.before.release.version}, for hosts with nothing live"


def _members(one: SignedChannel) -> dict[str, Any]:
    """The document as JSON members, with its signer."""
    import json

    members: dict[str, Any] = json.loads(one.document.to_bytes())
    return {**members, "signer": one.signer._asdict()}
