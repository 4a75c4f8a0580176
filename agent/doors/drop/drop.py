"""One drop: what lies in the drop directory under one name, checked by its content and deployed once.

Invariant: nothing is deployed that is not there as it was signed, and nothing that the journal already knows.
Files that others can write, our own results included, decide nothing.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent.core.drop import Awaited, Result, State, awaited, changed_meanwhile, failed_step, is_final
from agent.deploy.admission import VerifiedManifest
from agent.deploy.deployer import Send
from agent.doors.ports import App, Deployment
from agent.host.drop.directory import Missing, Stamp
from agent.host.drop.dropped import Dropped, Opened, changed, index_holds
from pusher.wire import DROP_MANIFEST, DROP_SIGNATURE, Code, Manifest, Problem, Refused, WireError

_ATTEMPTS_MOST = 3
"""How often a drop is tried whose files change while it is deployed: they could be changed again and again."""
_RECENT_MS = 100
"""Two changes this close together may have the same time: the kernel's clock ticks every 10 ms at most."""


class Drop:
    """What lies under one name. `before` is the result beside it, which anyone may have written."""

    def __init__(self, dropped: Dropped, app: App, *, before: Mapping[str, Any]) -> None:
        self.name = dropped.name
        self.result = Result(name=self.name, state=State.WAITING, awaited=Awaited.ARRIVAL)
        self.ready = False
        """Whether everything is there, so that its deployment can begin."""
        self.refusal: Refused | None = None
        """Why the last check refused it, or did not let it in yet."""
        self.created = 0
        self.missing = ""
        """The path, in the drop directory, of the first part that is missing. Empty if none is known."""
        self.stamps: tuple[Stamp | None, ...] | None = None
        self.recent = False
        """Whether it had changed just before the last check, so that equal stamps mean nothing yet."""
        self.dropped = dropped
        self._app = app
        self._by = ""
        self._verified: VerifiedManifest | None = None
        """The manifest to deploy: the one that was verified, whatever is there by now."""
        # Used for words only: a drop that was deployed from here stays "deployed" when it is no longer live.
        self._deployed_here = str(before.get("manifest")) if before.get("deployment") else ""
        self._attempts: list[str] = []
        """The deployments that failed because the files changed meanwhile."""
        self.reading: asyncio.Task[None] | None = None
        """Ends when the deployment no longer reads the drop."""

    async def check(self, stamps: tuple[Stamp | None, ...], *, now: int) -> None:
        """Find out what became of it, unless nothing can have changed since the last check.

        `stamps` are its stamps, taken at `now` (milliseconds since 1970) or later.
        """
        if stamps != self.stamps:
            self.stamps = stamps
            self.dropped.forget()
            self._attempts = []
        elif self.recent:
            self.dropped.forget()
        elif not self._is_open():
            return
        self.recent = any(stamp is not None and now - stamp.changed / 1e6 < _RECENT_MS for stamp in stamps)
        self.ready, self.missing, self.refusal = False, "", None
        opened: Opened | None = None
        self.result = Result(name=self.name, state=State.WAITING, awaited=Awaited.ARRIVAL)
        try:
            opened = await asyncio.to_thread(self.dropped.open)
            await self._check(opened)
        except Problem as problem:
            self._report(problem)
        finally:
            if opened is not None:
                await asyncio.to_thread(opened.close)

    async def begin(self) -> Deployment | None:
        """Begin to deploy a drop that is `ready`. None if that is impossible now, or at all."""
        opened: Opened | None = None
        begun: Deployment | None = None
        try:
            opened = await asyncio.to_thread(self.dropped.open)
            bundle = opened.bundle()
            await asyncio.to_thread(bundle.signed_manifest)  # the index comes after it
            begun = await self._app.deployer.submit(Send(bundle, self._by, self._verified))
            self.reading = asyncio.create_task(_close_after(begun, opened))
            self._deployed_here = self.result.manifest
            self._follow(begun)
        except Problem as problem:
            self._report(problem)
        finally:
            if opened is not None and begun is None:
                await asyncio.to_thread(opened.close)
        return begun

    def wait_for(self, other: Deployment) -> None:
        """Wait until another deployment has ended."""
        facts = other.summary()
        self._wait(Awaited.TURN, f"the deployment of {facts['version']} by {facts['by']} to end ({other.id})")

    def _is_open(self) -> bool:
        """Whether a check could come to another result although the stamps are the same."""
        match self.result.awaited:
            case None:
                return False
            case Awaited.ARRIVAL:
                return self.dropped.manifest_apart
        return True

    async def _check(self, opened: Opened) -> None:
        """Find out what became of it, or whether it can be deployed. Raises: Problem, for what is in the way."""
        raw, _ = await asyncio.to_thread(opened.bundle().signed_manifest)
        self.result = replace(self.result, manifest=hashlib.sha256(raw).hexdigest(), version=_version(raw))
        past = await self._app.status.of_manifest(self.result.manifest)
        if past is not None and await self._explained_by(past):
            return
        bundle = opened.bundle()
        verified = await self._app.admission.receive(bundle)
        await self._app.admission.check(verified, retry=bool(self._attempts))
        if verified.raw != raw:
            raise changed(DROP_MANIFEST)
        try:
            await asyncio.to_thread(opened.check, bundle, self._app.admission.entries(verified, bundle))
        except Refused as problem:
            # An index that has arrived in part may say anything.
            final = is_final(problem, manifest_apart=self.dropped.manifest_apart)
            if final and not await asyncio.to_thread(index_holds, opened.bundle(), verified.manifest):
                raise Missing(self.name, f"the index that {DROP_MANIFEST} names") from problem
            raise
        self._verified = verified
        self.ready, self.created, self._by = True, verified.manifest.created, f"{verified.signer} (drop)"

    async def _explained_by(self, past: Deployment) -> bool:
        """Whether an earlier deployment of the very same manifest says what became of the drop."""
        facts = past.summary()
        if facts["outcome"] is None:
            self._follow(past)
            return True
        events = [event async for event in past.events()]
        problem = events[-1].data.get("problem")
        result = replace(
            self.result, awaited=None, deployment=past.id, release=facts["release"], version=facts["version"]
        )
        if facts["outcome"] == "done":
            live = (await self._app.status.summary())["live"]
            if self._deployed_here != self.result.manifest and (
                live is None or live["release"] != facts["release"]
            ):
                # It is not live and was not deployed from here: a replay, which is checked and found too old.
                return False
            self.result = replace(result, state=State.DEPLOYED)
            self._deployed_here = self.result.manifest
            return True
        if changed_meanwhile(problem) and past.id not in self._attempts:
            self._attempts.append(past.id)
            self.dropped.forget()
        if past.id in self._attempts and len(self._attempts) < _ATTEMPTS_MOST:
            return False
        step = failed_step([(event.event, event.data) for event in events])
        self.result = replace(result, state=State.FAILED, step=step, problem=problem)
        return True

    def _follow(self, deployment: Deployment) -> None:
        self.ready = False
        self.result = replace(self.result, deployment=deployment.id, version=deployment.summary()["version"])
        self._wait(Awaited.TURN, f"its deployment {deployment.id} to end")

    def _report(self, problem: Problem) -> None:
        """Say what is in the way."""
        if isinstance(problem, Refused) and not isinstance(problem, Missing):
            self.refusal = problem
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
        if isinstance(problem, Missing):
            self.missing = problem.path
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
    """The version that a manifest names, for people. It is not verified."""
    try:
        return Manifest.from_bytes(raw).version
    except WireError:
        return ""
