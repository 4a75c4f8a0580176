"""The commands of systemctl, and the meaning of its answers."""

import asyncio
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.host.clock import SystemClock
from agent.host.log.notify import Notifier
from agent.host.net.accepting import accepts_at
from agent.host.run.process import until_pid_ends
from agent.host.systemd import systemctl
from agent.host.systemd.hooks import hook_script
from agent.host.systemd.systemctl import control_argv, journal_argv, parse_state, show_argv, timers_argv
from tests.ports import free_port


def test_the_commands_are_these() -> None:
    assert control_argv("restart", "a.service") == ("systemctl", "--no-ask-password", "restart", "--", "a.service")
    assert control_argv("stop", "a.socket", "a.service", wait=False) == (
        *("systemctl", "--no-ask-password", "--no-block", "stop", "--", "a.socket", "a.service"),
    )
    assert show_argv("a.service")[-2:] == ("--", "a.service")
    assert journal_argv("12ab")[-3:] == ("_SYSTEMD_INVOCATION_ID=12ab", "+", "INVOCATION_ID=12ab")


@pytest.mark.parametrize(
    ("properties", "why"),
    [
        ("Result=exit-code\nExecMainCode=1\nExecMainStatus=3", "exit code 3"),
        ("Result=exit-code\nExecMainCode=1\nExecMainStatus=203", "exit code 203: its command could not be run"),
        ("Result=signal\nExecMainCode=2\nExecMainStatus=9", "signal 9 (KILL)"),
        ("Result=oom-kill\nExecMainCode=2\nExecMainStatus=9", "the kernel ended it: out of memory"),
        ("Result=start-limit-hit", "it was started too often (start limit)"),
        ("LoadState=masked", "it is masked"),
        ("LoadState=not-found", "its unit is not-found"),
        ("Result=success\nActiveState=inactive\nSubState=dead", "it is inactive (dead)"),
        ("Result=success\nExecMainCode=1\nExecMainStatus=0", "exit code 0"),
        (
            "Result=exit-code\nActiveState=activating\nSubState=auto-restart",
            "a command of its unit has failed before its own (ExecStartPre=, ExecCondition=)",
        ),
    ],
)
def test_an_end_is_described_in_words(properties: str, why: str) -> None:
    assert parse_state(f"LoadState=loaded\n{properties}").why == why


def test_an_end_that_systemd_only_logged_has_the_same_words() -> None:
    log = "Error loading ASGI app\na.service: Main process exited, code=%s\na.service: Failed with result 'x'.\n"
    assert systemctl.end_in(log % "exited, status=3/NOTIMPLEMENTED") == "exit code 3"
    assert systemctl.end_in(log % "killed, status=9/KILL") == "signal 9 (KILL)"
    assert systemctl.end_in("Started a.service") == ""


def test_a_reason_is_systemds_own_first_line_with_a_hint() -> None:
    said = "Failed to restart a.service: Unit a.service is masked.\nSee more.\n"
    problem = systemctl.refusal("systemd could not restart a.service", said)
    assert problem.why == "Failed to restart a.service: Unit a.service is masked"
    assert "unmask" in problem.hint
    assert systemctl.refusal("no", "something else").hint == ""


@pytest.mark.parametrize(
    "said",
    [
        "Failed to connect to bus: Connection refused",
        "Failed to restart a.service: Transport endpoint is not connected",
        "Failed to restart a.service: Refusing activation, D-Bus is shutting down.",
        "Failed to restart a.service: Message recipient disconnected from message bus without replying",
        "Failed to restart a.service: Connection reset by peer",
        "Warning! D-Bus connection terminated.\nFailed to wait for response: Connection reset by peer",
    ],
)
def test_the_hint_names_dbus_when_the_bus_is_lost(said: str) -> None:
    assert "dbus" in systemctl.refusal("systemd could not restart a.service", said).hint


async def test_the_end_of_any_process_is_noticed() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "30")
    watch = asyncio.create_task(until_pid_ends(process.pid))
    done, _ = await asyncio.wait({watch}, timeout=0.05)
    assert not done
    process.kill()
    await asyncio.wait_for(watch, 5)
    await process.wait()


async def test_a_process_that_is_not_there_has_ended() -> None:
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    await asyncio.wait_for(until_pid_ends(process.pid), 5)
    await asyncio.wait_for(until_pid_ends(0), 5)


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_a_connection_that_waits_shows_that_no_app_accepts_from_the_socket(
    family: socket.AddressFamily, tmp_path: Path
) -> None:
    unix = family is socket.AF_UNIX
    where: Any = str(tmp_path / "s") if unix else ("127.0.0.1", free_port())
    address = f"unix:{where}" if unix else f"127.0.0.1:{where[1]}"
    with socket.socket(family) as listening, socket.socket(family) as visitor:
        listening.bind(where)
        listening.listen()
        assert accepts_at(address)
        visitor.connect(where)
        assert not accepts_at(address)
        accepted, _ = listening.accept()
        assert accepts_at(address)
        accepted.close()


def test_an_address_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    (tmp_path / "tcp6").write_text(
        "head\n"
        "0: 00000000000000000000000000000000:1F40 0:0 0A 00000000:00000001 00:0 0 0 0 77\n"
        "1: 00000000000000000000000000000000:1F41 0:0 0A 00000000:00000001 00:0 0 0 0 78\n"
    )
    assert not accepts_at("[::]:8000", net=tmp_path)
    assert accepts_at("[::1]:8000", net=tmp_path)
    assert accepts_at("0.0.0.0:7999", net=tmp_path)


def test_a_hook_script_is_quoted_so_that_no_shell_can_misread_it(tmp_path: Path) -> None:
    folder, output = tmp_path / "it's a release", tmp_path / "out"
    (folder / "venv/bin").mkdir(parents=True)
    hook = folder / "hook"
    hook.write_text('#!/bin/sh\npwd; echo "$A"; echo "$PATH"; echo oh >&2\n')
    hook.chmod(0o755)
    script = hook_script(hook, folder=folder, environment={"A": "$(id); 'x'"}, output=output)
    subprocess.run(("/bin/sh",), input=script, text=True, check=True, env={"PATH": "/bin"})
    assert output.read_text().splitlines() == [str(folder), "$(id); 'x'", f"{folder}/venv/bin:/bin", "oh"]


async def test_systemd_is_notified_of_ready_alive_and_stopping(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(tmp_path / "notify"))
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000"}
        notifier = Notifier(clock=SystemClock(), environment=environment)
        notifier.say("on\nits way")
        assert sock.recv(100) == b"STATUS=on its way"
        await notifier.start()
        assert sock.recv(100) == b"READY=1"
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 100), 5) == b"WATCHDOG=1"
        notifier.stopping()
        await notifier.stop()
        while (said := sock.recv(100)) == b"WATCHDOG=1":
            pass
        assert (said, sock.recv(100)) == (b"STOPPING=1", b"STATUS=Stopped")


async def test_without_a_notify_socket_nothing_is_sent() -> None:
    notifier = Notifier(clock=SystemClock(), environment={})
    await notifier.start()
    await notifier.stop()
    Notifier(clock=SystemClock(), environment={"NOTIFY_SOCKET": "/nowhere/at/all"}).send("READY=1")
    Notifier(clock=SystemClock(), environment={"NOTIFY_SOCKET": "@nobody-listens"}).send("READY=1")


def test_the_times_of_timers_are_asked_for_as_json() -> None:
    assert timers_argv("a.timer") == ("systemctl", "list-timers", "--all", "--output=json", "--", "a.timer")
