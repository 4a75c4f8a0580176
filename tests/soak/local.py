"""A host in a folder, for many points: the real agent, disk, journal and door; a service that only answers.

Started by `python -m tests.soak`, as root in a mount namespace of its own. The agent of each point runs in a
process that can be killed. The next two agents recover what it left, and the invariants compare what they show.
"""

import asyncio
import json
import logging
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from agent.core.layout import metadata_folder
from agent.core.signing import SigningRules
from agent.host.bundle.signatures import TrustFiles, verify_all
from agent.host.ports import Placed
from agent.host.releases.store import ReleaseStore
from agent.machine import Machine
from pusher.wire import MANIFEST_NAME, SIGNATURE_NAME, Code, Failed, Problem
from pusher.wire.text import parse_timestamp
from tests.crash.aftermath import SETTINGS
from tests.crash.forgetful_disk import by_chance, nothing_more, restore
from tests.crash.simulated_service import SimulatedMain, SimulatedService
from tests.host import APP, Host, running
from tests.soak import disturbances
from tests.soak.actions import ACTIONS, NOT_STARTED, UNKNOWN, Done
from tests.soak.disturbances import DisturbedDisk, database_of
from tests.soak.invariants import Seen, State, broken, lasting
from tests.soak.plan import AS_ROOT, EPISODE_POINTS, Point, episode
from tests.soak.report import Report
from tests.soak.tampering import Damage, back_up, move_away, tamper


class Service(SimulatedService):
    """As the embedded service, it says what the system refused as a problem."""

    async def try_out(self, placed: Placed) -> SimulatedMain:
        try:
            return await super().try_out(placed)
        except OSError as error:
            raise Failed(
                Code.SERVICE_FAILED, f"Release {placed.release} was not started", why=str(error)
            ) from error


FORKS = multiprocessing.get_context("fork")
_LONGEST_S = 90.0
"""Nothing takes so long, however busy the machine is."""


class LocalPlace:
    """A host in `folder`, which is a filesystem of its own if `bounded`."""

    def __init__(self, folder: Path, *, uv_cache: Path, bounded: bool) -> None:
        self._folder = folder
        self._bounded = bounded
        self._top = folder / "top"
        self._top.mkdir(parents=True)
        if bounded:
            disturbances.mount(self._top)
        (folder / "venvs").mkdir()
        self._log = (folder / "log").open("a")
        logging.basicConfig(stream=self._log, force=True)
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=self._log))
        self._host = Host(self._top / "root", uv_cache=uv_cache, venvs=folder / "venvs")
        key = folder / "key"
        shutil.copy(self._host.key, key)
        shutil.copy(self._host.key.with_suffix(".pub"), key.with_suffix(".pub"))
        self._host.key = key
        self._host.add_app(APP, **(SETTINGS | {"keep_releases": 2}))
        self._damage = Damage()
        self._state = State()

    def close(self) -> None:
        """Nothing is left mounted."""
        if self._bounded:
            subprocess.run(("umount", "--lazy", str(self._top)), check=True)

    def try_point(self, point: Point) -> Seen:
        """Do it, recover twice, and say what was seen. Raises: RuntimeError, if it never ends."""
        chance = random.Random(point.chance)
        damage = replace(self._damage, releases={*self._damage.releases}, link=False, journal=False)
        before = self._state
        weekly = self._folder / "weekly"
        tamper(self._host, point.before, damage=damage, weekly=weekly, chance=chance)
        done = self._in_a_process(point, "act")
        if point.during.endswith("in the recovery"):
            self._in_a_process(replace(point, action="start", at=1 + point.at // 6), "act")
        if self._bounded:
            disturbances.undo(self._top)
        self._restore(point)
        shutil.rmtree(self._host.root / "src", ignore_errors=True)
        for waiting in self._host.layout.drop(APP).glob("*.tar.zst"):
            waiting.unlink()  # it would be deployed in the middle of what is looked at
        after, again = self._recovered(damage), self._recovered(damage)
        if not damage.journal or not weekly.exists():
            back_up(self._host, weekly)
        seen = Seen(point, done, before, after, again, damage)
        self._damage = replace(damage, releases=damage.releases & {*again.wrong})
        self._state = again
        return seen

    @property
    def log(self) -> str:
        """The last lines of the agents' log."""
        self._log.flush()
        return "\n".join((self._folder / "log").read_text(errors="replace").splitlines()[-40:])

    def _in_a_process(self, point: Point, name: str) -> Done | None:
        """What came of it; None if the agent was killed, or could not even start."""
        report = self._folder / "report"
        report.unlink(missing_ok=True)
        process = FORKS.Process(target=self._act, args=(point, report), name=name)
        process.start()
        process.join(_LONGEST_S)
        if process.is_alive():
            process.kill()
            process.join()
            raise RuntimeError(f"it did not end within {_LONGEST_S} s")
        if process.exitcode == 0:
            return Done(**json.loads(report.read_text()))
        if process.exitcode != -signal.SIGKILL:
            raise RuntimeError(
                f"it ended with {process.exitcode}: {report.read_text() if report.exists() else ''}"
            )
        return None

    def _act(self, point: Point, report: Path) -> None:
        try:
            done = asyncio.run(self._acted(point))
        except Exception as error:
            done = None
            report.write_text("".join(traceback.format_exception(error))[-3000:])
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        if done is None:
            sys.exit(1)
        report.write_text(json.dumps(done.to_document()))

    async def _acted(self, point: Point) -> Done:
        disk = DisturbedDisk()
        machine = Machine(disk=disk, clock=disk.clock, database=database_of(disk), embedded=Service)
        host = self._host.moved(self._host.root, machine=machine)
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        disk.stop = lambda: loop.call_soon_threadsafe(stopping.set)

        def arm() -> None:
            places = {"top": host.app.path, "journal": host.layout.journal, "moment": self._top / "moment"}
            host.app.path.mkdir(parents=True, exist_ok=True)
            disk.arm(point.during, point.at, **places)

        if point.action == "start":
            await asyncio.to_thread(arm)
        try:
            await host.start()
        except Problem as problem:
            return Done(NOT_STARTED, "", problem.code, str(problem))
        action = asyncio.create_task(ACTIONS[point.action](host, f"v{point.number}", random.Random(point.chance)))
        if point.action != "start":
            await asyncio.to_thread(arm)
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({action, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not action.done():
                session, host.session = host.session, None
                await host.stop()
                await asyncio.wait({action}, timeout=5)
                action.cancel()
                if session is not None:
                    await session.close()
            try:
                return await action
            except (aiohttp.ClientError, OSError, AssertionError, asyncio.CancelledError) as error:
                return Done(UNKNOWN, "", type(error).__name__, str(error))
        finally:
            stop.cancel()
            with suppress(Problem, OSError):
                await host.stop()

    def _restore(self, point: Point) -> None:
        """The tree as the power cut left it."""
        file = self._top / "moment"
        if not file.exists():
            return
        moment = pickle.loads(file.read_bytes())
        file.unlink()
        host, root = self._host, self._host.root
        choose = by_chance(point.chance) if "survives" in point.during else nothing_more
        found = root.with_name("found")
        restore(moment, of=root, root=found, top=host.app.path, journal=host.layout.journal, choose=choose)
        shutil.rmtree(root)
        found.rename(root)

    def _recovered(self, damage: Damage) -> State:
        """The state after an agent has started, recovered and ended."""
        try:
            return asyncio.run(self._look())
        except Problem:
            if not damage.journal:
                raise
            move_away(self._host)
            return asyncio.run(self._look())

    async def _look(self) -> State:
        services: list[Service] = []

        def service(*positional: Any, **named: Any) -> Service:
            services.append(Service(*positional, **named))
            return services[-1]

        host = self._host.moved(self._host.root, machine=Machine(embedded=service))
        async with running(host):
            _, status = await host.request("GET", "/status")
            _, listing = await host.request("GET", "/releases")
            main = services[0].running()
            answers = await _ask(main.address.removeprefix("unix:")) if main else ""
        return await asyncio.to_thread(self._state_of, status, listing, answers)

    def _state_of(self, status: dict[str, Any], listing: dict[str, Any], answers: str) -> State:
        host = self._host
        store = ReleaseStore(host.app)
        live, found = store.live(), store.found()
        return State(
            live=live,
            version=next((one.version for one in found if one.id == live), ""),
            answers=answers,
            mark=parse_timestamp(status["newest_created"]) if status["newest_created"] else 0,
            trouble=status["trouble"],
            wrong={path.name: store.intact(path.name) or self._unsigned(path) for path in store.folders()},
            created={one.id: one.created for one in found if one.id not in self._damage.releases},
            staging=tuple(host.state()["staging"]),
            status=lasting(status),
            listing=listing,
        )

    def _unsigned(self, release: Path) -> str:
        folder = metadata_folder(release)
        try:
            manifest, signature = (folder / name for name in (MANIFEST_NAME, SIGNATURE_NAME))
            trust = TrustFiles(self._host.layout.allowed_signers)
            verify_all(manifest.read_bytes(), signature.read_bytes(), files=trust, rules=SigningRules())
        except (Problem, OSError) as error:
            return f"its signature does not hold: {error}"
        return ""


async def _ask(path: str) -> str:
    connector = aiohttp.UnixConnector(path)
    async with aiohttp.ClientSession(connector=connector) as session, session.get("http://app/") as answer:
        return str((await answer.json(content_type=None))["version"])


def main(seed: int, points: int, seconds: float) -> int:
    """Episodes of points until so many are tried, or the time is over. Prints the report."""
    report, began = Report("local"), time.monotonic()
    bounded = os.geteuid() == 0
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        cache = Path(name, "cache")
        cache.mkdir()
        while (report.tried < points) if points else (time.monotonic() - began < seconds):
            place = LocalPlace(Path(name, f"{seed}"), uv_cache=cache, bounded=bounded)
            try:
                without = frozenset() if bounded else AS_ROOT
                for point in episode(seed, without=without, points=min(points or EPISODE_POINTS, EPISODE_POINTS)):
                    problems = _problems(place, point)
                    report.add(point, problems, seed=seed, log=place.log)
                    if problems or not (points or time.monotonic() - began < seconds):
                        break
            finally:
                place.close()
                shutil.rmtree(Path(name, f"{seed}"))
            seed += 1
    print(report.table())
    return 1 if report.broken else 0


def _problems(place: LocalPlace, point: Point) -> list[str]:
    try:
        return broken(place.try_point(point))
    except Exception:
        return [traceback.format_exc()]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
