"""The machine that an agent runs on.

Invariant: everything that touches the machine comes in through `Machine`, so a test gives it parts of its own and
patches nothing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agent.host.clock import SystemClock
from agent.host.embedded.processes import EmbeddedProcesses
from agent.host.embedded.service import Embedded
from agent.host.ports import Clock, HookRunner, Service, SideProcesses
from agent.host.run.hooks import EmbeddedHookRunner
from agent.host.storage.database import Database
from agent.host.storage.disk import Disk
from agent.host.systemd.hooks import SystemdHookRunner
from agent.host.systemd.processes import UnitProcesses
from agent.host.systemd.service import Systemd


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine that an agent runs on. The defaults are the real one.

    `embedded` and `systemd` make the service of an app, `..._hooks` what runs its hooks, `..._processes` what runs
    its workers and timers; the configuration of the host says which kind is used.
    """

    clock: Clock = field(default_factory=SystemClock)
    disk: Disk = field(default_factory=Disk)
    database: type[Database] = Database
    embedded: Callable[..., Service] = Embedded
    embedded_hooks: Callable[..., HookRunner] = EmbeddedHookRunner
    embedded_processes: Callable[..., SideProcesses] = EmbeddedProcesses
    systemd: Callable[..., Awaitable[Systemd]] = Systemd.find
    systemd_hooks: Callable[..., HookRunner] = SystemdHookRunner
    systemd_processes: Callable[..., UnitProcesses] = UnitProcesses
