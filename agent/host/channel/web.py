"""A repository on a web server or an object store, by HTTP.

Invariant: what is read is bounded, in bytes by the caller and in time by deadlines. A redirect is not followed,
and nothing is decompressed. The login is sent by https alone, and to the host that it names.
"""

import asyncio
import email.utils
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from agent.host.channel.mirror import Answer, Unreachable, too_long
from agent.host.dependencies.credentials import read_logins
from agent.host.net.outward import basic, proxies, proxy, retry_after
from agent.host.storage.partial import Partial
from pusher.wire import Code, Failed, Problem, Refused

_PIECE = 256 * 1024
_HEADERS = {"User-Agent": "pusher-agent", "Accept-Encoding": "identity"}
_FRESH = {"Cache-Control": "no-cache"}
_SHOWN = 200
_PROBLEM_BYTES = 4 * 1024
_SETTLED_MS = 2_000
_BROKEN = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebLimits:
    """Times in seconds: to connect, without a byte, for a small object, until a bell rings, and for a bundle."""

    connect_s: float = 10
    stall_s: float = 30
    small_s: float = 60
    bell_s: float = 180
    total_s: float = 3_600


class Web:
    """The mirror at an http or https address. `environment` names proxies, as http_proxy and no_proxy.

    `sign` makes the address of a request, from its method and the name of an object. Everybody who has it is let
    in, so it is shown nowhere.
    """

    login_hint = "Put a login for it into the file that `credentials_file` in [subscribe] of the app's file names"

    def __init__(
        self,
        address: str,
        *,
        limits: WebLimits | None = None,
        ca_file: Path | None = None,
        credentials: Path | None = None,
        environment: Mapping[str, str] | None = None,
        sign: Callable[[str, str], Awaitable[str]] | None = None,
    ) -> None:
        self.address = address
        self._sign = sign
        self._limits = limits or WebLimits()
        self._ca_file = ca_file
        self._credentials = credentials
        # Once: the environment of a process stays, and to read it costs as much as half a question.
        self._proxies = proxies(environment)
        self._tls: ssl.SSLContext | None = None
        self._tls_stamp: tuple[int, ...] = ()
        self._session: aiohttp.ClientSession | None = None
        self._heard: dict[str, dict[str, str]] = {}
        """What rang last, by the name of the bell, as the next question names it."""

    async def read(self, name: str, *, most: int, tag: str = "") -> Answer | None:
        """As in the port."""
        headers = {**_FRESH, "If-None-Match": tag} if tag else _FRESH
        async with self._asked(name, headers, total_s=self._limits.small_s) as response:
            if response.status == 304 and tag:
                return None
            await self._check(name, response, wanted=(200,))
            content = b""
            while len(content) <= most and (piece := await response.content.read(most + 1 - len(content))):
                content += piece
            return Answer(content, _tag(response), _date(response))

    async def exists(self, name: str) -> bool:
        """As in the port."""
        async with self._asked(name, _FRESH, total_s=self._limits.small_s) as response:
            if response.status in (404, 410):
                return False
            await self._check(name, response, wanted=(200,))
            return True

    async def fetch(self, name: str, into: Partial) -> None:
        """As in the port."""
        at = await asyncio.to_thread(into.arrived)
        if at == into.size and at:
            return
        headers = {"Range": f"bytes={at}-"} if at else {}
        async with self._asked(name, headers, total_s=self._limits.total_s) as response:
            if response.status == 416:
                await asyncio.to_thread(into.remove)
                raise Unreachable(f"{self._url(name)} is shorter than what was signed")
            await self._check(name, response, wanted=(200, 206))
            if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {at}-"):
                raise Unreachable(f"{self._url(name)} sent another part than was asked for")
            at = at if response.status == 206 else 0
            async for piece in response.content.iter_chunked(_PIECE):
                if at + len(piece) > into.size:
                    raise too_long(str(self._url(name)), into.size)
                await asyncio.to_thread(into.append, piece, at=at)
                at += len(piece)
            if at < into.size:
                raise Unreachable(f"{self._url(name)} ended early", why=f"{at} of {into.size} bytes arrived")

    async def put(self, name: str, content: bytes) -> None:
        """As in the port."""
        async with self._asked(name, _FRESH, total_s=self._limits.small_s, content=content) as response:
            await self._check(name, response, wanted=(200, 201, 204))

    async def bell(self, name: str) -> bool:
        """As in the port. What rang last is named as nchan does it: by Last-Modified and ETag."""
        heard, total_s = self._heard.get(name, {}), self._limits.bell_s
        async with self._asked(name, heard, total_s=total_s, stall_s=total_s, alone=True) as response:
            if response.status in (304, 408):
                return False
            await self._check(name, response, wanted=(200,))
            known = {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}
            headers = response.headers
            self._heard[name] = {ask: headers[given] for ask, given in known.items() if given in headers}
            return True

    async def close(self) -> None:
        """As in the port. Until the next question, minutes may pass: no connection is kept for so long."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def _asked(
        self,
        name: str,
        headers: Mapping[str, str],
        *,
        total_s: float,
        stall_s: float = 0,
        content: bytes | None = None,
        alone: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a question; `alone`, over a connection of its own. Raises: Unreachable, Refused."""
        method = "GET" if content is None else "PUT"
        url = URL(await self._sign(method, name), encoded=True) if self._sign else self._url(name)
        try:
            auth, tls = await asyncio.to_thread(self._prepare, url) if url.scheme == "https" else ({}, True)
            timeout = aiohttp.ClientTimeout(
                total=total_s, sock_connect=self._limits.connect_s, sock_read=stall_s or self._limits.stall_s
            )
            async with (
                self._connected(tls, alone=alone) as session,
                session.request(
                    method,
                    url,
                    data=content,
                    headers={**_HEADERS, **auth, **headers},
                    timeout=timeout,
                    allow_redirects=False,
                    proxy=proxy(url, self._proxies),
                ) as response,
            ):
                yield response
        except Problem:
            raise
        except aiohttp.ClientConnectorCertificateError as error:
            found = error.certificate_error
            raise Unreachable(
                f"{self._url(name)} is not trusted",
                why=getattr(found, "verify_message", "") or str(found)[:_SHOWN],
                hint="Renew its certificate there. For a certificate authority of your own: `ca_file` in "
                "[subscribe] of the app's file",
            ) from error
        except _BROKEN as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            if type(error) is aiohttp.ClientConnectorError:  # not of a proxy: its own words name that
                why = error.os_error.strerror or str(error.os_error)
            why = why.replace(str(url), str(self._url(name)))  # some errors name the address, which may be signed
            hint = "It is asked again by itself. If it has moved: `repository` in [subscribe] of the app's file"
            raise Unreachable(f"{self._url(name)} does not answer", why=why[:_SHOWN], hint=hint) from error

    @asynccontextmanager
    async def _connected(self, tls: ssl.SSLContext | bool, *, alone: bool) -> AsyncIterator[aiohttp.ClientSession]:
        """The session of the questions that follow one another; `alone`, one that ends with its question."""
        session = self._session
        if session is None or alone:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls, limit=4),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
            self._session = self._session if alone else session
        try:
            yield session
        finally:
            if alone:
                await session.close()

    def _url(self, name: str) -> URL:
        return URL(f"{self.address}/{name}", encoded=True)

    def _prepare(self, url: URL) -> tuple[dict[str, str], ssl.SSLContext | bool]:
        """The login for a host, and what its certificate must fit, by the files as they are now. Blocking."""
        stamp = _stamp(self._ca_file)
        if self._tls is None or stamp != self._tls_stamp:
            try:
                self._tls = ssl.create_default_context(cafile=str(self._ca_file) if self._ca_file else None)
                self._tls_stamp = stamp
            except (OSError, ssl.SSLError) as error:
                raise Refused(
                    Code.CONFIGURATION,
                    f"The certificates in {self._ca_file} cannot be used",
                    why=str(error),
                    hint="Correct `ca_file` in [subscribe] of the app's file",
                ) from error
        login = read_logins(self._credentials).get(url.host or "")
        return {"Authorization": basic(*login)} if login else {}, self._tls

    async def _check(self, name: str, response: aiohttp.ClientResponse, *, wanted: tuple[int, ...]) -> None:
        """Refuse an answer that is not the object itself. Raises: Refused, Unreachable."""
        url = self._url(name)
        if 300 <= response.status < 400 and response.status != 304:
            target = response.headers.get("Location", "")[:_SHOWN]
            raise Failed(
                Code.REPOSITORY_REDIRECTS,
                f"{url} answered {response.status}",
                why=f"it redirects to {target!r}, and redirects are not followed",
                hint="Name the address itself in `repository`",
            )
        encoding = response.headers.get("Content-Encoding", "identity")
        if response.status not in wanted:
            answer = await response.content.read(_PROBLEM_BYTES) if self._sign else b""
            said = re.search(rb"<Code>([A-Za-z0-9]{1,64})</Code>", answer)  # an object store's own word
            raise Unreachable(
                f"{url} answered {response.status}",
                why=said[1].decode() if said else "",
                hint=self._hint(response.status),
                retry_after_s=retry_after(response.headers.get("Retry-After", "")),
            )
        if encoding != "identity":
            raise Unreachable(
                f"{url} is compressed on the way ({encoding[:_SHOWN]!r})", why="nothing asked for that"
            )

    def _hint(self, status: int) -> str:
        """What a person can do about an answer."""
        if status in (401, 403) and self.address.startswith("http://"):
            return "Name it by https:// in `repository`: no login is sent in the clear"
        if status in (401, 403):
            return self.login_hint
        if status in (404, 410):
            return "Publish there, or correct `repository` in [subscribe] of the app's file"
        return ""


def _stamp(file: Path | None) -> tuple[int, ...]:
    """What changes with a file. Blocking."""
    try:
        state = file.stat() if file else None
    except OSError:  # who reads it says so
        state = None
    return (state.st_mtime_ns, state.st_ino, state.st_size) if state else ()


def _tag(response: aiohttp.ClientResponse) -> str:
    """The name of this content, if nothing else can have it.

    Many servers make it of size and time in seconds. A document that is replaced twice within a second would
    keep it, so it counts only once that second is long over (RFC 9110, section 8.8.2.2).
    """
    modified, date = (_time(response.headers.get(name, "")) for name in ("Last-Modified", "Date"))
    if modified is not None and (date is None or date - modified < _SETTLED_MS):
        return ""
    return response.headers.get("ETag", "")


def _date(response: aiohttp.ClientResponse) -> int | None:
    """The server's time in milliseconds, if it tells one (RFC 9110, section 6.6.1)."""
    return _time(response.headers.get("Date", ""))


def _time(text: str) -> int | None:
    try:
        return int(email.utils.parsedate_to_datetime(text).timestamp() * 1000)
    except (ValueError, OverflowError, TypeError):
        return None
