"""The subscription of one app: it follows a channel, and deploys what that names, exactly as if it had been sent.

Invariant: one loop reads, decides and acts, so nothing is begun twice. What was decided is decided once more,
with the brake and the facts as they are then, right before a deployment begins; if it took long, by the document
that counts then. After any failure it waits, longer each time.
"""

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import structlog

from agent.core.backoff import Backoff
from agent.core.channel import (
    Awaited,
    Decision,
    Facts,
    Fetch,
    Mark,
    Return,
    State,
    TrustedChannel,
    decide,
    spread_left,
)
from agent.core.config.app import Subscribe
from agent.core.window import parse_window
from agent.deploy.deployer import Rollback, Send
from agent.deploy.subscribed import Subscribed
from agent.doors.channel.bell import Bell
from agent.doors.channel.reading import ChannelReader
from agent.doors.channel.reporter import Reporter
from agent.doors.channel.result import Result
from agent.doors.ports import App, Deployment
from agent.doors.refusals import Refusals
from agent.host.bundle.tar import TarBundle
from agent.host.channel.fetch import fetch
from agent.host.channel.mirror import Unreachable
from agent.host.drop.dropped import Reader
from agent.host.ports import Clock
from agent.host.storage.partial import keep_only
from pusher.wire import Code, Failed, Problem, Refused
from pusher.wire.report import Named

_T = TypeVar("_T")
_log = structlog.get_logger()

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 900.0
"""Between attempts after a failure."""
MOMENT_S = 5.0
"""What takes longer than this is reported before it has ended; the channel is read again before a deployment."""
_SETTLED_S = 0.1
"""After a deployment, until the state is found out anew, at the latest."""


class Subscription:
    """The door of one app to its channel. `host` is this host's name, `folder` where bundles are fetched to.

    `chance` returns a number from 0 to 1, for pauses that differ between hosts.
    """

    def __init__(
        self,
        app: App,
        *,
        settings: Subscribe,
        host: str,
        reader: ChannelReader,
        subscribed: Subscribed,
        folder: Path,
        clock: Clock,
        reporter: Reporter | None = None,
        bell: Bell | None = None,
        refusals: Refusals | None = None,
        chance: Callable[[], float] = random.random,  # noqa: S311 - pauses, no secrets
    ) -> None:
        self._app = app
        self._settings = settings
        self._host = host
        self._reader = reader
        self._subscribed = subscribed
        self._folder = folder
        self._clock = clock
        self._reporter = reporter
        self._bell = bell
        self._refusals = refusals or Refusals()
        self._chance = chance
        self._window = parse_window(settings.window)
        self._ours = f" (channel {settings.channel})"
        self._pauses = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._result = Result()
        self._trusted: TrustedChannel | None = None
        """The document that counted last."""
        self._ended = 0
        """How many deployments had ended when the app was looked at last."""
        self._facts: Facts | None = None
        """What was found about the app since the channel was read last, and before anything was begun."""
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = _log.bind(app=app.name, channel=settings.channel)

    async def start(self) -> None:
        """Follow the channel from now on. Nothing is waited for: a repository need not be there."""
        if self._reporter is not None:
            await self._reporter.start()
        if self._bell is not None:
            self._bell.start(self.wake)
        self._task = asyncio.create_task(self._serve(), name=f"channel {self._app.name}")

    async def stop(self) -> None:
        """Follow it no more. A deployment under way has ended by then, or is left to the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._bell is not None:
            await self._bell.stop()
        await self._reader.close()

    def summary(self) -> dict[str, Any]:
        """How the app stands to its channel, as JSON members."""
        return {
            "channel": self._settings.channel,
            "repository": self._settings.repository,
            **self._result.members(),
        }

    def wake(self) -> None:
        """Read the channel now: something says that it has changed."""
        self._woken.set()

    async def _serve(self) -> None:
        while True:
            self._woken.clear()
            self._ended = self._app.status.ended
            pause = await self._follow()
            if pause is None:
                continue
            await self._report()
            await self._reader.close()
            await self._wait(pause, ended=self._ended)

    async def _follow(self) -> float | None:
        """Read, then decide and act until there is nothing left to do; how many seconds to wait then.

        None: not at all, for the document may have changed meanwhile. What it has led to is not told before that.
        """
        self._facts = None
        try:
            trusted, mark = await self._reader.read(self._trusted)
            self._trusted = trusted
            while (pause := await self._act(trusted, mark)) is None:
                await self._settled()
                if self._woken.is_set():
                    break
            return pause
        except Unreachable as problem:
            self._show(state=State.UNREACHABLE, awaited=None, problem=problem)
            return max(self._longer(), problem.retry_after_s * (1 + self._chance() / 10))
        except Problem as problem:
            return self._refused(problem)
        except Exception as error:
            # A bug of ours. A host that follows no channel any more would be worse: nobody would notice.
            await asyncio.to_thread(self._log.error, "channel_broken", exc_info=error)
            what, hint = "The agent met a bug of its own", "The traceback is in its log; please report it"
            return self._refused(Failed(Code.INTERNAL, what, why=f"{type(error).__name__}: {error}", hint=hint))

    async def _settled(self) -> None:
        """Return when a deployment that has ended is out of the way, or soon."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLED_S):
                await self._app.status.idle()

    async def _report(self) -> None:
        if self._reporter is None:
            return
        try:
            with suppress(Problem):  # a journal that cannot be read is reported where it is needed
                await self._reporter.report(self._result, await self._live())
        except Exception as error:
            # A bug of ours, as in `_follow`: a fleet would rather miss a report than a host.
            await asyncio.to_thread(self._log.error, "report_broken", exc_info=error)

    async def _live(self) -> Named | None:
        """The release that is live."""
        if self._facts is None:
            return await self._subscribed.live()
        manifest, version = self._facts.live, self._facts.version
        return Named(manifest, version) if manifest and version else None

    async def _reported(self, doing: Coroutine[Any, Any, _T]) -> _T:
        """What `doing` returns. If it takes longer than a moment, the fleet hears that it is under way."""
        task = asyncio.ensure_future(doing)
        try:
            await asyncio.wait({task}, timeout=MOMENT_S)
            if not task.done():
                await self._report()
            return await task
        finally:
            task.cancel()

    async def _act(self, trusted: TrustedChannel, mark: Mark) -> float | None:
        """Decide, and do it; how many seconds to wait then. None: something was done, so decide anew."""
        began = self._clock.elapsed()
        decision, facts = await self._decide(trusted, mark)
        if decision.action is None:
            if decision.state is State.CURRENT and self._result.state is not State.CURRENT:
                await self._clear()
            failure = _failure(facts) if decision.state is State.FAILED else None
            self._found(trusted, state=decision.state, awaited=decision.awaited, problem=failure)
            self._pauses.reset()
            return self._pause(decision, trusted, mark)
        bundle = None
        if isinstance(decision.action, Fetch):
            self._found(trusted, state=State.FETCHING)
            bundle = await self._reported(self._fetched(decision.action))
        if self._woken.is_set() or self._clock.elapsed() - began > MOMENT_S:
            # Meanwhile the fleet may have gone back, and released its brake.
            self._trusted, _ = await self._reader.read(trusted)
            if self._trusted is not trusted:
                self.wake()
                return None
        await self._reader.verify()
        latest, _ = await self._decide(trusted, mark)
        if latest.action != decision.action:
            self._found(trusted, state=latest.state, awaited=latest.awaited)
            return self._pause(latest, trusted, mark) if latest.action is None else None
        self._facts = None
        self._found(trusted, state=State.DEPLOYING)
        by = f"{trusted.signer}{self._ours}"
        if isinstance(decision.action, Return):
            to, leaving = decision.action.to, decision.action.leaving
            await self._finished(await self._app.deployer.submit(Rollback(by, to=to, leaving=leaving)))
        elif bundle is not None:
            await self._deploy(bundle, decision.action, by=by)
        self._pauses.reset()
        return None

    async def _decide(self, trusted: TrustedChannel, mark: Mark) -> tuple[Decision, Facts]:
        """What to do now. The brake costs a question, which is asked only if something would begin."""
        now = self._clock.now()
        open_now = self._window.contains(_local(now))
        # Before the facts: what ends after this is not in them, and is looked at anew.
        self._ended = self._app.status.ended
        self._facts = facts = await self._subscribed.facts(trusted, mark, ours=self._ours, in_window=open_now)
        decision = decide(trusted, facts, now)
        if decision.action is not None and await self._reader.braked():
            decision = decide(trusted, replace(facts, braked=True), now)
        return decision, facts

    async def _fetched(self, action: Fetch) -> Path:
        """The file of the first bundle that can be had. Raises: Problem, that with the last one."""
        names = frozenset(f"{one.sha256}.tar.zst" for one in action.bundles)
        problem: Problem = Unreachable("The channel names no bundle")
        for bundle in action.bundles:
            try:
                return await fetch(bundle, self._reader.in_turn(), folder=self._folder, keep=names)
            except Problem as found:
                problem = found
                if problem.code in (Code.DISK_FULL, Code.DISK_ERROR):
                    break
        raise problem

    async def _deploy(self, file: Path, action: Fetch, *, by: str) -> None:
        descriptor, size = await asyncio.to_thread(_opened, file)
        try:
            bundle = TarBundle(Reader(descriptor, size).read)
            verified = await self._app.admission.receive(bundle)
            if verified.digest != action.target.release.manifest:
                raise Refused(
                    Code.CONTENT_MISMATCH,
                    "The bundle has another release in it than the channel names",
                    why=f"its manifest is {verified.digest}",
                    hint="Publish that version again",
                )
            deployment = await self._app.deployer.submit(Send(bundle, by, verified))
            await self._finished(deployment)  # until its end: it reads the file
        finally:
            await asyncio.to_thread(os.close, descriptor)

    async def _finished(self, deployment: Deployment) -> None:
        self._show(deployment=deployment.id)
        await self._reported(deployment.finished())

    async def _clear(self) -> None:
        """Remove what was fetched: what it is for is live. Not at the end of a deployment, for a power cut may
        bring it back. Before the next fetch it is tried again.
        """
        with suppress(Problem):
            await asyncio.to_thread(keep_only, self._folder, frozenset[str]())

    def _refused(self, problem: Problem) -> float:
        """Show what is in the way; how long to wait for it to pass."""
        if problem.code in (Code.BUSY, Code.NOT_LIVE, Code.STOPPING):
            awaited = Awaited.TURN if problem.code is Code.BUSY else None
            self._show(state=State.WAITING, awaited=awaited, problem=problem)
        else:
            self._show(state=State.REFUSED, awaited=None, problem=problem)
            self._refusals.note(problem, door="channel", caller=self._settings.channel, app=self._app.name)
        return self._longer()

    def _longer(self) -> float:
        """The pause after a failure: from half of it to one and a half."""
        return self._pauses.next() * (0.5 + self._chance())

    def _pause(self, decision: Decision, trusted: TrustedChannel, mark: Mark) -> float:
        pause = self._settings.poll_s * (0.5 + self._chance())
        if decision.awaited is Awaited.SPREAD:
            pause = min(pause, spread_left(trusted, mark, host=self._host, now=self._clock.now()) + _SETTLED_S)
        if decision.awaited is Awaited.WINDOW:
            # Between two polls, it could open and close. Not all hosts begin when it opens.
            within = min(self._settings.poll_s, self._window.length_s / 2) * self._chance()
            pause = min(pause, self._window.opens_in(_local(self._clock.now())) + within)
        return pause

    async def _wait(self, seconds: float, *, ended: int) -> None:
        """Return after so many seconds, or earlier: when `wake` was called, its turn has come, or more deployments
        than `ended` have: what is shown and reported may hold no more, as after a person's rollback.
        """
        waiting = [
            asyncio.ensure_future(self._woken.wait()),
            asyncio.ensure_future(self._clock.sleep(seconds)),
            asyncio.ensure_future(self._app.status.another(after=ended)),
        ]
        if self._result.awaited is Awaited.TURN:
            waiting.append(asyncio.ensure_future(self._app.status.idle()))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    def _found(
        self,
        trusted: TrustedChannel,
        *,
        state: State,
        awaited: Awaited | None = None,
        problem: Problem | None = None,
    ) -> None:
        """Show what follows from a document. It and the state change together: people read both."""
        now, mirror = self._clock.now(), self._reader.mirror
        self._show(trusted=trusted, checked=now, mirror=mirror, state=state, awaited=awaited, problem=problem)

    def _show(self, **changes: Any) -> None:
        before, self._result = self._result, replace(self._result, **changes)
        if self._result.state is not before.state:
            wanted = self._result.trusted.document.target.release.version if self._result.trusted else None
            problem = {"problem": str(self._result.problem)} if self._result.problem else {}
            bad = self._result.state in (State.STALE, State.REFUSED, State.FAILED)
            log = self._log.error if bad else self._log.info
            log("channel_state", state=self._result.state.value, wanted=wanted, **problem)


def _local(now: int) -> datetime:
    """The local time at so many ms since 1970."""
    return datetime.fromtimestamp(now / 1000).astimezone()


def _opened(file: Path) -> tuple[int, int]:
    """A descriptor of the file, and its size. Blocking."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    return descriptor, os.fstat(descriptor).st_size


def _failure(facts: Facts) -> Problem | None:
    """Why what the channel wants failed here last."""
    documents = [one.problem for one in facts.past if one.problem]
    return Problem.from_document(documents[-1]) if documents else None
