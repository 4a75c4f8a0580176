"""One landing of a drop directory: judged by its content, begun once, and what became of it.

Invariant: nothing is begun that is not there as it was signed, and nothing that the journal knows already: what
others write into the drop directory, our own results included, decides nothing.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent.core.drop import Awaited, Result, State, awaited, failed_step, is_final, is_torn
from agent.deploy.admission import VerifiedManifest
from agent.deploy.deployer import Send
from agent.doors.ports import App, Deployment
from agent.host.drop.folder import Lacking, Stamp
from agent.host.drop.upload import Dropped, Opened, changed, index_holds
from pusher.wire import DROP_MANIFEST, DROP_SIGNATURE, Code, Manifest, Problem, Refused, WireError

_TORN_MOST = 3
"""How often a landing that changes while it is deployed is tried: somebody could change it again and again."""
_WARM_MS = 100
"""Two changes so close to each other may bear the same time: the kernel's ticks are of up to 10 ms."""


class Landing:
    """What lies under one name. `before` is the result that stands beside it, by whomever it was written."""

    def __init__(self, dropped: Dropped, app: App, *, before: Mapping[str, Any]) -> None:
        self.name = dropped.name
        self.result = Result(name=self.name, state=State.WAITING, awaited=Awaited.ARRIVAL)
        self.ready = False
        """Whether all of it is there, and it only has to be begun."""
        self.created = 0
        self.lacks = ""
        """The path of what is lacking, in the drop directory; empty for what is not known to be lacking."""
        self.stamps: tuple[Stamp | None, ...] | None = None
        self.warm = False
        """Whether it had changed only just before the last look, so that equal stamps say nothing yet."""
        self.dropped = dropped
        self._app = app
        self._by = ""
        self._verified: VerifiedManifest | None = None
        """The manifest that is to be deployed: what was verified, whatever stands there by now."""
        # Words only: one that was deployed from here stays "deployed" when it is live no more.
        self._ours = str(before.get("manifest")) if before.get("deployment") else ""
        self._torn: list[str] = []
        self.reading: asyncio.Task[None] | None = None
        """Ends when nothing of it is read any more."""

    async def look(self, stamps: tuple[Stamp | None, ...], *, now: int) -> None:
        """Judge it, unless it was judged before and nothing about it changed: its `stamps` as they are.

        `now`, in milliseconds since 1970, is not later than they were taken.
        """
        if stamps != self.stamps:
            self.stamps = stamps
            self.dropped.forget()
            self._torn = []
        elif self.warm:
            self.dropped.forget()
        elif not self._open_question():
            return
        self.warm = any(stamp is not None and now - stamp.changed / 1e6 < _WARM_MS for stamp in stamps)
        self.ready, self.lacks = False, ""
        opened: Opened | None = None
        self.result = Result(name=self.name, state=State.WAITING, awaited=Awaited.ARRIVAL)
        try:
            opened = await asyncio.to_thread(self.dropped.open)
            await self._judge(opened)
        except Problem as problem:
            self._met(problem)
        finally:
            if opened is not None:
                await asyncio.to_thread(opened.close)

    async def begin(self) -> Deployment | None:
        """Begin to deploy what is `ready`; None if that is not possible now, or not at all."""
        opened: Opened | None = None
        begun: Deployment | None = None
        try:
            opened = await asyncio.to_thread(self.dropped.open)
            bundle = opened.bundle()
            await asyncio.to_thread(bundle.signed_manifest)  # the index comes after it
            begun = await self._app.deployer.submit(Send(bundle, self._by, self._verified))
            self.reading = asyncio.create_task(_close_after(begun, opened))
            self._ours = self.result.manifest
            self._goes_on(begun)
        except Problem as problem:
            self._met(problem)
        finally:
            if opened is not None and begun is None:
                await asyncio.to_thread(opened.close)
        return begun

    def wait_for(self, other: Deployment) -> None:
        """It is not its turn."""
        facts = other.summary()
        self._wait(Awaited.TURN, f"the deployment of {facts['version']} by {facts['by']} to end ({other.id})")

    def _open_question(self) -> bool:
        """Whether it could be judged otherwise, although what its papers are read from did not change."""
        match self.result.awaited:
            case None:
                return False
            case Awaited.ARRIVAL:
                return self.dropped.manifest_apart
        return True

    async def _judge(self, opened: Opened) -> None:
        """Find out what became of it, or is to become. Raises: Problem, saying what is in the way."""
        raw, _ = await asyncio.to_thread(opened.bundle().signed_manifest)
        self.result = replace(self.result, manifest=hashlib.sha256(raw).hexdigest(), version=_version(raw))
        past = await self._app.status.of_manifest(self.result.manifest)
        if past is not None and await self._told_by(past):
            return
        bundle = opened.bundle()
        verified = await self._app.admission.receive(bundle)
        await self._app.admission.check(verified, retry=bool(self._torn))
        if verified.raw != raw:
            raise changed(DROP_MANIFEST)
        try:
            await asyncio.to_thread(opened.check, bundle, self._app.admission.entries(verified, bundle))
        except Refused as problem:
            # An index that is only half there may say anything.
            final = is_final(problem, manifest_apart=self.dropped.manifest_apart)
            if final and not await asyncio.to_thread(index_holds, opened.bundle(), verified.manifest):
                raise Lacking(self.name, f"the index that {DROP_MANIFEST} names") from problem
            raise
        self._verified = verified
        self.ready, self.created, self._by = True, verified.manifest.created, f"{verified.signer} (drop)"

    async def _told_by(self, past: Deployment) -> bool:
        """Whether an earlier deployment of the very same manifest says what became of it."""
        facts = past.summary()
        if facts["outcome"] is None:
            self._goes_on(past)
            return True
        events = [event async for event in past.events()]
        problem = events[-1].data.get("problem")
        told = replace(
            self.result, awaited=None, deployment=past.id, release=facts["release"], version=facts["version"]
        )
        if facts["outcome"] == "done":
            live = (await self._app.status.summary())["live"]
            if self._ours != self.result.manifest and (live is None or live["release"] != facts["release"]):
                # Played once more, it would not be "deployed": it is judged, and found too old.
                return False
            self.result = replace(told, state=State.DEPLOYED)
            self._ours = self.result.manifest
            return True
        if is_torn(problem) and past.id not in self._torn:
            self._torn.append(past.id)
            self.dropped.forget()
        if past.id in self._torn and len(self._torn) < _TORN_MOST:
            return False
        step = failed_step([(event.event, event.data) for event in events])
        self.result = replace(told, state=State.FAILED, step=step, problem=problem)
        return True

    def _goes_on(self, deployment: Deployment) -> None:
        self.ready = False
        self.result = replace(self.result, deployment=deployment.id, version=deployment.summary()["version"])
        self._wait(Awaited.TURN, f"its deployment {deployment.id} to end")

    def _met(self, problem: Problem) -> None:
        """Say what is in the way."""
        if is_final(problem, manifest_apart=self.dropped.manifest_apart):
            self.ready = False
            self.result = replace(
                self.result,
                state=State.REFUSED,
                awaited=None,
                waiting_for="",
                step="verify",
                problem=problem.to_document(),
            )
            return
        what = awaited(problem)
        self.ready = self.ready and what is not Awaited.ARRIVAL
        if isinstance(problem, Lacking):
            self.lacks = problem.path
            self._wait(what, problem.what)
        elif problem.code is Code.SIGNATURE_INVALID:
            self._wait(what, f"a {DROP_SIGNATURE} that belongs to {DROP_MANIFEST} ({problem.why or problem.what})")
        elif what is Awaited.ARRIVAL:
            self._wait(what, f"the rest of {self.name}, or something else in its place ({problem.why})")
        elif what is Awaited.TURN:
            self._wait(what, f"a deployment under way to end: {problem.what}")
        else:
            self._wait(what, f"this host: {problem}")
            self.result = replace(self.result, problem=problem.to_document())

    def _wait(self, what: Awaited, for_what: str) -> None:
        self.result = replace(self.result, state=State.WAITING, awaited=what, waiting_for=for_what)


async def _close_after(deployment: Deployment, opened: Opened) -> None:
    try:
        await deployment.finished()
    finally:
        await asyncio.to_thread(opened.close)


def _version(raw: bytes) -> str:
    """The version that a manifest names, for people; nobody has vouched for it yet."""
    try:
        return Manifest.from_bytes(raw).version
    except WireError:
        return ""
