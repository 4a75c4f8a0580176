"""The step `processes`: the workers run the release, and stay up.

Invariant: it runs when the release serves and has been confirmed, and before the commit. A process that does not
stay up takes the whole deployment back.
"""

import asyncio
import shlex
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from agent.core.config.app import AppConfig
from agent.core.plan import Attempt
from agent.core.processes import instances
from agent.core.run import Words
from agent.deploy.steps.step import Inputs, placed
from agent.host.ports import Clock, HookRunner, Lines, Placed, Running, SideProcesses
from agent.host.releases.store import ReleaseStore
from agent.host.run.ended import process_ended
from agent.host.run.launch import find_start
from pusher.wire import Code, Failed

STAYS_UP_S = 2.0
"""How long processes are watched at least: one that cannot import its code ends within that time."""

_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Processes:
    """Restarts the processes with the release, then runs their health commands, and watches them for `bake_s`."""

    store: ReleaseStore
    config: AppConfig
    processes: SideProcesses
    hooks: HookRunner
    clock: Clock

    async def do(self, attempt: Attempt, inputs: Inputs, line: Lines) -> None:
        release = await placed(self.store, attempt.release)
        started = await self.processes.run(release)
        if started:
            await self._watch(started, release, attempt, line)

    async def undo(self, attempt: Attempt, line: Lines) -> None:
        """Nothing: what ran before comes back with the link (`Switch.undo`), when that points at its release."""

    async def _watch(self, started: Mapping[str, Running], release: Placed, attempt: Attempt, line: Lines) -> None:
        """Raises: Failed, as soon as one of them ends, or if one is not well in time."""
        ends = {asyncio.create_task(running.wait()): name for name, running in started.items()}
        work = asyncio.create_task(self._until_well({*started}, release, attempt, line))
        try:
            await asyncio.wait({work, *ends}, return_when=asyncio.FIRST_COMPLETED)
            for end, name in ends.items():
                if end.done():
                    what = f"The process {name} of release {release.release} did not stay up"
                    raise process_ended(
                        what, how=end.result(), written=await started[name].tail(), release=release.release
                    )
            work.result()
        finally:
            for task in (work, *ends):
                task.cancel()
            await asyncio.gather(work, *ends, return_exceptions=True)

    async def _until_well(self, started: Set[str], release: Placed, attempt: Attempt, line: Lines) -> None:
        # A release may know processes that do not run here: root has taken them out of the file, or disabled them.
        running = {one.process for one in instances(self.config) if one.name in started}
        for name, process in release.run.processes.items():
            if process.health and name in running:
                await self._check_health(name, process.health, release, attempt, line)
        await self.clock.sleep(max(release.run.health.bake_s, STAYS_UP_S))

    async def _check_health(
        self, name: str, command: Words, release: Placed, attempt: Attempt, line: Lines
    ) -> None:
        """Run the health command until it ends well. Raises: Failed(app_unhealthy), after `health.deadline_s`."""
        written = list[str]()
        argv = await asyncio.to_thread(find_start, command, release=release.path, process=name)
        environment = {
            "PUSHER_APP": attempt.app,
            "PUSHER_RELEASE": release.release,
            "PUSHER_VERSION": release.version,
            "PUSHER_PROCESS": name,
        }
        deadline_s = release.run.health.deadline_s
        until = self.clock.elapsed() + deadline_s
        while True:
            written.clear()
            ending = await self.hooks.run(
                Path(argv[0]),
                *argv[1:],
                folder=release.path,
                environment=environment,
                deadline_s=max(1.0, until - self.clock.elapsed()),
                line=written.append,
            )
            if not ending:
                return
            if self.clock.elapsed() >= until:
                break
            await self.clock.sleep(_PAUSE_S)
        raise Failed(
            Code.APP_UNHEALTHY,
            f"The process {name} of release {release.release} was not healthy",
            why=f"`{shlex.join(command)}` did not end with exit code 0 within {deadline_s:g} s: {ending}",
            hint="Its last lines are below" if written else "It wrote nothing",
            output="\n".join(written),
        )
