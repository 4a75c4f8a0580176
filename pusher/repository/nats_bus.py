"""NATS: ringing the bell of a channel, and reading what hosts have reported there.

Invariant: every report is asked for by its name, of the leader. A list after the death of a node was empty,
without an error (measured), and a fleet must not look silent because a server did not say that it knows nothing.
"""

import asyncio
import hashlib
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pusher.errors import Unreachable, Usage
from pusher.repository.store import Found, too_large
from pusher.wire import WireError
from pusher.wire.channel import bell_name, subject

if TYPE_CHECKING:
    from nats.aio.client import Client

_BUCKET = "KV_reports"
_CONNECT_S, _ANSWER_S, _TOGETHER_S = 10.0, 5.0, 120.0
_LEAVING_S = 2.0
_AT_ONCE = 64
_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Between attempts: a cluster that lost a node chooses a new leader meanwhile."""
_NO_MESSAGE, _NO_BUCKET = 10037, 10059  # nats-server, errors.json
_SHOWN = 200


class SeenContext(ssl.SSLContext):
    """Knows whether it was used. The library goes on without TLS if the server, or who is in between, does not ask
    for it.
    """

    used = False

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """As it is, and noticed."""
        self.used = True
        return super().wrap_bio(*arguments, **options)


def ring(address: str, app: str, channel: str, *, credentials: str = "") -> None:
    """Ring the bell of a channel. `credentials` is a file. Raises: Unreachable, Usage."""
    options = _options(address, credentials)

    async def publish() -> None:
        async with _connected(address, options) as client:
            await client.publish(subject(bell_name(app, channel)), b"changed")
            # Twice: the library may send the first question before what it has in its buffer.
            await client.flush(timeout=int(_ANSWER_S))
            await client.flush(timeout=int(_ANSWER_S))

    _run(publish(), address)


class FetchedReports:
    """The reports that were found, by their names."""

    def __init__(self, found: dict[str, bytes]) -> None:
        self._found = found

    def read(self, name: str, *, most: int) -> Found | None:
        """A report; None if there is none. Raises: Refused(limit_exceeded)."""
        content = self._found.get(name)
        if content is None:
            return None
        if len(content) > most:
            raise too_large(name, most)
        return Found(content, hashlib.sha256(content).hexdigest())


def fetch_reports(address: str, names: Sequence[str], *, credentials: str = "") -> FetchedReports:
    """The reports of these names. `credentials` is a file. Raises: Unreachable, Usage."""
    found: dict[str, bytes] = {}
    options = _options(address, credentials)

    async def fetch() -> None:
        many = asyncio.Semaphore(_AT_ONCE)
        async with _connected(address, options) as client:

            async def one(name: str) -> None:
                async with many:
                    with suppress(WireError):  # a host of such a name reports elsewhere
                        if (content := await _last(client, subject(name))) is not None:
                            found[name] = content

            async with asyncio.timeout(_TOGETHER_S), asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(one(name))

    _run(fetch(), address)
    return FetchedReports(found)


async def _last(client: "Client", name: str) -> bytes | None:
    """The last message of a subject, as the leader of the bucket knows it."""
    problem: Exception | None = None
    for pause in (0.0, *_PAUSES_S):
        await asyncio.sleep(pause)
        try:
            message = await client.jetstream().get_last_msg(_BUCKET, name)
            return None if (message.headers or {}).get("KV-Operation") else message.data or b""
        except Exception as error:  # the library raises its own, those of sockets, and of its parser
            number = getattr(error, "err_code", None)
            if number == _NO_MESSAGE:
                return None
            if number == _NO_BUCKET:
                raise
            problem = error
    raise problem or TimeoutError


@asynccontextmanager
async def _connected(address: str, options: dict[str, Any]) -> AsyncIterator["Client"]:
    async def failed(error: Exception) -> None:
        """Nothing: what matters is raised where it is asked for."""

    from nats.aio.client import Client  # `_options` has imported it, outside of the loop

    client = Client()
    try:
        async with asyncio.timeout(_CONNECT_S):
            await client.connect(
                _servers(address),
                name="pusher",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                error_cb=failed,
                **options,
            )
        named = client.connected_url
        if named is not None and named.scheme == "tls" and not options["tls"].used:
            raise ConnectionError("what answers there does not speak TLS")
        yield client
    finally:
        with suppress(Exception):  # after a failed handshake of TLS, the library would wait for ever
            async with asyncio.timeout(_LEAVING_S):
                await client.close()


def _servers(address: str) -> list[str]:
    return [one.strip() for one in address.split(",")]


def _options(address: str, credentials: str) -> dict[str, Any]:
    """How a connection is opened. Raises: Usage."""
    try:
        from nats.aio.client import RawCredentials
    except ImportError as error:
        hint = "Install it: pip install 'pusher-agent[nats]', or pipx inject pusher-agent 'nats-py[nkeys]'"
        raise Usage(f"{address} needs the library nats-py", why=str(error), hint=hint) from error
    # The library closes TLS in a way that asyncio complains about on the terminal, each time.
    logging.getLogger("asyncio").addFilter(_is_no_complaint)
    options: dict[str, Any] = {}
    if any(one.startswith("tls://") for one in _servers(address)):
        options["tls"] = tls = SeenContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.load_default_certs()
    try:
        secret = Path(credentials).read_text("utf-8") if credentials else ""
    except (OSError, UnicodeDecodeError) as error:
        hint = "Correct `bell_credentials_file` in pusher.toml"
        raise Usage(f"The credentials {credentials} cannot be read", why=str(error), hint=hint) from error
    if secret.startswith("-----BEGIN"):
        options["user_credentials"] = RawCredentials(secret)
    elif secret:
        options["nkeys_seed_str"] = secret.strip()
    return options


def _is_no_complaint(record: logging.LogRecord) -> bool:
    return "eof_received" not in str(record.msg)


def _run(doing: Any, address: str) -> None:
    try:
        asyncio.run(doing)
    except Exception as error:  # the library raises its own, those of TLS, of sockets, and of its parser
        cause = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        why = (str(cause) or type(cause).__name__)[:_SHOWN]
        hint = "Correct `bell` or `bell_credentials_file` in pusher.toml; for an own authority, set SSL_CERT_FILE"
        raise Unreachable(f"{address} does not answer", why=why, hint=hint) from error
