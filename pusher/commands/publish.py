"""`pusher publish`: put a release into a repository, and let the hosts of a channel fetch it.

Invariant: the channel document is last. Until it is in place, no host knows of the release, and a publish that was
cut off has changed nothing.
"""

import argparse
import time
from dataclasses import replace

from pusher.bundle.archive import Payload, read_bundle
from pusher.bundle.manifest import make_manifest
from pusher.bundle.signed_manifest import SignedManifest, sign_manifest
from pusher.bundle.source import BundleFile, Folder
from pusher.bundle.tree import dangling
from pusher.commands.command import Command
from pusher.commands.confirm import add_confirm, confirm
from pusher.commands.options import (
    add_channel,
    add_dependencies,
    add_good_for,
    add_options,
    add_what,
    count,
)
from pusher.commands.what import chosen, prepared
from pusher.config import Settings, load
from pusher.fleet.survey import open_channels
from pusher.repository.address import open_repository
from pusher.repository.brake import is_braked
from pusher.repository.channel import AHEAD_MOST_MS, SignedChannel
from pusher.repository.releases import list_name, put_bundles, put_release, read_releases
from pusher.terminal.screen import Screen
from pusher.terminal.text import amount, byte_count, moment, some
from pusher.wire import Code, Manifest, Refused, WireError, format_timestamp
from pusher.wire.channel import Channel, Rollout, Target, Wave, check_waves

_DAY_MS = 24 * 3600 * 1000
_DAYS = 365


def _options(parser: argparse.ArgumentParser) -> None:
    add_what(parser)
    parser.add_argument(
        "--to",
        dest="repository",
        metavar="REPO",
        help="the repository: a folder, ssh://host/folder, https://host/path, or s3://bucket/prefix",
    )
    add_channel(parser)
    parser.add_argument(
        "--waves",
        type=_waves,
        default=(100,),
        metavar="WAVES",
        help="who goes first: hosts joined by +, then percentages, as web1+web2,10%%,100%% (default 100%%)",
    )
    parser.add_argument(
        "--spread",
        type=lambda text: count(text, least=0, most=86_400, of="a number of seconds"),
        default=0,
        metavar="SECONDS",
        help="the hosts of a wave begin within this time (default 0)",
    )
    parser.add_argument(
        "--max-failed",
        type=lambda text: count(text, least=1, most=1_000_000, of="a number of hosts"),
        default=1,
        metavar="N",
        help="after so many failed hosts no other one begins (default 1)",
    )
    parser.add_argument(
        "--silent",
        type=lambda text: count(text, least=60, most=30 * 86_400, of="a number of seconds"),
        default=1_800,
        metavar="SECONDS",
        help="a host without a report for this long is silent, and nobody waits for it (default 1800)",
    )
    add_good_for(parser)
    parser.add_argument(
        "--channel-key", default="", metavar="FILE", help="the key that signs for the channel (default: --key)"
    )
    add_dependencies(parser)
    add_options(parser, "app", "source", "key")
    add_confirm(parser)


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings = load(vars(arguments))
    repository = open_repository(settings.repository, ssh=settings.ssh, credentials=settings.credentials_file)
    channels = open_channels(settings, repository)
    found = chosen(arguments, settings)
    confirm(arguments, settings, doing=f"publishes {found.name} in the channel {arguments.channel}")
    app = settings.app_name() if isinstance(found, Folder) else _app_of(found, arguments.app)
    before, known = channels.read(app, arguments.channel), read_releases(repository, app)
    newest = max([one.release.created for one in known.releases] + _created(before), default=0)
    payload: Payload
    if isinstance(found, Folder):
        manifest, signed, payload = _packed(found, arguments, settings, screen, newest=newest)
    else:
        packed = read_bundle(found.path)
        manifest, signed, payload = packed.manifest, packed.signed, packed
        _check_newer(manifest, before)
    total = amount(manifest.files, manifest.unpacked_size)
    screen.line(f"publishing {app} {manifest.version} to {repository.address}: {total}")
    target, is_new = put_release(repository, known, manifest, signed, payload)
    for one in target.bundles:
        lacking = next((it.release.version for it in known.releases if it.release.manifest == one.base), "")
        screen.line(f"  {f'for hosts with {lacking}' if one.base else 'in full':<24} {byte_count(one.size):>10}")
    document = Channel(
        app=app,
        channel=arguments.channel,
        created=0,
        expires=0,
        target=target,
        # What a person has paused goes on by that person's word, and not because a timer has published.
        state=before.document.state if before else "going",
        before=_before(before, target),
        rollout=Rollout(
            waves=arguments.waves,
            spread_s=arguments.spread,
            max_failed=arguments.max_failed,
            silent_s=arguments.silent,
        ),
    )
    key = arguments.channel_key or settings.key
    made = channels.put(document, key=key, before=before, days=arguments.good_for)
    if not is_new:
        # What was there may have been old, and nobody's: `repository prune` may have removed it meanwhile. From
        # now on the channel names it.
        put_bundles(repository, known, manifest, signed, payload)
    first = made.rollout.waves[0]
    who = f"{first}% of the hosts" if isinstance(first, int) else some(first)
    screen.line(
        f"{app} {manifest.version} is in the channel {made.channel}, for {who if first != 100 else 'all hosts'}"
    )
    if manifest.expires < (time.time() + 90 * 24 * 3600) * 1000:
        # A bundle that was packed to be sent. Hosts that are new then, or go back to it, fetch it as well.
        until = moment(format_timestamp(manifest.expires))
        screen.line(
            f"No host can deploy it after {until} UTC. For longer: pusher pack {manifest.version} --days {_DAYS}"
        )
    if before is None:
        # An address or a name with a mistake in it is a new one, too.
        screen.line(
            f"{made.channel} is a new channel of {app} in {repository.address}: hosts follow it once "
            "`pusher-agent subscribe` names it there"
        )
    if made.state == "paused":
        screen.line("The channel is paused: no host begins. To go on: pusher channel resume")
    if is_braked(repository, app, made.channel):
        screen.line("The brake is set: no host begins. To go on: pusher rollout resume")
    return 0


COMMAND = Command(
    name="publish",
    help="put a version into a repository, where hosts fetch it by themselves",
    description="Puts a version into a repository, and names it in a channel. The hosts that subscribe to it "
    "fetch and deploy it by themselves, wave after wave.",
    options=_options,
    run=_run,
)


def _packed(
    found: Folder, arguments: argparse.Namespace, settings: Settings, screen: Screen, *, newest: int
) -> tuple[Manifest, SignedManifest, Payload]:
    """A folder, packed and signed for any host, and newer than all that was published."""
    tree, notes, said, requires = prepared(found, settings, anew=arguments.relock)
    for note in notes:
        screen.line(note)
    screen.dangling(dangling(tree))
    now = int(time.time() * 1000)
    created = max(now, newest + 1)
    if created > now + AHEAD_MOST_MS:
        # The list of releases is not signed: who can write it must not get a release that counts for years.
        raise Refused(
            Code.FROM_THE_FUTURE,
            "The repository has a release from the future",
            why=f"it was signed at {format_timestamp(newest)}; here it is {format_timestamp(now)}",
            hint=f"Set the clock of this machine; or, if that is right, remove {list_name(settings.app_name())}",
        )
    manifest = make_manifest(
        tree,
        app=settings.app_name(),
        version=found.version,
        created=created,
        # Hosts that are new in half a year fetch it, too.
        expires=created + _DAYS * _DAY_MS,
        source=found.source(tree),
        run=said.section,
        requires_python=requires,
    )
    return manifest, sign_manifest(manifest, tree, key=settings.key), tree


def _app_of(found: BundleFile, named: str | None) -> str:
    """The app of a bundle that hosts can still deploy. Raises: Refused, also if another app was named."""
    manifest = read_bundle(found.path).manifest
    if named and named != manifest.app:
        raise Refused(Code.WRONG_APP, f"{found.path} is a bundle of {manifest.app}, not of {named}")
    if manifest.expires <= time.time() * 1000:
        when = moment(format_timestamp(manifest.expires))
        raise Refused(Code.EXPIRED, f"{found.path} has expired", why=f"on {when} UTC", hint="Pack it again")
    return manifest.app


def _created(before: SignedChannel | None) -> list[int]:
    return [before.document.target.release.created] if before else []


def _check_newer(manifest: Manifest, before: SignedChannel | None) -> None:
    """Refuse a bundle that hosts with the channel's release would find too old. Raises: Refused."""
    for newest in _created(before):
        if manifest.created < newest:
            signed, live = format_timestamp(manifest.created), format_timestamp(newest)
            raise Refused(
                Code.OLDER_THAN_ACCEPTED,
                "The bundle is older than the release in the channel",
                why=f"it was signed at {signed}, that one at {live}",
                hint="Pack and sign it again. To go back: pusher rollout rollback",
            )


def _before(before: SignedChannel | None, target: Target) -> Target | None:
    """What a host with nothing live takes while its wave is closed: the last release that all hosts may have."""
    if before is None or before.document.target.release == target.release:
        return before.document.before if before else None
    document = before.document
    complete = document.rollout.open == len(document.rollout.waves)
    chosen = document.target if complete else document.before or document.target
    return replace(chosen, bundles=tuple(one for one in chosen.bundles if not one.base))


def _waves(text: str) -> tuple[Wave, ...]:
    """The waves in the form of --waves; the last one has all hosts. Raises: ArgumentTypeError."""
    waves: list[Wave] = []
    for part in text.split(","):
        number = part.removesuffix("%")
        is_part = part != number and number.isascii() and number.isdecimal()
        waves.append(int(number) if is_part else tuple(part.split("+")))
    try:
        found = check_waves(waves)
    except WireError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if found[-1] != 100:
        raise argparse.ArgumentTypeError(
            f"the last wave is {text.rpartition(',')[2]!r}; end with 100%, for all others"
        )
    return found
