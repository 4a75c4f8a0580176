"""HTTP/1.1 with the web server of a repository: one request, one whole answer.

Invariant: no redirect is followed, nothing is decompressed, and every answer is bounded in bytes and time. A login
goes to the host that it names, by https or on this machine.
"""

import contextlib
import http.client
import ipaddress
import re
import ssl
import urllib.request
import weakref
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from pusher import __version__
from pusher.errors import Unreachable, Usage
from pusher.transport.bounds import HEAD_BYTES, Inlet, TooMuch

_ADDRESS = re.compile(
    r"https?://(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/+-]*)?", re.ASCII
)
_PIECE = 256 * 1024
_CONNECT_S, _STALL_S, _WHOLE_S = 10.0, 60.0, 60.0
_STORED_S = 600.0
"""How long a server may take over a bundle once it has it: it may compare its digest, or copy it elsewhere."""
_SHOWN = 200


class Answer(NamedTuple):
    """The answer to a request. `body` is all of it, or, if it is longer than allowed, one byte more than that."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class WebServer:
    """The server at `http(s)://host[:port]/path`. `credentials` is a file in netrc form. Threads may share it.

    `sign` makes the target of a request, path and query, from its method and the name of an object. It is shown
    nowhere; people read `shown` in the place of the address.
    Raises: Usage, for an address that is none; Unreachable, from every request.
    """

    def __init__(
        self,
        address: str,
        *,
        credentials: Path | None = None,
        sign: Callable[[str, str], str] | None = None,
        shown: str = "",
    ) -> None:
        if not _ADDRESS.fullmatch(address) or ".." in address:
            hint = "It is like https://deploy.example.com/repository; a login belongs into `credentials_file`"
            raise Usage(f"{address} is no repository", hint=hint)
        self._secure = address.startswith("https:")
        try:
            parts = urlsplit(address)
            self._port = parts.port or (443 if self._secure else 80)
        except ValueError as error:
            raise Usage(f"{address} is no repository", why=str(error)) from error
        self.address = shown or address.rstrip("/")
        self._sign = sign
        self._host = parts.hostname or ""
        if not self._secure and not is_here(self._host):
            why = "without https, others on the way could read the login and change what is sent"
            raise Usage(
                f"{address} is not used", why=why, hint=f"Use https://{address.partition('://')[2]}, or ssh://"
            )
        self._path = parts.path.rstrip("/")
        self._login = _login(credentials, self._host)
        self._tls = ssl.create_default_context() if self._secure else None
        self._idle: list[tuple[http.client.HTTPConnection, Inlet]] = []
        weakref.finalize(self, _hang_up, self._idle)

    def ask(
        self,
        method: str,
        name: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Path | None = None,
        most: int = 0,
    ) -> Answer:
        """The answer to one request about an object, with at most `most` bytes of its body."""
        with self._asked(method, name, headers or {}, body) as (response, inlet), self._explained(name):
            inlet.allow(most + most // 4 + HEAD_BYTES, within_s=_WHOLE_S)
            content = response.read(most + 1)
            if response.length and len(content) <= most:
                raise http.client.IncompleteRead(content, response.length)
            return Answer(response.status, response.headers, content)

    @contextmanager
    def stream(self, name: str) -> Iterator[tuple[int, Iterator[bytes]]]:
        """The status of a GET, and the body in pieces. Leaving early hangs up."""
        with self._asked("GET", name, {}, None) as (response, inlet):

            def pieces() -> Iterator[bytes]:
                # Only around what is read: what the reader of the pieces raises is none of ours.
                while True:
                    with self._explained(name):
                        inlet.allow(_PIECE + HEAD_BYTES, within_s=_STALL_S)
                        piece = response.read(_PIECE)
                    if not piece:
                        break
                    yield piece
                if response.length:
                    raise Unreachable(f"{self.address}/{name} ended early", hint="Run the command again")

            yield response.status, pieces()

    @contextmanager
    def _asked(
        self, method: str, name: str, headers: Mapping[str, str], body: bytes | Path | None
    ) -> Iterator[tuple[http.client.HTTPResponse, Inlet]]:
        connection, inlet, response = self._answered(method, name, headers, body)
        try:
            yield response, inlet
            if response.isclosed() and not response.will_close:
                self._idle.append((connection, inlet))
                return
        except BaseException:
            inlet.hang_up()
            raise
        inlet.hang_up()

    def _answered(
        self, method: str, name: str, headers: Mapping[str, str], body: bytes | Path | None
    ) -> tuple[http.client.HTTPConnection, Inlet, http.client.HTTPResponse]:
        """A connection, with the head of the answer read."""
        kept: tuple[http.client.HTTPConnection, Inlet] | None = None
        if method in ("GET", "HEAD"):
            with contextlib.suppress(IndexError):  # not asked first: another thread may take the last one
                kept = self._idle.pop()
        while True:
            inlet = kept[1] if kept else None
            try:
                with self._explained(name):
                    connection, inlet = kept or self._connect()
                    try:
                        return connection, inlet, self._sent(connection, inlet, method, name, headers, body)
                    except (ConnectionError, http.client.BadStatusLine):
                        if kept is None:
                            raise
                inlet.hang_up()
                kept = None  # the server had closed it meanwhile
            except BaseException:
                if inlet is not None:
                    inlet.hang_up()
                raise

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """What goes wrong on the way, as Unreachable."""
        url = f"{self.address}/{name}"
        try:
            yield
        except TooMuch as error:
            raise Unreachable(f"{url} gives no answer that can be used", why="it has no end") from error
        except ssl.SSLCertVerificationError as error:
            hint = "Renew its certificate there. For a certificate authority of your own, set SSL_CERT_FILE"
            why = error.verify_message or str(error)[:_SHOWN]
            raise Unreachable(f"{url} cannot be trusted", why=why, hint=hint) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            raise Unreachable(f"{url} does not answer", why=why[:_SHOWN]) from error

    def _connect(self) -> tuple[http.client.HTTPConnection, Inlet]:
        proxy = self._proxy()
        host, port = (proxy.hostname or "", proxy.port or 3128) if proxy else (self._host, self._port)
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(host, port, timeout=_CONNECT_S, blocksize=_PIECE)
        else:
            connection = http.client.HTTPSConnection(
                host, port, timeout=_CONNECT_S, context=self._tls, blocksize=_PIECE
            )
        if proxy:
            login = _basic(unquote(proxy.username), unquote(proxy.password or "")) if proxy.username else ""
            connection.set_tunnel(self._host, self._port, {"Proxy-Authorization": login} if login else None)
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        inlet = Inlet(connection.sock)
        connection.sock = inlet
        return connection, inlet

    def _sent(
        self,
        connection: http.client.HTTPConnection,
        inlet: Inlet,
        method: str,
        name: str,
        headers: Mapping[str, str],
        body: bytes | Path | None,
    ) -> http.client.HTTPResponse:
        ours = {"User-Agent": f"pusher/{__version__}", "Accept-Encoding": "identity", **self._login}
        inlet.patience(_STALL_S)
        with contextlib.ExitStack() as stack:
            sent = stack.enter_context(body.open("rb")) if isinstance(body, Path) else body
            if isinstance(body, Path):
                ours["Content-Length"] = str(body.stat().st_size)
            target = self._sign(method, name) if self._sign else f"{self._path}/{name}"
            try:
                connection.request(method, target, body=sent, headers={**ours, **headers})
            except ConnectionError:
                if body is None:
                    raise
                # A server that refuses stops reading; its answer may be there all the same.
        inlet.allow(HEAD_BYTES, within_s=_STORED_S if isinstance(body, Path) else _STALL_S)
        return connection.getresponse()

    def _proxy(self) -> SplitResult | None:
        """The proxy for this host, as the environment says (curl(1), ENVIRONMENT). Raises: Unreachable."""
        if not self._secure or urllib.request.proxy_bypass(self._host):
            return None
        address = urllib.request.getproxies().get("https", "")
        if not address:
            return None
        parts = urlsplit(address if "://" in address else f"http://{address}")
        if parts.scheme != "http" or not parts.hostname:
            shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
            raise Unreachable(f"The proxy {shown[:_SHOWN]} is not used", why="only http:// proxies are")
        return parts


def is_here(host: str) -> bool:
    """Whether a host is this machine, whatever a name server says."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _login(file: Path | None, host: str) -> dict[str, str]:
    """The header with the login for a host (RFC 7617). Raises: Usage, if the file cannot be used."""
    if file is None:
        return {}
    import netrc  # here: most commands have no use for it

    try:
        found = netrc.netrc(str(file)).hosts.get(host)
    except OSError as error:
        hint = "Create it in netrc form, or correct `credentials_file` in pusher.toml"
        raise Usage(
            f"The credentials {file} cannot be read", why=error.strerror or str(error), hint=hint
        ) from error
    except (netrc.NetrcParseError, UnicodeDecodeError) as error:
        # Not its own words: they may quote a password.
        line = f"line {error.lineno}" if isinstance(error, netrc.NetrcParseError) else "it is not UTF-8"
        raise Usage(
            f"The credentials {file} cannot be used", why=f"they are not in netrc form ({line})"
        ) from error
    if found is None:
        return {}
    login, _, password = found
    return {"Authorization": _basic(login, password or "")}


def _basic(login: str, password: str) -> str:
    return f"Basic {b64encode(f'{login}:{password}'.encode()).decode()}"


def _hang_up(idle: list[tuple[http.client.HTTPConnection, Inlet]]) -> None:
    for _, inlet in idle:
        inlet.hang_up()
