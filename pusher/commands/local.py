"""The commands that need no host: `pack` and `verify`."""

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from pusher.bundle import bundle, pack, sign
from pusher.bundle.signed_manifest import app_name, make_manifest, sign_tree, write_beside
from pusher.bundle.source import BundleFile, locate
from pusher.config import Settings
from pusher.errors import Usage
from pusher.terminal.show import Screen, amount, moment
from pusher.wire import Code, Refused, format_timestamp

_DAY_MS = 24 * 3600 * 1000


def pack_into(
    what: str,
    settings: Settings,
    screen: Screen,
    *,
    file: str,
    manifest_into: str,
    hosts: Sequence[str],
    days: int,
) -> None:
    """Pack and sign a version into a bundle's file, which appears whole or not at all.

    `file` is `<app>-<version>.tar.zst` in the working directory unless given. With `hosts` only these may
    take it. With `papers_into`, only the papers are written, into that folder. They count for so many `days`.
    Raises: Problem.
    """
    app = app_name(settings)
    found = locate(what, source=settings.source)
    if isinstance(found, BundleFile):
        raise Usage(f"{found.path} is a file", hint="Name a version, or a folder")
    tree = pack.read(found.path)
    screen.dangling(pack.dangling(tree))
    created = int(time.time() * 1000)
    expires = created + days * _DAY_MS
    manifest = make_manifest(
        tree, app=app, version=found.version, created=created, expires=expires, hosts=sorted(set(hosts))
    )
    signed = sign_tree(manifest, tree, key=settings.key)
    if manifest_into:
        _write_signed_manifest(signed, Path(manifest_into), screen)
        return
    target = Path(file or f"{app}-{found.version}.tar.zst")
    _write(target, bundle.write(signed, tree.contents()))
    screen.line(f"{target}: {app} {found.version}, {amount(len(tree.entries), target.stat().st_size)}")


def verify(file: Path, screen: Screen, *, signers: Path | None, as_json: bool) -> None:
    """Hold all of a bundle against its index, and its signature against `signers` if given.

    Raises: Refused, for anything a host would refuse whatever it knows; Usage.
    """
    packed = bundle.read(file)
    manifest = packed.manifest
    signer = sign.signed_by(packed.signed.manifest, packed.signed.signature, signers=signers)
    seen = set()
    for one, content in packed.contents():
        seen.add(one.sha256)
        for _ in content:
            pass
    lacking = next((one.path for one in packed.files if one.sha256 not in seen), None)
    if lacking is not None:
        raise Refused(Code.BUNDLE_INCOMPLETE, f"{file} is not complete", why=f"it lacks {lacking!r}")
    if manifest.expires < time.time() * 1000:
        when = moment(format_timestamp(manifest.expires))
        raise Refused(Code.EXPIRED, f"{file} has expired", why=f"on {when} UTC", hint="Pack it again")
    if as_json:
        members = {"file": str(file), "app": manifest.app, "version": manifest.version}
        members |= {"created": format_timestamp(manifest.created), "expires": format_timestamp(manifest.expires)}
        numbers = {"files": manifest.files, "unpacked_size": manifest.unpacked_size, "hosts": manifest.hosts}
        screen.document({**members, **numbers, "signer": signer._asdict()})
        return
    screen.line(
        f"{file}: {manifest.app} {manifest.version}, {amount(manifest.files, manifest.unpacked_size)}, complete"
    )
    created, expires = (moment(format_timestamp(time_)) for time_ in (manifest.created, manifest.expires))
    screen.line(f"  created {created}, expires {expires} (UTC)")
    if manifest.hosts:
        screen.line(f"  for     {', '.join(manifest.hosts)}")
    screen.line(f"  signed  {signer.key_type} {signer.fingerprint}")
    trusted = (
        f"by {signer.principal}" if signers else "whose key that is, an allowed_signers file tells: --signers FILE"
    )
    screen.line(f"          {trusted}")


def _write_signed_manifest(signed: bundle.SignedManifest, folder: Path, screen: Screen) -> None:
    try:
        for path in write_beside(signed, folder):
            screen.line(str(path))
    except OSError as error:
        raise Usage(f"{folder} cannot be written to", why=error.strerror or str(error)) from error


def _write(target: Path, pieces: Iterable[bytes]) -> None:
    """Write a file that appears whole or not at all. Raises: Usage; whatever `pieces` raise."""
    # Where it is a link, what that leads to is replaced.
    real = Path(os.path.realpath(target))
    aside = real.with_name(f".{real.name}.{os.getpid()}")
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            # Renaming over it, root would take /dev/null away from everybody.
            raise Usage(f"{target} cannot be written", why="it is no ordinary file", hint="Name one with -o")
        try:
            with aside.open("xb") as out:
                out.writelines(pieces)
                out.flush()
                os.fsync(out.fileno())
            aside.replace(real)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise Usage(f"{target} cannot be written", why=error.strerror or str(error)) from error
