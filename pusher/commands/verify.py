"""`pusher verify`: check a bundle file as a host would: every content, the signature, the expiry."""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from pusher.bundle.archive import Bundle, read_bundle
from pusher.bundle.sign import Signer, signers_of
from pusher.commands.command import Command, always
from pusher.commands.options import add_options
from pusher.terminal.screen import Screen
from pusher.terminal.text import amount, moment
from pusher.wire import Code, Refused, Source, format_timestamp


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a bundle file")
    parser.add_argument(
        "--signers", type=Path, metavar="FILE", help="an allowed_signers file: every signer must be in it"
    )
    add_options(parser, "json")


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    file = arguments.file
    packed = read_bundle(file)
    signers = signers_of(packed.signed.manifest, packed.signed.signature, signers=arguments.signers)
    _check(packed)
    if arguments.json:
        screen.document(_members(packed, signers))
        return 0
    manifest = packed.manifest
    screen.line(
        f"{file}: {manifest.app} {manifest.version}, {amount(manifest.files, manifest.unpacked_size)}, complete"
    )
    created, expires = (moment(format_timestamp(time_)) for time_ in (manifest.created, manifest.expires))
    screen.line(f"  created {created}, expires {expires} (UTC)")
    if manifest.hosts:
        screen.line(f"  for     {', '.join(manifest.hosts)}")
    if manifest.source is not None:
        screen.line(f"  source  commit {manifest.source.commit}")
        screen.line(f"          {_changed(manifest.source)}")
        for line in _origin(manifest.source):
            screen.line(f"          {line}")
    for key, value in _flat(manifest.run.members()):
        screen.line(f"  run     {key} = {value}")
    for signer in signers:
        screen.line(f"  signed  {signer.key_type} {signer.fingerprint}")
        by = f"by {signer.principal}" if arguments.signers else "Unknown signer; pass --signers FILE"
        screen.line(f"          {by}")
    return 0


COMMAND = Command(
    name="verify",
    help="check a bundle file: contents and signature",
    description="Checks a bundle file as a host would: every content, the signature, and whether it has expired.",
    options=_options,
    run=_run,
    reads=always,
)


def _flat(members: Mapping[str, object], above: str = "") -> Iterator[tuple[str, str]]:
    """The members of a run section as they stand in a pusher.toml, one a line."""
    for key, value in members.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", json.dumps(value, ensure_ascii=False)


def _changed(source: Source) -> str:
    if not source.changed:
        return "every file as committed"
    return "1 file differs from it" if source.changed == 1 else f"{source.changed} files differ from it"


def _origin(source: Source) -> Iterator[str]:
    if source.branch:
        yield f"branch {source.branch}"
    if source.authored is not None:
        yield f"authored {moment(format_timestamp(source.authored))} (UTC)"
    if source.remote:
        yield f"from {source.remote}"


def _check(packed: Bundle) -> None:
    """Read every content, and check that none is missing. Raises: Refused."""
    seen = set()
    for one, content in packed.contents():
        seen.add(one.sha256)
        for _ in content:
            pass
    lacking = next((one.path for one in packed.files if one.sha256 not in seen), None)
    if lacking is not None:
        raise Refused(Code.BUNDLE_INCOMPLETE, f"{packed.file} is not complete", why=f"it lacks {lacking!r}")
    if packed.manifest.expires < time.time() * 1000:
        when = moment(format_timestamp(packed.manifest.expires))
        raise Refused(Code.EXPIRED, f"{packed.file} has expired", why=f"on {when} UTC", hint="Pack it again")


def _members(packed: Bundle, signers: list[Signer]) -> dict[str, object]:
    """What is in the bundle, as JSON members."""
    manifest = packed.manifest
    return {
        "file": str(packed.file),
        "app": manifest.app,
        "version": manifest.version,
        "created": format_timestamp(manifest.created),
        "expires": format_timestamp(manifest.expires),
        "files": manifest.files,
        "unpacked_size": manifest.unpacked_size,
        "hosts": manifest.hosts,
        "source": manifest.source.members() if manifest.source else None,
        "run": manifest.run.members() or None,
        "signer": signers[0]._asdict(),
        "signers": [one._asdict() for one in signers],
    }
