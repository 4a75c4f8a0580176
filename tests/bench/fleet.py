"""`make bench-fleet`: a thousand hosts with the product's own channel code, and one publish.

Each host has the real door, journal, fetching and bell, and checks each content that arrives. What a thousand
machines would do on their own processors is left out, for all of them share these two: no application is
started, a signature is verified once a process, and reports are signed by a library. Measured is the time from
the publish to the last report `current` in the repository, and the servers' processor time.
"""

import argparse
import asyncio
import gc
import hashlib
import json
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import ClassVar

import structlog

from agent.core.channel import TrustedChannel
from agent.core.config.app import Subscribe
from agent.core.plan import Attempt
from agent.core.signing import SigningRules
from agent.deploy.admission import Admission, VerifiedManifest
from agent.deploy.deployer import Send
from agent.host.bundle.signatures import TrustFiles, verify_all
from agent.host.channel.nats_bus import NatsBus
from agent.host.channel.signed import read_channel
from agent.host.channel.web import Web
from agent.host.ports import Bundle
from agent.host.storage.disk import Disk
from pusher.repository.bell import ring
from pusher.repository.nats_bus import fetch_reports
from pusher.wire import File, Manifest, Problem, WireError, parse_index_line
from pusher.wire.channel import Rollout, report_name, split_signed
from pusher.wire.report import REPORT_BYTES, Report
from tests.host import make_key
from tests.library_keys import LibraryIdentity
from tests.nats_cluster import Cluster
from tests.ports import free_port
from tests.publishing import APP, CHANNEL, Publisher
from tests.subscribed_host import SubscribedHost

REPOSITORY = Path(__file__).parents[2]
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
BUS, ACKNOWLEDGED = "bus", "acknowledged"
TICKS = os.sysconf("SC_CLK_TCK")
FILES, CHANGED, SIZE = 100, 5, 20_000


@cache
def _verified(raw: bytes, signers: str) -> TrustedChannel:
    return read_channel(raw, files=TrustFiles(Path(signers)))


_VERIFYING = threading.Lock()


def verify(raw: bytes, *, files: TrustFiles) -> TrustedChannel:
    """The real check, once a process for each document."""
    with _VERIFYING:
        return _verified(raw, str(files.allowed_signers))


class BenchAdmission:
    """The real admission, but for signatures: each is verified once a process."""

    known: ClassVar[dict[str, VerifiedManifest]] = {}
    turn: ClassVar[asyncio.Lock] = asyncio.Lock()

    def __init__(self, real: Admission, signers: Path) -> None:
        self._real = real
        self._signers = signers

    async def receive(self, bundle: Bundle) -> VerifiedManifest:
        raw, signature = await asyncio.to_thread(bundle.signed_manifest)
        digest = hashlib.sha256(raw).hexdigest()
        async with self.turn:  # else all that come while the first is verified begin as well
            if digest not in self.known:
                files = TrustFiles(self._signers)
                await asyncio.to_thread(verify_all, raw, signature, files=files, rules=SigningRules())
                manifest = Manifest.from_bytes(raw)
                self.known[digest] = VerifiedManifest(manifest, raw, signature, digest, "tester", 0, 0)
        return self.known[digest]

    async def check(self, verified: VerifiedManifest, *, retry: bool) -> None:
        await self._real.check(verified, retry=retry)

    def store(self, verified: VerifiedManifest, bundle: Bundle, into: Path) -> None:
        self._real.store(verified, bundle, into)


class BenchHost(SubscribedHost):
    """A host that checks each content that arrives, and keeps the signed manifest, but not the files."""

    def place(self, attempt: Attempt, request: Send) -> None:
        layout = self.store.layout
        staged = layout.staged(attempt.release)
        lines = (staged / ".pusher/index.jsonl").read_bytes().splitlines(keepends=True)
        wanted = {entry.path: entry for line in lines if isinstance(entry := parse_index_line(line), File)}
        for path, _, content in request.bundle.files():
            assert hashlib.sha256(b"".join(content)).hexdigest() == wanted[path].sha256
        layout.releases.mkdir(parents=True, exist_ok=True)
        staged.rename(layout.release(attempt.release))


class Acknowledged(NatsBus):
    """NATS as hosts have it. Each report that it has said to be stored is written down, as web servers do."""

    def __init__(self, folder: Path, servers: Sequence[str]) -> None:
        super().__init__(servers, ca_file=folder / "nats/cert.pem", credentials=folder / "nats/host.nk")
        self._reports = folder / ACKNOWLEDGED

    async def put(self, name: str, content: bytes) -> None:
        await super().put(name, content)
        place = self._reports / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


async def run_hosts(folder: Path, addresses: Sequence[str], names: Sequence[str]) -> None:
    """Run hosts until this process is told to end. Their bell is NATS where the folder has a cluster."""
    bells = (folder / BUS).read_text(encoding="utf-8").split(",") if (folder / BUS).exists() else []
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    hosts = []
    for name in names:
        host = BenchHost(
            folder / "hosts" / name,
            [Web(address) for address in addresses],
            signers=folder / "signers",
            name=name,
            settings=Subscribe(repository=["https://unused.example"]),
            shuffle=random.shuffle,
            reports=True,
            bell=True,
            bus=Acknowledged(folder, random.sample(bells, len(bells))) if bells else None,
            verify=verify,
            identity=LibraryIdentity(folder / "identity", host=name, disk=Disk()),
        )
        host.admission = BenchAdmission(host.admission, host.signers)  # type: ignore[assignment]
        hosts.append(host)
        await host.start()
    # A host's collector of garbage has one host to look through, and would not look through the others each time.
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    await stop.wait()
    os._exit(0)  # what they left goes with the folder


@contextmanager
def hosts_running(folder: Path, addresses: Sequence[str], *, hosts: int, processes: int) -> Iterator[list[int]]:
    """So many hosts in so many processes, which are returned."""
    names = [f"host{number}" for number in range(hosts)]
    parts = [names[at::processes] for at in range(processes)]
    started = []
    try:
        for part in parts:
            argv = (sys.executable, "-m", "tests.bench.fleet", "--worker", str(folder), *addresses)
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            process = subprocess.Popen(argv, **pipes, text=True, cwd=REPOSITORY)
            assert process.stdin
            process.stdin.write(json.dumps(part))
            process.stdin.close()
            started.append(process)
        for process in started:
            assert process.stdout
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the hosts did not start")
        yield [one.pid for one in started]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


@contextmanager
def nginx(folder: Path) -> Iterator[tuple[str, int]]:
    """Debian's nginx with the configuration of packaging/nginx/: its address, and its process."""
    port, place = free_port(), Path(tempfile.mkdtemp(prefix="nginx-", dir=folder))
    site = (REPOSITORY / "packaging/nginx/pusher-repository.conf").read_text(encoding="utf-8")
    site = site.replace("root /srv/repository;", f"root {folder}/repo;").replace("8180;", f"{port};")
    (place / "site.conf").write_text(site, encoding="utf-8")
    (place / "nginx.conf").write_text(
        f"user root;\nload_module {NCHAN};\ndaemon off;\npid {place}/pid;\nerror_log {place}/error.log;\n"
        f"worker_processes 1;\nworker_rlimit_nofile 8192;\nevents {{ worker_connections 4096; }}\n"
        f"http {{ access_log off; client_body_temp_path {place}/body; include {place}/site.conf; }}\n",
        encoding="utf-8",
    )
    with served(("nginx", "-c", str(place / "nginx.conf")), port) as process:
        yield f"http://127.0.0.1:{port}", process


@contextmanager
def embedded(folder: Path) -> Iterator[tuple[str, int]]:
    """The embedded server: its address, and its process."""
    port = free_port()
    argv = (str(Path(sys.executable).parent / "pusher-agent"), "repository", "serve", f"{folder}/repo")
    with served((*argv, "--listen", f"127.0.0.1:{port}"), port) as process:
        yield f"http://127.0.0.1:{port}", process


@contextmanager
def served(argv: Sequence[str], port: int) -> Iterator[int]:
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{argv[0]} does not listen") from None
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def nats(folder: Path) -> Iterator[Cluster]:
    """Three NATS servers with TLS and nkeys, and a bucket of three replicas for the reports."""
    (folder / "nats").mkdir()
    cluster = Cluster(folder / "nats")
    cluster.start()
    os.environ["SSL_CERT_FILE"] = str(cluster.authority)
    try:
        asyncio.run(cluster.make_bucket())
        (folder / BUS).write_text(cluster.addresses, encoding="utf-8")
        yield cluster
    finally:
        cluster.stop()
        del os.environ["SSL_CERT_FILE"]


def family(process: int) -> dict[int, int]:
    """A process and its children, each with its processor time in ticks."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        number = int(stat.parent.name)
        if process in (number, int(fields[1])):
            found[number] = int(fields[11]) + int(fields[12])
    return found


def processor_s(process: int) -> float:
    """The processor time of a process and its children, in seconds."""
    return sum(family(process).values()) / TICKS


def current(reports: Path, manifest: str, names: Sequence[str]) -> set[str]:
    """Which of these hosts have reported that this release is current."""
    found = set()
    for name in names:
        path = reports / report_name(APP, name)
        if path.exists() and is_current(path.read_bytes(), manifest):
            found.add(name)
    return found


def stored(cluster: Cluster, manifest: str, hosts: int, *, limit_s: float = 60) -> int:
    """How many of so many hosts NATS keeps a report of that says so. Without a leader, it cannot be asked."""
    names = [report_name(APP, f"host{number}") for number in range(hosts)]
    deadline = time.monotonic() + limit_s
    while True:
        try:
            found = fetch_reports(cluster.addresses, names, credentials=str(cluster.publisher))
            break
        except Problem:
            if time.monotonic() > deadline:
                raise
    contents = [found.read(one, most=REPORT_BYTES) for one in names]
    return sum(is_current(one.content, manifest) for one in contents if one)


def is_current(content: bytes, manifest: str) -> bool:
    """Whether a signed report says that this release is current. One that is empty or cut off does not."""
    try:
        report = Report.from_bytes(split_signed(content, most=REPORT_BYTES)[0])
    except WireError:
        return False
    return report.state == "current" and report.wanted is not None and report.wanted.manifest == manifest


def files(version: str) -> dict[str, str]:
    """100 files of 20 kB, 5 of which differ between two versions."""
    texts = {"requirements.txt": ""}
    for number in range(FILES - 1):
        seed = f"{number} {version if number < CHANGED else ''}"
        texts[f"file{number}.txt"] = random.Random(seed).randbytes(SIZE // 2).hex()
    return texts


def measure(
    title: str, *, servers: Sequence[object], kill: bool, hosts: int, processes: int, goal_s: float, bus: bool
) -> bool:
    """One publish, to the last report; whether the goal was met."""
    with tempfile.TemporaryDirectory(prefix="pusher-fleet-", dir="/dev/shm") as name:
        folder = Path(name)
        folder.chmod(0o755)
        make_key(folder / "key")
        publisher = Publisher(folder / "repo", key=folder / "key")
        publisher.trust(folder / "signers")
        (folder / "repo").mkdir()
        first = publisher.put(files("v1"), "v1")
        publisher.name(first)
        with ExitStack() as opened:
            running = [opened.enter_context(server(folder)) for server in servers]
            cluster = opened.enter_context(nats(folder)) if bus else None
            reports = folder / (ACKNOWLEDGED if cluster else "repo")
            nodes = [("", one.pid) for one in cluster.processes] if cluster else []
            with hosts_running(folder, [one[0] for one in running], hosts=hosts, processes=processes) as clients:
                wait(reports, first.release.manifest, hosts, limit_s=300)
                second = publisher.put(files("v2"), "v2")
                delta = min(one.size for one in second.bundles)
                time.sleep(5)
                idle = sum(processor_s(one[1]) for one in running + nodes)
                time.sleep(20)
                idle = (sum(processor_s(one[1]) for one in running + nodes) - idle) / 20
                leader = asyncio.run(cluster.leader()) if cluster else 0
                killed = ([nodes[leader]] if cluster else running[-1:]) if kill else []
                left = [one for one in running + nodes if one not in killed]

                def used(servers: Sequence[tuple[str, int]]) -> float:
                    return sum(processor_s(one[1]) for one in servers)

                before, before_web, at_its_end = used(left + killed), used(running), 0.0
                clients_before = sum(map(processor_s, clients))
                began = time.monotonic()
                publisher.name(second, rollout=Rollout())
                for address, _ in running:
                    if servers[0] is nginx and not cluster:
                        ring(address, APP, CHANNEL)
                if cluster:
                    ring(cluster.addresses, APP, CHANNEL, credentials=str(cluster.publisher))
                if killed:
                    time.sleep(0.5)
                    at_its_end = used(killed)
                    for process in family(killed[0][1]):
                        os.kill(process, signal.SIGKILL)
                times = wait(reports, second.release.manifest, hosts, limit_s=120)
                spent = used(left) + at_its_end - before
                web_spent = used(running) - before_web if cluster else 0.0
                clients_spent = sum(map(processor_s, clients)) - clients_before
                kept = stored(cluster, second.release.manifest, hosts) if cluster else len(times)
    last, median = (times[at] - began if times else 0.0 for at in (-1, len(times) // 2))
    lost = hosts - min(len(times), kept)
    met = not lost and last <= goal_s
    shares = f" ({1000 * web_spent / hosts:4.2f} of it the web server's)" if bus else ""
    print(
        f"{title:<44} {median:6.1f} / {last:5.1f} s   {lost} lost   {1000 * spent / hosts:5.2f} ms a host"
        f"{shares}   "
        f"(the hosts themselves: {1000 * clients_spent / hosts:4.0f} ms each)   "
        f"idle {100 * idle:4.1f} %   delta {delta} bytes   goal {goal_s:g} s: {'met' if met else 'NOT MET'}",
        flush=True,
    )
    return met


def wait(reports: Path, manifest: str, hosts: int, *, limit_s: float) -> list[float]:
    """When each host was seen to be current, in order; those that are not within the limit are missing."""
    times: list[float] = []
    left = {f"host{number}" for number in range(hosts)}
    deadline = time.monotonic() + limit_s
    while left and time.monotonic() < deadline:
        found = current(reports, manifest, sorted(left))
        left -= found
        times += [time.monotonic()] * len(found)
        time.sleep(0.1)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fleet", description=__doc__)
    parser.add_argument("row", nargs="?", default="", help="measure only rows with this in their name")
    parser.add_argument("--hosts", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        folder, *addresses = arguments.worker
        asyncio.run(run_hosts(Path(folder), addresses, json.load(sys.stdin)))
        return 0
    load = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{arguments.hosts} hosts in {arguments.processes} processes; {load}")
    print("from the publish to the report of the median / last host; the server's processor time")
    rows = [("embedded server", [embedded], False, 10.0, False)]
    if NCHAN.exists() and shutil.which("nginx"):
        rows = [
            ("nginx with nchan", [nginx], False, 10.0, False),
            ("nginx with nchan, one of two mirrors killed", [nginx, nginx], True, 10.0, False),
            *rows,
            ("nginx, and NATS", [nginx], False, 20.0, True),
            ("nginx, and NATS, one of three nodes killed", [nginx], True, 20.0, True),
        ]
    else:
        print("nginx with nchan is not installed (apt-get install nginx-light libnginx-mod-nchan)")
    for title, servers, kill, goal_s, bus in [one for one in rows if arguments.row in one[0]]:
        many = {"hosts": arguments.hosts, "processes": arguments.processes}
        measure(title, servers=servers, kill=kill, goal_s=goal_s, bus=bus, **many)
    return 0


if __name__ == "__main__":
    sys.exit(main())
