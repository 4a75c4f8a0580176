"""Dependencies under systemd: the build unit of the app installs them, as a user that may do nothing else.

Invariant: no command that reads a package runs as the agent. What the unit sends back is checked and copied. The
unit is stopped when the call is over, whatever became of it.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from agent.core.layout import HostLayout
from agent.core.units import Units
from agent.core.work_folder import VENV, Source
from agent.host.dependencies.build_steps import StepsOutcome
from agent.host.dependencies.builder import TIED, converse, not_built
from agent.host.dependencies.order import Order, Outcome, found
from agent.host.dependencies.receipt import take_in
from agent.host.dependencies.steps_exchange import BuildJob
from agent.host.dependencies.stream import Malformed, read_outcome, read_tree, write_order
from agent.host.ports import Lines
from agent.host.run import process
from agent.host.storage.disk import Disk
from agent.host.systemd import systemctl
from pusher.wire import Code, Failed, File

_START_S = 30.0
_STOP_S = 30.0
_BUFFER = 1024 * 1024
_Say = Callable[[bytes], None]


class UnitBuilder:
    """`Builder` for one app whose units root has rendered."""

    def __init__(self, app: str, disk: Disk, *, host: HostLayout) -> None:
        self._units = Units.of(app)
        self._socket = host.build_socket(app)
        self._disk = disk

    async def build(self, order: Order, *, folder: Path, line: Lines) -> Outcome:
        ending, said = await found(self._make_empty(order, folder, line))
        if ending:
            return Outcome(ending, said, "uv venv")
        loop = asyncio.get_running_loop()
        try:
            # Not `start`: one that a dead agent left running would be taken for ours.
            await systemctl.control("restart", self._units.build, deadline_s=_START_S)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with connection:
                say = partial(_say, loop, line)
                working = asyncio.ensure_future(asyncio.to_thread(self._exchange, connection, order, folder, say))
                try:
                    return await asyncio.shield(working)
                except asyncio.CancelledError:
                    # Wakes the thread, whatever it waits for on this connection.
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                    await asyncio.wait([working])
                    raise
        finally:
            await asyncio.shield(self._stop())

    async def run_steps(self, job: BuildJob, *, line: Lines) -> tuple[StepsOutcome, list[File]]:
        try:
            await systemctl.control("restart", self._units.build, deadline_s=_START_S)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                await asyncio.to_thread(connection.connect, str(self._socket))
                return await converse(connection, job, disk=self._disk, line=line)
        except (Malformed, OSError) as error:
            hint = f"`journalctl --unit={self._units.build}` says more"
            raise not_built(f"{self._units.build} gave no answer: {error}", hint=hint) from error
        finally:
            await asyncio.shield(self._stop())

    async def _make_empty(self, order: Order, folder: Path, line: Lines) -> tuple[str, str]:
        """The empty venv, of the agent's own making: nothing of a release has any part in it."""
        return await process.run(
            (*TIED, *order.make),
            folder=folder,
            environment=order.environment,
            deadline_s=order.deadline_s,
            line=line,
        )

    def _exchange(
        self, connection: socket.socket, order: Order, folder: Path, say: Callable[[bytes], None]
    ) -> Outcome:
        """Send the order, and take in what comes back. Blocking; the unit's end is the connection's."""
        try:
            connection.connect(str(self._socket))
            with connection.makefile("rwb", buffering=_BUFFER) as opened:
                stream = cast(BinaryIO, opened)
                write_order(stream, _described(order), _files(folder))
                return self._received(stream, folder, say)
        except Malformed as error:
            raise self._broken(f"what it sent is not a venv: {error}") from error
        except OSError as error:
            raise self._broken(error.strerror or str(error)) from error

    def _received(self, stream: BinaryIO, folder: Path, say: _Say) -> Outcome:
        answer = read_outcome(stream, say)
        if isinstance(number := answer.get("error"), int):
            raise FileNotFoundError(number, os.strerror(number))
        outcome = _outcome(answer)
        if not outcome.ending:
            take_in(read_tree(stream), into=folder / VENV, disk=self._disk)
        return outcome

    def _broken(self, why: str) -> Failed:
        return Failed(
            Code.DEPENDENCIES_FAILED,
            "The dependencies were not installed",
            why=f"{self._units.build} gave no venv: {why}",
            hint=f"`journalctl --unit={self._units.build}` says more",
        )

    async def _stop(self) -> None:
        """Nothing of it runs, and nothing listens. Both in one: the socket alone would start the service again."""
        with contextlib.suppress(Failed):
            await systemctl.control("stop", self._units.build_socket, self._units.build, deadline_s=_STOP_S)
            state = await systemctl.state_of(self._units.build)
            if state.active == "failed":
                await systemctl.control("reset-failed", self._units.build, deadline_s=_STOP_S)


def _described(order: Order) -> dict[str, Any]:
    return {
        "make": order.make,
        "attempts": [[source, argv] for source, argv in order.attempts],
        "environment": dict(order.environment),
        "deadline_s": order.deadline_s,
    }


def _files(folder: Path) -> list[tuple[str, Path]]:
    """What lies in the work folder beside the venv."""
    every = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    named = [(str(path.relative_to(folder)), path) for path in every]
    return [(name, path) for name, path in named if not name.startswith(f"{VENV}/")]


def _outcome(answer: dict[str, Any]) -> Outcome:
    ending, said, step, source = (answer.get(key) for key in ("ending", "said", "step", "source"))
    if not (isinstance(ending, str) and isinstance(said, str) and step in ("uv venv", "uv pip install")):
        raise Malformed("its outcome is none")
    text = "\n".join(process.plain_text(one.encode(errors="replace")) for one in said.splitlines())
    return Outcome(
        process.plain_text(ending.encode(errors="replace"))[:200],
        text,
        step,
        next((one for one in Source if one == source), None),
    )


def _say(loop: asyncio.AbstractEventLoop, line: Lines, raw: bytes) -> None:
    loop.call_soon_threadsafe(line, process.plain_line(raw))
