"""One-off commands where the agent is the parent of its apps: environment, terminal, exit code."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence

import pytest

from agent.admin.command_record import caller
from tests.deploy.runner_place import alive, until
from tests.host import APP, Host, wsgi
from tests.terminal import Terminal, terminal

SEES = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), sys.prefix]))"
LINGERS = "import os, time; print(os.getpid(), 'runs', flush=True); time.sleep(600)"


def words(host: Host, *command: str) -> Sequence[str]:
    return (sys.executable, "-m", "agent", "app", "run", "--root", str(host.root), APP, "--", *command)


async def run(host: Host, *command: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *words(host, *command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await asyncio.wait_for(process.communicate(stdin), 60)
    return process.returncode or 0, said.decode(), errors.decode()


async def test_a_command_runs_in_the_live_release_with_the_environment_of_the_app(host: Host) -> None:
    release = (await host.deploy(wsgi("v1"), "v1"))["release"]
    code, said, errors = await run(host, "python", "-c", SEES, "a b", "--", "$HOME")
    assert code == 0, errors
    arguments, folder, environment, prefix = json.loads(said)
    assert arguments == ["a b", "--", "$HOME"]
    live = host.root / f"opt/{APP}/releases/{release}"
    assert (folder, prefix) == (str(live), f"{live}/venv")
    assert environment["PUSHER_RELEASE"] == release
    assert environment["PUSHER_VERSION"] == "v1"
    assert "PUSHER_PREFLIGHT" not in environment
    assert "LISTEN_FDS" not in environment


async def test_input_and_exit_code_pass_through_also_after_a_signal(host: Host) -> None:
    await host.deploy(wsgi("v1"), "v1")
    code, said, errors = await run(host, "python", "-c", "print(input()); raise SystemExit(9)", stdin=b"hello\n")
    assert (code, said) == (9, "hello\n"), errors
    code, _, _ = await run(host, "python", "-c", "import os; os.kill(os.getpid(), 9)")
    assert code == 137


async def test_who_ran_what_and_how_it_ended_is_in_the_history(host: Host) -> None:
    release = (await host.deploy(wsgi("v1"), "v1"))["release"]
    code, _, errors = await run(host, "python", "-c", "raise SystemExit(3)")
    assert (code, errors) == (3, "")
    *_, began, ended = [json.loads(line) for line in (await _history(host)).splitlines()]
    assert began["by"] == caller({})
    assert began["command"] == "python -c 'raise SystemExit(3)'"
    assert began["release"] == release
    assert (ended["run"], ended["code"]) == (began["run"], 3)
    _, status = await host.request("GET", f"/apps/{APP}/status")
    assert status["history"]["problem"] == ""


async def test_a_command_that_cannot_be_recorded_says_so_and_runs(host: Host) -> None:
    await host.deploy(wsgi("v1"), "v1")
    await host.stop()
    try:
        code, said, errors = await run(host, "python", "-c", "print('runs')")
    finally:
        await host.start()
    assert (code, said) == (0, "runs\n")
    assert "warning: this is not in the history of the app" in errors


@pytest.mark.parametrize(
    "query", ["", "run=A", "run=a&code=x", "run=a&code=1000", "run=a&other=1", f"run={'a' * 41}", "run=a&run=b"]
)
async def test_a_record_that_makes_no_sense_is_refused(host: Host, query: str) -> None:
    await host.deploy(wsgi("v1"), "v1")
    before = await _history(host)
    status, answer = await host.request("POST", f"/apps/{APP}/commands?{query}")
    assert (status, answer["code"]) == (400, "bad_request")
    assert await _history(host) == before


def test_the_caller_is_who_called_sudo_but_only_root_is_believed() -> None:
    me = caller({})
    assert me.endswith(f"(uid {os.getuid()})")
    sudo = caller({"SUDO_USER": "alice", "SUDO_UID": "1000"})
    assert sudo == ("alice (uid 1000)" if os.getuid() == 0 else me)


async def test_nothing_live_and_an_unknown_program_are_refused_by_name(host: Host) -> None:
    code, _, errors = await run(host, "python")
    assert code == 4
    assert f"No command can be run in {APP}: no release is live" in errors
    await host.deploy(wsgi("v1"), "v1")
    code, _, errors = await run(host, "gunicron")
    assert code == 4
    assert "'gunicron' cannot be run" in errors
    assert "Did you mean gunicorn?" in errors


async def test_at_a_terminal_it_is_interactive_and_gets_ctrl_c(host: Host) -> None:
    await host.deploy(wsgi("v1"), "v1")

    def visit() -> None:
        with terminal(*words(host, "python")) as person:
            person.until(">>> ")
            person.type("import time; print('be' + 'gun'); [time.sleep(0.05) for _ in iter(int, 1)]\n")
            person.until("begun")
            person.type("\x03")
            person.until("KeyboardInterrupt")
            person.type("raise SystemExit(11)\n")
            assert person.wait() == 11

    await asyncio.to_thread(visit)


async def test_a_killed_caller_takes_the_command_with_it(host: Host) -> None:
    await host.deploy(wsgi("v1"), "v1")

    def visit() -> int:
        with terminal(*words(host, "python", "-c", LINGERS)) as person:
            person.until("runs")
            return _pid(person)  # the end of the block kills the caller

    pid = await asyncio.to_thread(visit)
    await asyncio.to_thread(until, lambda: not alive(pid))


def _pid(person: Terminal) -> int:
    return int(person.said.split(" runs")[0].split()[-1])


async def _history(host: Host) -> str:
    argv = ("curl", "-sS", f"http://127.0.0.1:{host.door}/apps/{APP}/history")
    asking = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    return (await asking.communicate())[0].decode()
