"""NATS: the bell of a channel, and a place for reports.

Invariant: nothing that arrives is believed. A message rings, whatever is in it; what a channel wants is read from
a mirror all the same. A connection that is lost is opened anew by the next question, so that pauses grow (the
library itself would try every two seconds for ever). The library is imported only here.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.host.channel.mirror import Unreachable
from agent.host.channel.nkey import Libcrypto, Nkey, read_credentials
from pusher.wire import Code, Refused, WireError
from pusher.wire.channel import subject

if TYPE_CHECKING:
    from nats.aio.client import Client

_CONNECT_S = 10.0
_STORED_S = 3.0
_LEAVING_S = 2.0
_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Between attempts to store a report: a cluster that lost a node chooses a new leader meanwhile."""
_PING_S = 600
"""An idle agent wakes as seldom as it can. Until it learns that a connection is dead, its polls go on."""
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


class NatsBus:
    """The servers of one NATS, by their addresses (`nats://` or `tls://`). `credentials` is a file with the seed
    of an nkey, or a `.creds` file.

    Raises: Unreachable, Refused, from every coroutine.
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        ca_file: Path | None = None,
        credentials: Path | None = None,
        libcrypto: Callable[[], Libcrypto] = Libcrypto,
    ) -> None:
        self.address = servers[0]
        self._servers = list(servers)
        self._ca_file = ca_file
        self._credentials = credentials
        self._libcrypto = libcrypto
        self._client: Client | None = None
        self._listening: set[str] = set()
        self._rung = asyncio.Event()
        self._denied: Exception | None = None
        self._opening = asyncio.Lock()

    async def bell(self, name: str) -> bool:
        """Wait until the bell of this name rings, or has perhaps done so while nobody listened; True."""
        client = await self._connected()
        if name not in self._listening:
            await self._listen(client, name)
        await self._rung.wait()
        self._rung.clear()
        if client.is_closed:
            raise Unreachable(f"{self.address} has closed the connection")
        return True

    async def put(self, name: str, content: bytes) -> None:
        """Store a report, in the bucket `reports`, in place of the one before."""
        try:
            place = subject(name)
        except WireError as error:
            raise Unreachable(f"{self.address} has no place for {name}", why=str(error)) from error
        problem: Exception | None = None
        for pause in (0.0, *_PAUSES_S):
            await asyncio.sleep(pause)
            client = await self._connected()
            try:
                await client.jetstream().publish(place, content, timeout=_STORED_S)
                return
            except Exception as error:  # the library raises its own, those of sockets, and of its parser
                problem = error
        hint = "Is there a bucket `reports` (docs/how-to/fleet.md), and may this host publish to it?"
        raise Unreachable(f"{self.address} took no report", why=_why(problem), hint=hint)

    async def close(self) -> None:
        """Hang up. It can be asked again."""
        client, self._client = self._client, None
        if client is not None:
            await _hang_up(client)

    async def _connected(self) -> "Client":
        async with self._opening:
            if self._client is None or self._client.is_closed:
                self._client = await self._connect()
                self._listening = set()
                self._rung.set()
            return self._client

    async def _connect(self) -> "Client":
        client, options = await asyncio.to_thread(self._prepared)
        try:
            async with asyncio.timeout(_CONNECT_S):
                await client.connect(
                    self._servers,
                    name="pusher-agent",
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=_PING_S,
                    closed_cb=self._closed,
                    error_cb=self._failed,
                    **options,
                )
        except Exception as error:  # the library raises its own, those of TLS, of sockets, and of its parser
            await _hang_up(client)
            hint = "Correct `notify` in [subscribe] of the app's file, or `notify_credentials_file`"
            raise Unreachable(f"{self.address} cannot be reached", why=_why(error), hint=hint) from error
        named = client.connected_url
        if named is not None and named.scheme == "tls" and not options["tls"].used:
            await _hang_up(client)
            raise Unreachable(f"{self.address} cannot be reached", why="what answers there does not speak TLS")
        return client

    async def _listen(self, client: "Client", name: str) -> None:
        async def heard(message: Any) -> None:
            self._rung.set()

        self._denied = None
        try:
            # One that waits is as good as many.
            await client.subscribe(subject(name), cb=heard, pending_msgs_limit=4)
            # Twice: the library may send the first question before the subscription, which waits in a buffer.
            await client.flush(timeout=int(_CONNECT_S))
            await client.flush(timeout=int(_CONNECT_S))
            if self._denied is not None:
                raise self._denied
        except Exception as error:
            raise Unreachable(f"{self.address} has no such bell", why=_why(error)) from error
        self._listening.add(name)

    async def _closed(self) -> None:
        self._rung.set()

    async def _failed(self, error: Exception) -> None:
        """What else goes wrong is raised where it is asked for; that a subject is denied is said here alone."""
        if "permissions violation" in str(error).lower():
            self._denied = error

    def _prepared(self) -> "tuple[Client, dict[str, Any]]":
        """A connection, and how it is opened. Blocking. Raises: Refused."""
        try:
            from nats.aio.client import Client
        except ImportError as error:
            raise Refused(
                Code.CONFIGURATION,
                f"{self.address} needs the library nats-py",
                why=str(error),
                hint="Install it for the agent: pip install 'pusher-agent[nats]'. The Debian package has it",
            ) from error
        # The library closes TLS in a way that asyncio complains about in the log, each time.
        logging.getLogger("asyncio").addFilter(_is_no_complaint)
        client = Client()
        options: dict[str, Any] = {}
        try:
            if any(one.startswith("tls://") for one in self._servers):
                options["tls"] = tls = SeenContext(ssl.PROTOCOL_TLS_CLIENT)
                if self._ca_file:
                    tls.load_verify_locations(str(self._ca_file))
                else:
                    tls.load_default_certs()
            if self._credentials is not None:
                options |= self._signing(client, self._credentials.read_text("utf-8"))
        except (OSError, ValueError) as error:
            what = f"What {self.address} needs cannot be read"
            raise Refused(Code.CONFIGURATION, what, why=str(error)[:_SHOWN]) from error
        return client, options

    def _signing(self, client: "Client", credentials: str) -> dict[str, Any]:
        """The options of a connection that signs what the server asks. Raises: ValueError."""
        seed, token = read_credentials(credentials)
        try:
            key = Nkey(seed, library=self._libcrypto())
        except (OSError, AttributeError):  # an interpreter with a TLS of its own
            from nats.aio.client import RawCredentials

            return {"user_credentials": RawCredentials(credentials)} if token else {"nkeys_seed_str": seed}
        # What the library sets with a seed that it signs with itself; there are no options for them. Without the
        # first, one is nobody where servers let in nobody as well (`no_auth_user`).
        client._auth_configured = True
        client._public_nkey = key.public()
        return {"signature_cb": key.sign} | ({"user_jwt_cb": token.encode} if token else {})


def _is_no_complaint(record: logging.LogRecord) -> bool:
    return "eof_received" not in str(record.msg)


async def _hang_up(client: "Client") -> None:
    """Close a connection. After a failed handshake of TLS, the library would wait for ever."""
    with suppress(Exception):
        async with asyncio.timeout(_LEAVING_S):
            await client.close()


def _why(error: Exception | None) -> str:
    return (str(error) or type(error).__name__)[:_SHOWN]
