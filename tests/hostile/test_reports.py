"""Reports that nobody should believe: of hosts that are not there, and in the name of others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pusher.config import Settings
from pusher.fleet.inventory import adopt
from pusher.fleet.survey import survey
from pusher.fleet.waves import Step, next_step
from pusher.wire.channel import Rollout, report_name
from pusher.wire.report import Named
from tests.host import make_key
from tests.publishing import APP, CHANNEL, Publisher
from tests.reporting import Reporting

Put = Callable[..., None]


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """A release for web1 first."""
    make_key(tmp_path / "key")
    made = Publisher(tmp_path / "repo", key=tmp_path / "key")
    made.name(made.put({"app.py": "v1"}, "v1"), rollout=Rollout(waves=(("web1",), 100)))
    return made


@pytest.fixture
def hosts(tmp_path: Path) -> dict[str, Reporting]:
    """web1 and web2 are in the inventory, and web3 is not."""
    made = {name: Reporting(tmp_path, name) for name in ("web1", "web2", "web3")}
    for name in ("web1", "web2"):
        adopt(tmp_path / "fleet", made[name].identity.public())
    return made


@pytest.fixture
def put(publisher: Publisher) -> Put:
    """Puts a report that all is well: about a host, signed by one, in the place of one. All three may differ."""

    def put(signer: Reporting, *, about: str, at: str) -> None:
        document = publisher.channels.read(APP, CHANNEL)
        assert document
        release = document.document.target.release
        wanted = Named(release.manifest, release.version)
        path = publisher.folder / report_name(APP, at)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(signer.signed(host=about, wanted=wanted, live=wanted, attempt=1))

    return put


def states(publisher: Publisher) -> tuple[dict[str, str], Step]:
    """How the hosts stand, and what a rollout would do."""
    settings = Settings(app=APP, repository=str(publisher.folder), fleet=str(publisher.folder.parent / "fleet"))
    seen = survey(settings, CHANNEL)
    assert seen.document
    return {one.name: one.state for one in seen.places}, next_step(seen.document, seen.places, braked=False).step


def test_a_host_that_is_not_in_the_inventory_counts_for_nothing(
    publisher: Publisher, hosts: dict[str, Reporting], put: Put
) -> None:
    put(hosts["web3"], about="web3", at="web3")
    assert states(publisher) == ({"web1": "silent", "web2": "silent"}, Step.WAIT)


@pytest.mark.parametrize(("signer", "about"), [("web2", "web1"), ("web3", "web1"), ("web2", "web2")])
def test_a_host_that_says_it_is_another_opens_no_wave(
    publisher: Publisher, hosts: dict[str, Reporting], put: Put, signer: str, about: str
) -> None:
    put(hosts[signer], about=about, at="web1")
    assert states(publisher) == ({"web1": "unproved", "web2": "silent"}, Step.WAIT)
    put(hosts["web1"], about="web1", at="web1")
    assert states(publisher) == ({"web1": "current", "web2": "silent"}, Step.OPEN)
