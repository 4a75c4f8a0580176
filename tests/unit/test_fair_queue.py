"""Whose turn it is among more files than are looked at at a time: everybody's, sooner or later."""

from typing import NamedTuple

import pytest

from agent.core.fair_queue import FairQueue


class Stamp(NamedTuple):
    changed: int


def junk(count: int, *, since: int = 0) -> dict[str, Stamp]:
    return {f"a{number:05}": Stamp(since + number) for number in range(count)}


def in_turn(crowd: FairQueue[Stamp], there: dict[str, Stamp], *, useless: bool = True) -> list[list[str]]:
    """The names of one look: everybody's turn, with what is found to be of no use passed over."""
    crowd.renew()
    turns = []
    while not turns or crowd.left:
        turns.append(crowd.chosen(there, held=()))
        assert len(turns[-1]) <= 10
        for name in turns[-1] if useless else ():
            crowd.pass_over(name, there[name])
    return turns


def test_as_many_as_are_looked_at_at_a_time_are_looked_at_together() -> None:
    crowd: FairQueue[Stamp] = FairQueue(most=10, remembered=100)
    there = junk(10)
    assert in_turn(crowd, there, useless=False) == [list(there)]
    assert in_turn(crowd, there, useless=False) == [list(there)]
    assert crowd.chosen(there, held=list(there)[:9]) == [list(there)[9]]


def test_what_is_of_no_use_is_passed_over_until_it_changes() -> None:
    crowd: FairQueue[Stamp] = FairQueue(most=10, remembered=100)
    there = junk(35)
    turns = in_turn(crowd, there)
    assert sorted(name for turn in turns for name in turn) == list(there)
    assert in_turn(crowd, there) == [[]]
    there["a00007"] = Stamp(99)
    assert in_turn(crowd, there) == [["a00007"]]
    gone = there.pop("a00008")
    assert in_turn(crowd, there) == [[]]
    assert in_turn(crowd, there | {"a00008": gone}) == [["a00008"]]


@pytest.mark.parametrize("remembered", [1000, 20, 0])
def test_everybody_has_his_turn_however_little_is_remembered(remembered: int) -> None:
    crowd: FairQueue[Stamp] = FairQueue(most=10, remembered=remembered)
    there = junk(101)
    for _ in range(3):
        in_turn(crowd, there)
        assert len(crowd._useless) <= remembered
        there["zz"] = Stamp(50)  # in the middle, as by a clock that was set back
        assert "zz" in {name for turn in in_turn(crowd, there) for name in turn}
        del there["zz"]


def test_what_is_of_use_and_not_held_has_one_turn_in_each_look_and_no_look_is_without_end() -> None:
    crowd: FairQueue[Stamp] = FairQueue(most=10, remembered=100)
    turns = in_turn(crowd, junk(33), useless=False)
    assert {name for turn in turns for name in turn} == set(junk(33))
    assert len(turns) == 7


def test_what_changed_last_does_not_wait_for_a_crowd() -> None:
    crowd: FairQueue[Stamp] = FairQueue(most=10, remembered=100)
    assert "zz" in in_turn(crowd, junk(1000) | {"zz": Stamp(5000)})[0]


def test_a_crowd_that_grows_faster_than_it_is_looked_at_keeps_nobody_from_his_turn() -> None:
    crowd: FairQueue[Stamp] = FairQueue(most=10, remembered=50)
    there = junk(200) | {"zz": Stamp(200)}
    for time in range(1000):
        crowd.renew()  # somebody changed something
        there |= {f"b{time}-{number}": Stamp(201 + time) for number in range(10)}
        if "zz" in (chosen := crowd.chosen(there, held=())):
            break
        for name in chosen:
            crowd.pass_over(name, there[name])
    assert time < 50
