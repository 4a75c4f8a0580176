"""The package on a server that has nothing but Debian: installed, upgraded, removed, purged, while an app runs."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nkeys
import pytest

from tests.deploy.test_no_failed_request import Load
from tests.system.machine import machine
from tests.system.server import APP, COUNTED, REPOSITORY, Server, binds, build_package, prepare
from tests.system.test_door import asked, greedy

NEWER, OLDER = "99.0", "0.0.9"
OLD_PRERM = """\
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
    deb-systemd-invoke stop pusher-agent.service
fi
find /usr/lib/pusher-agent -name __pycache__ -prune -exec rm -r {} +
"""
HOSTS = "127.0.0.1 localhost\n127.0.1.1 bare\n::1 localhost # no line break follows"
PYTHONPATH = ("env", "PYTHONPATH=/srv/python", "PYTHONSTARTUP=/srv/python/agent.py")
pytestmark = pytest.mark.timeout(300)  # dpkg writes 95 MB and compiles 400 files each time


def tree(folder: Path) -> Path:
    """A copy of what the package is built from, with other times and modes, at another place."""
    for name in ("agent", "pusher", "packaging", "docs"):
        shutil.copytree(REPOSITORY / name, folder / name, symlinks=True, copy_function=shutil.copyfile)
    documents = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
    for name in ("pyproject.toml", "constraints.txt", *documents, "LICENSE", ".gitignore"):
        shutil.copyfile(REPOSITORY / name, folder / name)
    (folder / "packaging/build-deb").chmod(0o755)
    (folder / ".venv").symlink_to(REPOSITORY / ".venv")
    return folder


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text, file
    file.write_text(text.replace(old, new, 1))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def newer(package: Path, copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a later version, which renders services and sockets differently."""
    version = package.name.split("_")[1]
    edit(copy / "pyproject.toml", f'version = "{version}"', f'version = "{NEWER}"')
    edit(copy / "packaging/debian/changelog", f"({version})", f"({NEWER})")
    edit(copy / "packaging/systemd/app/app.service", "[Service]\n", "[Service]\nLimitNOFILE=4321\n")
    edit(copy / "packaging/systemd/app/app.socket", "Backlog=4096", "Backlog=2048")
    return build_package(copy, tmp_path_factory.mktemp("newer"))


@pytest.fixture(scope="module")
def older(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a version before the socket unit: its agent listens by itself."""
    copy, version = tree(tmp_path_factory.mktemp("older-tree")), package.name.split("_")[1]
    edit(copy / "pyproject.toml", f'version = "{version}"', f'version = "{OLDER}"')
    edit(copy / "packaging/debian/changelog", f"({version})", f"({OLDER})")
    edit(copy / "packaging/build-deb", "pusher-agent.service pusher-agent.socket ", "pusher-agent.service ")
    edit(copy / "packaging/build-deb", "for script in preinst postinst", "for script in postinst")
    service = copy / "packaging/systemd/pusher-agent.service"
    edit(service, "Requires=pusher-agent.socket\n", "")
    edit(service, " pusher-agent.socket\n", "\n")
    edit(service, "ExecStartPre=", "#")
    edit(copy / "packaging/debian/postinst", "for unit in pusher-agent.socket", "for unit in")
    edit(copy / "packaging/debian/postinst", "            hold_door\n", "")
    (copy / "packaging/debian/prerm").write_text(OLD_PRERM)
    return build_package(copy, tmp_path_factory.mktemp("older"))


@pytest.fixture(scope="module")
def bare(
    tmp_path_factory: pytest.TempPathFactory, uv_cache: Path, flask_venv: Path, package: Path
) -> Iterator[Server]:
    """A server of whom nobody has ever installed anything; `before` is what it was then."""
    folder = tmp_path_factory.mktemp("bare")
    with machine(folder / "bare", "bare", prepare=prepare, options=binds()) as host:
        (host.root / "etc/hosts").write_text(HOSTS)
        (host.root / "etc/hosts").chmod(0o664)
        (host.root / "srv/python").mkdir()
        for name in ("agent", "pusher", "json", "sitecustomize"):
            (host.root / f"srv/python/{name}.py").write_text("raise SystemExit('taken from PYTHONPATH')\n")
        server = Server(host, folder=folder, uv_cache=uv_cache, package=package)
        (folder / "before").write_text(left_over(server))
        yield server
        server.bring_home()


@pytest.fixture
def installed(bare: Server) -> Server:
    """The server with the package, and a release of flask-demo that answers."""
    if not (bare.machine.root / "usr/bin/pusher-agent").exists():
        bare.install()
    if not (bare.machine.root / f"etc/pusher-agent/apps/{APP}.toml").exists():
        bare.add_app("--health", "/version", "--version-member", "version")
    if bare.units()[f"{APP}.service"] != "active":
        bare.deploy("v1")
    return bare


def left_over(server: Server) -> str:
    """What an installation could leave: files, users, groups, and what stands in /etc/hosts."""
    folders = ("/etc", "/opt", "/run", "/usr", "/var/lib", "/var/cache")
    others = "( -path /var/lib/dpkg -o -path /run/systemd -o -path /var/lib/systemd -o -name *~ -o -name *- )"
    found = server.machine.says("find", *folders, *others.split(), "-prune", "-o", "-name", "*pusher*", "-print")
    found += server.machine.says("find", *folders, "-name", f"*{APP}*", "-print")
    accounts = "".join(server.machine.says("getent", kind) for kind in ("passwd", "group", "shadow", "gshadow"))
    hosts = server.machine.says("stat", "--format=%a %U:%G %s", "/etc/hosts")
    return "\n".join(sorted((found + accounts).splitlines())) + hosts + server.machine.says("cat", "/etc/hosts")


def main_pid(server: Server) -> str:
    return server.machine.says("systemctl", "show", "--value", "--property=MainPID", f"{APP}.service").strip()


def test_the_same_tree_gives_the_same_bytes_wherever_it_lies(package: Path, copy: Path, tmp_path: Path) -> None:
    again = build_package(copy, tmp_path)
    assert (again.name, again.read_bytes()) == (package.name, package.read_bytes())


def test_once_installed_the_agent_serves_and_takes_nothing_from_who_calls_it(bare: Server) -> None:
    bare.install()
    run, says = bare.machine.run, bare.machine.says
    assert bare.says("is-active", "pusher-agent.service") == "active"
    assert bare.says("is-enabled", "pusher-agent.service") == "enabled"
    assert json.loads(says("curl", "-sS", "agent:9000/healthz")) == {"status": "ok"}
    assert says("stat", "--format=%a", "/etc/hosts").strip() == "664"
    assert says("id", "-Gn", "pusher-agent").split() == ["pusher-agent", "systemd-journal"]
    places = ("", "/agent.toml", "/apps", "/hooks", "/allowed_signers")
    modes = says("stat", "--format=%a %U:%G", *(f"/etc/pusher-agent{one}" for one in places)).splitlines()
    assert modes == [f"{mode} root:root" for mode in ("755", "644", "755", "755", "644")]
    assert says("stat", "--format=%U", "/var/lib/pusher-agent").strip() == "pusher-agent"
    for command in ("pusher", "pusher-agent"):
        said = run(*PYTHONPATH, "sh", "-c", f"cd /srv/python && /usr/bin/{command} --version").stdout
        assert said.split()[0] == command
    assert says("find", "/usr/lib/pusher-agent", "-name", "*.py", "-newer", "/etc/hostname") == ""
    for command in ("pusher", "pusher-agent"):
        script = f". /usr/share/bash-completion/completions/{command}; complete -p {command}"
        assert command in says("bash", "-c", script).split()
    bare.add_app("--health", "/version", "--version-member", "version")
    assert bare.deploy("v1", user="alice")["version"] == "v1"
    assert "BAD" not in says("pusher-agent", "check")


def test_buckets_and_nats_need_nothing_that_the_package_lacks(installed: Server) -> None:
    """Nobody answers there; what would be missing is said before anybody is asked."""
    seed = bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)).decode()
    (installed.machine.root / "srv/seed").write_text(seed)
    for ask in (
        "from agent.host.channel.object_store import ObjectStore as Kind; call = Kind('s3://bucket/x').exists('x')",
        "from agent.host.channel.nats_bus import NatsBus as Kind; from pathlib import Path; "
        "call = Kind(['nats://127.0.0.1:1'], credentials=Path('/srv/seed')).bell('bells/a/b')",
    ):
        script = f"import asyncio; {ask}; asyncio.run(call)"
        bucket = ("AWS_ENDPOINT_URL=http://127.0.0.1:1", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b")
        argv = ("env", *bucket, "/usr/lib/pusher-agent/bin/python", "-BI", "-c", script)
        done = installed.machine.run(*argv, check=False)
        assert re.search(r"Unreachable: .*(does not answer|cannot be reached)", done.stderr), done.stderr


async def test_an_upgrade_keeps_what_there_is_and_no_request_fails(installed: Server, newer: Path) -> None:
    run, says = installed.machine.run, installed.machine.says
    other = installed.machine.root / "etc/pusher-agent/apps/other.toml"
    other.write_text('user = "root"\nlisten = "127.0.0.1:8009"\n')  # no app may run as root
    run("systemctl", "disable", "--quiet", f"{APP}.service")
    before, status = installed.look(), installed.curl(f"/apps/{APP}/status")
    done = asyncio.Event()
    with greedy(installed) as got:
        asking = asyncio.create_task(asked(installed, done))
        async with Load(f"http://{installed.machine.address}:8000/version", per_second=50) as load:
            said = await asyncio.to_thread(installed.dpkg, "--install", newer)
        done.set()
        answers = await asking
    assert set(load.endings) == {"200"}, load.endings
    assert len(answers) > 10
    assert set(answers) == {'{"status":"ok"}'}, answers
    assert got == []

    assert "pusher-agent app apply other" in said
    other.unlink()
    run("systemctl", "restart", "pusher-agent.service")
    assert says("pusher-agent", "--version").split() == ["pusher-agent", NEWER]
    assert installed.look() == before
    assert installed.curl(f"/apps/{APP}/status")["live"] == status["live"]
    assert installed.says("is-enabled", f"{APP}.service") == "disabled"

    assert installed.deploy("v3")["version"] == "v3"
    assert "open files            4321" in says("grep", "open files", f"/proc/{main_pid(installed)}/limits")
    run("systemctl", "enable", "--quiet", f"{APP}.service")


def test_removed_it_leaves_the_app_running_and_installed_again_it_knows_it(installed: Server) -> None:
    live = installed.curl("/status")["live"]
    before = installed.look()
    installed.dpkg("--remove", "pusher-agent")
    assert installed.look() == before
    assert installed.version() == live["version"]
    assert (installed.machine.root / "etc/hosts").read_text() == HOSTS
    assert "pusher-agent" not in installed.machine.says("ls", "/etc/polkit-1/rules.d")
    assert (
        installed.machine.says("ls", "/usr/lib/pusher-agent") == "relay.pyc\nrunner.pyc\n"
    )  # what the app is started by
    installed.machine.run("systemctl", "restart", f"{APP}.service")
    installed.machine.until(lambda: installed.version() == live["version"], what="the app, without an agent")

    installed.dpkg("--install", installed.package)
    assert installed.curl("/status")["live"] == live
    assert installed.deploy("v2")["version"] == "v2"


async def test_an_upgrade_takes_the_addresses_from_an_agent_that_held_them_itself(
    installed: Server, older: Path
) -> None:
    run, says = installed.machine.run, installed.machine.says
    installed.dpkg("--remove", "pusher-agent")
    installed.dpkg("--install", older)
    program = "python" if COUNTED else "pusher-agent"
    assert f'("{program}",pid=' in says("ss", "-Hlntpe", "sport = :9000")
    assert "pid=1," not in says("ss", "-Hlntpe", "sport = :9000")
    before = installed.look()
    async with Load(f"http://{installed.machine.address}:8000/version", per_second=50) as load:
        await asyncio.to_thread(installed.dpkg, "--install", installed.package)
    assert set(load.endings) == {"200"}, load.endings
    assert installed.look() == before
    assert '("systemd",pid=1,' in says("ss", "-Hlntpe", "sport = :9000")
    assert installed.says("is-enabled", "pusher-agent.socket") == "enabled"
    assert says("ls", "/run/systemd/system") == ""
    run("test", "!", "-e", "/run/pusher-agent.upgrade")
    assert installed.curl("/status")["live"] is not None
    assert "BAD" not in says("pusher-agent", "check")


def test_purged_it_asks_nothing_and_takes_what_is_its_own_and_no_app(installed: Server) -> None:
    before, version = installed.look(), installed.version()
    # Another `path` than an app's folder: what the agent owns anywhere is not what is left of the app.
    installed.machine.run("tee", "/etc/pusher-agent/apps/other.toml", stdin='[health]\npath = "/"\n')
    said = installed.dpkg("--purge", "pusher-agent")
    assert f"    /opt/{APP}\n" in said
    assert "/var/lib/pusher-agent" not in said
    assert (installed.look(), installed.version()) == (before, version)
    etc_and_state = ("/etc", "/var/lib", "/var/cache", "-maxdepth", "1", "-name", "pusher-agent")
    assert installed.machine.says("find", *etc_and_state) == ""


def test_what_must_not_start_is_not_started_and_a_second_configuration_changes_nothing(bare: Server) -> None:
    run = bare.machine.run
    bare.dpkg("--unpack", bare.package)
    # As in a chroot, or while an image is built.
    run("unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /run/systemd && dpkg --configure pusher-agent")
    assert bare.says("is-active", "pusher-agent.service") == "inactive"
    assert bare.says("is-enabled", "pusher-agent.service") == "enabled"
    hosts = (bare.machine.root / "etc/hosts").read_text()
    assert hosts.count(" agent ") == 1
    policy = bare.machine.root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    again = ("/var/lib/dpkg/info/pusher-agent.postinst", "configure", "")
    run(*again)
    assert bare.says("is-active", "pusher-agent.service") == "inactive"
    policy.unlink()
    run(*again)
    assert bare.says("is-active", "pusher-agent.service") == "active"
    assert (bare.machine.root / "etc/hosts").read_text() == hosts


def test_an_app_that_outlived_the_package_is_taken_over_and_goes_without_a_trace(installed: Server) -> None:
    run = installed.machine.run
    assert installed.curl("/status")["live"]["version"] == installed.version()
    run("pusher-agent", "app", "remove", APP, "--purge")
    installed.dpkg("--purge", "pusher-agent")
    for user in ("alice", "mallory"):
        run("userdel", "--remove", user)
    assert left_over(installed) == (installed.folder / "before").read_text()


@pytest.mark.skipif(not shutil.which("lintian"), reason="LINTIAN IS MISSING: THE PACKAGE IS NOT CHECKED BY IT")
def test_lintian_finds_no_error(package: Path) -> None:
    # Words of other people in compiled code take half of the time.
    argv = ("lintian", "--allow-root", "--fail-on", "error", "--dont-check-part", "binaries/spelling", package)
    done = subprocess.run(argv, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, done.stdout + done.stderr
