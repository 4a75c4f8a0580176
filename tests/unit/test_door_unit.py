"""The socket unit is what agent.toml says: the package's own, or with a drop-in that root has rendered."""

import os
from pathlib import Path

import pytest

from agent.admin.door_unit import apply, findings, render
from agent.core.config.host import AgentConfig, Door
from agent.core.layout import HostLayout
from agent.host.setup.config_files import read_agent
from agent.host.storage.disk import Disk
from pusher.wire import DOOR, SSH_DOOR, Code, Failed

PACKAGED = Path(__file__).parent.parent.parent / "packaging/systemd/pusher-agent.socket"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root renders units")


class Systemctl:
    """Notes what is asked of it; `active`: whether the socket is open."""

    def __init__(self, *, active: bool = True) -> None:
        self.active = active
        self.ran: list[str] = []

    def __call__(self, argv: tuple[str, ...]) -> None:
        if "is-active" in argv:
            if not self.active:
                raise Failed(Code.SERVICE_FAILED, "inactive")
            return
        self.ran.append(" ".join(argv[1:]))


@pytest.fixture
def layout(tmp_path: Path) -> HostLayout:
    made = HostLayout(tmp_path)
    made.apps.mkdir(parents=True)
    made.units.mkdir(parents=True)
    made.agent_toml.write_text("")
    return made


def ask_at(layout: HostLayout, address: str) -> None:
    layout.agent_toml.write_text(f'[door]\naddress = "{address}"\n')


def listens(text: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith("ListenStream=")]


def test_the_packages_unit_is_for_the_default_configuration() -> None:
    assert listens(PACKAGED.read_text()) == [DOOR, SSH_DOOR, "/run/pusher-agent/api.sock"]
    assert AgentConfig().door.address == DOOR
    assert render(AgentConfig(), HostLayout(Path("/"))) == ""


def test_for_another_address_the_addresses_of_the_unit_are_replaced(tmp_path: Path) -> None:
    text = render(AgentConfig(door=Door(address="127.0.0.1:9100")), HostLayout(tmp_path))
    assert listens(text) == ["", "127.0.0.1:9100", SSH_DOOR, "/run/pusher-agent/api.sock"]


@as_root
@pytest.mark.root
def test_a_door_at_another_address_opens_anew_and_only_then(layout: HostLayout) -> None:
    systemctl = Systemctl()
    (said,) = apply(layout, disk=Disk(), run=systemctl)
    assert said == f"pusher-agent.socket listens at {DOOR}, as {layout.agent_toml} says"
    assert systemctl.ran == []
    ask_at(layout, "127.0.0.1:9100")
    moves = ["stop pusher-agent.socket pusher-agent.service", "daemon-reload",
             "start pusher-agent.socket pusher-agent.service"]  # fmt: skip
    said, _ = apply(layout, disk=Disk(), run=systemctl)
    assert said == f"wrote {layout.door_drop_in}"
    assert systemctl.ran == moves
    assert listens(layout.door_drop_in.read_text())[1] == "127.0.0.1:9100"
    assert len([*apply(layout, disk=Disk(), run=systemctl)]) == 1
    assert systemctl.ran == moves
    ask_at(layout, DOOR)
    said, _ = apply(layout, disk=Disk(), run=systemctl)
    assert said == f"removed {layout.door_drop_in}"
    assert not layout.door_drop_in.exists()
    closed = Systemctl(active=False)
    ask_at(layout, "127.0.0.1:9100")
    assert [*apply(layout, disk=Disk(), run=closed)] == [f"wrote {layout.door_drop_in}"]
    assert closed.ran == ["daemon-reload"]


def test_what_leaves_callers_unsure_is_found(layout: HostLayout, tmp_path: Path) -> None:
    lowest, cookies = tmp_path / "ip_unprivileged_port_start", tmp_path / "tcp_syncookies"
    lowest.write_text("1024\n")
    cookies.write_text("1\n")
    assert [*findings(read_agent(layout), layout, kernel=tmp_path)] == []
    ask_at(layout, "127.0.0.1:9100")
    (found,) = findings(read_agent(layout), layout, kernel=tmp_path / "none")
    assert "does not listen at 127.0.0.1:9100; `pusher-agent door apply`" in found
    lowest.write_text("0\n")
    ask_at(layout, DOOR)
    (found,) = findings(read_agent(layout), layout, kernel=tmp_path)
    assert "any user may listen at port 290" in found
    lowest.write_text("1024\n")
    cookies.write_text("0\n")
    (found,) = findings(read_agent(layout), layout, kernel=tmp_path)
    assert "sysctl net.ipv4.tcp_syncookies=1 (it is 0)" in found
