"""`pusher pack`: sign a version into a bundle file; or sign only its manifest."""

import argparse
import time
from pathlib import Path

from pusher.bundle.archive import bundle_name, write_bundle
from pusher.bundle.manifest import make_manifest
from pusher.bundle.signed_manifest import SignedManifest, sign_manifest, write_beside
from pusher.bundle.source import BundleFile
from pusher.bundle.tree import dangling
from pusher.bundle.whole_file import write_whole
from pusher.commands.command import Command
from pusher.commands.options import add_dependencies, add_options, add_what, count
from pusher.commands.what import chosen, prepared
from pusher.config import load
from pusher.errors import Usage
from pusher.terminal.screen import Screen
from pusher.terminal.text import amount

_DAY_MS = 24 * 3600 * 1000
_DAYS = 30


def _options(parser: argparse.ArgumentParser) -> None:
    add_what(parser, files=False)
    parser.add_argument("-o", "--output", default="", metavar="FILE", help="default: APP-VERSION.tar.zst")
    parser.add_argument(
        "--manifest",
        default="",
        metavar="FOLDER",
        help="write only the signed manifest and the index, into FOLDER: what lies beside a dropped folder",
    )
    parser.add_argument(
        "--for",
        dest="only",
        type=_host,
        action="append",
        default=[],
        metavar="NAME",
        help="only the host with this name in its agent.toml may deploy it; repeatable",
    )
    parser.add_argument(
        "--days",
        type=lambda text: count(text, least=1, most=3650, of="a number of days"),
        default=_DAYS,
        metavar="N",
        help=f"how long it can be deployed (default {_DAYS})",
    )
    add_dependencies(parser)
    add_options(parser, "app", "source", "key")


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings = load(vars(arguments))
    app = settings.app_name()
    found = chosen(arguments, settings)
    if isinstance(found, BundleFile):
        raise Usage(f"{found.path} is a file", hint="Name a version, or a folder")
    if arguments.manifest:
        from pusher.dependencies.named import named_packages  # here: half of a start's time
        from pusher.run.section import run_section

        tree = found.read()  # as it will be dropped
        said = run_section(found.path, settings.run, packages=named_packages(found.path))
        notes: tuple[str, ...] = (*found.remarks(tree), said.note)
        requires = ""  # the host decides about dependencies
    else:
        tree, notes, said, requires = prepared(found, settings, anew=arguments.relock)
    for note in notes:
        screen.line(note)
    screen.dangling(dangling(tree))
    created = int(time.time() * 1000)
    expires = created + arguments.days * _DAY_MS
    hosts = sorted(set(arguments.only))
    manifest = make_manifest(
        tree,
        app=app,
        version=found.version,
        created=created,
        expires=expires,
        hosts=hosts,
        source=found.source(tree),
        run=said.section,
        requires_python=requires,
    )
    signed = sign_manifest(manifest, tree, key=settings.key)
    if arguments.manifest:
        _write_manifest(signed, Path(arguments.manifest), screen)
        return 0
    target = Path(arguments.output or bundle_name(app, found.version))
    write_whole(target, write_bundle(signed, tree.contents()))
    screen.line(f"{target}: {app} {found.version}, {amount(len(tree.entries), target.stat().st_size)}")
    return 0


COMMAND = Command(
    name="pack",
    help="sign a version into a bundle file",
    description="Signs a version into a bundle file. With --manifest, signs it without packing its files.",
    options=_options,
    run=_run,
)


def _host(name: str) -> str:
    # A manifest with such a name is read by no agent.
    if not name.strip() or not name.isprintable():
        raise argparse.ArgumentTypeError(f"{name!r} is not the name of a host")
    return name


def _write_manifest(signed: SignedManifest, folder: Path, screen: Screen) -> None:
    try:
        for path in write_beside(signed, folder):
            screen.line(str(path))
    except OSError as error:
        hint = "Name a folder where you may write"
        raise Usage(f"{folder} cannot be written", why=error.strerror or str(error), hint=hint) from error
