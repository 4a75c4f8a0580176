"""Entries of journalctl are read as they come, and journalctl never outlives its reader."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.config.app import AppConfig
from agent.host.systemd.journalctl import journal_of, log_argv, parse_entry, units_of
from pusher.wire import Code, Failed, LogLine, LogUnit

SHOP = AppConfig(path="/opt/shop", user="shop")
UNITS = units_of("shop", SHOP)
AT = {"__REALTIME_TIMESTAMP": "1795399255000123"}
Journalctl = Callable[[str], dict[str, str]]


@pytest.fixture
def journalctl(tmp_path: Path) -> Journalctl:
    """An environment whose journalctl is this shell script, which finds its arguments in `told`."""

    def made(script: str) -> dict[str, str]:
        file = tmp_path / "journalctl"
        file.write_text(f'#!/bin/sh\necho "$$ $*" >{tmp_path}/told\n{script}\n')
        file.chmod(0o755)
        return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    return made


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def entry(**fields: object) -> bytes:
    return json.dumps(AT | fields).encode()


def test_exactly_the_apps_units_are_asked_for() -> None:
    fields = "MESSAGE,PRIORITY,_PID,_SYSTEMD_UNIT,UNIT,OBJECT_SYSTEMD_UNIT,COREDUMP_UNIT"
    assert log_argv("shop.service", "shop.socket", lines=5, follow=True, machine="0af") == (
        *(
            "journalctl",
            "--merge",
            "_MACHINE_ID=0af",
            "--quiet",
            "--no-pager",
            "--all",
            "--output=json",
            f"--output-fields={fields}",
        ),
        *("--lines=5", "--follow", "--unit=shop.service", "--unit=shop.socket"),
    )
    assert "--follow" not in log_argv("shop.service", lines=0, follow=False, machine="0af")


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"MESSAGE": "hello", "PRIORITY": "3", "_PID": "42", "_SYSTEMD_UNIT": "shop.service"},
            LogLine(1795399255000, LogUnit.SERVICE, "hello", 3, 42),
        ),
        (
            {"MESSAGE": "Started", "_PID": "1", "_SYSTEMD_UNIT": "init.scope", "UNIT": "shop-preflight.socket"},
            LogLine(1795399255000, LogUnit.PREFLIGHT, "Started", 6, 1),
        ),
        ({"MESSAGE": [27, 91, 51, 49, 109, 195, 169]}, LogLine(1795399255000, LogUnit.SERVICE, "é")),
        ({"MESSAGE": [255, 10, 97]}, LogLine(1795399255000, LogUnit.SERVICE, "\ufffd\na")),
        ({"MESSAGE": ["one", [116, 119, 111], None]}, LogLine(1795399255000, LogUnit.SERVICE, "one\ntwo")),
        ({"MESSAGE": "\ud800", "UNIT": ["shop.service"]}, LogLine(1795399255000, LogUnit.SERVICE, "?")),
        ({"MESSAGE": "x" * 70_000}, LogLine(1795399255000, LogUnit.SERVICE, "x" * 65_536 + " [cut]")),
    ],
)
def test_an_entry_is_read_however_it_is_spelled(fields: dict[str, object], line: LogLine) -> None:
    assert parse_entry(entry(**fields), units=UNITS) == line


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"{}", b'{"__REALTIME_TIMESTAMP":"x"}', entry(MESSAGE=None)])
def test_a_line_that_is_no_entry_is_skipped(raw: bytes) -> None:
    assert parse_entry(raw, units=UNITS) is None


async def test_the_last_lines_are_read_to_their_end(journalctl: Journalctl, tmp_path: Path) -> None:
    long = "head -c 3000000 /dev/zero | tr '\\0' x; echo"
    lines = "\n".join(f"echo '{entry(MESSAGE=text).decode()}'" for text in ("one", "two"))
    environment = journalctl(f"{lines}\n{long}\n{lines}")
    found = [one.message async for one in journal_of("shop", SHOP, lines=9, follow=False, environment=environment)]
    assert found == ["one", "two", "one", "two"]
    told = (tmp_path / "told").read_text().split()
    assert [word for word in told if word.startswith("--unit=")] == [f"--unit={name}" for name in UNITS]
    [_ async for _ in journal_of("shop", SHOP, lines=9, follow=False, unit="preflight", environment=environment)]
    told = (tmp_path / "told").read_text().split()
    assert told[-2:] == ["--unit=shop-preflight.service", "--unit=shop-preflight.socket"]
    assert "--unit=shop.service" not in told


async def test_a_reader_that_leaves_ends_journalctl_though_its_pipe_is_full(
    journalctl: Journalctl, tmp_path: Path
) -> None:
    environment = journalctl(f"exec yes '{entry(MESSAGE='again').decode()}'")
    log = journal_of("shop", SHOP, lines=9, follow=True, environment=environment)
    assert [(await anext(log)).message for _ in range(3)] == ["again"] * 3
    pid = int((tmp_path / "told").read_text().split()[0])
    async with asyncio.timeout(10):
        await log.aclose()  # type: ignore[attr-defined]
    assert gone(pid)


async def test_a_reader_that_is_cancelled_while_it_waits_ends_journalctl_too(
    journalctl: Journalctl, tmp_path: Path
) -> None:
    environment = journalctl(f"echo '{entry(MESSAGE='once').decode()}'\nexec sleep 100")
    log = journal_of("shop", SHOP, lines=9, follow=True, environment=environment)
    await anext(log)
    waiting = asyncio.ensure_future(anext(log))
    await asyncio.wait([waiting], timeout=0.01)
    waiting.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait([waiting])
    pid = int((tmp_path / "told").read_text().split()[0])
    assert gone(pid)


@pytest.mark.parametrize(
    ("script", "why"), [("echo 'No access' >&2; echo more >&2; exit 1", "No access"), ("exit 3", "exit code 3")]
)
async def test_a_journal_that_cannot_be_read_says_why(journalctl: Journalctl, script: str, why: str) -> None:
    with pytest.raises(Failed) as caught:
        [_ async for _ in journal_of("shop", SHOP, lines=9, follow=False, environment=journalctl(script))]
    assert (caught.value.code, caught.value.why) == (Code.SERVICE_FAILED, why)
    assert "systemd-journal" in caught.value.hint


async def test_a_machine_without_journalctl_says_so(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="cannot be read") as caught:
        [_ async for _ in journal_of("shop", SHOP, lines=9, follow=False, environment={"PATH": str(tmp_path)})]
    assert "'journalctl'" in caught.value.why
