"""A repository in a bucket that speaks S3.

Invariant: the library signs addresses, and nothing else: everything is sent and read as from any web server, with
its bounds, and without following anybody elsewhere. It is imported only where a bucket is asked for.
"""

import asyncio
import configparser
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.host.channel.mirror import Unreachable
from agent.host.channel.web import Web, WebLimits
from pusher.wire import Code, Refused

if TYPE_CHECKING:
    from obstore.store import S3Store

_GOOD_FOR = timedelta(minutes=15)
_SHOWN = 200
_HERE = ("127.0.0.1", "localhost", "::1")
_KEYS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "region": "region",
    "endpoint_url": "endpoint",
}
"""The keys of a credentials file, and what the library calls them."""


class ObjectStore(Web):
    """The mirror at `s3://bucket/prefix`. `credentials` is a file in the form of AWS, with a section [default].

    Without one, the environment and the machine's own role count.
    """

    login_hint = "Correct the keys in the file that `credentials_file` in [subscribe] names, or the machine's role"

    def __init__(
        self,
        address: str,
        *,
        limits: WebLimits | None = None,
        ca_file: Path | None = None,
        credentials: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(address, limits=limits, ca_file=ca_file, environment=environment, sign=self._signed)
        self._file = credentials
        self._bucket, _, self._prefix = address.removeprefix("s3://").partition("/")
        self._opened: tuple[dict[str, str], S3Store] | None = None

    async def bell(self, name: str) -> bool:
        """As in the port. A bucket has none."""
        raise Unreachable(f"{self.address} has no bell")

    async def _signed(self, method: str, name: str) -> str:
        """The address of a request. Raises: Refused, Unreachable."""
        store = await asyncio.to_thread(self._store)
        from obstore import sign_async

        verb: Any = method
        try:
            signed = await sign_async(store, verb, name, _GOOD_FOR)
        except Exception as error:  # the library has no base of its errors that says more
            why = str(error).partition("\n")[0][:_SHOWN]
            hint = "Name a file with credentials: `credentials_file` in [subscribe] of the app's file"
            raise Unreachable(f"{self.address} cannot be asked", why=why, hint=hint) from error
        parts = urlsplit(signed)
        if parts.scheme != "https" and parts.hostname not in _HERE:
            raise Refused(
                Code.CONFIGURATION,
                f"{self.address} is not asked",
                why=f"what is signed would go to {parts.hostname} in the clear",
                hint="Name an https:// address in `endpoint_url`",
            )
        return signed

    def _store(self) -> "S3Store":
        """The signer for what the file says now. Blocking. Raises: Refused."""
        given = _credentials(self._file)
        if self._opened is None or self._opened[0] != given:
            try:
                from obstore.store import S3Store
            except ImportError as error:
                raise Refused(
                    Code.CONFIGURATION,
                    f"{self.address} needs the library obstore",
                    why=str(error),
                    hint="Install it for the agent: pip install 'pusher-agent[s3]'. The Debian package has it",
                ) from error
            members: dict[str, Any] = {**given}
            try:
                store = S3Store(
                    self._bucket,
                    prefix=self._prefix or None,
                    # For the machine's role: it asks for that, and for nothing else.
                    client_options={"allow_http": True, "timeout": "10s", "connect_timeout": "5s"},
                    retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=10)},
                    **members,
                )
            except Exception as error:
                why = str(error).partition("\n")[0][:_SHOWN]
                raise Refused(Code.CONFIGURATION, f"{self.address} cannot be used", why=why) from error
            self._opened = given, store
        return self._opened[1]


def _credentials(file: Path | None) -> dict[str, str]:
    """What a credentials file says, in the library's words. Raises: Refused(configuration)."""
    if file is None:
        return {}
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(file.read_text("utf-8"))
        section = parser["default"]
    except OSError as error:
        raise Refused(
            Code.CONFIGURATION,
            f"The credentials {file} cannot be read",
            why=error.strerror or str(error),
            hint="Create the file (as ~/.aws/credentials, readable by the agent), or empty `credentials_file`",
        ) from error
    except (configparser.Error, UnicodeDecodeError, KeyError) as error:
        # Not its own words: they may quote a secret.
        raise Refused(
            Code.CONFIGURATION,
            f"The credentials {file} cannot be used",
            why="they are not in the form of AWS, with a section [default]",
        ) from error
    return {ours: section[key] for key, ours in _KEYS.items() if key in section}
