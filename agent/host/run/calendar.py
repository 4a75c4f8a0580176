"""The next time of a schedule: a calendar event of systemd.time(7), as `systemd-analyze calendar` reads it.

Invariant: no syntax of our own. Where systemd is not installed, there are no schedules.
"""

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from agent.core.environment import CLEAN_PATH
from agent.host.run import process
from pusher.wire import Code, Refused

_DEADLINE_S = 20.0
_NEXT = re.compile(r"^ *(?:Next elapse|\(in UTC\)): \w{3} (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.\d+)? UTC$", re.M)
_NEVER = re.compile(r"^ *Next elapse: never$", re.M)


def calendar_argv(schedule: str, *, after: int) -> tuple[str, ...]:
    """Show the first time of a schedule after `after` (ms since 1970)."""
    return ("systemd-analyze", "calendar", f"--base-time=@{after / 1000:.3f}", "--", schedule)


async def next_time(schedule: str, *, after: int, key: str, path: str = CLEAN_PATH) -> int | None:
    """The first time of a schedule after `after`, both in ms since 1970; None if there is none.

    The schedule is in the host's time zone. `key` is where the configuration has it, `path` where programs are.
    Raises: Refused(configuration).
    """
    try:
        argv, environment = calendar_argv(schedule, after=after), _environment(os.environ, path)
        ending, said = await process.run(argv, folder=Path("/"), environment=environment, deadline_s=_DEADLINE_S)
    except OSError as error:
        raise Refused(
            Code.CONFIGURATION,
            f"{key!r} cannot be used here",
            why=f"only systemd-analyze can read a schedule, and it cannot be run: {error.strerror}",
            hint="Install systemd (it need not run), or take the timer out",
        ) from error
    if ending:
        hint = 'Write it as in "*-*-* 03:00" or "Mon 08:30"; `systemd-analyze calendar` explains one'
        why = said.partition("\n")[0] or ending
        raise Refused(Code.CONFIGURATION, f"{key!r} is {schedule!r}", why=why, hint=hint)
    return parse_next(said)


def parse_next(said: str) -> int | None:
    """The time in what `systemd-analyze calendar` writes, from its line in UTC; None if it is never."""
    if _NEVER.search(said) or not (found := _NEXT.search(said)):
        return None
    return int(datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp() * 1000)


def _environment(ours: Mapping[str, str], path: str) -> dict[str, str]:
    return {"PATH": path, "LANG": "C.UTF-8", **({"TZ": ours["TZ"]} if "TZ" in ours else {})}
