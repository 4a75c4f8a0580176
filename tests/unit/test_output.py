"""Output that cannot be written is reported in a sentence, and ends no work on a host."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pusher.wire import Code, Failed, LogLine
from tests.unit.scripted_agent import EVENTS, ended
from tests.unit.scripted_door import Exchange, ScriptedDoor, answer, events, note

FULL = "pusher: Standard output cannot be written: No space left on device\n"
MEND = "  Make room there, or redirect the output\n"


def shell(line: str, door: ScriptedDoor, *, unbuffered: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `pusher` is the command as it is installed, and its host the scripted one."""
    program = "import sys; sys.argv[0] = 'pusher'; from pusher.__main__ import command; command()"
    variables = {"PYTHON": sys.executable, "PROGRAM": program, "PUSHER_HOST": door.address}
    if unbuffered:
        variables["PYTHONUNBUFFERED"] = "1"
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; pusher() {{ "$PYTHON" -c "$PROGRAM" "$@"; }}; {line}'],
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | variables,
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("words", ["--version", "send --help", "completion bash", "status", "status --json"])
def test_a_result_that_cannot_be_written_is_a_failure(door: ScriptedDoor, words: str, *, unbuffered: bool) -> None:
    done = shell(f"pusher {words} >/dev/full", door, unbuffered=unbuffered)
    assert (done.returncode, done.stderr) == (1, FULL + MEND)


@pytest.mark.parametrize("exit_code", [0, 1])
def test_a_deployment_is_followed_to_its_end_without_a_reader(door: ScriptedDoor, exit_code: int) -> None:
    if exit_code:
        door.on("GET", EVENTS, events(ended(Failed(Code.APP_EXITED, "It ended"))))
    done = shell("pusher send v3 >/dev/full", door)
    last = "pusher: It ended\n" if exit_code else FULL + "  The exit code says how the command ended\n"
    assert (done.returncode, done.stderr) == (exit_code, last)
    assert f"GET {EVENTS}?after=0" in door.paths()


@pytest.mark.parametrize("words", ["--version", "send --help", "completion bash", "releases", "logs --follow"])
def test_a_closed_pipe_is_no_error(door: ScriptedDoor, words: str) -> None:
    def log(exchange: Exchange) -> None:
        note(exchange)
        line = LogLine(0, "service", "hello").to_line()
        exchange.stream(line for _ in iter(int, 1))  # until it is hung up on

    door.on("GET", "/apps/flask-demo/logs", log)
    door.on("GET", "/apps/flask-demo/releases", answer({}))
    done = shell(f"pusher {words} | true", door)
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_standard_streams_are_not_reused(door: ScriptedDoor, project: Path) -> None:
    assert shell("pusher send v3 <&- >&- 2>&-", door).returncode == 0
    done = shell("pusher status >&-", door)
    assert (done.returncode, done.stderr) == (
        1,
        f"pusher: Standard output cannot be written: Bad file descriptor\n{MEND}",
    )


def test_without_standard_input_nobody_is_asked(door: ScriptedDoor, project: Path) -> None:
    with (project / "pusher.toml").open("a") as file:
        file.write(f'[env.live]\nhosts = ["{door.address}"]\nconfirm = true\n')
    done = shell("pusher send v3 --env live <&-", door)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "pusher: live must be confirmed: there is no terminal to ask at",
    )


@pytest.mark.parametrize("stream", [">/dev/full 2>&1", "2>/dev/full", "2>&-"])
def test_without_standard_error_the_exit_code_is_the_same(door: ScriptedDoor, stream: str) -> None:
    assert shell(f"pusher frobnicate {stream}", door).returncode == 2
    assert shell(f"PUSHER_HOST=unix:/nonexistent pusher status {stream}", door).returncode == 5


def test_a_drop_does_not_begin_if_the_local_disk_is_full(door: ScriptedDoor, project: Path) -> None:
    (project / "app-src/v3/big").write_bytes(os.urandom(5_000))
    done = shell("ulimit -f 1; pusher drop v3 --bundle", door)
    assert done.returncode == 2
    assert done.stderr.startswith("pusher: The drop cannot be prepared: File too large (")
    assert "rsync" not in done.stdout


@pytest.mark.parametrize(("limit", "exit_code"), [("-Sn", 0), ("-n", 5)])
def test_many_hosts_are_asked_within_the_limits_of_the_machine(
    door: ScriptedDoor, project: Path, limit: str, exit_code: int
) -> None:
    agent = project / "ssh"
    head = r"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n"
    agent.write_text(f"""#!/bin/sh\nprintf '{head}{{"app":"x"}}'\nexec cat >/dev/null\n""")
    agent.chmod(0o755)
    hosts = " ".join(f"h{at}" for at in range(20))
    done = shell(f"ulimit {limit} 32; PUSHER_HOST='{hosts}' PUSHER_SSH={agent} pusher status --json", door)
    assert done.returncode == exit_code, done.stderr
    assert "a bug in pusher" not in done.stderr
    assert (len(done.stdout.splitlines()) == 20) == (exit_code == 0)
