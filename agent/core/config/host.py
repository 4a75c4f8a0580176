"""The configuration of the host itself: `/etc/pusher-agent/agent.toml`."""

from datetime import datetime
from typing import Literal

from pydantic import Field, model_validator

from agent.core.config.table import Table, parse_table
from agent.core.config.values import MailAddress, NotEmpty, OptionalPath, OptionalTime, Seconds, Webhook
from agent.core.notice_formats import Format
from pusher.wire import Limits


class Door(Table):
    """The HTTP door: its loopback address, the group whose members may deploy, and who else may read metrics."""

    address: str = Field("127.0.0.1:9000", pattern=r"^127\.\d+\.\d+\.\d+:\d+$")
    group: str = "pusher"
    metrics_users: list[NotEmpty] = []


class BundleLimits(Table):
    """The largest bundle that this host accepts; sizes in bytes, times in seconds."""

    files: int = Field(100_000, ge=1)
    unpacked: int = Field(4 * 1024**3, ge=1)
    path: int = Field(1_024, ge=1, le=4_000)
    depth: int = Field(64, ge=1)
    index: int = Field(64 * 1024**2, ge=1)
    stall_s: Seconds = 30
    total_s: Seconds = 3_600

    @property
    def tree(self) -> Limits:
        """The limits of a tree, in the form that pusher.wire reads."""
        return Limits(files=self.files, unpacked=self.unpacked, path=self.path, depth=self.depth)


class Drop(Table):
    """The drop directories: how many finished drops of each to keep, and for how many days; how often, in seconds,
    to scan a directory that the kernel cannot watch."""

    keep: int = Field(10, ge=0)
    days: float = Field(30, ge=0, strict=False)
    rescan_s: float = Field(30, gt=0, le=86_400, strict=False)


class Notify(Table):
    """Who is told how deployments end: an address, or the file of root's with it, and a mail address.

    `format` and the other files belong to the address (agent/core/notice_formats.py).
    """

    url: Webhook = ""
    url_file: OptionalPath = ""
    format: Format = "json"
    events: list[Literal["failed", "stuck", "done", "rolled_back"]] = ["failed", "stuck", "done", "rolled_back"]
    secret_file: OptionalPath = ""
    credentials_file: OptionalPath = ""
    ca_file: OptionalPath = ""
    email: MailAddress = ""

    @model_validator(mode="after")
    def _one_address(self) -> "Notify":
        if self.url and self.url_file:
            raise ValueError("`url` and `url_file` cannot both be there: keep one")
        return self


class AgentConfig(Table):
    """The host itself. A manifest that has `hosts` must list its `name`."""

    name: str = ""
    service: Literal["systemd", "embedded"] = "systemd"
    revoked_keys: OptionalPath = ""
    history_since: OptionalTime = ""
    door: Door = Door()
    limits: BundleLimits = BundleLimits()
    drop: Drop = Drop()
    notify: Notify = Notify()

    @property
    def since(self) -> int:
        """`history_since` in seconds since 1970; 0 without one."""
        return int(datetime.fromisoformat(self.history_since).timestamp()) if self.history_since else 0


def parse_agent(text: str, *, file: str) -> AgentConfig:
    """The host's configuration. Raises: Refused(configuration), naming `file`, the key and the correction."""
    return parse_table(AgentConfig, text, file=file)
