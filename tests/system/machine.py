"""A real systemd host for tests: an overlay of this machine's root filesystem, booted by systemd-nspawn.

It has a network namespace of its own, joined to ours by one cable (a veth pair). Nothing of this machine is
changed: what the host writes lies in `folder`. Everything is ended by id and taken down by name, in reverse,
also after a failure half way.
"""

import contextlib
import ipaddress
import os
import secrets
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

NEEDED = ("systemd-nspawn", "ip", "nsenter", "mount", "umount")
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
_BOOT_S = 40.0
_END_S = 20.0
_ENTER = 'for group in $0; do echo $$ >"$group/cgroup.procs" || exit; done; exec "$@"'
_MASKED = (  # services of the machine that runs the tests; a test host does not need them
    *("apt-daily.timer", "apt-daily-upgrade.timer", "man-db.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("cron.service", "ssh.service", "postgresql.service", "mariadb.service", "redis-server.service"),
    *("nginx.service", "prometheus.service"),  # the first one takes port 80
)


class Machine:
    """One host. `root` is its filesystem seen from here, `init` its process 1, `address` where it is reached."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        netns: str,
        address: str,
        groups: Sequence[Path] = (),
        options: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.name = name
        self.address = address
        self.root = folder / "root"
        self._netns = netns
        self._groups = groups
        self._options = options
        self._nspawn: subprocess.Popen[bytes] | None = None
        self.init = 0

    def boot(self) -> None:
        """Start it; returns when multi-user.target is reached."""
        with (self.folder / "console.log").open("ab") as console:
            self._nspawn = subprocess.Popen(
                (
                    *("/bin/sh", "-c", _ENTER, " ".join(map(str, self._groups))),
                    *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot"),
                    *(f"--network-namespace-path=/run/netns/{self._netns}", f"--hostname={self.name}"),
                    *("--kill-signal=SIGRTMIN+3", f"--directory={self.root}"),
                    *self._options,
                ),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self.until(self._up, seconds=_BOOT_S, what="booting")

    def run(
        self, *argv: str, check: bool = True, user: str = "", stdin: str = "", seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root or as `user`; its output is captured."""
        try:
            done = subprocess.run(
                self._inside(argv, user),
                input=stdin,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
                env=_ENVIRONMENT,
            )
        except subprocess.TimeoutExpired as error:
            error.add_note(self._what_it_does())
            raise
        if check and done.returncode:
            raise AssertionError(f"{argv} inside {self.name}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def _what_it_does(self) -> str:
        """What the host does while a command in it does not end."""
        asked = (
            "systemctl list-jobs --no-pager",
            "ps -eo pid,etimes,stat,wchan:20,args",
            "journalctl -n 80 --no-pager",
        )
        argv = self._inside(("sh", "-c", "; ".join(f"timeout 10 {one}" for one in asked)), "")
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=_ENVIRONMENT)
        return done.stdout + done.stderr

    @contextmanager
    def running(self, *argv: str, user: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """A command inside, for as long as the block runs; its standard input and output are pipes."""
        process = subprocess.Popen(
            self._inside(argv, user), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_ENVIRONMENT
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def says(self, *argv: str, user: str = "") -> str:
        """What a command inside writes, whatever comes of it."""
        done = self.run(*argv, check=False, user=user)
        return done.stdout + done.stderr

    def reboot(self) -> None:
        """Shut it down in order, and boot it again."""
        self.shut_down()
        self.boot()

    def shut_down(self) -> None:
        """Power off in order; returns when it is off."""
        if self._running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.init or self._child(), signal.SIGRTMIN + 4)  # systemd(1): poweroff.target
            self._gone()

    def cut_power(self) -> None:
        """Off at once, without warning. What it had not written to its disk may be there or not."""
        if self._running():
            os.kill(self.init, signal.SIGKILL)
            self._gone()

    def until(self, true: Callable[[], bool], *, seconds: float = 10.0, what: str = "") -> None:
        """Wait for something that only the host decides. Raises: AssertionError, with its console."""
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                console = (self.folder / "console.log").read_text(errors="replace")
                raise AssertionError(f"{self.name}: no end of {what or true} in {seconds} s\n{console[-2000:]}")
            select.select([], [], [], 0.05)

    def _inside(self, argv: Sequence[str], user: str) -> tuple[str, ...]:
        group = "nogroup" if user == "nobody" else user
        become = ("setpriv", f"--reuid={user}", f"--regid={group}", "--init-groups", "--") if user else ()
        return ("nsenter", "--target", str(self.init), "--all", *become, *argv)

    def _up(self) -> bool:
        if not self._running():
            raise AssertionError((self.folder / "console.log").read_text(errors="replace")[-2000:])
        self.init = self._child()
        if not self.init:
            return False
        return self.says("systemctl", "is-active", "multi-user.target").strip() == "active"

    def _child(self) -> int:
        """nspawn's only child: the host's process 1."""
        assert self._nspawn is not None
        pid = self._nspawn.pid
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        return 0

    def _running(self) -> bool:
        return self._nspawn is not None and self._nspawn.poll() is None

    def _gone(self) -> None:
        assert self._nspawn is not None
        try:
            self._nspawn.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait(_END_S)


@contextmanager
def machine(
    folder: Path,
    name: str,
    *,
    prepare: Callable[[Path], None] = lambda root: None,
    options: Sequence[str] = (),
    image: Path | None = None,
) -> Iterator[Machine]:
    """A booted host; `prepare` may change its filesystem first, `options` are systemd-nspawn's.

    It begins as what `frozen` has kept of another one, where `image` names that. `folder` must lie on a filesystem
    that overlays can be made of: no tmpfs of old kernels, no overlay.
    """
    with ExitStack() as undo:
        for part in ("upper", "work", "root"):
            (folder / part).mkdir(parents=True)
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        root = folder / "root"
        if image:  # not as another layer: layers within one another are refused
            _do("cp", "--archive", f"{image}/.", f"{folder}/upper")
        layers = f"lowerdir=/,upperdir={folder}/upper,workdir={folder}/work"
        _do("mount", "-t", "overlay", "overlay", "-o", layers, str(root))
        undo.callback(_do, "umount", "--lazy", str(root))
        netns, address = _cable(undo)
        groups = _control_groups(undo, netns)
        # Its own, and there from the start: without one, systemd would enable every unit it finds (first boot).
        (root / "etc/machine-id").write_text(f"{secrets.token_hex(16)}\n")
        (root / "etc/hostname").write_text(f"{name}\n")
        (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
        units = root / "etc/systemd/system"
        for unit in _MASKED:
            (units / unit).unlink(missing_ok=True)
            (units / unit).symlink_to("/dev/null")
        prepare(root)
        host = Machine(folder, name, netns=netns, address=address, groups=groups, options=options)
        undo.callback(host.cut_power)
        host.boot()
        yield host


def frozen(host: Machine, into: Path) -> Path:
    """Shut a host down and keep what it has written, as an image for others. It is not to be booted again."""
    host.shut_down()
    _do("cp", "--archive", str(host.folder / "upper"), str(into))  # with owners, and with what was removed
    return into


def _control_groups(undo: ExitStack, name: str) -> list[Path]:
    """A control group of its own in each hierarchy that systemd keeps processes in.

    nspawn makes the host's groups within its own. Two hosts started from one group would have theirs in common,
    and kill or wait for each other's processes.
    """
    groups = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number != "0" and controllers != "name=systemd":
            continue
        kind = "cgroup2" if number == "0" else "cgroup"
        for mount in Path("/proc/self/mountinfo").read_text().splitlines():
            place, (filesystem, _, options) = mount.split()[4], mount.partition(" - ")[2].split()
            if filesystem == kind and (kind == "cgroup2" or controllers in options.split(",")):
                group = Path(place, path.lstrip("/"), name)
                group.mkdir()
                undo.callback(_remove_groups, group)
                groups.append(group)
                break
    return groups


def _remove_groups(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _cable(undo: ExitStack) -> tuple[str, str]:
    """A network namespace with one cable to ours: its name, and the address of its end."""
    tag = secrets.token_hex(4)
    netns, ours = f"pusher-{tag}", f"pv{tag}"
    net = _free_network()
    near, far = (str(one) for one in net.hosts())
    _do("ip", "netns", "add", netns)
    undo.callback(_do, "ip", "netns", "delete", netns)
    _do("ip", "link", "add", ours, "type", "veth", "peer", "name", "host0", "netns", netns)
    _do("ip", "address", "add", f"{near}/30", "dev", ours)
    _do("ip", "link", "set", ours, "up")
    _do("ip", "-n", netns, "address", "add", f"{far}/30", "dev", "host0")
    for link in ("host0", "lo"):
        _do("ip", "-n", netns, "link", "set", link, "up")
    return netns, far


def _free_network() -> ipaddress.IPv4Network:
    """Four addresses of the range for benchmarks (RFC 2544) that no interface of this machine uses."""
    used = subprocess.run(("ip", "-4", "route"), capture_output=True, text=True, check=True).stdout
    while True:
        start = ipaddress.ip_address("198.18.0.0") + 4 * secrets.randbelow(1 << 15)
        if f"{start}/30" not in used:
            return ipaddress.IPv4Network(f"{start}/30")


def _do(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True)
