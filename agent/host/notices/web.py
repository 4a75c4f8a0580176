"""Notices by HTTP: one POST each.

Invariant: nothing but the answer's status counts, and it must come in time. A redirect is not followed: what was
meant for one host is shown to no other. Its address may hold a secret, so no message has more of it than its host.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from agent.core.notice import Notice, one_line
from agent.core.notice_formats import Format, message, signed
from agent.host.dependencies.credentials import read_logins
from agent.host.net.outward import basic, proxies, proxy, retry_after
from agent.host.notices.way import Undelivered
from agent.host.ports import Clock
from pusher.wire import Problem

_SHOWN = 200
_REFUSES_THIS = (400, 413, 415, 422)
"""This message is wrong for the receiver, also tomorrow. Anything else can be mended over there, or here."""
_BROKEN = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookFiles:
    """Root's files that belong to an address: in place of it, for its signature, its login, its certificate.

    They are read for each notice: what root corrects counts at once.
    """

    url: Path | None = None
    secret: Path | None = None
    credentials: Path | None = None
    authorities: Path | None = None


class Webhook:
    """Sends notices to `url`, in a form. Without `url`, the file of that name has it in its first line.

    `environment` names proxies (http_proxy, https_proxy, no_proxy); without one, it is that of this process.
    """

    def __init__(
        self,
        url: str,
        *,
        form: Format,
        clock: Clock,
        files: WebhookFiles | None = None,
        environment: Mapping[str, str] | None = None,
        connect_s: float = 10,
        total_s: float = 30,
    ) -> None:
        self._given = url
        self._form: Format = form
        self._clock = clock
        self._files = files or WebhookFiles()
        self._proxies = proxies(environment)
        self._timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=connect_s)

    @property
    def address(self) -> str:
        """As in the port."""
        return _shown(URL(self._given)) if self._given else f"the address in {self._files.url}"

    async def deliver(self, notice: Notice) -> None:
        """As in the port."""
        url, headers, body, tls = await asyncio.to_thread(self._prepare, notice)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=tls),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    timeout=self._timeout,
                ) as session,
                session.post(
                    url, data=body, headers=headers, allow_redirects=False, proxy=proxy(url, self._proxies)
                ) as response,
            ):
                if not 200 <= response.status < 300:
                    raise await _refusal(url, response)
        except Problem:
            raise
        except _BROKEN as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            # Some errors name the whole address.
            why = why.replace(str(url), _shown(url))
            raise Undelivered(f"{_shown(url)} does not answer", why=one_line(why, _SHOWN)) from error

    def _prepare(self, notice: Notice) -> tuple[URL, dict[str, str], bytes, ssl.SSLContext | bool]:
        """The request, and what the certificate must fit. Blocking. Raises: Undelivered."""
        url = URL(self._given or _address(self._files.url), encoded=True)
        built = message(notice, self._form)
        headers = {"User-Agent": "pusher-agent", **built.headers}
        try:
            if login := read_logins(self._files.credentials).get(url.host or ""):
                headers["Authorization"] = basic(*login)
            if self._files.secret is not None:
                secret = self._files.secret.read_bytes()
                time_s = self._clock.now() // 1000
                headers |= signed(notice.id, built.body, secret=secret, time_s=time_s)
            authorities = str(self._files.authorities) if self._files.authorities else None
            tls = ssl.create_default_context(cafile=authorities) if url.scheme == "https" else True
        except Problem as problem:
            raise Undelivered(problem.what, why=problem.why, hint=problem.hint) from problem
        except ValueError as error:
            why = "after whsec_, it is not in base64"
            raise Undelivered(f"The secret in {self._files.secret} cannot be used", why=why) from error
        except OSError as error:  # ssl.SSLError is one
            file = error.filename or self._files.authorities
            raise Undelivered(
                f"The file {file} cannot be used",
                why=error.strerror or str(error),
                hint="It is named in [notify] of agent.toml, and the agent must be able to read it",
            ) from error
        return url, headers, built.body, tls


async def _refusal(url: URL, response: aiohttp.ClientResponse) -> Undelivered:
    """What an answer says that is not "I have it"."""
    status, host = response.status, _shown(url)
    if 300 <= status < 400:
        try:
            target = _shown(URL(response.headers.get("Location", "")))
        except ValueError:
            target = "an address that is none"
        why = f"it redirects to {target}, and redirects are not followed"
        return Undelivered(f"{host} answered {status}", why=why, hint="Name the address itself in [notify]")
    said = one_line((await response.content.read(4 * _SHOWN)).decode(errors="replace"), _SHOWN)
    after = retry_after(response.headers.get("Retry-After", ""))
    final = status in _REFUSES_THIS
    return Undelivered(f"{host} answered {status}", why=said, retry_after_s=after, final=final)


def _address(file: Path | None) -> str:
    """The address in a file. Raises: Undelivered."""
    hint = "`url_file` in [notify] of agent.toml needs a line like https://hooks.example.com/..."
    try:
        line = (file or Path()).read_text("utf-8").strip().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise Undelivered(f"The address in {file} cannot be read", why=why, hint=hint) from error
    try:
        if (url := URL(line, encoded=True)).scheme in ("http", "https") and url.host and not url.user:
            return line
    except ValueError:
        pass
    raise Undelivered(f"The first line of {file} is no address", hint=hint)


def _shown(url: URL) -> str:
    """Where it goes, without path and query."""
    return str(url.origin()) if url.is_absolute() else "the same host"
