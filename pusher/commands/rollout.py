"""`pusher rollout`: open waves, try again, stop, or take a whole fleet back.

Invariant: hosts decide by themselves what follows from the document; a rollout only replaces that, if it is
still the one that was read. The brake is unsigned, because it can only stop.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

from pusher.commands.command import Command
from pusher.commands.confirm import add_confirm, confirm
from pusher.commands.options import add_channel, add_good_for, add_options, count
from pusher.config import Settings, load
from pusher.errors import Unreachable, Usage
from pusher.fleet.standing import is_unwell
from pusher.fleet.survey import SaidOnce, Survey, ring_bell, survey
from pusher.fleet.waves import Next, Step, next_step
from pusher.repository.address import open_repository
from pusher.repository.brake import release_brake, set_brake
from pusher.repository.channel import SignedChannel, has_channel
from pusher.repository.releases import Listed, find_release, read_releases
from pusher.repository.store import Repository
from pusher.terminal.screen import Screen
from pusher.terminal.text import some
from pusher.wire import Code, Failed, Problem, Refused
from pusher.wire.channel import Channel, ChannelRelease, Rollout, Target

_EVERY_S = 5
_PASSING = frozenset({Code.UPLOAD_BROKEN, Code.OLDER_THAN_ACCEPTED})
"""What a repository may say for a while: that it cannot now, or what a cache still has."""


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=tuple(_ACTIONS),
        metavar="ACTION",
        help="run: open wave after wave; next: open one; retry: try a failed release once more; pause: set the "
        "brake; resume: release it; rollback: all hosts go back",
    )
    parser.add_argument("--once", action="store_true", help="run: take one step, and do not wait")
    parser.add_argument(
        "--every",
        type=lambda text: count(text, least=1, most=3_600, of="a number of seconds"),
        metavar="SECONDS",
        help=f"run: how often to look (default {_EVERY_S})",
    )
    parser.add_argument(
        "--to", default="", metavar="VERSION", help="rollback: to this version (default: the release before)"
    )
    parser.add_argument("--fleet", metavar="FILE", help="the inventory (default fleet.allowed) (PUSHER_FLEET)")
    add_channel(parser)
    add_good_for(parser)
    add_options(parser, "repository", "app", "key")
    add_confirm(parser)


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    settings = load(vars(arguments))
    if arguments.to and arguments.action != "rollback":
        raise Usage("--to is for rollback")
    if (arguments.once or arguments.every is not None) and arguments.action != "run":
        raise Usage("--once and --every are for run")
    if arguments.action != "pause":  # what stops a rollout must not wait for anything
        confirm(
            arguments, settings, doing=f"does `rollout {arguments.action}` for the channel {arguments.channel}"
        )
    return _ACTIONS[arguments.action](arguments, settings, screen)


def _follow(arguments: argparse.Namespace, settings: Settings, screen: Screen) -> int:
    """`run`: one step after the other, until it is done, or stands still because hosts have failed.

    It takes hours, and nobody watches it. So a repository that has answered once is waited for; one that never has
    may be named wrongly.
    """
    said, overtaken, answered, every = "", False, False, arguments.every or _EVERY_S
    say, say_bus = SaidOnce(), SaidOnce()
    while True:
        try:
            seen, signed = _seen(arguments, settings, hosts=True, say=say_bus)
            answered = True
            say(None)
            document = signed.document
            step = next_step(document, seen.places, braked=seen.braked)
            if (line := _sentence(seen, document, step)) != said:
                screen.line(line)
                said = line
            if step.step is Step.BRAKE:
                set_brake(seen.repository, document.app, document.channel, why=step.why)
                raise _braked(step)
            if step.step is Step.OPEN:
                _put(arguments, settings, seen, signed, replace(document, rollout=_opened(document.rollout)))
                overtaken = False
                continue
        except Problem as problem:
            if problem.code is Code.CHANNEL_CHANGED and not (overtaken and arguments.once):
                # Another machine runs the same rollout, or somebody has published: go on from that. Twice running,
                # something else is wrong: a cache, for example, that shows what was there before.
                if overtaken:
                    time.sleep(every)
                overtaken = True
                continue
            if arguments.once or not answered or not _may_pass(problem):
                raise
            if say(problem):
                screen.line(f"It is tried again every {every} s")
            said = ""
            time.sleep(every)
            continue
        overtaken = False
        if step.step is Step.DONE:
            return 0
        if step.step is Step.STANDS and step.hosts:
            raise _braked(step)
        if arguments.once:
            return 0
        time.sleep(every)


def _next(arguments: argparse.Namespace, settings: Settings, screen: Screen) -> int:
    seen, signed = _seen(arguments, settings)
    document = signed.document
    if seen.braked:
        hint = "First: pusher rollout retry, pusher rollout resume, or pusher rollout rollback"
        raise Refused(Code.NOT_ALLOWED, "The brake is set", why="no host would begin", hint=hint)
    if document.rollout.open == len(document.rollout.waves):
        raise Refused(Code.NOT_ALLOWED, "There is no other wave", why=f"all {document.rollout.open} are open")
    made = _put(arguments, settings, seen, signed, replace(document, rollout=_opened(document.rollout)))
    screen.line(f"wave {made.rollout.open} of {len(made.rollout.waves)} is open")
    return 0


def _retry(arguments: argparse.Namespace, settings: Settings, screen: Screen) -> int:
    seen, signed = _seen(arguments, settings)
    rollout = replace(signed.document.rollout, attempt=signed.document.rollout.attempt + 1)
    made = _put(arguments, settings, seen, signed, replace(signed.document, rollout=rollout))
    release_brake(seen.repository, made.app, made.channel)
    ring_bell(settings, made.app, made.channel)
    screen.line(f"{made.target.release.version} is tried once more: attempt {made.rollout.attempt}")
    return 0


def _pause(arguments: argparse.Namespace, settings: Settings, screen: Screen) -> int:
    set_brake(*_brake(arguments, settings), why="pusher rollout pause")
    screen.line("The brake is set: no host begins. What has begun on a host runs to its end")
    return 0


def _resume(arguments: argparse.Namespace, settings: Settings, screen: Screen) -> int:
    repository, app, channel = _brake(arguments, settings)
    release_brake(repository, app, channel)
    ring_bell(settings, app, channel)
    screen.line("The brake is released: the hosts of open waves go on")
    return 0


def _rollback(arguments: argparse.Namespace, settings: Settings, screen: Screen) -> int:
    seen, signed = _seen(arguments, settings)
    document = signed.document
    target = _older(seen, document, version=arguments.to)
    # All at once: hosts that keep the release need nothing but a second.
    rollout = Rollout(max_failed=document.rollout.max_failed, silent_s=document.rollout.silent_s)
    back = replace(document, target=target, before=None, rollout=rollout, state="going")
    made = _put(arguments, settings, seen, signed, back)
    release_brake(seen.repository, made.app, made.channel)
    ring_bell(settings, made.app, made.channel)
    screen.line(f"The channel {made.channel} of {made.app} goes back to {target.release.version}, on all hosts")
    find_release(seen.repository, Listed(target.release, target.bundles[0]))  # unless it was pruned meanwhile
    return 0


_ACTIONS: dict[str, Callable[[argparse.Namespace, Settings, Screen], int]] = {
    "run": _follow,
    "next": _next,
    "retry": _retry,
    "pause": _pause,
    "resume": _resume,
    "rollback": _rollback,
}

COMMAND = Command(
    name="rollout",
    help="open waves, try again, stop, or take a fleet back",
    description="Opens the waves of a channel: by hand, or one after the other when all hosts that are heard of "
    "are current. Tries a failed release once more, stops all hosts, or takes all of them back.",
    options=_options,
    run=_run,
)


def _seen(
    arguments: argparse.Namespace,
    settings: Settings,
    *,
    hosts: bool = False,
    say: Callable[[Problem | None], object] | None = None,
) -> tuple[Survey, SignedChannel]:
    """The fleet as it is now. Raises: Refused, if the channel has no document."""
    seen = survey(settings, arguments.channel, hosts=hosts, say=say)
    if seen.signed is None:
        raise _no_channel(seen.repository, settings.app_name(), arguments.channel)
    return seen, seen.signed


def _brake(arguments: argparse.Namespace, settings: Settings) -> tuple[Repository, str, str]:
    """Whose brake is meant. The document is not looked into: whatever somebody put there, the brake must work.

    Raises: Refused, if there is no such channel.
    """
    repository, app = (
        open_repository(settings.repository, ssh=settings.ssh, credentials=settings.credentials_file),
        settings.app_name(),
    )
    if not has_channel(repository, app, arguments.channel):
        raise _no_channel(repository, app, arguments.channel)
    return repository, app, arguments.channel


def _no_channel(repository: Repository, app: str, channel: str) -> Refused:
    what = f"{repository.address} has no channel {channel} of {app}"
    return Refused(Code.WRONG_CHANNEL, what, hint="To make one: pusher publish VERSION")


def _put(
    arguments: argparse.Namespace, settings: Settings, seen: Survey, before: SignedChannel, document: Channel
) -> Channel:
    return seen.channels.put(document, key=settings.key, before=before, days=arguments.good_for)


def _opened(rollout: Rollout) -> Rollout:
    return replace(rollout, open=rollout.open + 1)


def _older(seen: Survey, document: Channel, *, version: str) -> Target:
    """The release to go back to: of this version, or the one before the wanted one. Raises: Refused."""
    wanted, before = document.target.release, document.before
    if not version and before is not None and before.release.created < wanted.created:
        # Not the newest in the list: that may have been in another channel only, or in none.
        full = next(one for one in before.bundles if not one.base)
        return _target(seen, Listed(before.release, full))
    known = read_releases(seen.repository, document.app).releases
    older = [one for one in known if one.release.created < wanted.created]
    chosen = [one for one in older if not version or one.release.version == version]
    if not chosen:
        listed = ", ".join(dict.fromkeys(one.release.version for one in older)) or "none"
        what = f"The repository has no {f'release {version}' if version else 'release'} before {wanted.version}"
        raise Refused(Code.NOTHING_TO_ROLL_BACK_TO, what, hint=f"Available: {listed}")
    return _target(seen, chosen[0])


def _target(seen: Survey, listed: Listed) -> Target:
    """A listed release, by what its bundle says itself: the list is not signed. Raises: Refused."""
    manifest = find_release(seen.repository, listed).manifest
    release = ChannelRelease(manifest=listed.release.manifest, version=manifest.version, created=manifest.created)
    return Target(release, (listed.bundle,))


def _sentence(seen: Survey, document: Channel, step: Next) -> str:
    rollout = document.rollout
    where = f"{document.target.release.version}, wave {rollout.open} of {len(rollout.waves)}"
    # A host that waits for a person would be waited for in vain: its state says so.
    unwell = {one.name: f"{one.name} ({one.state})" for one in seen.places if is_unwell(one)}
    named = [unwell.get(one, one) for one in step.hosts] if step.step is Step.WAIT else step.hosts
    hosts = f": {some(named)}" if named else ""
    silent = f"; silent: {some(step.silent)}" if step.silent and step.silent != step.hosts else ""
    return f"{where}: {step.step.value}, {step.why}{hosts}{silent}"


def _may_pass(problem: Problem) -> bool:
    """Whether a problem of a repository that has answered before may end by itself."""
    return isinstance(problem, Unreachable) or problem.code in _PASSING


def _braked(step: Next) -> Problem:
    return Failed(
        Code.APP_UNHEALTHY,
        "The rollout has stopped",
        why=f"{step.why}: {some(step.hosts)}",
        hint="See: pusher fleet status. Then pusher rollout retry or rollback, or publish a better one",
    )
