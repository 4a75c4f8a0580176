"""What else of an app runs beside the process that serves it: workers, which run always, and timers.

Invariant: each has one name, and its unit is called after it.
"""

from dataclasses import dataclass

from agent.core.config.app import AppConfig, Process
from agent.core.process_names import numbered


@dataclass(frozen=True, slots=True)
class Instance:
    """One of the processes that run always: `worker`; with `instances = 2`, also `worker-2`."""

    name: str
    process: str
    number: int
    config: Process


def instances(config: AppConfig) -> tuple[Instance, ...]:
    """Every process that runs always."""
    return tuple(
        Instance(numbered(name, number), name, number, process)
        for name, process in config.processes.items()
        for number in range(1, process.instances + 1)
    )


def unit_of(app: str, name: str) -> str:
    """The service unit of a process or a timer."""
    return f"{app}-{name}.service"


def timer_of(app: str, name: str) -> str:
    """The timer unit of a timer."""
    return f"{app}-{name}.timer"


def units_beside(app: str, config: AppConfig) -> tuple[str, ...]:
    """The units of all processes and timers. Timers come first: they would start the others."""
    return (
        *(timer_of(app, name) for name in config.timers),
        *(unit_of(app, name) for name in config.timers),
        *(unit_of(app, one.name) for one in instances(config)),
    )
