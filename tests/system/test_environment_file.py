"""The agent's reading of environment files is systemd's own, held against it on a booted host."""

import json

from agent.core.environment_file import parse_environment_file
from pusher.wire import Refused
from tests.field.environment_cases import PLAIN, odd
from tests.system.server import APP, Server

READ = """
for case in /var/tmp/environment/*.env; do
    systemd-run --quiet --wait --pipe --collect --property=EnvironmentFile=$case /usr/bin/env -0 >${case%.env}.out
done
"""


def test_200_odd_files_are_read_as_systemd_reads_them(live: Server) -> None:
    texts = [text for text in (*PLAIN, *odd()) if "\0" not in text]
    folder = live.machine.root / "var/tmp/environment"
    folder.mkdir(parents=True)
    for number, text in enumerate(texts):
        (folder / f"{number:03}.env").write_bytes(text.encode())
    live.machine.says("/bin/sh", "-c", READ)
    compared = 0
    for number, text in enumerate(texts):
        try:
            ours = parse_environment_file(text, file="env")
        except Refused:
            continue
        raw = (folder / f"{number:03}.out").read_bytes().decode()
        theirs = dict(one.partition("=")[::2] for one in raw.split("\0") if one)
        found = {name: value for name, value in theirs.items() if name in ours or name in ("A", "B", "C")}
        assert found == ours, json.dumps(text)
        compared += 1
    assert compared > 40


def test_a_line_that_systemd_drops_is_refused_by_apply_check_and_send(live: Server) -> None:
    machine = live.machine
    env, toml = machine.root / "etc/app.env", machine.root / f"etc/pusher-agent/apps/{APP}.toml"
    before = toml.read_text()
    try:
        env.write_text("GOOD=1\n")
        env.chmod(0o600)
        toml.write_text(f'environment_file = "/etc/app.env"\n{before}')
        machine.says("pusher-agent", "app", "apply", APP)
        env.write_text("GOOD=1\nexport SECRET=x\n")
        assert "line 2 would be left out: `export` belongs to shells" in machine.says("pusher-agent", "check")
        problem = live.send("v2")
        assert problem["title"] == f"{APP} does not get all of its environment"
        assert "systemd leaves out 'export SECRET'" in problem["detail"]
    finally:
        toml.write_text(before)
        env.unlink()
        machine.says("pusher-agent", "app", "apply", APP)
