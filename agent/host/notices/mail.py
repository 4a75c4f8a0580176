"""Notices by mail: the host's own `sendmail` takes them, and does what is its work (queues, relays, retries).

Invariant: who gets the mail is what root wrote, and an argument of its own. No line of a notice can end a mail.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agent.core.notice import Notice, one_line
from agent.core.notice_formats import mail
from agent.host.notices.way import Undelivered
from agent.host.run.process import how_it_ended, kill_group

SENT = b"sent\n"
"""What the mail unit answers when `sendmail` has taken a mail; anything else says why not."""
PLACES = ("/usr/sbin/sendmail", "/usr/lib/sendmail")
"""Where the program is, by the Filesystem Hierarchy Standard and before it."""
_SHOWN = 300
_DEADLINE_S = 60.0


class Sendmail:
    """Mail to an address, by a program that this process starts itself. The first of `places` is used."""

    def __init__(self, to: str, *, places: Sequence[str] = PLACES, deadline_s: float = _DEADLINE_S) -> None:
        self.address = to
        self._places = places
        self._deadline_s = deadline_s

    async def deliver(self, notice: Notice) -> None:
        """As in the port."""
        await self.hand_over(mail(notice, to=self.address))

    async def hand_over(self, content: bytes) -> None:
        """Give a whole mail to the program. Raises: Undelivered."""
        program = await asyncio.to_thread(_program, self._places)
        if program is None:
            hint = "Install one: for example apt-get install msmtp-mta, or postfix"
            raise Undelivered("This host has no sendmail, so it sends no mail", hint=hint)
        stdin, output = await asyncio.to_thread(_files, content)
        try:
            child = await asyncio.create_subprocess_exec(
                *sendmail_command(program, to=self.address),
                stdin=stdin,
                stdout=output,
                stderr=output,
                cwd="/",
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
                start_new_session=True,
            )
            how = await _end_of(child, deadline_s=self._deadline_s)
            said = (await asyncio.to_thread(os.pread, output, 4 * _SHOWN, 0)).decode(errors="replace")
        except OSError as error:
            why = error.strerror or str(error)
            raise Undelivered(f"{program} could not be started", why=why) from error
        finally:
            os.close(stdin)
            os.close(output)
        if how != "exit code 0":
            said = one_line(said.replace("\n", "; "), _SHOWN)
            raise Undelivered(f"{program} did not take the mail ({how})", why=said.rstrip("; "))


class MailUnit:
    """Mail by way of the host's mail unit, which listens at `socket`, is not hardened as the agent is, and has the
    address from the same file of root's."""

    def __init__(self, to: str, *, socket: Path, deadline_s: float = _DEADLINE_S + 10) -> None:
        self.address = to
        self._socket = socket
        self._deadline_s = deadline_s

    async def deliver(self, notice: Notice) -> None:
        """As in the port."""
        try:
            async with asyncio.timeout(self._deadline_s):
                answer = await self._ask(mail(notice, to=self.address))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise Undelivered(
                "The agent may not send mail on this host",
                why="it runs without the rights that sendmail needs, and the mail unit is off",
                hint="As root: systemctl enable --now pusher-agent-mail.socket",
            ) from error
        except OSError as error:  # TimeoutError is one
            why = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise Undelivered("The mail unit did not take the mail", why=why) from error
        if answer != SENT:
            why = one_line(answer.decode(errors="replace"), _SHOWN) or "see journalctl -t pusher-agent-mail"
            raise Undelivered("The mail unit did not take the mail", why=why)

    async def _ask(self, content: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        try:
            writer.write(content)
            writer.write_eof()
            return await reader.read(4 * _SHOWN)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def sendmail_command(program: str, *, to: str) -> tuple[str, ...]:
    """`-i`: a line with a single dot is text, and no end. After `--`, nothing is an option."""
    return program, "-i", "--", to


def _program(places: Sequence[str]) -> str | None:
    """The first that can be run. Blocking."""
    return next((one for one in places if os.access(one, os.X_OK)), None)


def _files(content: bytes) -> tuple[int, int]:
    """Two files in memory, one with this content. Blocking.

    Pipes would not do: the program may end without reading, and what it leaves behind may keep the other end open.
    """
    stdin, output = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("mail", "output"))
    os.write(stdin, content)
    os.lseek(stdin, 0, os.SEEK_SET)
    return stdin, output


async def _end_of(child: asyncio.subprocess.Process, *, deadline_s: float) -> str:
    """How it ended. After the deadline, or if the caller is cancelled, it is killed, with what it has started."""
    try:
        async with asyncio.timeout(deadline_s):
            return how_it_ended(await child.wait())
    except TimeoutError:
        return f"no end after {deadline_s:g} s"
    finally:
        if child.returncode is None:
            kill_group(child.pid)
            await child.wait()
