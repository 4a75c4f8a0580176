"""The inventory: which hosts belong to a fleet, and the key of each.

Invariant: the inventory is the denominator. A host that is not in it counts for nothing, whatever it reports;
one that is in it and silent is named. Format: OpenSSH's allowed_signers (ssh-keygen(1)), a host a line.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pusher.errors import Usage
from pusher.fleet.host_key import KEY_TYPE, public_bytes
from pusher.wire import WireError
from pusher.wire.channel import check_host
from pusher.wire.report import REPORT_NAMESPACE

_OPTION = f'namespaces="{REPORT_NAMESPACE}"'


@dataclass(frozen=True, slots=True)
class Member:
    """A host of the fleet, and the 32 bytes of its ed25519 key."""

    name: str
    key: bytes


def read_inventory(file: Path) -> list[Member]:
    """The hosts in a file, sorted by name. Raises: Usage, if it cannot be read, has no host, or one twice."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        hint = "Add hosts to it: pusher fleet adopt HOST.pub"
        why = getattr(error, "strerror", None) or str(error)
        raise Usage(f"The inventory {file} cannot be read", why=why, hint=hint) from error
    found: dict[str, Member] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            member = _member(line)
        except (ValueError, WireError) as error:
            hint = 'Each line is: HOST namespaces="pusher-report" ssh-ed25519 KEY'
            raise Usage(f"{file}, line {number} is no host", why=str(error), hint=hint) from error
        if member.name in found:
            raise Usage(f"{file} has {member.name} twice", hint="A host has one key. Remove the line that is old")
        found[member.name] = member
    if not found:
        raise Usage(f"The inventory {file} has no host", hint="Add hosts to it: pusher fleet adopt HOST.pub")
    return [found[name] for name in sorted(found)]


def adopt(file: Path, public: str, *, name: str = "") -> str:
    """Add a host to the inventory, by the line of its public key; its name is `name`, or the comment. What was
    done.

    Raises: Usage, also if the host is there with another key.
    """
    kind, blob, *comment = [*public.strip().split(maxsplit=2), "", ""][:3]
    name = name or " ".join(comment)
    try:
        check_host(name)
        if kind != KEY_TYPE:
            raise ValueError(f"it is of type {kind[:40]!r}, not {KEY_TYPE}")
        key = public_bytes(blob)
    except (ValueError, WireError) as error:
        hint = "Give it what `pusher-agent identity` prints on that host"
        raise Usage("This is no host's key", why=str(error), hint=hint) from error
    with _locked(file.parent):
        return _added(file, name, key, f'{name} namespaces="{REPORT_NAMESPACE}" {kind} {blob}\n')


def _added(file: Path, name: str, key: bytes, line: str) -> str:
    """Add the line of a host; what was done. Raises: Usage."""
    text = _text(file)
    known = {one.name: one for one in read_inventory(file)} if text.strip() else {}
    if (before := known.get(name)) is not None:
        if before.key == key:
            return f"{file}: has {name} already"
        raise Usage(
            f"{name} is in {file} with another key",
            hint="Was it installed anew? Then remove its line first. If not, somebody else uses its name",
        )
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        aside.write_text(encoding="utf-8", data=text + ("\n" if text and not text.endswith("\n") else "") + line)
        aside.replace(file)
    except OSError as error:
        raise Usage(f"{file} cannot be written", why=error.strerror or str(error)) from error
    return f"{file}: {name} belongs to the fleet"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else adds a host meanwhile: of two who do, one host would be gone. Where no folder can be locked, the
    write that follows says why.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _text(file: Path) -> str:
    """What is in the inventory; empty if there is none yet. Raises: Usage."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        hint = "Name another file: --fleet FILE"
        raise Usage(f"The inventory {file} cannot be read", why=why, hint=hint) from error


def _member(line: str) -> Member:
    name, *rest = line.split()
    if rest[:2] == [_OPTION, KEY_TYPE] and len(rest) > 2:  # as `adopt` writes it
        return Member(check_host(name), public_bytes(rest[2]))
    options = [one for one in rest if "=" in one.partition('"')[0]][:1]
    words = [one for one in rest if one not in options]
    if options != [_OPTION] or len(words) < 2 or words[0] != KEY_TYPE:
        raise ValueError("a name, the namespace, and an ed25519 key are needed")
    return Member(check_host(name), public_bytes(words[1]))
