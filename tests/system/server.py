"""A server as root sets one up: a booted host with the package installed, and one app added."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import coverage

from tests.host import make_key
from tests.system.machine import Machine, frozen, machine

APP = "flask-demo"
REPOSITORY = Path(__file__).parent.parent.parent
COUNTED = bool(os.environ.get("COVERAGE_RUN"))
COVERAGE = "var/lib/coverage"
COUNTING = f"[run]\nbranch = true\nparallel = true\nsource_pkgs = agent\ndata_file = /{COVERAGE}/data\n"
COMMAND = "/usr/lib/pusher-agent/bin/python -B -m coverage run --rcfile=/etc/coverage.conf -m agent"
SCRIPT = f"""\
#!/bin/sh
PYTHONPATH=/usr/lib/coverage exec {COMMAND} "$@"
"""
DROP_IN = f"""\
[Service]
Environment=PYTHONPATH=/usr/lib/coverage
ExecStart=
ExecStart={COMMAND} serve
ReadWritePaths=/{COVERAGE}
"""


def binds() -> list[str]:
    """What of this machine the host sees besides its copy: what counts the lines run. For systemd-nspawn."""
    return [f"--bind-ro={Path(coverage.__file__).parent}:/usr/lib/coverage/coverage"] if COUNTED else []


def prepare(root: Path) -> None:
    """What is there before the first boot: nothing of ours but, when coverage is measured, that."""
    for folder in ("etc/pusher-agent", "var/lib/pusher-agent"):  # of a developer who has tried it on this machine
        shutil.rmtree(root / folder, ignore_errors=True)
    # The image of this machine may forbid services to start; a server does not.
    (root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
    # man-db goes over all pages of this machine after every installation, for seconds, unless told otherwise.
    (root / "var/lib/man-db/auto-update").unlink(missing_ok=True)
    if COUNTED:
        (root / COVERAGE).mkdir(mode=0o777)
        (root / COVERAGE).chmod(0o777)
        (root / "etc/coverage.conf").write_text(COUNTING)
        command = root / "usr/local/bin/pusher-agent"
        command.write_text(SCRIPT)
        command.chmod(0o755)
        drop_in = root / "etc/systemd/system/pusher-agent.service.d/coverage.conf"
        drop_in.parent.mkdir()
        drop_in.write_text(DROP_IN)


def building() -> dict[str, str]:
    """The environment of who builds a package: no lines are counted, and uv has the wheels of `.venv`.

    A sender of tests has a uv without wheels and without an index; a build would then fall back on pip, for 15 s.
    """
    return {key: value for key, value in _uncounted().items() if key not in ("UV_OFFLINE", "UV_CACHE_DIR")}


def _uncounted() -> dict[str, str]:
    """The environment without what counts lines: for what other tests count, and what only sets the stage here."""
    return {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}


def build_package(tree: Path, folder: Path) -> Path:
    """The Debian package of a source tree, which must have a .venv."""
    argv = (tree / "packaging/build-deb", folder)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=building())
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(done.stdout.splitlines()[-1])


def make_image(folder: Path, *, uv_cache: Path, package: Path) -> None:
    """Into `folder`: the disk of a server with the agent installed, and the key that it trusts."""
    with machine(folder / "base", "base", prepare=prepare, options=binds()) as host:
        server = Server(host, folder=folder, uv_cache=uv_cache, package=package)
        server.install()
        server.uninstall()
        disk = frozen(host, folder / "disk")
    for unwanted in (disk / "srv" / package.name, *(disk / COVERAGE).glob("data.*")):
        unwanted.unlink()


@contextmanager
def installed(folder: Path, name: str, *, image: Path, uv_cache: Path, package: Path) -> Iterator["Server"]:
    """A booted server of its own that begins as `make_image` has left it: dpkg takes 6 s, a copy half a one."""

    def named(root: Path) -> None:
        with (root / "etc/hosts").open("a") as file:  # `machine` wrote a new one
            file.write("127.0.0.1 agent\n")

    with machine(folder / name, name, prepare=named, options=binds(), image=image / "disk") as host:
        for key in ("key", "key.pub"):
            shutil.copy(image / key, folder / key)
        yield Server(host, folder=folder, uv_cache=uv_cache, package=package)


class Server:
    """The host, and how a person would use it from a shell on it."""

    def __init__(self, machine: Machine, *, folder: Path, uv_cache: Path, package: Path) -> None:
        self.machine = machine
        self.folder = folder
        self.package = package
        self._uv_cache = uv_cache
        self._sent = 0

    def install(self) -> None:
        """Install the package, and let alice deploy with a key."""
        run = self.machine.run
        self.dpkg("--install", self.package)
        run("useradd", "--no-log-init", "--create-home", "--groups", "pusher", "alice")
        run("useradd", "--no-log-init", "--create-home", "mallory")
        self.fill_cache()
        make_key(self.folder / "key")
        shutil.copy(self.folder / "key.pub", self.machine.root / "etc/key.pub")
        run("pusher-agent", "trust", "/etc/key.pub", "--as", "tester")

    def fill_cache(self, *, app: str = APP) -> None:
        """What the app's build unit would download lies in its cache: the host has no way out."""
        private = self.machine.root / "var/cache/private"
        private.mkdir(mode=0o700, exist_ok=True)
        if not (private / "pusher-build" / app).exists():
            shutil.copytree(self._uv_cache, private / "pusher-build" / app, symlinks=True)

    def dpkg(self, verb: str, what: Path | str) -> str:
        """Run dpkg, with a package of this machine or the name of one; what it says."""
        if isinstance(what, Path):
            shutil.copy(what, self.machine.root / "srv")
            what = f"/srv/{what.name}"
        done = self.machine.run("dpkg", verb, what, seconds=180)
        return done.stdout + done.stderr

    def uninstall(self) -> None:
        """Stop the agent."""
        self.machine.run("systemctl", "stop", "pusher-agent.service")
        self.bring_home()

    def bring_home(self) -> None:
        """What was counted of the agent (coverage's `paths` knows where it ran)."""
        for number, data in enumerate(sorted((self.machine.root / COVERAGE).glob("data.*"))):
            shutil.copy(data, REPOSITORY / f".coverage.{self.machine.name}.{os.getpid()}.{number}")

    def add_app(self, *options: str) -> str:
        """`pusher-agent app add`; what it says."""
        return self.machine.run("pusher-agent", "app", "add", APP, *options).stdout

    def share_uploads(self) -> None:
        """Have the app share its uploads, if it does not yet: tests share the server."""
        file = f"/etc/pusher-agent/apps/{APP}.toml"
        if "uploads" not in self.machine.says("cat", file):
            self.machine.run("sed", "-i", '1i shared_paths = ["uploads"]', file)
            self.machine.run("pusher-agent", "app", "apply", APP)

    def pack(self, version: str, *, source: Path = REPOSITORY / "app-src", app: str = APP) -> str:
        """A signed bundle; its path inside the host."""
        self._sent += 1
        name, own = f"{version}-{self._sent}.tar.zst", source / version / "pusher.toml"
        subprocess.run(
            (sys.executable, "-m", "pusher", "pack", version, "--output", str(self.folder / name)),
            env=_uncounted()
            | {
                "PUSHER_APP": app,
                "PUSHER_SOURCE": str(source),
                "PUSHER_KEY": str(self.folder / "key"),
                "PYTHONPATH": str(REPOSITORY),
                **({"PUSHER_CONFIG": str(own)} if own.exists() else {}),
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

    @contextmanager
    def without_its_rule(self) -> Iterator[None]:
        """The agent may not start and stop the units of its apps, until the block is over."""
        rule = "/etc/polkit-1/rules.d/50-pusher-agent.rules"
        ask = ("systemctl", "--no-ask-password", "reset-failed", f"{APP}.service")

        def allowed() -> bool:
            return self.machine.run(*ask, user="pusher-agent", check=False).returncode == 0

        self.machine.run("mv", rule, f"{rule}.kept")
        try:  # polkit reads its rules again when it notices
            self.machine.until(lambda: not allowed())
            yield
        finally:
            self.machine.run("mv", f"{rule}.kept", rule)
            self.machine.until(allowed)

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
        pids = f"{self.runner()} {self.main()}"
        return {"tree": "\n".join(sorted(self.machine.says(*ls).splitlines())), "pids": pids, **self.units()}

    def runner(self, *, app: str = APP) -> int:
        """The process of the unit."""
        return int(self.machine.says("systemctl", "show", "--value", "--property=MainPID", f"{app}.service"))

    def main(self, *, app: str = APP) -> int:
        """The main process of the app, by what the runner says; 0 if there is none."""
        text = self.machine.says("systemctl", "show", "--value", "--property=StatusText", f"{app}.service")
        found = re.search(r"serves as process (\d+) ", text)
        return int(found[1]) if found and self.runner(app=app) else 0
