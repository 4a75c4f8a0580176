"""What an agent says of an app that serves, and people should know all the same."""

from collections.abc import Iterator, Mapping
from typing import Any

from pusher.terminal.text import moment

_COUNTS = {"waiting": "waiting", "left_out": "left out"}


def concerns(status: Mapping[str, Any]) -> Iterator[str]:
    """A line for each: an app that could not be started or recovered, drift of the live release, a file that is
    not in force, an app that a reboot would end, notices that do not arrive."""
    if trouble := status.get("trouble"):
        yield f"trouble    {trouble}"
    if drift := status.get("drift"):
        yield f"drift      {drift}: the live release is not as it was signed"
    warnings = status.get("warnings")
    yield from (f"warning    {one}" for one in (warnings if isinstance(warnings, list) else ()))
    notices = status.get("notices")
    for one in notices if isinstance(notices, list) else ():
        if isinstance(one, Mapping) and one.get("problem"):
            yield f"notices    {_undelivered(one)}"


def _undelivered(way: Mapping[str, Any]) -> str:
    """What is wrong with a way of notices, in words."""
    since = f" since {moment(way['since'])}" if way.get("since") else ""
    counts = [f"{way[key]} {words}" for key, words in _COUNTS.items() if way.get(key)]
    return f"{way.get('address')} is not told{since} ({', '.join(counts) or 'none waits'}): {way['problem']}"
