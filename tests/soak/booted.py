"""A booted host: the package, real units, process 1; slow. It loses its power, its bus, its units and its agent.

The second half of a point brings everything back that a person would (the bus, the units), restarts the agent
twice, and looks.
"""

import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from agent.core.layout import AppLayout, HostLayout
from agent.host.releases.store import ReleaseStore
from pusher.wire.text import parse_timestamp
from tests.conftest import make_venv
from tests.soak.actions import UNKNOWN, Done
from tests.soak.invariants import Seen, State, broken, lasting
from tests.soak.plan import BOOTED, EPISODE_POINTS, Point, episode
from tests.soak.report import Report
from tests.soak.tampering import Damage
from tests.system import versions
from tests.system.machine import machine
from tests.system.server import APP, REPOSITORY, Server, binds, build_package, prepare

_RULE = "/etc/polkit-1/rules.d/50-pusher-agent.rules"
_UNITS = "/etc/systemd/system"
_DROP = f"/var/lib/pusher-agent/drop/{APP}"
_BUS = ("dbus.socket", "dbus.service")
_MASK = "mv {0} {0}.kept && ln -s /dev/null {0} && systemctl daemon-reload"
_UNMASK = "if [ -e {0}.kept ]; then mv {0}.kept {0} && systemctl daemon-reload; fi"
_DROP_S = 30.0
_LOG_LINES = 200


class BootedPlace:
    """A server with one app, which has been deployed once. `folder` gets the sources of versions."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._sources = folder
        self._layout = HostLayout(server.machine.root)
        self._store = ReleaseStore(AppLayout(server.machine.root / f"opt/{APP}"))
        self._damage = Damage()
        self._state = self._look()
        self._back_up()

    @property
    def log(self) -> str:
        """What the host says of the units, and the last lines of its journal."""
        says = self._server.machine.says
        units = says("systemctl", "status", "--no-pager", "--lines=0", f"{APP}.socket", f"{APP}.service")
        return units + says("journalctl", "--no-pager", f"--lines={_LOG_LINES}", "--output=short-monotonic")

    def try_point(self, point: Point) -> Seen:
        """Do it, mend what a person would, restart the agent twice, and say what was seen."""
        before, damage = self._state, replace(self._damage, link=False, journal=False)
        _BEFORE[point.before](self, damage)
        done = self._act(point)
        if point.during == "power cut of the host":
            done = None if done is not None and done.outcome == UNKNOWN else done
            self._server.machine.boot()
        self._mend()
        after, again = self._restarted(), self._restarted()
        if not damage.journal:
            self._back_up()
        self._state = again
        return Seen(point, done, before, after, again, damage)

    def _act(self, point: Point) -> Done | None:
        """What came of it; unknown if nobody could say."""
        run, version = self._server.machine.run, f"v{point.number}.{point.chance % 1000}"
        if point.action == "drop":
            path = self._pack(version)
            run("sh", "-c", f"cp {path} {_DROP}/.new && mv {_DROP}/.new {_DROP}/{version}.tar.zst")
            self._disturb(point)
            return self._dropped(f"{version}.tar.zst", version)
        if point.action == "nothing":
            self._disturb(point)
            return Done("")
        argv = ["curl", "-sS", "--max-time", "90", "-X", "POST"]
        if point.action == "rollback":
            argv.append("agent:9000/rollback")
        else:
            broken = "import nothing_of_that_name\n" if "imported" in point.action else ""
            argv += ["-T", self._pack(version, before=broken), f"agent:9000/apps/{APP}/deployments"]
        with self._server.machine.running(*argv) as asking:
            self._disturb(point)
            said, _ = asking.communicate(timeout=100)
        try:
            answer = json.loads(said)
        except ValueError:
            return Done(UNKNOWN, version)
        why = f"{answer.get('title', '')}: {answer.get('detail', '')}"
        return Done(answer.get("outcome", ""), answer.get("version", version), answer.get("code", ""), why)

    def _disturb(self, point: Point) -> None:
        if not point.during:
            return
        time.sleep(point.at / 50)
        host = self._server.machine
        match point.during:
            case "kill -9 of the agent":
                host.run("systemctl", "kill", "--signal=KILL", "pusher-agent.service", check=False)
            case "kill -9 of the app":
                host.run("systemctl", "kill", "--signal=KILL", f"{APP}.service", check=False)
            case "stop of the agent":
                host.run("systemctl", "stop", "pusher-agent.service", check=False)
            case "power cut of the host":
                host.cut_power()
            case "reboot":
                host.reboot()

    def _dropped(self, name: str, version: str) -> Done:
        deadline = time.monotonic() + _DROP_S
        file = self._server.machine.root / _DROP.lstrip("/") / f"{name}.result.json"
        while time.monotonic() < deadline:
            with suppress(OSError, ValueError):
                found = json.loads(file.read_text())
                if found["state"] != "waiting":
                    problem = found.get("problem") or {}
                    outcome = {"deployed": "done"}.get(found["state"], found["state"])
                    return Done(outcome, version, problem.get("code", ""), problem.get("detail", ""))
            if not self._server.machine.init or self._off():
                break
            time.sleep(0.1)
        return Done(UNKNOWN, version)

    def _off(self) -> bool:
        return not Path(f"/proc/{self._server.machine.init}").exists() or not self._answering()

    def _answering(self) -> bool:
        return self._server.says("is-active", "pusher-agent.service") in ("active", "activating")

    def _pack(self, version: str, *, before: str = "") -> str:
        return self._server.pack(version, source=versions.write(self._sources, version, before=before))

    def _mend(self) -> None:
        """What a person does who finds a unit masked, a bus away or an app stopped."""
        run = self._server.machine.run
        run("systemctl", "start", *_BUS)
        for unit in (f"{APP}.service", f"{APP}.socket"):
            run("sh", "-c", _UNMASK.format(f"{_UNITS}/{unit}"))
        run("sh", "-c", f"if [ -e {_RULE}.kept ]; then mv {_RULE}.kept {_RULE}; fi")
        # polkit reads its rules again when it notices.
        ask = ("systemctl", "--no-ask-password", "reset-failed", f"{APP}.service")
        allowed = lambda: run(*ask, user="pusher-agent", check=False).returncode == 0  # noqa: E731
        self._server.machine.until(allowed, seconds=20)
        if self._store.live():
            run("systemctl", "start", f"{APP}.socket", f"{APP}.service", check=False)
        # What still waits in the drop directory would be deployed in the middle of what is looked at.
        run("sh", "-c", f"rm -f {_DROP}/*.tar.zst")

    def _restarted(self) -> State:
        self._server.machine.run("systemctl", "restart", "pusher-agent.service", seconds=120)
        return self._look()

    def _look(self) -> State:
        status, listing = self._server.curl("/status"), self._server.curl("/releases")
        live, found = self._store.live(), self._store.found()
        answers = ""
        if live:
            with suppress(subprocess.CalledProcessError, ValueError):
                answers = self._server.version()
        return State(
            live=live,
            version=next((one.version for one in found if one.id == live), ""),
            answers=answers,
            mark=parse_timestamp(status["newest_created"]) if status["newest_created"] else 0,
            trouble=status["trouble"],
            wrong={path.name: self._store.intact(path.name) for path in self._store.folders()},
            created={one.id: one.created for one in found},
            staging=tuple(path.name for path in self._store.unfinished()),
            status=lasting(status),
            listing=listing,
        )

    def _back_up(self) -> None:
        run = self._server.machine.run
        files = f"{self._journal()}*"
        run(
            "sh",
            "-c",
            f"systemctl stop pusher-agent && rm -rf /srv/week && mkdir /srv/week && cp -a {files} /srv/week",
        )
        run("systemctl", "start", "pusher-agent")

    def _journal(self) -> str:
        return f"/{self._layout.journal.relative_to(self._layout.root)}"

    def mask(self, unit: str) -> None:
        """As `systemctl mask`, for a unit that lies in /etc."""
        self._server.machine.run("sh", "-c", _MASK.format(f"{_UNITS}/{unit}"))

    def without_agent(self, script: str) -> None:
        """Run a script as root while the agent is stopped."""
        self._server.machine.run(
            "sh", "-c", f"systemctl stop pusher-agent && {script}; systemctl start pusher-agent"
        )

    def run(self, *argv: str) -> None:
        """Run a command as root, whatever it comes to."""
        self._server.machine.run(*argv, check=False)

    def lose_journal(self, damage: Damage, *, restored: bool) -> None:
        """Without a journal, or with an older one."""
        damage.journal = True
        back = f" && cp -a /srv/week/* {Path(self._journal()).parent}/" if restored else ""
        self.without_agent(f"rm -f {self._journal()}*{back}")

    def remove_link(self, damage: Damage) -> None:
        """`current` is gone."""
        damage.link = True
        self.without_agent(f"rm -f /opt/{APP}/current")


_BEFORE: dict[str, Callable[[BootedPlace, Damage], None]] = {
    "": lambda place, damage: None,
    "the service is masked": lambda place, damage: place.mask(f"{APP}.service"),
    "the socket is masked": lambda place, damage: place.mask(f"{APP}.socket"),
    "no bus": lambda place, damage: place.run("systemctl", "stop", *_BUS),
    "no polkit rule": lambda place, damage: place.run("mv", _RULE, f"{_RULE}.kept"),
    "the app was killed": lambda place, damage: place.run("systemctl", "kill", "--signal=KILL", f"{APP}.service"),
    "the app was stopped": lambda place, damage: place.run("systemctl", "stop", f"{APP}.socket", f"{APP}.service"),
    "journal lost": lambda place, damage: place.lose_journal(damage, restored=False),
    "journal of last week": lambda place, damage: place.lose_journal(damage, restored=True),
    "current removed": lambda place, damage: place.remove_link(damage),
}


@contextmanager
def booted(folder: Path) -> Iterator[Server]:
    """A host with the package of this tree installed and one app added."""
    cache = folder / "cache"
    (folder / "app").mkdir(parents=True)
    make_venv(REPOSITORY / "app-src/v1", cache=cache, app=folder / "app")
    package = build_package(REPOSITORY, folder)
    with machine(folder / "web1", "web1", prepare=prepare, options=binds()) as host:
        server = Server(host, folder=folder, uv_cache=cache, package=package)
        server.install()
        server.add_app("--health", "/version", "--version-member", "version", "--keep", "2")
        yield server


def soak(server: Server, folder: Path, report: Report, *, seed: int, points: int, deadline: float) -> None:
    """Episodes of points on one host, until so many are tried or the time is over (monotonic)."""
    while (report.tried < points) if points else (time.monotonic() < deadline):
        server.deploy("v1")
        place = BootedPlace(server, folder / f"{seed}")
        for point in episode(seed, tables=BOOTED, points=min(points or EPISODE_POINTS, EPISODE_POINTS)):
            try:
                problems = broken(place.try_point(point))
            except Exception:
                problems = [traceback.format_exc()]
            report.add(point, problems, seed=seed, log=place.log if problems else "")
            if problems or not (points or time.monotonic() < deadline):
                break
        seed += 1


def main(seed: int, points: int, seconds: float) -> int:
    """Boot a host and soak it. Prints the report."""
    report = Report("booted")
    deadline = time.monotonic() + seconds
    with (
        tempfile.TemporaryDirectory(prefix="pusher-soak-", dir="/var/tmp") as folder,
        booted(Path(folder)) as server,
    ):
        soak(server, Path(folder, "sources"), report, seed=seed, points=points, deadline=deadline)
    print(report.table())
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
