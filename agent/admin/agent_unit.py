"""The unit of the agent itself, as systemd shows it: whether the agent starts.

Invariant: pure. An agent that somebody has stopped is no finding: that is somebody's will.
"""

from collections.abc import Iterator

from agent.core.units import AGENT

SHOW = ("systemctl", "show", "--property=ActiveState,SubState", f"{AGENT}.service")
"""The question, as a command."""


def findings(shown: str) -> Iterator[str]:
    """What is wrong, by the answer to `SHOW`."""
    state = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    if state.get("ActiveState") == "failed" or state.get("SubState") == "auto-restart":
        yield f"the agent does not start, so nothing can be deployed; see why: journalctl -u {AGENT} -n 20"
