"""Why an app does not serve, by what systemd says of its units, and the command that mends it.

Invariant: pure, and nothing is guessed. A unit on its way (it starts, it ends) is no outage yet.
"""

from dataclasses import dataclass

from agent.core.units import Units
from agent.host.systemd.systemctl import State, parse_state, show_argv


@dataclass(frozen=True, slots=True)
class Outage:
    """Why an app does not serve, for people. `failing`: it should run and does not; else somebody stopped it."""

    why: str
    failing: bool = False


def question(app: str) -> tuple[str, ...]:
    """The command that shows what `answer` reads."""
    units = Units.of(app)
    return show_argv(units.service, units.socket)


def answer(app: str, shown: str) -> tuple[Outage | None, tuple[str, ...]]:
    """Why the app does not serve, and the files of an administrator that change its service."""
    service, socket = (parse_state(block) for block in shown.split("\n\n"))
    return outage(app, service=service, socket=socket), service.drop_ins


def outage(app: str, *, service: State, socket: State) -> Outage | None:
    """Why the app does not serve; None if its service runs, or is on its way."""
    units, looped = Units.of(app), service.sub == "auto-restart"
    start = f"systemctl start {units.socket} {units.service}"
    masked = [unit for unit, state in ((units.socket, socket), (units.service, service)) if state.load == "masked"]
    if masked and not service.pid:
        names = " ".join(masked)
        return Outage(
            f"{' and '.join(masked)} cannot start, masked by root: systemctl unmask {names}, then {start}"
        )
    if socket.active == "failed" and not service.pid:  # without it, the service cannot stay up
        log = f"journalctl -u {units.socket} -n 20 says why"
        return Outage(
            f"{units.socket} does not open: {socket.why}{_changed(socket)}. {log}; then {start}", failing=True
        )
    if looped or service.active == "failed":
        then = (
            "systemd tries again and again" if looped else f"then systemctl restart {units.socket} {units.service}"
        )
        log = f"journalctl -u {units.service} -n 50 says more"
        return Outage(
            f"{units.service} does not stay up: {service.why}{_changed(service)}. {log}; {then}", failing=True
        )
    if service.active != "inactive":
        return None
    if service.disabled and socket.disabled:
        enable = f"systemctl enable --now {units.socket} {units.service}"
        return Outage(f"it was stopped and disabled, so it stays down after a reboot, too: {enable}")
    if socket.active == "active":
        return Outage(f"it was stopped, and the next request starts it again: systemctl start {units.service}")
    return Outage(f"it was stopped: {start}")


def _changed(state: State) -> str:
    """The files of an administrator that change the unit: often they are the reason."""
    return f" (the unit is changed by {', '.join(state.drop_ins)})" if state.drop_ins else ""
