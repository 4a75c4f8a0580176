"""HTTP/1.1 with one agent, over any stream that `pusher.transport.hosts` opens.

Invariant: there is one connection at a time. It is kept for all requests, and opened again if it was closed. Every
failure is a `Problem`: the agent's own, or `Unreachable`.
"""

import contextlib
import http.client
import json
import select
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pusher import __version__
from pusher.errors import Unreachable
from pusher.transport.hosts import Host, Ssh, Stream, connect
from pusher.wire import PROBLEM_TYPE, Problem
from pusher.wire.stream import LineSplitter

_DOCUMENT_BYTES = 64 * 1024**2
_LINE_BYTES = 4 * 1024**2
_PIECE = 64 * 1024


class Connection:
    """The connection to the agent of one host. Only `abandon` may be called from another thread. `close` it.

    `answer_s` is how long an answer may take; None is the usual time of the transport.
    """

    def __init__(self, host: Host, *, ssh: str, may_ask: bool = True, answer_s: float | None = None) -> None:
        self.host = host
        self._ssh = ssh
        self._may_ask = may_ask
        self._answer_s = answer_s
        self._abandoned = threading.Event()
        self._stream: Stream | None = None
        self._http = http.client.HTTPConnection("localhost")
        self._answered = False

    def open(self) -> Stream:
        """The stream for the next request: the last one, if it is still open. Raises: Unreachable, Usage."""
        stream = self._stream
        # No data comes between two requests. So a readable stream has ended: the agent closed the idle
        # connection. A request on it would fail, and that would look like a lost answer.
        if stream is None or self._http.sock is None or _ready(stream.socket, select.POLLIN, within_s=0):
            self.close()
            stream = self._stream = connect(self.host, ssh=self._ssh, may_ask=self._may_ask)
            self._http = http.client.HTTPConnection("localhost")
            self._http.sock = stream.socket
            self._answered = False
        stream.socket.settimeout(self._patience(stream))
        if self._abandoned.is_set():
            self.close()
            raise KeyboardInterrupt
        return stream

    def abandon(self) -> None:
        """From another thread: end every wait, now and later, with KeyboardInterrupt."""
        self._abandoned.set()
        if stream := self._stream:
            with contextlib.suppress(OSError):
                stream.socket.shutdown(socket.SHUT_RDWR)

    def rest(self, seconds: float) -> None:
        """Wait. Raises: KeyboardInterrupt, when abandoned."""
        if self._abandoned.wait(seconds):
            raise KeyboardInterrupt

    def close(self) -> None:
        """Hang up. Idempotent; the next request connects again."""
        self._http.close()
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Iterable[bytes] | None = None,
        patience_s: float | None = None,
    ) -> dict[str, Any]:
        """The JSON object that answers a request. `body` is sent in chunks, as long as the agent reads.

        `patience_s` is how long to wait without data, if less than usual.
        Raises: Unreachable; Problem, if the agent answers with one; whatever `body` raises.
        """
        stream = self.open()
        if patience_s is not None:
            stream.socket.settimeout(min(patience_s, self._patience(stream)))
        try:
            length = {} if method == "GET" else {"Content-Length": "0"}
            framing = length if body is None else {"Transfer-Encoding": "chunked"}
            self._begin(stream, method, path, {**framing, **(headers or {})})
            whole = body is None or _send_chunks(stream.socket, body, within_s=self._patience(stream))
            response = self._http.getresponse()
            self._answered = True
            raw = response.read(_DOCUMENT_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        except BaseException:
            self.close()
            raise
        if not whole or not response.isclosed():
            self.close()
        return self._document(response, raw)

    def lines(self, path: str, *, silence_s: float) -> Iterator[bytes]:
        """The lines of a streamed answer as they come, without newline, until the agent ends it.

        Raises: Unreachable, also after `silence_s` without data, or if the last line is cut off; Problem.
        """
        stream = self.open()
        response: http.client.HTTPResponse | None = None
        try:
            self._begin(stream, "GET", path, {})
            response = self._http.getresponse()
            self._answered = True
            if response.status >= 400:
                self._document(response, response.read(_DOCUMENT_BYTES))
            stream.socket.settimeout(silence_s)
            # Not `readline`: it does not notice that a chunked answer was cut off.
            splitter = LineSplitter(_LINE_BYTES)
            while piece := response.read1(_PIECE):
                for line in splitter.feed(piece):
                    if len(line) > _LINE_BYTES:
                        raise self.not_an_agent("it sends a line without an end")
                    yield line
            if rest := splitter.end():
                raise http.client.IncompleteRead(rest)
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        finally:
            if response is None or not response.isclosed():
                self.close()

    def not_an_agent(self, why: str) -> Unreachable:
        """The error for an answer that is not an agent's."""
        return Unreachable(f"The answer from {self.host.name} is not from an agent", why=why)

    def _patience(self, stream: Stream) -> float:
        """How long an answer may take, in seconds."""
        return stream.answer_s if self._answer_s is None else self._answer_s

    def _begin(self, stream: Stream, method: str, path: str, headers: Mapping[str, str]) -> None:
        self._http.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        ours = {"Host": stream.authority, "User-Agent": f"pusher/{__version__}"}
        for name, value in {**ours, **headers}.items():
            self._http.putheader(name, value)
        self._http.endheaders()

    def _document(self, response: http.client.HTTPResponse, raw: bytes) -> dict[str, Any]:
        try:
            document = json.loads(raw)
        except (ValueError, RecursionError):
            document = None
        if response.status < 300 and isinstance(document, dict):
            return document
        if response.headers.get_content_type() == PROBLEM_TYPE and isinstance(document, dict):
            raise Problem.from_document(document)
        raise self.not_an_agent(f"it is {response.status} {response.reason}".strip())

    def _lost(self, error: Exception) -> Unreachable | KeyboardInterrupt:
        if self._abandoned.is_set():
            self.close()
            return KeyboardInterrupt()
        if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
            # For example the greeting of a wrapper around ssh.
            self.close()
            return self.not_an_agent(f"{str(error).strip()[:80]!r} is not HTTP")
        stream, self._stream = self._stream, None
        self._http.close()
        why = stream.why_it_broke() if stream else ""
        if isinstance(error, TimeoutError):
            why = "no answer in time"
        what = "The connection to {} was lost" if self._answered else "{} cannot be reached"
        hint = "Is the agent running there? See: systemctl status pusher-agent"
        if isinstance(address := self.host.address, Ssh):
            output = (
                "See the output of ssh above" if self._may_ask else "With several hosts, ssh cannot ask anything"
            )
            target = f"{address.user}@{address.host}" if address.user else address.host
            port = f"-p {address.port} " if address.port else ""
            hint = f"{output}. If `ssh {port}{target}` works, run there: systemctl status pusher-agent"
        return Unreachable(what.format(self.host.name), why=why or str(error), hint=hint)


def _send_chunks(stream: socket.socket, pieces: Iterable[bytes], *, within_s: float) -> bool:
    """Send a body. False if the agent answered or closed before its end, so that the rest was not sent."""
    for piece in pieces:
        if piece and not _send(stream, b"%x\r\n%b\r\n" % (len(piece), piece), within_s=within_s):
            return False
    return _send(stream, b"0\r\n\r\n", within_s=within_s)


def _send(stream: socket.socket, raw: bytes, *, within_s: float) -> bool:
    # Not sendall: an agent that refuses stops reading, and its answer must be seen while we wait to write.
    view = memoryview(raw)
    while view:
        ready = _ready(stream, select.POLLIN | select.POLLOUT, within_s=within_s)
        if not ready:
            raise TimeoutError
        if ready & ~select.POLLOUT:
            return False
        try:
            view = view[stream.send(view) :]
        except ConnectionError:
            return False  # the answer may have come before the end
    return True


def _ready(stream: socket.socket, wanted: int, *, within_s: float) -> int:
    """The events of poll(2) that are there within that time; 0 if none is."""
    # Not `select.select`: it does not accept the descriptor numbers that occur with hundreds of hosts.
    poll = select.poll()
    poll.register(stream, wanted)
    return next((events for _, events in poll.poll(within_s * 1000)), 0)
