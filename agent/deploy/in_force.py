"""What is in force of an app's file, and the parts of a deployment that are made from it.

Invariant: a deployment keeps to its end what was in force when it began. A file that cannot be used changes
nothing: what was read last, and could be used, stays in force.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import structlog

from agent.core.config.app import AppConfig
from agent.core.in_force import adopted, said
from agent.deploy.admission import Admission, VerifiedManifest
from agent.deploy.executor import Executor
from agent.deploy.lock import DeploymentLock
from agent.deploy.retention import Retention
from agent.host.dependencies.venvs import Venvs
from agent.host.ports import Bundle
from agent.host.releases.revocations import Revocations
from pusher.wire import Entry

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What is made from one reading of an app's file."""

    config: AppConfig
    admission: Admission
    executor: Executor
    retention: Retention
    venvs: Venvs
    revocations: Revocations


class AppFile(Protocol):
    """An app's file on a host where the agent reads it for each deployment. Both methods block."""

    def read(self, in_force: AppConfig) -> AppConfig:
        """What it says now. Raises: Refused(configuration), if that cannot be used."""
        ...

    def keep(self, config: AppConfig) -> None:
        """Remember this for an agent that finds the file unusable when it starts. Never raises."""
        ...


class InForce:
    """What is in force of one app's file; to a door, its admission by the file as it is now.

    Without a `file`, that changes only with the next start of the agent: on a server, root applies the file, and
    the units have to agree with it. `apply` lets what runs the app use it from its next start on.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        file: AppFile | None,
        make: Callable[[AppConfig], Parts],
        apply: Callable[[AppConfig], None],
        lock: DeploymentLock,
    ) -> None:
        self.parts = parts
        self._file = file
        self._make = make
        self._apply = apply
        self._lock = lock
        self._reading = asyncio.Lock()

    async def read(self, *, holding: bool = False) -> Parts:
        """Read the file again, unless a deployment is under way that is not the caller's (`holding`).

        Raises: Refused(configuration), if it cannot be used; then nothing has changed.
        """
        if self._file is None:
            return self.parts
        async with self._reading:
            if holding or not self._lock.held:
                before = self.parts.config
                now = await asyncio.to_thread(self._file.read, before)
                new = adopted(now, before)
                if said(new) != said(before):
                    self.parts = await asyncio.to_thread(self._make, new)
                    _log.info("configuration_read", app=self.parts.admission.app)
                await asyncio.to_thread(self._file.keep, now)
            return self.parts

    def apply(self) -> None:
        """Let what runs the app use what is in force, from its next start on."""
        self._apply(self.parts.config)

    async def receive(self, bundle: Bundle) -> VerifiedManifest:
        """As `Admission.receive`. Raises: Refused, also if the file cannot be used."""
        return await (await self.read()).admission.receive(bundle)

    async def check(self, verified: VerifiedManifest, *, retry: bool) -> None:
        """As `Admission.check`. Raises: Refused, Failed."""
        await self.parts.admission.check(verified, retry=retry)

    def entries(self, verified: VerifiedManifest, bundle: Bundle) -> Iterator[Entry]:
        """As `Admission.entries`. Blocking. Raises: Refused."""
        return self.parts.admission.entries(verified, bundle)
