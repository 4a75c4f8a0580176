"""The manifest of a tree: which app and version it is, for which hosts, and how long it can be deployed.

Invariant: a manifest made for the hosts of one command is accepted by no other host, and none of these hosts
finds it older than what it has.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pusher.bundle.tree import Tree
from pusher.errors import Usage
from pusher.wire import ORIGIN, REQUIRES_PYTHON, Manifest, RunSection, Source, WireError, parse_timestamp

_NOTHING = RunSection()
_LIFETIME_MS = 30 * 24 * 3600 * 1000
"""How long a manifest that is sent at once can be deployed."""
_LAST_MS = parse_timestamp("9999-01-01T00:00:00.000Z")
"""Nothing can be made that is later than this, and expires: a year has four digits."""


def make_manifest(
    tree: Tree,
    *,
    app: str,
    version: str,
    created: int,
    expires: int,
    hosts: Sequence[str] = (),
    source: Source | None = None,
    run: RunSection = _NOTHING,
    requires_python: str = "",
) -> Manifest:
    """The manifest of a tree; `created` and `expires` in milliseconds since 1970 (UTC)."""
    return Manifest(
        app=app,
        version=version,
        created=created,
        expires=expires,
        index_sha256=hashlib.sha256(tree.index).hexdigest(),
        index_size=len(tree.index),
        files=len(tree.entries),
        unpacked_size=sum(file.size for file in tree.files),
        hosts=tuple(hosts),
        source=source,
        run=run,
        folders=len(tree.folders),
        requires_python=requires_python,
    )


def manifest_for(
    statuses: Mapping[str, Mapping[str, Any]],
    tree: Tree,
    *,
    app: str,
    version: str,
    source: Source | None = None,
    run: RunSection = _NOTHING,
    run_found: bool = False,
    requires_python: str = "",
    all_answered: bool = True,
) -> Manifest:
    """The manifest of a tree for the hosts with these statuses; for any host, if not `all_answered`.

    Without `source`, what was added to it, or `requires_python`, for agents that are older: they refuse a manifest
    with a member they do not know. Also without `run`, if it was only found (`run_found`): such a host decides by
    itself.
    Raises: Usage, if somebody said how it runs, and one of these agents does not know of that.
    """
    older = sorted(name for name, status in statuses.items() if "start" not in status)
    if run and older and not run_found:
        raise Usage(
            f"{older[0]} cannot run this version as it says",
            why="its agent is older than [run] in pusher.toml and the Procfile of a version",
            hint=f"Install a newer pusher-agent on {older[0]}",
        )
    known = all_answered and all("history" in status for status in statuses.values())
    if source is not None and not (all_answered and accepted(ORIGIN, statuses)):
        source = Source(source.commit, source.changed)
    created = max([int(time.time() * 1000), *(_newest(status) + 1 for status in statuses.values())])
    names = [status.get("host") for status in statuses.values()]
    return make_manifest(
        tree,
        app=app,
        version=version,
        created=created,
        expires=created + _LIFETIME_MS,
        # Named, so that no other host accepts what was signed for these.
        hosts=sorted({name for name in names if isinstance(name, str)}) if all_answered and all(names) else (),
        source=source if known else None,
        run=_NOTHING if older else run,
        requires_python=requires_python if all_answered and accepted(REQUIRES_PYTHON, statuses) else "",
    )


def accepted(addition: str, statuses: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether all the agents with these statuses read what was added to schema 1."""
    accepts = (status.get("accepts") for status in statuses.values())
    return all(isinstance(names, list) and addition in names for names in accepts)


def _newest(status: Mapping[str, object]) -> int:
    """The newest `created` that a host has accepted; 0 if none."""
    newest = status.get("newest_created")
    try:
        found = parse_timestamp(newest) if isinstance(newest, str) else 0
    except WireError:
        return 0
    return found if found < _LAST_MS else 0
