"""The build steps of a release: what its run section has under `build`, run where dependencies are installed.

Invariant: nothing live changes. What was made belongs to the release from then on, so a rollback brings it back.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from agent.core.environment_file import parse_environment_file
from agent.core.plan import Attempt
from agent.core.run import Run
from agent.deploy.deployment import Deployment
from agent.host.dependencies.build_steps import BuildSteps, StepsOutcome
from agent.host.dependencies.builder import Builder, not_built
from agent.host.dependencies.steps_exchange import BuildJob
from agent.host.ports import Clock
from agent.host.releases.built import write_built
from agent.host.releases.content import stored_index
from agent.host.releases.store import ReleaseStore
from agent.host.storage.disk import Disk
from pusher.wire import Code, Failed, Happened, Limits, Problem, WireError, parse_index_line

_TAIL = 200


@dataclass(frozen=True, slots=True)
class Build:
    """Runs the build steps of one app's releases.

    `shared` are the paths in a release that link to shared ones. `environment_file` is the app's, or None.
    """

    store: ReleaseStore
    builder: Builder
    disk: Disk
    clock: Clock
    limits: Limits
    shared: Collection[str]
    environment_file: Path | None
    deadline_s: float

    async def run(self, deployment: Deployment) -> None:
        """Run the steps of the new release, if it has any. Raises: Failed(build_failed, disk_*), Refused."""
        attempt = deployment.attempt
        run = await asyncio.to_thread(self.store.run, attempt.release)
        if not run.build:
            return
        deployment.happened(Happened.HOOK_STARTED, hook="build", origin="release")
        began = self.clock.elapsed()
        try:
            await self._build(attempt, run, deployment.output("build"))
        except Problem as problem:
            document, ms = problem.to_document(), round((self.clock.elapsed() - began) * 1000)
            deployment.happened(Happened.HOOK_FAILED, hook="build", origin="release", ms=ms, problem=document)
            raise
        ms = round((self.clock.elapsed() - began) * 1000)
        deployment.happened(Happened.HOOK_DONE, hook="build", origin="release", ms=ms)

    async def _build(self, attempt: Attempt, run: Run, publish: Callable[[str], None]) -> None:
        tail: deque[str] = deque(maxlen=_TAIL)

        def line(text: str) -> None:
            tail.append(text)
            publish(text)

        job = await asyncio.to_thread(self._job, attempt, run)
        try:
            async with asyncio.timeout(self.deadline_s):
                outcome, made = await self.builder.run_steps(job, line=line)
        except TimeoutError as error:
            raise not_built(f"there was no end after {self.deadline_s:g} s", "\n".join(tail)) from error
        _check(outcome, "\n".join(tail), run)
        await asyncio.to_thread(write_built, job.release, made, disk=self.disk)
        line(f"{len(made)} file{'' if len(made) == 1 else 's'} made")

    def _job(self, attempt: Attempt, run: Run) -> BuildJob:
        """Raises: Failed(release_damaged), Refused(configuration)."""
        release = self.store.layout.release(attempt.release)
        try:
            entries = tuple(parse_index_line(one) for one in stored_index(release))
        except WireError as error:
            raise Failed(Code.RELEASE_DAMAGED, "The index of the release is damaged", why=str(error)) from error
        own = {
            "PUSHER_APP": attempt.app,
            "PUSHER_RELEASE": attempt.release,
            "PUSHER_VERSION": attempt.version,
            "PUSHER_BUILD": "1",
        }
        return BuildJob(
            release=release,
            entries=entries,
            venv=self.store.layout.venv(self.store.venv(attempt.release)),
            others=self.shared,
            steps=BuildSteps(
                commands=run.build,
                paths=run.build_paths,
                environment={**(self._environment() if run.build_environment else {}), **own},
                deadline_s=self.deadline_s,
            ),
            files=self.limits.files,
            size=self.limits.unpacked,
        )

    def _environment(self) -> dict[str, str]:
        """The app's environment file. Raises: Failed(build_failed), if the agent may not read it; Refused."""
        file = self.environment_file
        if file is None:
            return {}
        try:
            return parse_environment_file(file.read_text("utf-8"), file=str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise not_built(
                f"{file} cannot be read by the agent: {error.strerror if isinstance(error, OSError) else error}",
                hint="The release asks for it (build_environment). To allow that: "
                f"sudo chgrp pusher-agent {file} && sudo chmod 0640 {file}",
            ) from error


def _check(outcome: StepsOutcome, output: str, run: Run) -> None:
    """Raises: Failed(build_failed)."""
    if outcome.ending:
        hint = "Its last lines are below" if output else "It wrote nothing"
        if not run.build_environment:
            hint += ". It did not see the app's environment file: build_environment = true in [run] changes that"
        raise not_built(f"`{outcome.step}` failed: {outcome.ending}", output, hint=hint)
    if outcome.strays:
        raise not_built(
            f"they changed {', '.join(outcome.strays)}, which build_paths do not name or the version has already",
            output,
            hint="Name what they make in build_paths, and leave it out of the version (.pusherignore)",
        )
