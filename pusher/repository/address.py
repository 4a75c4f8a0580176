"""The repository at an address."""

from pathlib import Path

from pusher.errors import Usage
from pusher.repository.folder import Folder
from pusher.repository.store import Repository


def open_repository(address: str) -> Repository:
    """The repository at an address: a folder, or `file:///folder`. Raises: Usage."""
    if not address:
        hint = 'Name one with --to, --repository, PUSHER_REPOSITORY, or repository = "..." in pusher.toml'
        raise Usage("No repository is named", hint=hint)
    scheme, mark, rest = address.partition("://")
    if not mark or scheme == "file":
        return Folder(Path(rest if mark else address))
    raise Usage(f"{address} is no repository", hint="Name a folder, or file:///folder")
