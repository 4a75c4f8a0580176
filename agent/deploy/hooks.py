"""The hooks of an app: the executables of one name, from the release and from the host, run in order.

Also the command `release` of a release's run section, which is a hook in all but its place.

Invariant: the first that fails ends the run; its output is in the deployment's events and in the problem.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from agent.core.ending import find_cause
from agent.core.plan import Attempt
from agent.deploy.deployment import Deployment
from agent.host.ports import Clock, HookRunner
from agent.host.releases.store import ReleaseStore
from agent.host.run import hooks
from pusher.wire import Code, Failed, Happened, WireError

_TAIL = 200
_SHELL = Path("/bin/sh")


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of one app. `host` is the folder of the host's own. Each gets as long as its release says."""

    store: ReleaseStore
    host: Path
    runner: HookRunner
    clock: Clock

    async def run(self, name: str, deployment: Deployment, *, returning: bool = False) -> None:
        """Run every executable of this name; `returning`, as in an automatic return.

        Raises: Failed(hook_failed), with what the hook wrote.
        """
        scene = deployment.attempt.scene(returning=returning)
        folder = self.store.layout.release(scene.source)
        found = await asyncio.to_thread(hooks.find, name, release=folder, host=self.host)
        if not found:
            return
        environment = await asyncio.to_thread(self._environment, deployment.attempt, returning)
        deadline_s = (await asyncio.to_thread(self.store.run, scene.source)).hook_deadline_s
        for hook in found:
            await self._run(hook, name, deployment, folder=folder, environment=environment, deadline_s=deadline_s)

    async def release(self, deployment: Deployment) -> None:
        """Run the command `release` of the new release, if it has one, by /bin/sh. Raises: as `run`."""
        attempt = deployment.attempt
        run = await asyncio.to_thread(self.store.run, attempt.release)
        if run.release:
            environment = await asyncio.to_thread(self._environment, attempt, False)
            await self._run(
                hooks.Hook(_SHELL, "release"),
                "release",
                deployment,
                arguments=("-c", run.release),
                folder=self.store.layout.release(attempt.release),
                environment=environment,
                deadline_s=run.hook_deadline_s,
            )

    async def _run(
        self,
        hook: hooks.Hook,
        name: str,
        deployment: Deployment,
        *,
        arguments: tuple[str, ...] = (),
        folder: Path,
        environment: dict[str, str],
        deadline_s: float,
    ) -> None:
        deployment.happened(Happened.HOOK_STARTED, hook=name, origin=hook.origin)
        began = self.clock.elapsed()
        tail: deque[str] = deque(maxlen=_TAIL)
        publish = deployment.output(f"hook {name}")

        def line(text: str) -> None:
            tail.append(text)
            publish(text)

        ending = await self.runner.run(
            hook.path,
            *arguments,
            folder=folder,
            environment=environment,
            deadline_s=deadline_s,
            line=line,
        )
        ms = round((self.clock.elapsed() - began) * 1000)
        if not ending:
            deployment.happened(Happened.HOOK_DONE, hook=name, origin=hook.origin, ms=ms)
            return
        written = "\n".join(tail)
        cause = find_cause(written, release=folder.name, start=())
        late = f"A hook has hook_deadline_s in the app's file, or in [run] of the release: {deadline_s:g}"
        shown = "its output is below" if tail else "it wrote nothing"
        hints = (
            late if ending == f"no end after {deadline_s:g} s" else "",
            f"What it did outside of the release is not undone; {shown}",
            cause.hint if cause else "",
        )
        problem = Failed(
            Code.HOOK_FAILED,
            f"The {hook.origin}'s hook {name} failed" if hook.path is not _SHELL else "The release command failed",
            why=f"{ending}: {cause.why}" if cause else ending,
            hint=". ".join(filter(None, hints)),
            output=written,
        )
        deployment.happened(
            Happened.HOOK_FAILED, hook=name, origin=hook.origin, ms=ms, problem=problem.to_document()
        )
        raise problem

    def _environment(self, attempt: Attempt, returning: bool) -> dict[str, str]:
        scene, layout = attempt.scene(returning=returning), self.store.layout
        version = attempt.version
        if returning:
            try:
                version = self.store.placed(scene.release).version if scene.release else ""
            except (OSError, WireError):
                version = ""
        return {
            "PUSHER_APP": attempt.app,
            "PUSHER_RELEASE": scene.release or "",
            "PUSHER_RELEASE_PATH": str(layout.release(scene.release)) if scene.release else "",
            "PUSHER_PREVIOUS_PATH": str(layout.release(scene.previous)) if scene.previous else "",
            "PUSHER_VERSION": version,
        }
