"""Who carries an order out: the seam between the venvs of an app and the user that installs into them.

Invariant: what a builder leaves in the work folder is a venv as uv made it, or of no use.
"""

from pathlib import Path
from typing import Protocol

from agent.core.work_folder import VENV
from agent.host.dependencies.order import Order, Outcome, carry_out
from agent.host.ports import Lines
from agent.host.run import process
from agent.host.run.threads import to_its_end
from agent.host.storage.disk import Disk

TIED = ("/usr/bin/setpriv", "--pdeathsig=KILL")
"""A builder that outlived its agent would write into the folder where the next agent builds (setpriv(1))."""


class Builder(Protocol):
    """Carries orders out."""

    async def build(self, order: Order, *, folder: Path, line: Lines) -> Outcome:
        """Have `venv/` in the work folder, made from what else lies in it.

        Raises: OSError, if uv cannot be run; Failed.
        """
        ...


class LocalBuilder:
    """As the agent's own user: in the embedded default there is no other."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def build(self, order: Order, *, folder: Path, line: Lines) -> Outcome:
        async def run(argv: tuple[str, ...], line: Lines) -> tuple[str, str]:
            return await process.run(
                (*TIED, *argv),
                folder=folder,
                environment=order.environment,
                deadline_s=order.deadline_s,
                line=line,
            )

        async def clear() -> None:
            await to_its_end(self._disk.discard, folder / VENV, op="venv.discard")

        return await carry_out(order, run=run, clear=clear, line=line)
