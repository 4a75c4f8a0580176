"""Whether papers whose signature holds are for this app and host, small enough, fresh and usable.

Invariant: bytes and numbers in, a refusal or nothing out; no clock, no disk. A refusal names the mend.
"""

from collections.abc import Collection, Iterable

from agent.core.config import BundleLimits
from agent.core.layout import HOOKS_FOLDER
from agent.core.plan import HOOK_NAMES
from pusher.wire import Code, Entry, File, Manifest, Refused, format_timestamp, reserved

AHEAD_MOST_MS = 5 * 60 * 1000
_EXECUTABLE = 0o755


def judge(
    manifest: Manifest,
    *,
    app: str,
    host: str,
    now: int,
    newest_accepted: int | None,
    limits: BundleLimits,
    again: bool = False,
) -> None:
    """Refuse a manifest that is for elsewhere, too large, or not fresh. Times are milliseconds since 1970.

    `newest_accepted` is the newest `created` accepted for this app here (None: none). A manifest of that
    very `created` is refused as well, for two that share it could be played in turn for ever; `again` says
    that this is the one that set the mark (equal bytes), which may be tried again.

    The order is that of the mends, so that nobody signs again what can never be taken: a bundle for
    elsewhere is told nothing more; one that is too large must be packed differently; only then is its age
    looked at, and a wrong clock is named before a replay, since signing again would not help against it.

    Raises: Refused (wrong_app, wrong_host, limit_exceeded, expired, from_the_future, older_than_accepted).
    """
    _judge_address(manifest, app=app, host=host)
    _judge_size(manifest, limits=limits)
    if now >= manifest.expires:
        raise Refused(
            Code.EXPIRED,
            "The bundle has expired",
            why=f"it could be deployed until {format_timestamp(manifest.expires)}; "
            f"here it is {format_timestamp(now)}",
            hint="Pack and sign it again",
        )
    if manifest.created > now + AHEAD_MOST_MS:
        raise Refused(
            Code.FROM_THE_FUTURE,
            "The bundle was signed in the future",
            why=f"it says {format_timestamp(manifest.created)}; here it is {format_timestamp(now)}",
            hint=_clock_hint(newest_accepted, now=now),
        )
    if newest_accepted is None or manifest.created > newest_accepted:
        return
    if manifest.created < newest_accepted or not again:
        raise Refused(
            Code.OLDER_THAN_ACCEPTED,
            "The bundle is older than one that was accepted before",
            why=f"it was signed at {format_timestamp(manifest.created)}, the newest accepted one "
            f"at {format_timestamp(newest_accepted)}",
            hint="Sign again to deploy this version, or roll back to its release",
        )


def judge_name(path: str, *, shared: Collection[str]) -> None:
    """Refuse a name in the index that the agent itself needs. Raises: Refused(name_not_allowed)."""
    if not reserved(path, shared=shared):
        return
    linked = not reserved(path)
    raise Refused(
        Code.NAME_NOT_ALLOWED,
        f"The bundle contains {path!r}",
        why="that name belongs to the app's shared paths on this host"
        if linked
        else "that name is the agent's own",
        hint="Leave it out of the bundle (.pusherignore)"
        + (", or take it out of shared_paths and shared_files" if linked else ", or rename it"),
    )


def judge_hook(entry: Entry) -> None:
    """Refuse a hook of the release that could not be run: without being executable, it would fail when its turn
    comes, which may be after the switch, or at the rollback from this release.

    Raises: Refused(hook_failed).
    """
    folder, _, name = entry.path.partition("/")
    if folder == HOOKS_FOLDER and name in HOOK_NAMES and isinstance(entry, File) and entry.mode != _EXECUTABLE:
        raise Refused(
            Code.HOOK_FAILED,
            f"The hook {entry.path} cannot be run",
            why="it is not executable",
            hint=f"`chmod +x {entry.path}` where it comes from, and send it again",
        )


def judge_requirements(names: Iterable[str], *, requirements: str) -> None:
    """Refuse an index whose `names` lack the file that the app's dependencies are read from.

    Asked before any payload is accepted: without it the release could never have a venv.
    Raises: Refused(dependencies_failed).
    """
    if requirements not in names:
        empty = " (an empty one will do for an app without dependencies)" if requirements.endswith(".txt") else ""
        raise Refused(
            Code.DEPENDENCIES_FAILED,
            f"The bundle has no {requirements}",
            why="this host reads the app's dependencies from that file",
            hint=f"Add it{empty}, or name another under [dependencies] requirements",
        )


def _judge_address(manifest: Manifest, *, app: str, host: str) -> None:
    if manifest.app != app:
        raise Refused(
            Code.WRONG_APP,
            f"The bundle is not for {app!r}",
            why=f"it was signed for {manifest.app!r}",
            hint=f"Send it to {manifest.app!r}, or pack and sign it for {app!r}",
        )
    if manifest.hosts and host not in manifest.hosts:
        raise Refused(
            Code.WRONG_HOST,
            f"The bundle is not for the host {host!r}",
            why=f"it was signed for {', '.join(manifest.hosts)}",
            hint="Sign it for this host too, or correct `name` in agent.toml",
        )


def _judge_size(manifest: Manifest, *, limits: BundleLimits) -> None:
    for key, size, most, unit in (
        ("index", manifest.index_size, limits.index, "bytes of index"),
        ("files", manifest.files, limits.files, "files"),
        ("unpacked", manifest.unpacked_size, limits.unpacked, "bytes unpacked"),
    ):
        if size > most:
            raise Refused(
                Code.LIMIT_EXCEEDED,
                "The bundle is larger than this host takes",
                why=f"it has {size} {unit}; {most} is the most",
                hint=f"Leave out what the app does not need (.pusherignore), or raise limits.{key} in agent.toml",
            )


def _clock_hint(newest_accepted: int | None, *, now: int) -> str:
    if newest_accepted is not None and newest_accepted > now + AHEAD_MOST_MS:
        return (
            "Set this host's clock: it is behind the newest bundle it accepted, "
            f"of {format_timestamp(newest_accepted)}"
        )
    return "Set the clock of the machine that signed, or of this host, and sign again"
