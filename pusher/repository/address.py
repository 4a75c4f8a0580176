"""The repository at an address."""

from pathlib import Path

from pusher.errors import Usage
from pusher.repository.folder import Folder
from pusher.repository.remote_folder import RemoteFolder
from pusher.repository.store import Repository
from pusher.transport.hosts import Ssh, parse_address


def open_repository(address: str, *, ssh: str = "ssh", credentials: str = "") -> Repository:
    """The repository at an address: a folder, `file:///folder`, `ssh://[user@]host[:port]/folder`,
    `https://host/path`, or `s3://bucket/prefix`.

    `ssh` is the command that reaches the third, `credentials` a netrc file for the fourth. Raises: Usage.
    """
    if not address:
        hint = 'Name one with --to, --repository, PUSHER_REPOSITORY, or repository = "..." in pusher.toml'
        raise Usage("No repository is named", hint=hint)
    scheme, mark, rest = address.partition("://")
    if not mark:
        return Folder(Path(address))
    if scheme == "file":
        if not rest.startswith("/"):
            raise Usage(f"{address} needs an absolute path", hint="For example: file:///srv/repository")
        return Folder(Path(rest))
    if scheme == "ssh":
        where, slash, path = rest.partition("/")
        host = parse_address(f"ssh://{where}")
        if isinstance(host, Ssh) and slash:
            return RemoteFolder(host, f"/{path}", ssh=ssh)
    if scheme in ("http", "https"):
        from pusher.repository.web_folder import WebFolder  # here: others have no use for TLS

        return WebFolder(address, credentials=Path(credentials) if credentials else None)
    if scheme == "s3":
        from pusher.repository.object_store import (
            ObjectStore,
        )  # here: it needs a library that others have no use for

        return ObjectStore(address)
    hint = "Name a folder, file:///folder, ssh://host/folder, https://host/path, or s3://bucket/prefix"
    raise Usage(f"{address} is no repository", hint=hint)
