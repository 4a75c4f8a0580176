"""Checks of a verified manifest and its index: are they for this app and host, small enough, fresh and usable?

Invariant: values in, a refusal or nothing out; no clock, no disk. Every refusal says what to do next. The rules of
`check`, in order, for a bundle of `flask-demo` that was signed for `web1`:

1. Address: app `flask-demo`, and `hosts` empty or containing `web1`. A bundle for elsewhere learns nothing more.
2. Size: index, files and unpacked size within the limits. A bundle that is too large must be packed differently.
3. Age: not expired, and not from the future by more than AHEAD_MOST_MS. A wrong clock is named before rule 4,
   where signing again would not help against it.
4. Replay: newer than the newest accepted manifest, or, with `retry`, the very manifest that was accepted last.

So no one signs a bundle again that can never be accepted.
"""

from collections.abc import Collection, Iterable

from agent.core.config.host import BundleLimits
from agent.core.layout import HOOKS_FOLDER
from agent.core.plan import HOOK_NAMES
from agent.core.requirements.pylock import PYLOCK
from pusher.wire import Code, Entry, File, Manifest, Refused, format_timestamp, is_placeholder, reserved

AHEAD_MOST_MS = 5 * 60 * 1000
"""How far `created` may be ahead of this host's clock, in milliseconds."""
_EXECUTABLE = 0o755
_CLASHES_NAMED = 10


def check(
    manifest: Manifest,
    *,
    app: str,
    host: str,
    now: int,
    newest_accepted: int | None,
    limits: BundleLimits,
    retry: bool = False,
) -> None:
    """Refuse a manifest that is for elsewhere, too large, or not fresh. Times are milliseconds since 1970.

    `newest_accepted` is the newest `created` accepted for this app on this host, or None. A manifest with exactly
    that `created` is refused too: two that share it could be replayed in turn for ever. `retry` says that this is
    the manifest that set the mark (equal bytes), which may be tried once more.

    Raises: Refused (wrong_app, wrong_host, limit_exceeded, expired, from_the_future, older_than_accepted).
    """
    _check_address(manifest, app=app, host=host)
    _check_size(manifest, limits=limits)
    if now >= manifest.expires:
        raise Refused(
            Code.EXPIRED,
            "The bundle has expired",
            why=f"it could be deployed until {format_timestamp(manifest.expires)}; "
            f"on {host} it is {format_timestamp(now)}",
            hint=f"Pack and sign it again. If it is new, one of the clocks is wrong: that of {host}, or of the "
            "machine that signed",
        )
    if manifest.created > now + AHEAD_MOST_MS:
        raise Refused(
            Code.FROM_THE_FUTURE,
            "The bundle was signed in the future",
            why=f"it says {format_timestamp(manifest.created)}; on {host} it is {format_timestamp(now)}",
            hint=_clock_hint(newest_accepted, now=now, host=host),
        )
    if newest_accepted is None or manifest.created > newest_accepted:
        return
    if manifest.created < newest_accepted or not retry:
        raise Refused(
            Code.OLDER_THAN_ACCEPTED,
            "The bundle is older than one that was accepted before",
            why=f"it was signed at {format_timestamp(manifest.created)}, the newest accepted one "
            f"at {format_timestamp(newest_accepted)}",
            hint="Sign again to deploy this version, or roll back to its release",
        )


class Clashes:
    """The entries of an index whose names the agent needs for itself, or for the app's shared paths."""

    def __init__(self, *, shared: Collection[str]) -> None:
        self._shared = shared
        self._paths: list[str] = []
        self._more = 0

    def note(self, entry: Entry) -> None:
        """Note an entry if its name clashes. What only keeps a folder in git gives way to the shared folder."""
        if not reserved(entry.path, shared=() if is_placeholder(entry) else self._shared):
            return
        if len(self._paths) < _CLASHES_NAMED:
            self._paths.append(entry.path)
        else:
            self._more += 1

    def check(self) -> None:
        """Raises: Refused(name_not_allowed), naming all clashes at once."""
        if not self._paths:
            return
        names = ", ".join(map(repr, self._paths)) + (f" and {self._more} more" if self._more else "")
        linked = not any(map(reserved, self._paths))
        many = len(self._paths) > 1
        why = "the agent uses that name itself"
        if linked:
            why = f"{'these names belong' if many else 'that name belongs'} to the app's shared paths on this host"
        elif many:
            why = "the agent uses these names itself, or links shared paths there"
        raise Refused(
            Code.NAME_NOT_ALLOWED,
            f"The bundle contains {names}",
            why=why,
            hint=f"Leave {'them' if many else 'it'} out of the bundle (.pusherignore)"
            + (", or take it out of shared_paths and shared_files" if linked else ", or rename it"),
        )


def check_hook(entry: Entry) -> None:
    """Refuse a hook that is not executable. It would fail later: after the switch, or at the rollback.

    Raises: Refused(hook_failed).
    """
    folder, _, name = entry.path.partition("/")
    if folder == HOOKS_FOLDER and name in HOOK_NAMES and isinstance(entry, File) and entry.mode != _EXECUTABLE:
        raise Refused(
            Code.HOOK_FAILED,
            f"The hook {entry.path} cannot be run",
            why="it is not executable",
            hint=f"Run `chmod +x {entry.path}` at its source, and send it again",
        )


def check_requirements(names: Iterable[str], *, requirements: str) -> None:
    """Refuse an index whose `names` lack both a `pylock.toml` and the file with the app's dependencies.

    Checked before any payload is accepted: without that file the release can never have a venv.
    Raises: Refused(dependencies_failed).
    """
    if not {requirements, PYLOCK} & {*names}:
        empty = " (empty, if the app has no dependencies)" if requirements.endswith(".txt") else ""
        raise Refused(
            Code.DEPENDENCIES_FAILED,
            f"The bundle has no {requirements}",
            why="this host reads the app's dependencies from that file",
            hint=f"Add it{empty}, or set another one under [dependencies] requirements",
        )


def _check_address(manifest: Manifest, *, app: str, host: str) -> None:
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


def _check_size(manifest: Manifest, *, limits: BundleLimits) -> None:
    for key, size, most, unit in (
        ("index", manifest.index_size, limits.index, "bytes of index"),
        ("files", manifest.files, limits.files, "files"),
        ("unpacked", manifest.unpacked_size, limits.unpacked, "bytes unpacked"),
    ):
        if size > most:
            raise Refused(
                Code.LIMIT_EXCEEDED,
                "The bundle is larger than this host allows",
                why=f"it has {size} {unit}; the limit is {most}",
                hint=f"Leave out what the app does not need (.pusherignore), or raise limits.{key} in agent.toml",
            )


def _clock_hint(newest_accepted: int | None, *, now: int, host: str) -> str:
    if newest_accepted is not None and newest_accepted > now + AHEAD_MOST_MS:
        # Not just "set the clock": where both clocks were wrong for a while, it may be right by now.
        return (
            f"Set the clock of {host}: it has accepted a bundle of {format_timestamp(newest_accepted)}. If that "
            "clock is right now, it was wrong then, and takes new bundles from that time on"
        )
    return f"Set the clock of the machine that signed, or of {host}, and sign again"
