"""One-off commands under systemd: run in a transient unit by root, for a person at a terminal or a pipe.

Invariant: the unit never outlives its caller. The caller is in a scope that systemd drops with its last process,
and the unit is bound to that scope: so not even `kill -9` leaves a command behind.
"""

import os
import secrets
import subprocess
from collections.abc import Sequence

from agent.core.config.app import AppConfig
from agent.core.layout import AppLayout, HostLayout
from agent.core.one_off import OneOff, box, run_argv, scope_argv
from agent.core.units import Units
from agent.host.run.command import has_terminal, run_to_its_end
from pusher.wire import Code, Failed

_QUERY_S = 30.0
_DEAD = ("setpriv", "--pdeathsig=KILL", "--")
"""For what is in the scope besides the caller: it must not keep the scope there."""


def run_in_unit(app: str, command: Sequence[str], config: AppConfig, *, host: HostLayout) -> int:
    """Run a command in the live release, in the box of the app's unit; its exit code. Blocking, as root.

    Raises: Refused(configuration); Failed, if systemd does not do it.
    """
    units = OneOff.of(app, f"{os.getpid()}-{secrets.token_hex(3)}")
    settings = box(app, _ask("systemctl", "cat", "--no-pager", Units.of(app).service))
    terminal = has_terminal()
    argv = run_argv(
        units,
        settings,
        folder=str(AppLayout(host.beneath(config.path)).current),
        command=command,
        title=f"{command[0]} of {app}, run by pusher-agent",
        terminal=terminal,
    )
    _ask(*scope_argv(units, os.getpid()))
    return run_to_its_end(
        (*_DEAD, *argv),
        # At a terminal, systemd-run passes Ctrl-C on as a letter. It must then stay in the foreground.
        apart=not terminal,
        interrupt=lambda _: _signal(units, "INT"),
        end=lambda _: _end(units),
    )


def _end(units: OneOff) -> None:
    _try("systemctl", "stop", "--no-block", units.service)


def _signal(units: OneOff, name: str) -> None:
    _try("systemctl", "kill", f"--signal={name}", units.service)


def _ask(*argv: str) -> str:
    done = _run(argv)
    if done.returncode:
        why = " ".join(done.stderr.split())
        raise Failed(Code.SERVICE_FAILED, f"`{' '.join(argv[:3])} ...` failed", why=why)
    return done.stdout


def _try(*argv: str) -> None:
    """It may have ended meanwhile."""
    _run(argv)


def _run(argv: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            (*_DEAD, *argv),
            capture_output=True,
            text=True,
            check=False,
            timeout=_QUERY_S,
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C must not end it half way
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(Code.SERVICE_FAILED, f"{argv[0]} cannot be run", why=str(error)) from error
