"""Hosts that sign whatever a test lets them report."""

import time
from pathlib import Path
from typing import Any

from agent.host.channel.identity import Identity
from agent.host.storage.disk import Disk
from pusher.fleet.host_key import public_bytes
from pusher.fleet.inventory import Member
from pusher.fleet.proved import Proved
from pusher.fleet.reports import Heard, check_reports
from pusher.wire.channel import join_signed
from pusher.wire.report import Report
from tests.publishing import APP

NOW = int(time.time() * 1000)


class Reporting:
    """A host with a key, which signs whatever a test wants."""

    def __init__(self, folder: Path, name: str, *, identity: type[Identity] = Identity) -> None:
        self.name = name
        self.identity = identity(folder / name, host=name, disk=Disk())
        self.identity.ensure()
        self.member = Member(name, public_bytes(self.identity.public().split()[1]))

    def signed(self, **members: Any) -> bytes:
        facts: dict[str, Any] = {
            "app": APP,
            "channel": "stable",
            "host": self.name,
            "created": NOW,
            "state": "current",
        }
        document = Report(**(facts | members)).to_bytes()
        return join_signed(document, self.identity.sign(document))


def check_report(content: bytes, member: Member, *, app: str, channel: str, proved: Proved | None = None) -> Heard:
    """What one object says of one host."""
    [heard] = check_reports([(member, content)], app=app, channel=channel, proved=proved or Proved())
    return heard
