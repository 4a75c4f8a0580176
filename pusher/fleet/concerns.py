"""What an agent says of an app that serves, and people should know all the same."""

from collections.abc import Iterator, Mapping
from typing import Any


def concerns(status: Mapping[str, Any]) -> Iterator[str]:
    """A line for each: drift of the live release, a file that is not in force, an app that a reboot would end."""
    if drift := status.get("drift"):
        yield f"drift      {drift}: the live release is not as it was signed"
    warnings = status.get("warnings")
    yield from (f"warning    {one}" for one in (warnings if isinstance(warnings, list) else ()))
