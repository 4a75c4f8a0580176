"""`pusher repository prune`: remove bundles that no host can need any more.

Invariant: what a channel names stays, and so do the releases that its bundles build on, and all that is young: a
publish that is under way has written bundles which no channel names yet. Channels are read once more before each
removal. Who names old bundles anew looks whether they are still there: a lock would not do, for stores have none.
"""

import argparse
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress

from pusher.commands.command import Command
from pusher.commands.options import add_options, count
from pusher.config import load
from pusher.repository.address import open_repository
from pusher.repository.releases import list_name, put_releases, read_releases
from pusher.repository.store import Item, Repository
from pusher.terminal.screen import Screen
from pusher.terminal.text import amount
from pusher.wire import Code, Refused, WireError, check_app
from pusher.wire.channel import (
    CHANNEL_BYTES,
    BundleObject,
    Channel,
    channel_name,
    check_channel,
    object_name,
    split_signed,
)
from pusher.wire.text import check_sha256

_YOUNG_S = 24 * 3600
_KEEP = 10


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("prune",), metavar="ACTION", help="prune: remove what is not needed")
    parser.add_argument(
        "--keep",
        type=lambda text: count(text, least=1, most=500, of="a number of releases"),
        default=_KEEP,
        metavar="N",
        help=f"how many releases of each app to keep besides those of its channels (default {_KEEP})",
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    add_options(parser, "repository")
    parser.add_argument(
        "--config", metavar="FILE", help="use this file, not the nearest pusher.toml (PUSHER_CONFIG)"
    )


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings = load(vars(arguments))
    repository = open_repository(settings.repository, ssh=settings.ssh, credentials=settings.credentials_file)
    documents, apps, bundles = list(_documents(repository)), _apps(repository), repository.names("bundles/")
    if not documents and not apps and not bundles:
        what = f"{repository.address} has nothing in it"
        raise Refused(Code.WRONG_CHANNEL, what, hint="Is it the right address? `pusher publish` makes one")
    named = _named(documents)
    bases = {one.base for document in documents for one in _bundles(document)}
    for app in apps:
        known = read_releases(repository, app)
        kept = [
            one
            for at, one in enumerate(known.releases)
            if at < arguments.keep or one.release.manifest in bases or object_name(one.bundle.sha256) in named
        ]
        named |= {object_name(one.bundle.sha256) for one in kept}
        if not arguments.dry_run:
            put_releases(repository, known, kept)
    gone = [
        *_old(filter(_is_bundle, bundles), kept_names=named),
        *_old(repository.unfinished()),
    ]
    for item in [*gone]:
        if arguments.dry_run:
            screen.line(f"  {item.name}")
        elif item.name in _named(_documents(repository)):
            gone.remove(item)  # meanwhile, somebody has published it again, or gone back to it
        else:
            repository.remove(item.name)
    size = amount(len(gone), sum(item.size for item in gone))
    screen.line(f"{repository.address}: {size} {'would be' if arguments.dry_run else 'were'} removed")
    return 0


COMMAND = Command(
    name="repository",
    help="remove bundles that no host can need any more",
    description="Removes bundles from a repository that no channel names, and no release that is kept; and files "
    "that a publish has left which was cut off. What is younger than a day stays.",
    options=_options,
    run=_run,
)


def _documents(repository: Repository) -> Iterator[Channel]:
    """Every channel of the repository. One that cannot be read could name anything: then nothing is removed."""
    for item in repository.names("channels/"):
        try:
            _, app, channel = item.name.split("/")
            found = repository.read(channel_name(check_app(app), check_channel(channel)), most=CHANNEL_BYTES)
            if found is None:
                continue
            yield Channel.from_bytes(split_signed(found.content)[0])
        except ValueError as error:  # a WireError is one
            raise Refused(
                Code.CHANNEL_MALFORMED,
                f"{item.name} cannot be read, so nothing is removed",
                why=str(error),
                hint="Remove it from the repository; if it is a channel, publish there again",
            ) from error


def _named(documents: Iterable[Channel]) -> set[str]:
    """The objects that channels name."""
    return {object_name(one.sha256) for document in documents for one in _bundles(document)}


def _bundles(document: Channel) -> Iterator[BundleObject]:
    yield from document.target.bundles
    yield from document.before.bundles if document.before else ()


def _apps(repository: Repository) -> list[str]:
    """The apps with a list of releases."""
    found = []
    for item in repository.names("releases/"):
        app = item.name.removeprefix("releases/").removesuffix(".json")
        with suppress(WireError):  # what a person put there
            if list_name(check_app(app)) == item.name:
                found.append(app)
    return found


def _is_bundle(item: Item) -> bool:
    digest = item.name.removeprefix("bundles/").removesuffix(".tar.zst")
    with suppress(WireError):
        return object_name(check_sha256(digest)) == item.name
    return False


def _old(items: Iterable[Item], *, kept_names: Collection[str] = ()) -> Iterator[Item]:
    old = time.time() - _YOUNG_S
    yield from (item for item in items if item.name not in kept_names and item.modified < old)
