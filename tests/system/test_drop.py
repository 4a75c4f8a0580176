"""The drop directory on a booted host: real sshd, real rsync, users of the group `pusher`."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.server import APP, REPOSITORY, Server
from tests.system.ssh import Ssh
from tests.system.test_ssh import pusher

DROP = f"/var/lib/pusher-agent/drop/{APP}"
OPTIONS = ("-rlp", "--checksum", "--chmod=D2775,F664")


@pytest.fixture(scope="module")
def dropping(server: Server, ssh: Ssh) -> Iterator[Server]:
    """The server, with a second user of the group, and nothing in its drop directory afterwards."""
    server.machine.run("useradd", "--no-log-init", "--create-home", "--groups", "pusher", "bob")
    ssh.admit(server.machine, "bob")
    ssh.alias("web1-bob", server.machine.address, user="bob")
    if server.units()["flask-demo.service"] != "active":
        server.deploy("v2")
    yield server
    server.machine.run("sh", "-c", f"find {DROP} -mindepth 1 -not -name .pusher-drop -delete")


def rsync(ssh: Ssh, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ("rsync", *OPTIONS, "-e", ssh.command, *words), capture_output=True, text=True, timeout=60, check=check
    )


def result(server: Server, name: str = "tree") -> dict[str, object]:
    """What a member of the group sees."""
    said = server.machine.run("cat", f"{DROP}/{name}.result.json", user="bob", check=False).stdout
    found: dict[str, object] = json.loads(said or "{}")
    return found


def await_result(server: Server, name: str = "tree", **members: object) -> dict[str, object]:
    """The result, once it has these members."""
    try:
        server.machine.until(lambda: members.items() <= result(server, name).items(), seconds=40)
    except AssertionError:
        lying = server.machine.says("ls", "-laR", DROP)
        raise AssertionError(f"{result(server, name)}\n{lying}\n{server.log()}") from None
    return result(server, name)


def sign(server: Server, ssh: Ssh, version: str, *, source: Path, into: Path) -> dict[str, object]:
    """Signs: manifest, signature and index beside a copy of the tree, in `into`. Returns the manifest."""
    code, said = pusher(server, ssh, "pack", version, "--manifest", str(into), PUSHER_SOURCE=str(source))
    assert code == 0, said
    shutil.copytree(source / version, into / "tree", dirs_exist_ok=True)
    manifest: dict[str, object] = json.loads((into / "tree.manifest.json").read_bytes())
    return manifest


def variant(source: Path, version: str, **more: bytes) -> Path:
    """A version of the sample application with more files; its source folder."""
    shutil.copytree(REPOSITORY / "app-src/v3", source / version)
    app = source / version / "app.py"
    app.write_text(app.read_text().replace('"v3"', f'"{version}"').replace("'v3'", f"'{version}'"))
    for name, content in more.items():
        (source / version / name).write_bytes(content)
    return source


def test_two_users_in_turn_drop_versions_and_the_second_way_sends_only_what_changed(
    dropping: Server, ssh: Ssh
) -> None:
    modes = dropping.machine.says("stat", "--format=%U:%G %a", f"{DROP}", "/var/lib/pusher-agent").split("\n")
    assert modes[:2] == ["pusher-agent:pusher 2770", "pusher-agent:pusher-agent 711"]
    for version, alias in (("v1", "web1"), ("v2", "web1-bob"), ("v3", "web1")):
        code, said = pusher(dropping, ssh, "drop", version, "--host", alias)
        assert code == 0, said + dropping.log()
        assert dropping.version() == version
        # The command follows the deployment; what became of the drop is written a moment after its end.
        dropping.machine.until(lambda: result(dropping)["state"] == "deployed")
    assert dropping.curl("/status")["last"]["by"] == "tester (drop)"
    # Manifest, signature and index, and what differs between v2 and v3.
    v2, v3 = (REPOSITORY / "app-src" / version for version in ("v2", "v3"))
    changed = [one for one in v3.rglob("*") if one.is_file() and one.name != ".pusherignore"
               and (not (same := v2 / one.relative_to(v3)).exists() or same.read_bytes() != one.read_bytes())
               and "__pycache__" not in one.parts]  # fmt: skip
    assert f"rsync: {len(changed) + 3} files" in said, (said, changed)
    for version, alias in (("v1", "web1-bob"), ("v2", "web1"), ("v3", "web1-bob")):
        code, said = pusher(dropping, ssh, "drop", version, "--host", alias, "--bundle")
        assert code == 0, said
        assert dropping.version() == version
    # A member reads the results; a stranger does not even get in.
    assert dropping.machine.run("ls", DROP, user="mallory", check=False).returncode != 0
    code, said = pusher(dropping, ssh, "drop", "v1", "--host", "web1-mallory")
    assert (code, dropping.version()) == (4, "v3"), said


def test_rsync_by_hand_exactly_as_the_documentation_has_it(dropping: Server, ssh: Ssh, tmp_path: Path) -> None:
    text = (REPOSITORY / "docs/reference/drop-directory.md").read_text()
    lines = text.split("```\n")[1].replace("\n```", "")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, argv in (("ssh", f"/usr/bin/ssh -F {ssh.config}"), ("pusher", f"{sys.executable} -m pusher")):
        (bin_ / name).write_text(f'#!/bin/sh\nexec {argv} "$@"\n')
        (bin_ / name).chmod(0o755)
    (tmp_path / "app-src").symlink_to(REPOSITORY / "app-src")
    (tmp_path / "pusher.toml").write_text(f'app = "{APP}"\nkey = "{dropping.folder / "key"}"\n')
    *drop, see = lines.strip().split("\n")
    environment = os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    for line in drop:
        subprocess.run(("sh", "-ec", line), cwd=tmp_path, env=environment, check=True, timeout=60)
    digest = subprocess.run(("sha256sum", tmp_path / "signed/tree.manifest.json"), capture_output=True, text=True)
    await_result(dropping, state="deployed", manifest=digest.stdout.split()[0])
    said = subprocess.run(("sh", "-ec", see), cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert json.loads(said.stdout)["version"] == "v3"


def test_what_lands_while_the_agent_is_stopped_is_deployed_when_it_starts(dropping: Server, ssh: Ssh) -> None:
    dropping.machine.run("systemctl", "stop", "pusher-agent.socket", "pusher-agent.service")
    code, said = pusher(dropping, ssh, "drop", "v1", "--host", "web1")
    assert code == 5, said
    assert "has arrived on web1" in said
    assert dropping.version() == "v3"
    dropping.machine.run("systemctl", "start", "pusher-agent.service")
    await_result(dropping, state="deployed", version="v1")
    assert dropping.version() == "v1"


def test_rsync_that_is_killed_at_ten_random_places_and_run_again_deploys_once(
    dropping: Server, ssh: Ssh, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    before, version = dropping.version(), "v3-slow"
    source = variant(tmp_path / "source", version, **{f"data{n}": chance.randbytes(100_000) for n in range(15)})
    sign(dropping, ssh, version, source=source, into=tmp_path / "load")
    earlier = {one["deployment"] for one in dropping.curl("/releases")["deployments"]}
    for _ in range(10):
        how = chance.choice(((), ("--partial",), ("--inplace",), ("--partial-dir=.rsync-partial",)))
        argv = ("rsync", *OPTIONS, *how, "--bwlimit=1500", "-e", ssh.command)
        process = subprocess.Popen((*argv, *_sources(tmp_path / "load", chance), f"web1:{DROP}/"))
        try:
            process.wait(chance.uniform(0.15, 1.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        # All of it may have arrived when rsync was killed: then it is deployed, and else nothing is.
        assert dropping.version() in (before, version), f"seed {seed}"
    rsync(ssh, *_sources(tmp_path / "load", chance), f"web1:{DROP}/")
    await_result(dropping, state="deployed", version=version)
    new = {one["deployment"] for one in dropping.curl("/releases")["deployments"]} - earlier
    assert len(new) == 1, f"seed {seed}"


def _sources(load: Path, chance: random.Random) -> list[str]:
    found = [str(one) for one in load.iterdir()]
    chance.shuffle(found)
    return found


def test_of_two_drops_at_once_the_newer_wins_and_the_older_is_told_so(dropping: Server, ssh: Ssh) -> None:
    older, newer = (Path(dropping.pack(version).lstrip("/")) for version in ("v1", "v2"))
    pid = dropping.says("show", "--property=MainPID", "--value", "pusher-agent.service")
    dropping.machine.run("kill", "-STOP", pid)
    try:
        both = [
            subprocess.Popen(
                ("rsync", *OPTIONS, "-e", ssh.command, dropping.machine.root / one, f"{alias}:{DROP}/")
            )
            for one, alias in ((newer, "web1"), (older, "web1-bob"))
        ]
        assert [one.wait(30) for one in both] == [0, 0]
    finally:
        dropping.machine.run("kill", "-CONT", pid)
    await_result(dropping, newer.name, state="deployed")
    found = await_result(dropping, older.name, state="refused")
    assert isinstance(found["problem"], dict)
    assert found["problem"]["code"] == "older_than_accepted"
    assert dropping.version() == "v2"


def test_what_members_of_the_group_may_put_there_harms_nobody(dropping: Server, ssh: Ssh) -> None:
    before = dropping.version()
    script = f"""cd {DROP} && mkfifo a.tar.zst && ln -s /etc/shadow b.tar.zst && mkdir c.tar.zst &&
        echo closed >d.tar.zst && chmod 600 d.tar.zst && (mv tree tree.old; true) && ln -s / tree &&
        ln -sf /etc/pusher-agent/agent.toml e.tar.zst.result.json && echo x >e.tar.zst"""
    configuration = dropping.machine.says("cat", "/etc/pusher-agent/agent.toml")
    dropping.machine.run("sh", "-c", script, user="bob")
    for name, words in (
        ("a", "a fifo"),
        ("b", "a symbolic link"),
        ("c", "a folder"),
        ("d", "permission to read d.tar.zst"),
        ("e", "the rest of e.tar.zst"),
    ):
        found = await_result(dropping, f"{name}.tar.zst", state="waiting")
        assert words in str(found["waiting_for"]), found
        assert "root:" not in json.dumps(found)
    assert dropping.machine.says("cat", "/etc/pusher-agent/agent.toml") == configuration
    assert dropping.curl("/healthz")["status"] == "ok"
    assert dropping.version() == before
    # A file that could not be read is checked again when it can.
    dropping.machine.run("chmod", "664", f"{DROP}/d.tar.zst", user="bob")
    dropping.machine.until(lambda: "the rest of" in str(result(dropping, "d.tar.zst").get("waiting_for")))
    dropping.machine.run("sh", "-c", f"rm -rf {DROP}/*", user="bob", check=False)


def test_an_agent_at_rest_is_woken_four_times_a_second_for_its_drop_directory_and_no_more(
    dropping: Server,
) -> None:
    pid = dropping.says("show", "--property=MainPID", "--value", "pusher-agent.service")

    def switches() -> int:
        said = dropping.machine.run("sh", "-c", f"grep -h ^voluntary /proc/{pid}/task/*/status").stdout
        return sum(int(line.split()[1]) for line in said.splitlines())

    def in_5_s() -> int:
        began = switches()
        time.sleep(5)
        return switches() - began

    # Work that other tests left behind comes to an end; whatever wakes it again and again does not.
    most = 5 * 4 + 5
    counted = [in_5_s()]
    while counted[-1] > most and len(counted) < 6:
        counted.append(in_5_s())
    assert counted[-1] <= most, counted
