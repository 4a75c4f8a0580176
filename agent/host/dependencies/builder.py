"""Who carries an order out: the seam between the venvs of an app and the user that installs into them.

Invariant: what a builder leaves in the work folder is a venv as uv made it, or of no use.
"""

import asyncio
import contextlib
import socket
import sys
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from agent.core.environment import CLEAN_PATH
from agent.core.work_folder import VENV
from agent.host.dependencies.build_steps import StepsOutcome
from agent.host.dependencies.order import Order, Outcome, carry_out
from agent.host.dependencies.steps_exchange import BuildJob, exchange
from agent.host.dependencies.stream import Malformed
from agent.host.ports import Lines
from agent.host.run import process
from agent.host.run.threads import to_its_end
from agent.host.storage.disk import Disk
from pusher.wire import Code, Failed, File

TIED = ("/usr/bin/setpriv", "--pdeathsig=KILL")
"""A builder that outlived its agent would write into the folder where the next agent builds (setpriv(1))."""


_BUFFER = 1024 * 1024


class Builder(Protocol):
    """Carries orders out."""

    async def build(self, order: Order, *, folder: Path, line: Lines) -> Outcome:
        """Have `venv/` in the work folder, made from what else lies in it.

        Raises: OSError, if uv cannot be run; Failed.
        """
        ...

    async def run_steps(self, job: BuildJob, *, line: Lines) -> tuple[StepsOutcome, list[File]]:
        """Run the build steps of a release. Returns what came of it, and the files that are in the release now.

        Raises: Failed(build_failed, disk_*).
        """
        ...


class LocalBuilder:
    """As the agent's own user: in the embedded default there is no other. `work` is a folder for build steps."""

    def __init__(self, disk: Disk, work: Path) -> None:
        self._disk = disk
        self._work = work

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

    async def run_steps(self, job: BuildJob, *, line: Lines) -> tuple[StepsOutcome, list[File]]:
        ours, theirs = socket.socketpair()
        written: list[str] = []
        child: process.Child | None = None
        with ours:
            try:
                with theirs:
                    await to_its_end(self._disk.make_folders, self._work, op="build.work")
                    program = (sys.executable, "-BI", "-m", "agent.host.dependencies.workshop")
                    child = await process.start(
                        (*TIED, *program, f"--socket={theirs.fileno()}", f"--cache={self._work}"),
                        folder=Path("/"),
                        environment={"PATH": CLEAN_PATH, "LANG": "C.UTF-8"},
                        line=written.append,
                        pass_fds=[theirs.fileno()],
                    )
                return await converse(ours, job, disk=self._disk, line=line)
            except (OSError, Malformed) as error:
                why = f"the program that runs them gave no answer: {error}"
                raise not_built(why, "\n".join(written)) from error
            finally:
                if child is not None:
                    await asyncio.shield(child.end(patience_s=1))
                await to_its_end(self._disk.discard, self._work, op="build.discard")


async def converse(
    connection: socket.socket, job: BuildJob, *, disk: Disk, line: Lines
) -> tuple[StepsOutcome, list[File]]:
    """Have a workshop at the other end run the steps. Raises: Malformed, OSError, Failed(disk_*)."""
    loop = asyncio.get_running_loop()

    def say(raw: bytes) -> None:
        loop.call_soon_threadsafe(line, process.plain_line(raw))

    def talk() -> tuple[StepsOutcome, list[File]]:
        with connection.makefile("rwb", buffering=_BUFFER) as stream:
            return exchange(cast(BinaryIO, stream), job, disk=disk, say=say)

    working = asyncio.ensure_future(asyncio.to_thread(talk))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        # Wakes the thread, whatever it waits for on this connection.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        await asyncio.wait([working])
        raise


def not_built(why: str, output: str = "", *, hint: str = "") -> Failed:
    """The problem of a release whose build steps came to nothing."""
    return Failed(Code.BUILD_FAILED, "The build steps of the release failed", why=why, hint=hint, output=output)
