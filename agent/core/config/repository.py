"""The configuration of a repository's server: `pusher-agent repository serve --config FILE`."""

import ipaddress
from collections.abc import Mapping

from pydantic import Field, model_validator

from agent.core.config.table import Table, parse_table
from agent.core.config.values import Digest, ListenAddress, Login, OptionalPath
from agent.core.listen import parse_listen


class RepositoryConfig(Table):
    """The server of a repository.

    With `fleet`, an inventory, only its hosts report. `publishers` may write by HTTP: names, and the digests of
    their passwords. A bundle has at most `bundle_most` bytes.
    """

    folder: OptionalPath = ""
    listen: ListenAddress = "127.0.0.1:8180"
    certificate: OptionalPath = ""
    certificate_key: OptionalPath = ""
    fleet: OptionalPath = ""
    bundle_most: int = Field(4 * 1024**3, ge=1)
    publishers: dict[Login, Digest] = {}

    @model_validator(mode="after")
    def _kept_secret(self) -> "RepositoryConfig":
        where = parse_listen(self.listen)
        here = not isinstance(where, str) and ipaddress.ip_address(where[0]).is_loopback
        if self.publishers and not self.certificate and not here:
            raise ValueError(
                "publishers would send their passwords in the clear: name a certificate, or listen on 127.0.0.1"
            )
        return self


def parse_repository(text: str, *, file: str, instead: Mapping[str, str] = {}) -> RepositoryConfig:
    """The configuration of a repository's server; values of `instead` count more.

    Raises: Refused(configuration), naming `file`, the key and the correction.
    """
    return parse_table(RepositoryConfig, text, file=file, instead=instead)
