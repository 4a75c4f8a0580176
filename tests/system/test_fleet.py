"""Five servers fetch by themselves: each a booted host with the package, its own network and its own agent."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from pusher.config import Settings
from pusher.fleet.survey import survey
from tests.ports import free_port
from tests.system.machine import Machine, frozen, machine
from tests.system.server import APP, COVERAGE, REPOSITORY, Server, binds, installed
from tests.system.versions import ONLY_AS_CANDIDATE, write

NAMES = ("web1", "web2", "web3", "web4", "web5")
FIRST = ("web1", "web2")
pytestmark = pytest.mark.timeout(400)


class Fleet:
    """A person with a project, a repository on a server of its own, and the hosts."""

    def __init__(self, folder: Path, base: Server, hosts: Mapping[str, Machine]) -> None:
        self.hosts = hosts
        self.source = folder / "src"
        self.project = folder / "project"
        self.port = free_port()
        self._base = base
        self._repository = folder / "repo"
        self._settings = Settings(
            app=APP, repository=str(self._repository), fleet=str(self.project / "fleet.allowed")
        )
        for made in (self.project, self._repository):
            made.mkdir()
        (self.project / "fleet.allowed").touch()  # until a host is adopted: the server asks for the file
        (self.project / "pusher.toml").write_text(
            f'app = "{APP}"\nkey = "{base.folder}/key"\nsource = "{self.source}"\n'
            f'repository = "{self._repository}"\n'
        )

    def pusher(self, *words: str, code: int = 0) -> str:
        """What a command of pusher writes. It must end with this exit code."""
        with self.running(*words) as process:
            said, _ = process.communicate(timeout=120)
        assert process.returncode == code, f"{words}: {process.returncode}\n{said}\n{self.log()}"
        return said

    @contextmanager
    def running(self, *words: str) -> "Iterator[subprocess.Popen[str]]":
        """A command of pusher, for as long as the block runs."""
        process = subprocess.Popen(
            (sys.executable, "-m", "pusher", *words),
            cwd=self.project,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def repository(self) -> "subprocess.Popen[bytes]":
        """The server of the repository, which takes reports from hosts of the inventory alone."""
        argv = (str(Path(sys.executable).parent / "pusher-agent"), "repository", "serve", str(self._repository))
        more = ("--listen", f"0.0.0.0:{self.port}", "--fleet", str(self.project / "fleet.allowed"))
        return subprocess.Popen((*argv, *more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def join(self, name: str) -> None:
        """Let a host follow the channel, and adopt it."""
        host = self.hosts[name]
        address = f"http://{ip_address(host.address) - 1}:{self.port}"
        host.run("pusher-agent", "subscribe", APP, address, "--trust", "/etc/key.pub", "--as", "ci")
        host.until((host.root / "var/lib/pusher-agent/identity.pub").exists, what="its key")
        public = self.project / f"{name}.pub"
        public.write_text(host.says("pusher-agent", "identity"))
        self.pusher("fleet", "adopt", public.name)

    def standing(self) -> dict[str, tuple[str, str]]:
        """State and live version of each host, as `pusher fleet status` has them."""
        found = survey(self._settings, "stable").places
        return {one.name: (one.state, one.version) for one in found}

    def until(self, state: str, version: str, *names: str) -> None:
        """Wait until these hosts have reported so."""
        wanted = dict.fromkeys(names, (state, version))
        self.hosts[names[0]].until(lambda: wanted.items() <= self.standing().items(), seconds=90, what=str(wanted))

    def answers(self, name: str) -> Any:
        """The version that the application of a host says, asked from elsewhere."""
        argv = ("curl", "-sS", "--noproxy", "*", "--max-time", "10")
        url = f"http://{self.hosts[name].address}:8000/version"
        return json.loads(subprocess.run((*argv, url), capture_output=True, text=True, check=True).stdout)[
            "version"
        ]

    def begun(self, name: str) -> list[tuple[str, str]]:
        """The deployments of a host, newest first: version, and how each ended."""
        said = self.hosts[name].says("curl", "-sS", "--max-time", "10", f"127.0.0.1:9000/apps/{APP}/releases")
        return [(one["version"], one["outcome"]) for one in json.loads(said)["deployments"]]

    def log(self) -> str:
        """The last lines of the agents' logs."""
        show = ("journalctl", "--no-pager", "--lines=15", "--unit=pusher-agent")
        return "\n".join(f"{name}:\n{host.says(*show)}" for name, host in self.hosts.items())


def side_by_side(call: Callable[[str], object], names: tuple[str, ...] = NAMES) -> None:
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(call, names))


@pytest.fixture(scope="module")
def base(
    tmp_path_factory: pytest.TempPathFactory, uv_cache: Path, image: Path, package: Path
) -> tuple[Server, Path]:
    """A server with v1 of the application live, and the image of its disk, from which others are made."""
    folder = tmp_path_factory.mktemp("base")
    with installed(folder, "base", image=image, uv_cache=uv_cache, package=package) as server:
        server.add_app("--health", "/version", "--version-member", "version")
        server.deploy("v1")
        server.uninstall()
        disk = frozen(server.machine, folder / "image")
    for counted in (disk / COVERAGE).glob("data.*"):
        counted.unlink()
    return server, disk


@pytest.fixture
def fleet(tmp_path: Path, base: tuple[Server, Path]) -> Iterator[Fleet]:
    """Five hosts that follow a channel, which names what they have: v1."""
    server, image = base

    def named(root: Path) -> None:
        with (root / "etc/hosts").open("a") as file:
            file.write("127.0.0.1 agent\n")

    with ExitStack() as running:
        booted = ThreadPoolExecutor(len(NAMES)).map(
            lambda name: running.enter_context(
                machine(tmp_path / name, name, prepare=named, options=binds(), image=image)
            ),
            NAMES,
        )
        fleet = Fleet(tmp_path, server, dict(zip(NAMES, booted, strict=True)))
        process = running.enter_context(fleet.repository())
        running.callback(process.terminate)
        [bundle] = server.folder.glob("v1-*.tar.zst")
        fleet.pusher("publish", str(bundle))
        side_by_side(fleet.join)
        fleet.pusher("channel", "renew")  # a host that was not adopted yet reports once more when the bell rings
        yield fleet
        side_by_side(
            lambda name: Server(
                fleet.hosts[name], folder=tmp_path, uv_cache=tmp_path, package=tmp_path
            ).uninstall()
        )


def test_a_wave_that_fails_stops_everybody_and_a_host_that_was_off_catches_up(fleet: Fleet) -> None:
    fleet.until("current", "v1", *NAMES)
    keys = {name: fleet.hosts[name].says("pusher-agent", "identity") for name in NAMES}
    assert len({key.split()[1] for key in keys.values()}) == len(NAMES)
    fleet.hosts["web5"].cut_power()
    on = NAMES[:-1]

    write(fleet.source, "v2", before=ONLY_AS_CANDIDATE)
    fleet.pusher("publish", "v2", "--waves", "web1+web2,web3+web4,100%", "--max-failed", "2")
    said = fleet.pusher("rollout", "run", "--every", "1", code=1)
    assert "2 failed, and 2 may not: web1, web2" in said
    standing = fleet.standing()
    assert {name: standing[name] for name in on} == {
        **dict.fromkeys(FIRST, ("failed", "v1")),
        **dict.fromkeys(("web3", "web4"), ("waiting", "v1")),
    }
    assert "The brake is set" in fleet.pusher("rollout", "next", code=4)

    write(fleet.source, "v3")
    said = fleet.pusher("publish", "v3", "--waves", "web1+web2,web3+web4,100%", "--max-failed", "2")
    assert "The brake is set: no host begins" in said
    fleet.until("waiting", "v1", *on)
    assert [fleet.answers(name) for name in on] == ["v1"] * len(on)
    assert [fleet.begun(name)[0] for name in on] == [("v2", "failed")] * 2 + [("v1", "done")] * 2

    fleet.pusher("rollout", "retry")
    with fleet.running("rollout", "run", "--every", "1") as rollout:
        fleet.until("current", "v3", *on)
        assert rollout.poll() is None  # it waits for web5, which was heard of a minute ago
        fleet.hosts["web5"].boot()
        said, _ = rollout.communicate(timeout=120)
    assert rollout.returncode == 0, said + fleet.log()
    assert [fleet.answers(name) for name in NAMES] == ["v3"] * len(NAMES)
    assert fleet.begun("web5") == [("v3", "done"), ("v1", "done")]
    assert fleet.begun("web1") == [("v3", "done"), ("v2", "failed"), ("v1", "done")]
    assert fleet.hosts["web5"].says("pusher-agent", "identity") == keys["web5"]
    assert "v3" in fleet.pusher("fleet", "status")
