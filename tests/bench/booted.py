"""A booted host for the bench: the agent with its app as root sets them up, and beside it what a script pushes.

Invariant: both apps are the same sample under systemd, reached over the same kept-open SSH connection; what the
script does not check, it does not pay for.
"""

import io
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from tests.bench.place import APP, BIN, ENVIRONMENT, SAMPLE, Unmeasured, run
from tests.conftest import make_venv
from tests.system.machine import NEEDED, machine
from tests.system.server import REPOSITORY, Server, binds, build_package, prepare
from tests.system.ssh import MEMBER, Ssh

BARE, _BARE_PORT = "/opt/bare", 8001
_BOOT_S = 60
_BARE_UNIT = f"""\
[Unit]
StartLimitIntervalSec=0
[Service]
DynamicUser=yes
WorkingDirectory={BARE}/current
ExecStart={BARE}/shared/venv/bin/gunicorn -w 2 -b 0.0.0.0:{_BARE_PORT} app:app
"""
_INSTALL = (
    f"{BARE}/shared/venv/bin/pip install -q --disable-pip-version-check -r {BARE}/releases/%s/requirements.txt"
)
_GO_LIVE = (
    f"ln -s releases/%s {BARE}/new && mv -T {BARE}/new {BARE}/current && systemctl restart bare && "
    f"until curl -s -f -o /dev/null http://127.0.0.1:{_BARE_PORT}/version; do sleep 0.02; done"
)


class BootedPlace:
    """`web1`: the agent's app at port 8000, the script's at 8001. All times are of whole commands, in seconds."""

    def __init__(self, server: Server, ssh: Ssh) -> None:
        self._server = server
        self._ssh = ssh
        self._pushed: list[str] = []

    @property
    def server(self) -> Server:
        """The host itself."""
        return self._server

    @property
    def address(self) -> str:
        """Where the host is reached."""
        return self._server.machine.address

    def send(self, version: str, *, source: Path = SAMPLE) -> float:
        """`pusher send` over SSH."""
        return self._pusher("send", version, "--source", str(source), "--key", str(self._server.folder / "key"))

    def roll_back(self) -> float:
        """`pusher rollback` over SSH."""
        return self._pusher("rollback")

    def push(self, version: str) -> float:
        """What people write who have no deploy tool: copy, install, link, restart, ask."""
        name = f"{len(self._pushed):04}"
        began = time.perf_counter()
        folder = f"root:{BARE}/releases/{name}/"
        run("rsync", "--recursive", "--checksum", "-e", self._ssh.command, f"{SAMPLE / version}/", folder)
        self._root(f"{_INSTALL % name} && {_GO_LIVE % name}")
        self._pushed.append(name)
        return time.perf_counter() - began

    def pull_back(self) -> float:
        """The script's rollback: link, restart, ask."""
        began = time.perf_counter()
        self._root(_GO_LIVE % self._pushed[-2])
        return time.perf_counter() - began

    def skip_preflight(self) -> None:
        """From now on nothing is tried out before it goes live, as in the script."""
        file = self._server.machine.root / f"etc/pusher-agent/apps/{APP}.toml"
        file.write_text(f"preflight = false\n{file.read_text()}")
        self._server.machine.run("pusher-agent", "app", "apply", APP)

    def agent(self, member: str) -> int:
        """A number that /proc has of the agent, over all its threads: `VmRSS` in kB, `voluntary_ctxt_switches`."""
        return self._proc("pusher-agent", member)

    def runner(self, member: str) -> int:
        """The same of the app's runner."""
        return self._proc(APP, member)

    def first_answer(self) -> float:
        """Shut the host down, and boot it again; the seconds from process 1 to the first answer of the app."""
        machine, found = self._server.machine, []
        machine.shut_down()
        began = time.perf_counter()

        def ask() -> None:
            while time.perf_counter() < began + _BOOT_S:
                try:
                    with socket.create_connection((machine.address, 8000), timeout=1) as asking:
                        asking.sendall(b"GET /version HTTP/1.0\r\nHost: x\r\n\r\n")
                        if b" 200 " in asking.recv(64):
                            found.append(time.perf_counter() - began)
                            return
                except OSError:
                    time.sleep(0.01)

        asker = threading.Thread(target=ask)
        asker.start()
        machine.boot()
        asker.join()
        if not found:
            raise Unmeasured(f"the app does not answer within {_BOOT_S} s after a boot")
        return found[0]

    def _proc(self, unit: str, member: str) -> int:
        run = self._server.machine.run
        pid = run("systemctl", "show", "--value", "--property=MainPID", unit).stdout.strip()
        path = f"/proc/{pid}/status" if member.startswith("Vm") else f"/proc/{pid}/task/*/status"
        found = run("sh", "-c", f"grep -h ^{member}: {path}").stdout.splitlines()
        return sum(int(line.split()[1]) for line in found)

    def ask(self, *, keep_open_s: int) -> float:
        """`pusher status` over SSH, with a connection of its own, or with one that `keep_open_s` leaves open."""
        if not Path("~/.ssh").expanduser().is_dir():
            raise Unmeasured("keep_open_s needs a folder ~/.ssh")
        environment = {**ENVIRONMENT, "PUSHER_KEEP_OPEN_S": str(keep_open_s)}
        options = ("--host", "alone", "--app", APP, "--ssh", self._ssh.command)
        return run(BIN / "pusher", "status", *options, environment=environment).seconds

    def be_patient(self) -> None:
        """From now on a release may take a minute to start: its import competes with the visitors."""
        file = self._server.machine.root / f"etc/pusher-agent/apps/{APP}.toml"
        file.write_text(file.read_text().replace("[health]\n", "[health]\ndeadline_s = 60\n"))
        self._server.machine.run("pusher-agent", "app", "apply", APP)

    def _pusher(self, *words: str) -> float:
        options = ("--host", "web1", "--app", APP, "--ssh", self._ssh.command)
        return run(BIN / "pusher", *words, *options, environment=ENVIRONMENT).seconds

    def _root(self, script: str) -> None:
        run(*self._ssh.command.split(), "root", script)


@contextmanager
def booted(folder: Path, *, cache: Path) -> Iterator[BootedPlace]:
    """A host with both apps at v1. Raises: Unmeasured, where no host can be booted."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if os.geteuid() or missing:
        raise Unmeasured(f"a booted host takes root, and {', '.join(missing or NEEDED)}")
    (folder / "app").mkdir(parents=True)
    with redirect_stdout(io.StringIO()):
        make_venv(SAMPLE / "v1", cache=cache, app=folder / "app")  # the host has no way to a package index
    package = build_package(REPOSITORY, folder)
    with machine(folder / "web1", "web1", prepare=prepare, options=binds()) as host:
        server = Server(host, folder=folder, uv_cache=cache, package=package)
        server.install()
        server.add_app("--health", "/version", "--version-member", "version")
        (folder / "ssh").mkdir()
        ssh = Ssh(folder / "ssh")
        ssh.open(host)
        _let_in_root(server, ssh)
        _set_up_bare(server)
        kept = {"ControlMaster": "auto", "ControlPath": "{folder}/open-%n", "ControlPersist": "yes"}
        ssh.alias("root", host.address, user="root", **kept)
        ssh.alias("web1", host.address, user=MEMBER, **kept)
        ssh.alias("alone", host.address, user=MEMBER)
        try:
            place = BootedPlace(server, ssh)
            place.send("v1")
            place.push("v1")
            yield place
        finally:
            for name in ("root", "web1"):
                ssh.run("-O", "exit", name, check=False)


def _let_in_root(server: Server, ssh: Ssh) -> None:
    folder = server.machine.root / "root/.ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(ssh.key.with_suffix(".pub"), folder / "authorized_keys")


def _set_up_bare(server: Server) -> None:
    """A venv with what the sample needs, installed with this machine's way to the package index, and a unit."""
    root = server.machine.root
    (root / "etc/systemd/system/bare.service").write_text(_BARE_UNIT)
    server.machine.run("mkdir", "-p", f"{BARE}/releases")
    server.machine.run("/usr/bin/python3", "-m", "venv", f"{BARE}/shared/venv")
    shutil.copy(SAMPLE / "v1/requirements.txt", root / "srv/requirements.txt")
    pip = (f"{BARE}/shared/venv/bin/pip", "install", "-q", "-r", "/srv/requirements.txt")
    inside = ("nsenter", "--target", str(server.machine.init), "--mount", "--", *pip)
    subprocess.run(inside, check=True, env=ENVIRONMENT)
    server.machine.run("systemctl", "daemon-reload")
