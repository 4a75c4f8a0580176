"""A pool runs at most so many at a time, in order, and after Ctrl-C it waits for none."""

import signal
import threading
from collections.abc import Callable

import pytest

from pusher.errors import Interrupted
from pusher.fleet.pool import run_pool
from pusher.wire import Code, Failed

PATIENCE_S = 20


def press_ctrl_c() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def not_needed() -> None:
    raise AssertionError("nobody pressed Ctrl-C")


def test_at_most_so_many_run_at_once_and_results_keep_their_order() -> None:
    together, at_most, now = threading.Barrier(3), [0], [0]
    lock = threading.Lock()

    def work(number: int) -> int:
        with lock:
            now[0] += 1
            at_most[0] = max(at_most[0], now[0])
        together.wait(PATIENCE_S)
        with lock:
            now[0] -= 1
        return number

    works: list[Callable[[], int]] = [lambda number=number: work(number) for number in range(6)]  # type: ignore[misc]
    results, interrupted = run_pool(works, at_once=3, abandon=not_needed)
    assert ([result.value for result in results], interrupted) == ([0, 1, 2, 3, 4, 5], False)
    assert at_most == [3]


def test_after_an_enough_result_nothing_more_begins() -> None:
    def fail() -> None:
        raise Failed(Code.INTERNAL, "No")

    results, _ = run_pool(
        [lambda: None, fail, not_needed], at_once=1, abandon=not_needed, enough=lambda result: bool(result.error)
    )
    assert [result.begun for result in results] == [True, True, False]
    assert str(results[1].error) == "No"


def test_ctrl_c_ends_all_waits_and_keeps_their_messages() -> None:
    abandoned = threading.Event()

    def wait(number: int) -> None:
        if number == 1:
            press_ctrl_c()
        if not abandoned.wait(PATIENCE_S):
            raise AssertionError("it was not abandoned")
        raise Interrupted(f"{number} goes on")

    works: list[Callable[[], None]] = [lambda number=number: wait(number) for number in range(3)]  # type: ignore[misc]
    results, interrupted = run_pool(works, at_once=2, abandon=abandoned.set)
    assert interrupted
    assert [str(result.error) for result in results] == ["0 goes on", "1 goes on", "None"]
    assert [result.interrupted for result in results] == [True, True, False]
    assert not results[2].begun


def test_a_second_ctrl_c_waits_for_nothing() -> None:
    end = threading.Event()

    def deaf() -> None:
        press_ctrl_c()
        end.wait(PATIENCE_S)

    (result,), interrupted = run_pool([deaf], at_once=1, abandon=press_ctrl_c)
    end.set()
    assert interrupted
    assert str(result.error) == "Interrupted; the result is not known"


def test_a_bug_is_raised_after_all_have_ended() -> None:
    done = []

    def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_pool([bug, lambda: done.append(1)], at_once=1, abandon=not_needed)
    assert done == [1]
