"""What the page says of a fleet: whom it names, and what it leaves out."""

from collections import Counter
from pathlib import Path

import pytest

from pusher.dashboard.connections import Connections
from pusher.dashboard.fleet import Fleet, fleet_document
from pusher.dashboard.watch import Watch
from pusher.errors import Unreachable
from pusher.fleet.standing import Place
from pusher.fleet.survey import Survey
from pusher.repository.channel import Channels
from pusher.repository.folder import Folder
from tests.unit.scripted_door import ScriptedDoor, answer


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


def test_a_repository_that_does_not_answer_is_not_asked_by_each_look() -> None:
    asked = 0

    def survey() -> Survey:
        nonlocal asked
        asked += 1
        raise Unreachable("https://deploy.example.com does not answer")

    fleet = Fleet(survey, every_s=60)
    for _ in range(5):
        with pytest.raises(Unreachable, match="does not answer"):
            fleet.read()
    assert asked == 1


def test_a_bug_in_a_look_at_a_host_is_shown_and_not_the_last_that_was_seen(tmp_path: Path) -> None:
    door = ScriptedDoor()
    door.on("GET", "/apps", answer({"host": "web1", "apps": [{"app": "\ud800", "problem": None}]}))
    connections = Connections([door.host], ssh="ssh")
    watch = Watch(connections, app="", folder=tmp_path, every_s=0.01)
    try:
        number = 0
        while not (host := (news := watch.news(after=number, within_s=10))["hosts"][0])["asked"]:
            number = news["number"]
    finally:
        watch.close()
        connections.close()
        door.close()
    assert host["problem"]["code"] == "internal"
