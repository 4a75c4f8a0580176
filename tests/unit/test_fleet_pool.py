"""So many at a time, in order, and nobody is waited for after Ctrl-C."""

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


def test_as_many_as_told_work_at_once_and_their_results_keep_their_order() -> None:
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


def test_after_what_is_enough_nothing_more_is_begun() -> None:
    def fail() -> None:
        raise Failed(Code.INTERNAL, "No")

    results, _ = run_pool(
        [lambda: None, fail, not_needed], at_once=1, abandon=not_needed, enough=lambda result: bool(result.error)
    )
    assert [result.begun for result in results] == [True, True, False]
    assert str(results[1].error) == "No"


def test_ctrl_c_lets_all_that_wait_leave_off_and_say_what_goes_on() -> None:
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


def test_a_second_ctrl_c_does_not_even_hear_them_out() -> None:
    end = threading.Event()

    def deaf() -> None:
        press_ctrl_c()
        end.wait(PATIENCE_S)

    (result,), interrupted = run_pool([deaf], at_once=1, abandon=press_ctrl_c)
    end.set()
    assert interrupted
    assert str(result.error) == "Interrupted; the result is not known"


def test_a_bug_is_raised_when_all_have_ended() -> None:
    done = []

    def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_pool([bug, lambda: done.append(1)], at_once=1, abandon=not_needed)
    assert done == [1]
