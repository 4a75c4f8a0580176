"""The program of an app's build unit: it carries out one order, a venv or the build steps of a release, and ends.

The embedded agent runs it as a child, over a socket that it hands on (`--socket=FD --cache=FOLDER`).

Invariant: it runs as a user that has nothing but a cache, and what it is told comes from the agent alone, for only
the agent may connect to its socket (systemd.socket(5), SocketUser=). Build code of packages runs here. From then
on nothing this program says can be believed, and the agent does not.
"""

import asyncio
import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

from agent.core.work_folder import VENV, Source
from agent.host.dependencies.build_steps import RELEASE, BuildSteps, StepsOutcome, carry_out_steps, steps_of
from agent.host.dependencies.order import Order, carry_out
from agent.host.dependencies.stream import LINE, OUTCOME, read_order, write_files, write_frame, write_tree
from agent.host.ports import Lines
from agent.host.run import process

_LISTENER = 3  # the first that systemd hands over (sd_listen_fds(3))
_ACCEPT_S = 30.0


def main() -> None:
    """Serve one connection of the socket that systemd hands over. Raises: OSError, Malformed."""
    options = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
    cache = Path(options.get("cache") or os.environ["CACHE_DIRECTORY"])
    if "socket" in options:
        connection = socket.socket(fileno=int(options["socket"]))
    else:
        with socket.socket(fileno=_LISTENER) as listener:
            listener.settimeout(_ACCEPT_S)
            connection, _ = listener.accept()
    connection.settimeout(None)
    with connection, connection.makefile("rwb", buffering=1024 * 1024) as stream:
        serve(cast(BinaryIO, stream), cache=cache)


def serve(stream: BinaryIO, *, cache: Path) -> None:
    """Carry out the order that comes over `stream`, in a work folder of `cache`. Raises: OSError, Malformed."""
    folder = cache / "work"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        described = read_order(stream, folder)
        if "steps" in described:
            asyncio.run(_built(steps_of(described["steps"]), folder, stream))
            return
        order = Order(
            make=tuple(described["make"]),
            attempts=tuple((Source(source), tuple(argv)) for source, argv in described["attempts"]),
            environment={**described["environment"], "HOME": str(cache), "UV_CACHE_DIR": str(cache / "uv")},
            deadline_s=described["deadline_s"],
        )
        outcome = asyncio.run(_carried_out(order, folder, stream))
        write_frame(stream, OUTCOME, json.dumps(outcome).encode())
        stream.flush()
        if outcome.get("ending") == "":
            write_tree(stream, folder / VENV)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _built(steps: BuildSteps, folder: Path, stream: BinaryIO) -> None:
    """Run the build steps, and send what came of them. Raises: OSError."""

    async def run(argv: tuple[str, ...], environment: Mapping[str, str], line: Lines) -> tuple[str, str]:
        return await process.run(
            argv, folder=folder / RELEASE, environment=environment, deadline_s=steps.deadline_s, line=line
        )

    def line(text: str) -> None:
        write_frame(stream, LINE, text.encode())
        stream.flush()

    try:
        outcome, made = await carry_out_steps(steps, folder=folder, run=run, line=line)
    except OSError as error:
        outcome, made = StepsOutcome(f"it could not be started: {error.strerror} ({error.filename})", ""), []
    write_frame(stream, OUTCOME, json.dumps(asdict(outcome)).encode())
    if not outcome.ending and not outcome.strays:
        write_files(stream, folder / RELEASE, made)
    stream.flush()


async def _carried_out(order: Order, folder: Path, stream: BinaryIO) -> dict[str, Any]:
    """What came of it; `error` is the number of the error that kept uv from running."""

    async def run(argv: tuple[str, ...], line: Lines) -> tuple[str, str]:
        return await process.run(
            argv, folder=folder, environment=order.environment, deadline_s=order.deadline_s, line=line
        )

    async def clear() -> None:
        shutil.rmtree(folder / VENV, ignore_errors=True)

    def line(text: str) -> None:
        write_frame(stream, LINE, text.encode())
        stream.flush()

    try:
        outcome = await carry_out(order, run=run, clear=clear, line=line)
    except OSError as error:
        return {"error": error.errno}
    return {
        "ending": outcome.ending,
        "said": outcome.said,
        "step": outcome.step,
        "source": outcome.source,
    }


if __name__ == "__main__":
    main()
