"""What the page says of a fleet: whom it names, and what it leaves out."""

from collections import Counter
from pathlib import Path

from pusher.dashboard.fleet import fleet_document
from pusher.fleet.standing import Place
from pusher.fleet.survey import Survey
from pusher.repository.channel import Channels
from pusher.repository.folder import Folder


def seen(folder: Path, **hosts: int) -> Survey:
    """A look at a fleet with so many hosts in each state, whose channel has no document."""
    found = [Place(f"web{at}-{state}", state) for state, number in hosts.items() for at in range(number)]
    repository = Folder(folder)
    return Survey(repository, Channels(repository, memory=folder), None, found, False)


def named(survey: Survey) -> tuple[dict[str, int], int]:
    document = fleet_document(survey)
    return Counter(one["state"] for one in document["named"]), document["left_out"]


def test_a_thousand_that_failed_do_not_hide_the_one_that_is_silent(tmp_path: Path) -> None:
    states, left_out = named(seen(tmp_path, current=10, silent=1, failed=1_000))
    assert states == {"failed": 100, "silent": 1}
    assert list(states) == ["failed", "silent"]
    assert left_out == 910


def test_every_host_of_a_small_fleet_is_named_the_current_ones_last(tmp_path: Path) -> None:
    states, left_out = named(seen(tmp_path, current=20, silent=5, waiting=20, held=5))
    assert list(states.items()) == [("held", 5), ("silent", 5), ("waiting", 20), ("current", 20)]
    assert left_out == 0
    assert fleet_document(seen(tmp_path, silent=1))["counts"] == [{"version": None, "state": "silent", "hosts": 1}]
