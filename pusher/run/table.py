"""The table [run] of a pusher.toml."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pusher.errors import Usage
from pusher.run.servers import PORT
from pusher.wire import RunSection, WireError


def parse_section(table: Mapping[str, Any], *, file: str) -> RunSection:
    """The table [run] of a pusher.toml. Raises: Usage."""
    try:
        section = RunSection.from_members(table)
    except WireError as error:
        raise Usage(f"{file}: [run] cannot be used", why=str(error)) from error
    if PORT in section.start and not section.listen_via:
        return replace(section, listen_via="port")
    return section
