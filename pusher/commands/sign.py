"""`pusher sign`: add one more signature to a bundle file."""

import argparse
from dataclasses import replace
from pathlib import Path

from pusher.bundle.archive import read_bundle, write_bundle
from pusher.bundle.sign import add_signature, signers_of
from pusher.bundle.whole_file import write_whole
from pusher.commands.command import Command
from pusher.commands.options import add_options
from pusher.config import load
from pusher.terminal.screen import Screen
from pusher.terminal.text import amount


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a bundle file; it is replaced")
    add_options(parser, "key")
    parser.add_argument(
        "--config", metavar="FILE", help="use this file, not the nearest pusher.toml (PUSHER_CONFIG)"
    )


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings = load(vars(arguments))
    file = arguments.file
    packed = read_bundle(file)
    manifest, signed = packed.manifest, packed.signed
    # Before the key asks for a touch: its holder must see what it signs.
    screen.line(f"{file}: {manifest.app} {manifest.version}, {amount(manifest.files, manifest.unpacked_size)}")
    signatures = add_signature(signed.manifest, signed.signature, key=settings.key)
    write_whole(file, write_bundle(replace(signed, signature=signatures), packed.contents()))
    for one in signers_of(signed.manifest, signatures):
        screen.line(f"  signed  {one.key_type} {one.fingerprint}")
    return 0


COMMAND = Command(
    name="sign",
    help="add one more signature to a bundle file",
    description="Adds a signature to a bundle file, for apps that ask for several people to sign. The signatures "
    "that it has must be valid.",
    options=_options,
    run=_run,
)
