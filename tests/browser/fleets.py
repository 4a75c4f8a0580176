"""Repositories with the reports of a fleet, of as many hosts as a test wants."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pusher.wire.channel import Rollout, report_name
from pusher.wire.report import REPORT_NAMESPACE, Named
from tests.host import APP
from tests.library_keys import LibraryIdentity
from tests.publishing import Publisher
from tests.reporting import Reporting


class Fleet:
    """A fleet in `folder` whose channel wants v2, of hosts that had v1 before. All of it blocks."""

    def __init__(self, folder: Path, publisher: Publisher, rollout: Rollout) -> None:
        self.folder = folder
        self.publisher = publisher
        publisher.trust(folder / "signers")
        target = publisher.put({"app.py": ""}, "v2")
        publisher.name(target, rollout=rollout)
        self.old, self.wanted = Named("0b" * 32, "v1"), Named(target.release.manifest, "v2")

    @property
    def words(self) -> tuple[str, ...]:
        """For `pusher dashboard` in `folder`."""
        return "--repository", str(self.publisher.folder), "--signers", str(self.folder / "signers"), "--app", APP

    def adopt(self, *names: str) -> None:
        """Let these be its hosts. `pusher fleet adopt` reads all of the inventory for each."""
        lines = (f'namespaces="{REPORT_NAMESPACE}" {_host(name).identity.public()}' for name in names)
        text = "".join(f"{name} {line}\n" for name, line in zip(names, lines, strict=True))
        (self.folder / "fleet.allowed").write_text(text)

    def report(self, hosts: Mapping[str, Mapping[str, Any]]) -> None:
        """Let hosts report: members of their reports besides the usual ones."""
        (self.publisher.folder / report_name(APP, "x")).parent.mkdir(parents=True, exist_ok=True)
        for name, members in hosts.items():
            facts = {"wanted": self.wanted, "attempt": 1, "live": self.old, **members}
            (self.publisher.folder / report_name(APP, name)).write_bytes(_host(name).signed(**facts))


_host = partial(Reporting, Path("/"), identity=LibraryIdentity)
