"""Pauses between attempts."""

from agent.core.backoff import Backoff


def test_pauses_double_up_to_the_longest_and_start_anew_after_a_reset() -> None:
    pauses = Backoff(1.0, 5.0)
    assert pauses.coming == 1.0
    assert [pauses.next() for _ in range(5)] == [1, 2, 4, 5, 5]
    pauses.reset()
    assert [pauses.next(), pauses.coming] == [1, 2]
