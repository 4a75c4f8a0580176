"""A child process is read line by line, and ended with everything it started."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from agent.host.run import process
from agent.host.run.process import LINE_CHARACTERS, TAIL_LINES, OutputLines, how_it_ended

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def sh(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


async def run(script: str, *, deadline_s: float = 20) -> tuple[str, list[str]]:
    lines: list[str] = []
    ending, tail = await process.run(
        sh(script), folder=Path("/"), environment=ENVIRONMENT, deadline_s=deadline_s, line=lines.append
    )
    assert tail == "\n".join(lines[-TAIL_LINES:])
    return ending, lines


async def gone(pid: int) -> bool:
    """Whether the process ends within a few seconds; a zombie that nobody has reaped counts as ended."""

    def look() -> bool:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                    return True
            except (FileNotFoundError, ProcessLookupError):
                return True
            time.sleep(0.01)
        return False

    return await asyncio.to_thread(look)


def test_an_ending_is_described_in_words() -> None:
    assert how_it_ended(3) == "exit code 3"
    assert how_it_ended(-signal.SIGKILL) == "signal 9 (KILL)"
    assert how_it_ended(-60) == "signal 60"


async def test_a_good_end_is_an_empty_string_and_both_streams_are_read_in_order() -> None:
    assert await run("echo one; echo two >&2; printf three") == ("", ["one", "two", "three"])


async def test_a_bad_end_is_described() -> None:
    assert (await run("exit 3"))[0] == "exit code 3"
    assert (await run("kill -9 $$"))[0] == "signal 9 (KILL)"


async def test_a_child_has_no_input_no_foreign_environment_and_a_session_of_its_own() -> None:
    _, lines = await run('cat; env | sort; ps -o sid= -p $$ | tr -d " "; echo $$')
    assert lines[:-2] == ["PATH=/usr/bin:/bin", "PWD=/"]
    assert lines[-2] == lines[-1]


async def test_after_the_deadline_the_whole_group_is_gone() -> None:
    ending, lines = await run("sleep 60 & echo $!; trap '' TERM; wait", deadline_s=0.3)
    assert ending == "no end after 0.3 s"
    assert await gone(int(lines[0]))


async def test_processes_that_a_child_leaves_end_with_it_and_do_not_delay_reading() -> None:
    began = time.monotonic()
    ending, lines = await run("sleep 60 & echo $!")
    assert ending == ""
    assert time.monotonic() - began < 10
    assert await gone(int(lines[0]))


async def test_a_pipe_that_is_held_from_outside_the_group_is_closed_after_a_grace() -> None:
    began = time.monotonic()
    _, lines = await run("setsid sleep 60 & echo $!; sleep 0.1")
    try:
        assert time.monotonic() - began < 10
    finally:
        os.killpg(int(lines[0]), signal.SIGKILL)


async def test_a_cancelled_run_leaves_nothing_running() -> None:
    lines: list[str] = []
    heard = asyncio.Event()

    def line(text: str) -> None:
        lines.append(text)
        heard.set()

    task = asyncio.create_task(
        process.run(sh("echo $$; sleep 60"), folder=Path("/"), environment=ENVIRONMENT, deadline_s=60, line=line)
    )
    await heard.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(int(lines[0]))


async def start(script: str, heard: asyncio.Event) -> process.Child:
    child = await process.start(sh(script), folder=Path("/"), environment=ENVIRONMENT, line=lambda _: heard.set())
    await heard.wait()
    return child


async def test_ending_is_polite_first() -> None:
    child = await start("trap 'exit 5' TERM; echo; while :; do sleep 0.01; done", asyncio.Event())
    assert not child.ended()
    assert await child.end(patience_s=20) == "exit code 5"
    assert child.ended()
    assert await child.end(patience_s=20) == "exit code 5", "ending it again changes nothing"


async def test_a_process_that_ignores_term_is_killed() -> None:
    child = await start("trap '' TERM; echo; while :; do sleep 0.01; done", asyncio.Event())
    assert await child.end(patience_s=0.1) == "signal 9 (KILL)"


async def test_a_process_that_ignores_term_is_killed_also_by_a_task_that_was_cancelled() -> None:
    child = await start("trap '' TERM; echo; while :; do sleep 0.01; done", asyncio.Event())
    how: list[str] = []

    async def end_at_last() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            how.append(await child.end(patience_s=0.1))

    task = asyncio.create_task(end_at_last())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    try:
        assert how == ["signal 9 (KILL)"]
    finally:
        child.kill()
        await child.wait()


async def test_a_program_that_is_not_there_is_an_oserror() -> None:
    with pytest.raises(FileNotFoundError):
        await process.run(
            ("/nowhere",), folder=Path("/"), environment=ENVIRONMENT, deadline_s=1, line=lambda _: None
        )


def lines_of(*data: bytes) -> list[str]:
    lines: list[str] = []
    output = OutputLines(lines.append)
    for one in data:
        output.feed(one)
    output.close()
    assert output.tail() == "\n".join(lines[-TAIL_LINES:])
    return lines


def test_lines_are_whole_however_they_arrive() -> None:
    assert lines_of(b"a", b"b\nc", b"\n", b"d") == ["ab", "c", "d"]
    assert lines_of(b"") == []


def test_bytes_that_are_not_utf8_or_would_move_a_cursor_are_made_harmless() -> None:
    assert lines_of(b"\xff\xc3\xa4\n", b"\x1b[31mred\x1b[0m\tx\r\n", b"\x1b]0;title\x07a\x08b\n") == [
        "\ufffdä",
        "red\tx",
        "ab",
    ]


@pytest.mark.parametrize("size", [LINE_CHARACTERS + 1, 100 * LINE_CHARACTERS])
def test_a_long_line_is_cut_and_the_next_one_is_not(size: int) -> None:
    data = b"x" * size + b"\nnext\n"
    pieces = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    assert lines_of(*pieces) == ["x" * LINE_CHARACTERS + " [line cut]", "next"]


def test_only_the_last_lines_are_kept() -> None:
    lines = lines_of(b"".join(b"%d\n" % number for number in range(1000)))
    assert len(lines) == 1000
