"""The repository at an address."""

from pathlib import Path

from pusher.errors import Usage
from pusher.repository.folder import Folder
from pusher.repository.remote_folder import RemoteFolder
from pusher.repository.store import Repository
from pusher.transport.hosts import Ssh, parse_address


def open_repository(address: str, *, ssh: str = "ssh") -> Repository:
    """The repository at an address: a folder, `file:///folder`, or `ssh://[user@]host[:port]/folder`.

    `ssh` is the command that reaches the last kind. Raises: Usage.
    """
    if not address:
        hint = 'Name one with --to, --repository, PUSHER_REPOSITORY, or repository = "..." in pusher.toml'
        raise Usage("No repository is named", hint=hint)
    scheme, mark, rest = address.partition("://")
    if not mark or scheme == "file":
        return Folder(Path(rest if mark else address))
    if scheme == "ssh":
        where, slash, path = rest.partition("/")
        host = parse_address(f"ssh://{where}")
        if isinstance(host, Ssh) and slash:
            return RemoteFolder(host, f"/{path}", ssh=ssh)
    hint = "Name a folder, file:///folder, or ssh://host/folder"
    raise Usage(f"{address} is no repository", hint=hint)
