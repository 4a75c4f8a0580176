"""Fair scheduling: of more files than one scan examines, each is examined sooner or later."""

from typing import NamedTuple

import pytest

from agent.core.fair_queue import FairQueue


class Stamp(NamedTuple):
    changed: int


def junk(count: int, *, since: int = 0) -> dict[str, Stamp]:
    return {f"a{number:05}": Stamp(since + number) for number in range(count)}


def one_round(queue: FairQueue[Stamp], there: dict[str, Stamp], *, reject: bool = True) -> list[list[str]]:
    """The names of one round, in which every file is chosen. Unless told otherwise each is then rejected."""
    queue.renew()
    scans: list[list[str]] = []
    while not scans or queue.left:
        scans.append(queue.choose(there, held=()))
        assert len(scans[-1]) <= 10
        for name in scans[-1] if reject else ():
            queue.reject(name, there[name])
    return scans


def test_as_many_files_as_one_scan_examines_are_examined_together() -> None:
    queue: FairQueue[Stamp] = FairQueue(most=10, remembered=100)
    there = junk(10)
    assert one_round(queue, there, reject=False) == [list(there)]
    assert one_round(queue, there, reject=False) == [list(there)]
    assert queue.choose(there, held=list(there)[:9]) == [list(there)[9]]


def test_a_rejected_file_is_passed_over_until_it_changes() -> None:
    queue: FairQueue[Stamp] = FairQueue(most=10, remembered=100)
    there = junk(35)
    scans = one_round(queue, there)
    assert sorted(name for scan in scans for name in scan) == list(there)
    assert one_round(queue, there) == [[]]
    there["a00007"] = Stamp(99)
    assert one_round(queue, there) == [["a00007"]]
    gone = there.pop("a00008")
    assert one_round(queue, there) == [[]]
    assert one_round(queue, there | {"a00008": gone}) == [["a00008"]]


@pytest.mark.parametrize("remembered", [1000, 20, 0])
def test_every_file_is_chosen_however_few_rejected_ones_are_remembered(remembered: int) -> None:
    queue: FairQueue[Stamp] = FairQueue(most=10, remembered=remembered)
    there = junk(101)
    for _ in range(3):
        one_round(queue, there)
        assert queue.rejected <= remembered
        there["zz"] = Stamp(50)  # in the middle, as by a clock that was set back
        assert "zz" in {name for scan in one_round(queue, there) for name in scan}
        del there["zz"]


def test_a_file_that_is_neither_rejected_nor_held_is_chosen_in_each_round_and_each_round_ends() -> None:
    queue: FairQueue[Stamp] = FairQueue(most=10, remembered=100)
    scans = one_round(queue, junk(33), reject=False)
    assert {name for scan in scans for name in scan} == set(junk(33))
    assert len(scans) == 7


def test_the_file_that_changed_last_does_not_wait_for_many_others() -> None:
    queue: FairQueue[Stamp] = FairQueue(most=10, remembered=100)
    assert "zz" in one_round(queue, junk(1000) | {"zz": Stamp(5000)})[0]


def test_files_that_arrive_faster_than_they_are_examined_keep_no_file_from_being_chosen() -> None:
    queue: FairQueue[Stamp] = FairQueue(most=10, remembered=50)
    there = junk(200) | {"zz": Stamp(200)}
    for time in range(1000):
        queue.renew()  # somebody changed something
        there |= {f"b{time}-{number}": Stamp(201 + time) for number in range(10)}
        if "zz" in (chosen := queue.choose(there, held=())):
            break
        for name in chosen:
            queue.reject(name, there[name])
    assert time < 50
