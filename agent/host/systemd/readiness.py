"""Whether the units of an app are fit for a deployment: as root rendered them, and with all of their environment.

Invariant: nothing here changes anything. What the agent may not read is judged by what systemd says of it.
"""

import asyncio
import re

from agent.core.config.app import AppConfig
from agent.core.layout import HostLayout
from agent.core.units import every_unit
from agent.host.ports import Differs
from agent.host.run.environment import unusable_environment
from agent.host.systemd import systemctl
from agent.host.systemd.systemctl import State
from agent.host.systemd.unit_files import disagreement
from pusher.wire import Code, Failed, Refused

_IGNORED = re.compile(r"Ignoring invalid environment assignment '([^\n]*)'")  # systemd, load_env_file


async def check_ready(app: str, config: AppConfig, *, host: HostLayout) -> None:
    """Check that a deployment can begin.

    Raises: Refused(configuration, service_failed); Differs, if only the files have changed.
    """
    if wrong := await asyncio.to_thread(unusable_environment, config, host):
        hint = "Correct it, and send again. systemd would start the app without that line"
        what = f"{app} would not get all of its environment"
        raise Refused(Code.CONFIGURATION, what, why=wrong, hint=hint)
    different = await asyncio.to_thread(disagreement, app, config, host=host)
    try:
        states = await systemctl.states_of(*every_unit(app, config))
    except Failed as problem:
        raise Refused(problem.code, problem.what, why=problem.why, hint=problem.hint) from problem
    unfit = [(unit, state) for unit, state in states.items() if state.load != "loaded" or state.stale]
    if different:
        command = f"pusher-agent app apply {app}"
        # What systemd has loaded is what is in force, unless that is in doubt as well.
        raise (Refused if unfit else Differs)(
            Code.CONFIGURATION,
            f"The units of {app} and its configuration disagree",
            why=different,
            hint="" if command in different else f"`{command}`, as root",
        )
    for unit, state in unfit:
        masked = state.load == "masked"
        raise Refused(
            Code.SERVICE_FAILED,
            f"{unit} cannot be started",
            why="systemd has read an older version of it" if state.load == "loaded" else state.why,
            hint=f"`systemctl unmask {unit}`, as root" if masked else "`systemctl daemon-reload`, as root",
        )


async def check_environment(app: str, config: AppConfig, state: State, *, host: HostLayout) -> None:
    """Check that systemd used all of the environment file, which the agent may not read. Raises: Failed."""
    if not config.environment_file:
        return
    ignored = _IGNORED.findall(await systemctl.log_of(state.invocation))
    if ignored:
        # Not its value: that is a secret.
        names = ", ".join(dict.fromkeys(repr(one.partition("=")[0][:60]) for one in ignored))
        file = host.beneath(config.environment_file)
        raise Failed(
            Code.CONFIGURATION,
            f"{app} does not get all of its environment",
            why=f"systemd leaves out {names}: it is not NAME=value in {file}",
            hint="As root, `pusher-agent check` names the line and the right form",
        )
