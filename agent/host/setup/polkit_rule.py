"""The polkit rule: its file, and whether systemd and polkit follow it.

Invariant: the rule names every app that has rendered units, even if its file is unusable: such an app goes on
running, and the agent controls it again when the file is corrected. The check changes nothing.
"""

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence

from agent.core.environment import CLEAN_PATH
from agent.core.layout import HostLayout
from agent.core.polkit import render_rule
from agent.core.units import AGENT
from agent.host.setup.config_files import read_apps
from agent.host.storage.disk import Disk
from agent.host.systemd.unit_files import established, known_units

_HARMLESS = ("systemctl", "--no-ask-password", "--job-mode=triggering", "restart", "--")
"""systemd asks polkit about this, and then refuses it to everybody: that mode is for stopping only
(manager_add_job() in its job engine). So a user who gets that refusal may restart the unit."""

_ALLOWED = "--job-mode=triggering is only valid for stop"
_ASK_S = 20.0


def write_rule(layout: HostLayout, disk: Disk) -> None:
    """Write the rule for the units of every app that is set up. Blocking. Raises: Failed."""
    users = [config.user for config in read_apps(layout).usable.values()]
    text = render_rule([unit for app in established(layout) for unit in known_units(layout, app)], users=users)
    disk.write(layout.polkit_rules, text.encode(), op="apps.rule", replace=True)


def unnamed(units: Sequence[str], layout: HostLayout) -> list[str]:
    """The units that the file does not name. Blocking. Raises: OSError; often only polkit and root may read it."""
    text = layout.polkit_rules.read_text("utf-8", errors="replace")
    return [unit for unit in units if f'"{unit}"' not in text]


def may_ask(layout: HostLayout) -> bool:
    """Whether this process can find out what the agent may do: only root and the agent, on the running system."""
    try:
        agent = pwd.getpwnam(AGENT).pw_uid
    except KeyError:
        return False
    return str(layout.root) == "/" and os.geteuid() in (0, agent)


def denials(units: Sequence[str]) -> Mapping[str, str]:
    """The units that the agent may not control, with systemd's words; empty if it may control all. Blocking."""
    become = ("setpriv", f"--reuid={AGENT}", f"--regid={AGENT}", "--init-groups", "--")
    argv = (*(() if os.geteuid() else become), *_HARMLESS, *units)
    try:
        environment = {"PATH": CLEAN_PATH, "LANG": "C.UTF-8"}
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", check=False, timeout=_ASK_S, env=environment
        )
        said = done.stderr
    except OSError as error:
        said = f"{argv[0]} cannot be run: {error.strerror}"
    except subprocess.TimeoutExpired:
        said = f"systemd did not answer within {_ASK_S:g} s"
    return read_denials(units, said)


def read_denials(units: Sequence[str], said: str) -> dict[str, str]:
    """As `denials`, from the standard error of systemctl."""
    lines = [line.strip() for line in said.splitlines()]
    denied = {}
    for unit in units:
        mine = f"Failed to restart {unit}: "
        words = next((line.removeprefix(mine) for line in lines if line.startswith(mine)), "".join(lines[:1]))
        if not words.startswith(_ALLOWED):
            denied[unit] = words.removesuffix(".") or "systemd said nothing"
    return denied
