"""The socket unit of the agent's door: what root renders where agent.toml names another address than the package.

Invariant: the unit is the package's; a drop-in replaces its addresses, and is there only where it has to be.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from agent.core.config.host import AgentConfig
from agent.core.layout import HostLayout
from agent.core.units import AGENT
from agent.host.net.activation import UNIT
from agent.host.setup.config_files import read_agent
from agent.host.storage.disk import Disk
from pusher.wire import DOOR, SSH_DOOR, Failed

Run = Callable[[tuple[str, ...]], None]
"""Runs a command to its end. Raises: Failed."""

_KERNEL = Path("/proc/sys/net/ipv4")


def apply(layout: HostLayout, *, disk: Disk, run: Run) -> Iterator[str]:
    """Make the socket unit what agent.toml says; says what it did. A door at another address opens anew.

    Raises: Refused, with nothing changed; Failed.
    """
    config, file = read_agent(layout), layout.door_drop_in
    text = render(config, layout)
    if _read(file) == text:
        yield f"{UNIT} listens at {config.door.address}, as {layout.agent_toml} says"
        return
    active = _is_active(run)
    if active:
        # An open socket keeps its old address.
        run(("systemctl", "stop", UNIT, f"{AGENT}.service"))
    if text:
        disk.make_folders(file.parent, op="door.folder")
        disk.write(file, text.encode(), op="door.drop-in", replace=True)
        yield f"wrote {file}"
    else:
        disk.unlink(file, op="door.drop-in")
        yield f"removed {file}"
    run(("systemctl", "daemon-reload"))
    if active:
        run(("systemctl", "start", UNIT, f"{AGENT}.service"))
        yield f"the agent is asked at {config.door.address}"


def render(config: AgentConfig, layout: HostLayout) -> str:
    """The drop-in for this configuration; empty where the package's unit says it all."""
    if config.door.address == DOOR:
        return ""
    places = (config.door.address, SSH_DOOR, f"/{layout.api_socket.relative_to(layout.root)}")
    listen = "".join(f"ListenStream={place}\n" for place in places)
    return f"# Rendered by `pusher-agent door apply`; do not edit.\n[Socket]\nListenStream=\n{listen}"


def findings(config: AgentConfig, layout: HostLayout, *, kernel: Path = _KERNEL) -> Iterator[str]:
    """What keeps callers from being sure that it is the agent who answers, and that it does."""
    if _read(layout.door_drop_in) != render(config, layout):
        yield f"{UNIT} does not listen at {config.door.address}; `pusher-agent door apply`, as root"
    with suppress(OSError, ValueError):
        lowest, port = _number(kernel / "ip_unprivileged_port_start"), int(SSH_DOOR.rpartition(":")[2])
        if lowest <= port:
            yield (
                f"any user may listen at port {port}, so that who comes by ssh cannot know who answers; "
                f"sysctl net.ipv4.ip_unprivileged_port_start=1024 (it is {lowest})"
            )
    with suppress(OSError, ValueError):
        if _number(kernel / "tcp_syncookies") == 0:
            yield (
                "any user can keep others from the door by a few thousand connections that bring nothing; "
                "sysctl net.ipv4.tcp_syncookies=1 (it is 0)"
            )


def _is_active(run: Run) -> bool:
    try:
        run(("systemctl", "is-active", "--quiet", UNIT))
    except Failed:
        return False
    return True


def _number(file: Path) -> int:
    return int(file.read_text("utf-8"))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
