"""The machine that an agent runs on.

Invariant: everything that touches the machine comes in through `Machine`, so a test gives it parts of its own and
patches nothing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from agent.core.config.app import AppConfig
from agent.core.layout import HostLayout
from agent.host.clock import SystemClock
from agent.host.ports import Clock, HookRunner, Service, SideProcesses
from agent.host.storage.database import Database
from agent.host.storage.disk import Disk

if TYPE_CHECKING:
    from agent.host.systemd.processes import UnitProcesses
    from agent.host.systemd.service import Systemd


# A host has one of the two kinds; imports in the functions keep the other out of its memory.
def _embedded(*args: Any, **named: Any) -> Service:
    from agent.host.embedded.service import Embedded

    return Embedded(*args, **named)


def _embedded_hooks(*args: Any, **named: Any) -> HookRunner:
    from agent.host.run.hooks import EmbeddedHookRunner

    return EmbeddedHookRunner(*args, **named)


def _embedded_processes(*args: Any, **named: Any) -> SideProcesses:
    from agent.host.embedded.processes import EmbeddedProcesses

    return EmbeddedProcesses(*args, **named)


async def _systemd(*args: Any, **named: Any) -> "Systemd":
    from agent.host.systemd.service import Systemd

    return await Systemd.find(*args, **named)


def _systemd_hooks(*args: Any, **named: Any) -> HookRunner:
    from agent.host.systemd.hooks import SystemdHookRunner

    return SystemdHookRunner(*args, **named)


def _systemd_processes(*args: Any, **named: Any) -> "UnitProcesses":
    from agent.host.systemd.processes import UnitProcesses

    return UnitProcesses(*args, **named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervisor:
    """What keeps one app running: its service, and what runs its workers and timers.

    `children` are those of the two whose parent is the agent: they have to end with it. What systemd runs goes on:
    `close` only ends the watching.
    """

    service: Service
    processes: SideProcesses
    children: tuple[Service | SideProcesses, ...]
    close: Callable[[], None]

    def adopt(self, config: AppConfig) -> None:
        """Use this configuration from the next start on."""
        self.service.adopt(config)
        self.processes.adopt(config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine that an agent runs on. The defaults are the real one.

    `embedded` and `systemd` make the service of an app, `..._hooks` what runs its hooks, `..._processes` what runs
    its workers and timers; the configuration of the host says which kind is used.
    """

    clock: Clock = field(default_factory=SystemClock)
    disk: Disk = field(default_factory=Disk)
    database: type[Database] = Database
    embedded: Callable[..., Service] = _embedded
    embedded_hooks: Callable[..., HookRunner] = _embedded_hooks
    embedded_processes: Callable[..., SideProcesses] = _embedded_processes
    systemd: "Callable[..., Awaitable[Systemd]]" = _systemd
    systemd_hooks: Callable[..., HookRunner] = _systemd_hooks
    systemd_processes: "Callable[..., UnitProcesses]" = _systemd_processes

    async def supervisor(
        self, app: str, config: AppConfig, *, kind: Literal["systemd", "embedded"], host: HostLayout
    ) -> Supervisor:
        """What keeps an app running on a host of this kind. What runs already is left alone."""
        if kind == "embedded":
            from agent.host.embedded.log_buffer import LogBuffer

            log = LogBuffer(self.clock)
            service = self.embedded(app, config, host=host, clock=self.clock, log=log)
            processes = self.embedded_processes(app, config, host=host, clock=self.clock, log=log, disk=self.disk)
            return Supervisor(
                service=service, processes=processes, children=(processes, service), close=lambda: None
            )
        units = await self.systemd(app, config, host=host, clock=self.clock)
        beside = self.systemd_processes(app, config, host=host, clock=self.clock)

        def close() -> None:
            beside.close()
            units.close()

        return Supervisor(service=units, processes=beside, children=(), close=close)
