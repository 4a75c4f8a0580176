"""A mail is handed to the host's sendmail, by this process or by the mail unit."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.core.notice import Ending, Notice
from agent.host.notices.mail import SENT, MailUnit, Sendmail, sendmail_command
from agent.host.notices.way import Undelivered

NOTICE = Notice(
    id="shop-1", host="web1", ending=Ending.DONE, app="shop", version="v3", time=1, started=1, kind="x"
)


def program(folder: Path, text: str) -> str:
    path = folder / "sendmail"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_nothing_in_an_address_is_an_option():
    assert sendmail_command("/usr/sbin/sendmail", to="-bs") == ("/usr/sbin/sendmail", "-i", "--", "-bs")


async def test_the_program_gets_the_whole_mail_and_the_address(tmp_path: Path):
    places = ("/nowhere/sendmail", program(tmp_path, f'cat >{tmp_path}/mail; echo "$@" >{tmp_path}/arguments'))
    way = Sendmail("ops@example.org", places=places)
    assert way.address == "ops@example.org"
    await way.deliver(NOTICE)
    assert (tmp_path / "arguments").read_text() == "-i -- ops@example.org\n"
    assert "Subject: [done] shop v3 is live on web1\n" in (tmp_path / "mail").read_text()


async def test_why_a_program_does_not_take_a_mail_is_said(tmp_path: Path):
    refusing = program(tmp_path, "echo no such user >&2; echo really; exit 67")
    with pytest.raises(Undelivered) as found:
        await Sendmail("ops", places=(refusing,)).deliver(NOTICE)
    assert str(found.value) == f"{refusing} did not take the mail (exit code 67): no such user; really"
    with pytest.raises(Undelivered, match="This host has no sendmail"):
        await Sendmail("ops", places=()).deliver(NOTICE)
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    with pytest.raises(Undelivered, match="could not be started: Exec format error"):
        await Sendmail("ops", places=(str(broken),)).deliver(NOTICE)


async def test_a_program_that_does_not_end_is_ended(tmp_path: Path):
    hanging = program(tmp_path, f"echo $$ >{tmp_path}/pid; sleep 60")
    with pytest.raises(Undelivered, match=r"no end after 0.3 s"):
        await Sendmail("ops", places=(hanging,), deadline_s=0.3).deliver(NOTICE)
    pid = await asyncio.to_thread((tmp_path / "pid").read_text)
    assert not await asyncio.to_thread(os.path.exists, f"/proc/{pid.strip()}")


async def test_what_the_program_leaves_behind_goes_on(tmp_path: Path):
    """It delivers, and may have kept the output open."""
    leaving = program(tmp_path, f"mkfifo {tmp_path}/go; (cat {tmp_path}/go >{tmp_path}/delivered) & exit 0")
    await Sendmail("ops", places=(leaving,), deadline_s=10).deliver(NOTICE)

    def deliver() -> None:
        (tmp_path / "go").write_text("delivered")

    await asyncio.to_thread(deliver)
    async with asyncio.timeout(10):
        while not await asyncio.to_thread((tmp_path / "delivered").read_text):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def unit(path: Path, answer: bytes | None) -> AsyncIterator[list[bytes]]:
    """What listens at the unit's socket: it reads a mail to its end, then answers; None: never."""
    mails: list[bytes] = []
    over, served = asyncio.Event(), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())  # type: ignore[arg-type]
        mails.append(await reader.read(-1))
        if answer is None:
            await over.wait()
        writer.write(answer or b"")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield mails
    finally:
        over.set()
        server.close()
        await asyncio.gather(*served, return_exceptions=True)


async def test_the_mail_unit_gets_the_whole_mail(tmp_path: Path):
    way = MailUnit("ops@example.org", socket=tmp_path / "mail.sock")
    async with unit(tmp_path / "mail.sock", SENT) as mails:
        await way.deliver(NOTICE)
    assert b"To: ops@example.org\n" in mails[0]


async def test_without_the_mail_unit_it_is_said_what_root_must_do(tmp_path: Path):
    with pytest.raises(Undelivered, match=r"As root: systemctl enable --now pusher-agent-mail\.socket"):
        await MailUnit("ops", socket=tmp_path / "no.sock").deliver(NOTICE)


@pytest.mark.parametrize(
    ("answer", "words"),
    [(b"sendmail is broken\n", "sendmail is broken"), (b"", "journalctl -t pusher-agent-mail"), (None, "in time")],
)
async def test_what_the_mail_unit_answers_is_said(tmp_path: Path, answer: bytes | None, words: str):
    async with unit(tmp_path / "mail.sock", answer):
        with pytest.raises(Undelivered, match=words):
            await MailUnit("ops", socket=tmp_path / "mail.sock", deadline_s=0.3).deliver(NOTICE)
