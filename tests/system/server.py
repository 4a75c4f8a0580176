"""A server as root sets one up: a booted host with the agent as its own service, and one app added.

Until there is a package, what it would install is put there by hand: users, unit, command, configuration.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.host import make_key
from tests.system.machine import Machine

APP = "flask-demo"
REPOSITORY = Path(__file__).parent.parent.parent
LIBRARY = "/usr/lib/pusher-agent"
COVERAGE = "var/lib/coverage"
COUNTED = "coverage run --rcfile=/etc/coverage.conf -m"
COUNTING = f"[run]\nbranch = true\nparallel = true\nsource_pkgs = agent\ndata_file = /{COVERAGE}/data\n"
COMMAND = f"""\
#!/bin/sh
PYTHONPATH={LIBRARY}/src exec {LIBRARY}/venv/bin/python -m COUNTED agent "$@"
"""
DROP_IN = f"[Service]\nReadWritePaths=/{COVERAGE}\n"


def binds() -> list[str]:
    """What of this checkout the host sees, read-only, at a neutral path: its libraries. For systemd-nspawn."""
    return [f"--bind-ro={REPOSITORY / '.venv'}:{LIBRARY}/venv"]


def prepare(root: Path) -> None:
    """What is there before the first boot."""
    for name in ("agent", "pusher", "packaging"):
        # Copied: what is edited while the tests run must not get into a host that starts its agent again.
        shutil.copytree(REPOSITORY / name, root / LIBRARY.lstrip("/") / "src" / name, symlinks=True)
    command = root / "usr/bin/pusher-agent"
    counted = bool(os.environ.get("COVERAGE_RUN"))
    command.write_text(COMMAND.replace("COUNTED ", f"{COUNTED} " if counted else ""))
    command.chmod(0o755)
    if counted:
        (root / COVERAGE).mkdir(mode=0o777)
        (root / COVERAGE).chmod(0o777)
        (root / "etc/coverage.conf").write_text(COUNTING)
        drop_in = root / "etc/systemd/system/pusher-agent.service.d/coverage.conf"
        drop_in.parent.mkdir()
        drop_in.write_text(DROP_IN)
    shutil.copy(REPOSITORY / "packaging/systemd/pusher-agent.service", root / "etc/systemd/system")
    (root / "etc/pusher-agent/apps").mkdir(parents=True)
    (root / "etc/pusher-agent/agent.toml").write_text('name = "web1"\n')


class Server:
    """The host, and how a person would use it from a shell on it."""

    def __init__(self, machine: Machine, *, folder: Path, uv_cache: Path) -> None:
        self.machine = machine
        self.folder = folder
        self._uv_cache = uv_cache
        self._sent = 0

    def install(self) -> None:
        """As the package does."""
        run = self.machine.run
        for group in ("pusher",):
            run("groupadd", "--system", group)
        for argv in (
            ("--system", "--user-group", "--home-dir", "/var/lib/pusher-agent", "pusher-agent"),
            ("--create-home", "--groups", "pusher", "alice"),
            ("--create-home", "mallory"),
        ):
            run("useradd", "--no-log-init", *argv)
        run("usermod", "--append", "--groups", "systemd-journal", "pusher-agent")
        cache = self.machine.root / "var/cache/pusher-agent"
        shutil.copytree(self._uv_cache, cache, symlinks=True)
        run("chown", "--recursive", "pusher-agent:pusher-agent", "/var/cache/pusher-agent")
        make_key(self.folder / "key")
        shutil.copy(self.folder / "key.pub", self.machine.root / "etc/key.pub")
        run("pusher-agent", "trust", "/etc/key.pub", "--as", "tester")
        run("systemctl", "daemon-reload")
        run("systemctl", "enable", "--now", "pusher-agent.service")

    def uninstall(self) -> None:
        """Stop the agent, and bring home what was counted of it (coverage's `paths` knows where it ran)."""
        self.machine.run("systemctl", "stop", "pusher-agent.service")
        for number, data in enumerate(sorted((self.machine.root / COVERAGE).glob("data.*"))):
            shutil.copy(data, REPOSITORY / f".coverage.{self.machine.name}.{os.getpid()}.{number}")

    def add_app(self, *options: str) -> str:
        """`pusher-agent app add`; what it says."""
        return self.machine.run("pusher-agent", "app", "add", APP, *options).stdout

    def pack(self, version: str, *, source: Path = REPOSITORY / "app-src", app: str = APP) -> str:
        """A signed bundle; its path inside the host."""
        self._sent += 1
        name = f"{version}-{self._sent}.tar.zst"
        subprocess.run(
            (sys.executable, "-m", "pusher", "pack", version, "--output", str(self.folder / name)),
            env=os.environ
            | {
                "PUSHER_APP": app,
                "PUSHER_SOURCE": str(source),
                "PUSHER_KEY": str(self.folder / "key"),
                "PYTHONPATH": str(REPOSITORY),
            },
            check=True,
            capture_output=True,
            text=True,
        )
        shutil.copy(self.folder / name, self.machine.root / "srv" / name)
        (self.machine.root / "srv" / name).chmod(0o644)
        return f"/srv/{name}"

    def send(
        self, version: str, *, source: Path = REPOSITORY / "app-src", user: str = "", app: str = APP
    ) -> dict[str, Any]:
        """Pack and post a version; what it came to."""
        path = self.pack(version, source=source, app=app)
        return self.curl(f"/apps/{app}/deployments", "--data-binary", f"@{path}", user=user)

    def curl(self, path: str, *options: str, user: str = "") -> dict[str, Any]:
        """What the agent's door answers, typed on the server."""
        said = self.machine.says("curl", "-sS", "--max-time", "60", *options, f"agent:9000{path}", user=user)
        try:
            answer: dict[str, Any] = json.loads(said)
        except ValueError as error:
            raise AssertionError(f"{said}\n{self.log()}") from error
        return answer

    def deploy(self, version: str, *, source: Path = REPOSITORY / "app-src", user: str = "") -> dict[str, Any]:
        """Send what must go live."""
        answer = self.send(version, source=source, user=user)
        assert answer.get("outcome") == "done", json.dumps(answer, indent=1) + self.log()
        return answer

    def rollback(self, to: str = "", *, user: str = "") -> dict[str, Any]:
        """`curl -X POST agent:9000/rollback`."""
        return self.curl(f"/rollback?to={to}" if to else "/rollback", "-X", "POST", user=user)

    def version(self) -> str:
        """What the app says it is, asked from elsewhere."""
        said = subprocess.run(
            ("curl", "-sS", "--noproxy", "*", "--max-time", "10", f"http://{self.machine.address}:8000/version"),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return str(json.loads(said)["version"])

    def status_text(self) -> str:
        """What `systemctl status` says that the agent does."""
        return self.machine.says("systemctl", "show", "--value", "--property=StatusText", "pusher-agent").strip()

    def until_status(self, text: str) -> None:
        """Wait until `systemctl status` says so; a deployment may take its time on a busy machine."""
        self.machine.until(lambda: self.status_text() == text, seconds=60, what=text)

    @contextmanager
    def held(self, source: Path, version: str) -> Iterator[subprocess.Popen[bytes]]:
        """A deployment whose candidate (of `versions.HELD`) waits until the block is over, or for /srv/go.

        Its answer comes to the standard output of what is returned.
        """
        self.machine.run("rm", "-f", "/srv/go")
        posting = ("curl", "-sS", "--max-time", "60", "-X", "POST", "-T", self.pack(version, source=source))
        with self.machine.running(*posting, f"agent:9000/apps/{APP}/deployments") as sending:
            try:
                self.until_status(f"Deploying {APP} {version}: preflight")
                candidate = f"{APP}-preflight.service"
                self.machine.until(lambda: self.says("is-active", candidate) == "active", seconds=60)
                yield sending
            finally:
                self.machine.run("touch", "/srv/go")

    def log(self) -> str:
        """The last lines of the journal."""
        return self.machine.says("journalctl", "--no-pager", "--lines=60", "--output=short-monotonic")

    def says(self, verb: str, *units: str) -> str:
        """What systemctl says."""
        return self.machine.says("systemctl", verb, *units).strip()

    def units(self, *, app: str = APP) -> dict[str, str]:
        """The state of the app's public units."""
        names = [f"{app}{end}" for end in (".socket", ".service")]
        return dict(zip(names, self.says("is-active", *names).split(), strict=True))

    def look(self) -> Mapping[str, str]:
        """What a failed deployment must leave as it was."""
        ls = ("find", f"/opt/{APP}", "-maxdepth", "2", "-not", "-path", "*/.*", "-printf", "%p %l %u:%g %m\n")
        pid = self.machine.says("systemctl", "show", "--property=MainPID", f"{APP}.service")
        return {"tree": "\n".join(sorted(self.machine.says(*ls).splitlines())), "pid": pid, **self.units()}
