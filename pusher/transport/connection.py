"""HTTP/1.1 with one agent, over any stream that `pusher.transport.hosts` opens.

Invariant: there is one connection at a time. It is kept for all requests, and opened again if it was closed. Every
failure is a `Problem`: the agent's own, or `Unreachable`.
"""

import contextlib
import http.client
import re
import select
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from pusher import __version__
from pusher.errors import Unreachable, Usage
from pusher.transport.bounds import (
    DOCUMENT_BYTES,
    DOCUMENT_VALUES,
    HEAD_BYTES,
    LINE_BYTES,
    LINES,
    WHOLE_S,
    Inlet,
    TooMuch,
)
from pusher.transport.hosts import NOT_RUNNING, Host, Ssh, Stream, connect
from pusher.wire import PROBLEM_TYPE, Problem, WireError
from pusher.wire.stream import LineSplitter
from pusher.wire.text import parse_object

_PIECE = 64 * 1024
_NEVER_ENDS = "its answer has no end"


_REFUSED_THERE = re.compile(r"open failed: connect failed: Connection refused")
"""What ssh says if it got to the host, and nothing listens at the door (ssh(1), -W)."""

_FORBIDDEN_THERE = "administratively prohibited"
"""What it says where sshd, or the options of the key, let nobody connect to the door."""
_FORBIDDEN_HINT = "{}: `AllowTcpForwarding local` in sshd_config, and a key that may"


_SILENT_HINT = (
    "If ssh gets to {}, its agent does not start, or is still ending what a crash interrupted. "
    "There: systemctl status pusher-agent, and journalctl -u pusher-agent -n 20"
)
"""systemd holds the door, so a connection is made also while no agent is there to answer."""


class Connection:
    """The connection to the agent of one host. Only `abandon` may be called from another thread. `close` it.

    `answer_s` is how long an answer may take to begin; None is the usual time of the transport. `whole_s` is how
    long the rest of it may take.
    """

    def __init__(
        self,
        host: Host,
        *,
        ssh: str,
        may_ask: bool = True,
        answer_s: float | None = None,
        whole_s: float = WHOLE_S,
    ) -> None:
        self.host = host
        self._ssh = ssh
        self._may_ask = may_ask
        self._answer_s = answer_s
        self._whole_s = whole_s
        self._abandoned = threading.Event()
        self._stream: Stream | None = None
        self._inlet: Inlet | None = None
        self._http = http.client.HTTPConnection("localhost")
        self._answered = False
        self.ahead_s = 0.0
        """How far the host's clock is ahead of this machine's, as its last answer says: to a second."""

    def open(self) -> Stream:
        """The stream for the next request: the last one, if it is still open. Raises: Unreachable, Usage."""
        stream = self._stream
        # No data comes between two requests. So a readable stream has ended: the agent closed the idle
        # connection. A request on it would fail, and that would look like a lost answer.
        if stream is None or self._http.sock is None or _ready(stream.socket, select.POLLIN, within_s=0):
            self.close()
            stream = self._stream = connect(self.host, ssh=self._ssh, may_ask=self._may_ask)
            self._http = http.client.HTTPConnection("localhost")
            self._inlet = Inlet(stream.socket)
            self._http.sock = self._inlet
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
        most: int = DOCUMENT_BYTES,
        values: int = DOCUMENT_VALUES,
    ) -> dict[str, Any]:
        """The JSON object that answers a request. `body` is sent in chunks, as long as the agent reads.

        `patience_s` is how long the answer may take to begin, if less than usual. It may have `most` bytes and
        `values` values.
        Raises: Unreachable; Problem, if the agent answers with one; Usage, if `body` cannot be read, and what else
        it raises.
        """
        stream = self.open()
        begin_s = self._patience(stream) if patience_s is None else min(patience_s, self._patience(stream))
        stream.socket.settimeout(begin_s)
        try:
            length = {} if method == "GET" else {"Content-Length": "0"}
            framing = length if body is None else {"Transfer-Encoding": "chunked"}
            self._begin(stream, method, path, {**framing, **(headers or {})})
            whole = body is None or _send_chunks(stream.socket, _read(body), within_s=self._patience(stream))
            response = self._response(begin_s)
            raw = self._body(response, most)
        except TooMuch as error:
            self.close()
            raise self.not_an_agent(_NEVER_ENDS) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        except BaseException:
            self.close()
            raise
        if not whole or not response.isclosed():
            self.close()
        return self._document(response, raw, values)

    def lines(self, path: str, *, silence_s: float, most: int | None = LINES) -> Iterator[bytes]:
        """The lines of a streamed answer as they come, without newline, until the agent ends it: at most `most`.

        Raises: Unreachable, also after `silence_s` without a whole line, or if the last line is cut off; Problem.
        """
        stream = self.open()
        response: http.client.HTTPResponse | None = None
        count = 0
        try:
            self._begin(stream, "GET", path, {})
            response = self._response(self._patience(stream))
            if response.status >= 400:
                self._document(response, self._body(response, DOCUMENT_BYTES), DOCUMENT_VALUES)
            self._allow(LINE_BYTES, within_s=silence_s)
            # Not `readline`: it does not notice that a chunked answer was cut off.
            splitter = LineSplitter(LINE_BYTES)
            while piece := response.read1(_PIECE):
                for line in splitter.feed(piece):
                    count += 1
                    if len(line) > LINE_BYTES:
                        raise self.not_an_agent("it sends a line without an end")
                    if most is not None and count > most:
                        raise self.not_an_agent(f"it sends more than {most} lines")
                    yield line
                    self._allow(LINE_BYTES, within_s=silence_s)
            if rest := splitter.end():
                raise http.client.IncompleteRead(rest)
        except TooMuch as error:
            raise self.not_an_agent(_NEVER_ENDS) from error
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

    def _response(self, begin_s: float) -> http.client.HTTPResponse:
        """The answer, with its head read. Raises: TooMuch; OSError; HTTPException."""
        self._allow(HEAD_BYTES, within_s=begin_s)
        response = self._http.getresponse()
        self._answered = True
        self.ahead_s = ahead_s(response.headers.get("Date", ""), now_s=time.time())
        return response

    def _body(self, response: http.client.HTTPResponse, most: int) -> bytes:
        """All of the answer, which may have `most` bytes. Raises: as `_response`."""
        self._allow(most, within_s=self._whole_s)
        raw = response.read(most + 1)
        if len(raw) > most:
            raise TooMuch
        if response.length:  # `read` does not notice that an answer was cut off
            raise http.client.IncompleteRead(raw, response.length)
        return raw

    def _allow(self, content: int, *, within_s: float) -> None:
        # The framing of chunks is little, unless they are made to be expensive.
        if self._inlet is not None:
            self._inlet.allow(content + content // 4 + HEAD_BYTES, within_s=within_s)

    def _document(self, response: http.client.HTTPResponse, raw: bytes, values: int) -> dict[str, Any]:
        document, why = None, f"it is {response.status} {response.reason[:80]}".strip()
        if sum(map(raw.count, (b",", b"[", b"{"))) > values:
            why = f"it has more than {values} values"
        else:
            try:
                document = parse_object(raw, "its content")
            except WireError as error:
                why = f"{why}, and {error}"
        if document is not None and response.status < 300:
            return document
        if document is not None and response.headers.get_content_type() == PROBLEM_TYPE:
            raise Problem.from_document(document)
        raise self.not_an_agent(why)

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
        why = ""
        if stream is not None:
            why = stream.why_it_broke()
            stream.close()
        if isinstance(error, TimeoutError):
            why = "no answer in time"
        what = "The connection to {} was lost" if self._answered else "{} cannot be reached"
        hint = NOT_RUNNING
        if isinstance(address := self.host.address, Ssh):
            if _REFUSED_THERE.search(why):
                what, why = (
                    "No agent listens on {}",
                    f"ssh reached it, and nothing listens there at {address.door}",
                )
                hint = f"Start it on {self.host.name}: sudo systemctl start pusher-agent.socket pusher-agent"
            elif _FORBIDDEN_THERE in why:
                hint = _FORBIDDEN_HINT.format("There")
            elif isinstance(error, TimeoutError):
                hint = _SILENT_HINT.format(self.host.name)
            else:
                hint = self._ssh_hint(address)
        return Unreachable(what.format(self.host.name), why=why or str(error), hint=hint)

    def _ssh_hint(self, address: Ssh) -> str:
        """What to do where ssh did not get through; what it said is on the terminal, unless it may not ask."""
        output = "See the output of ssh above" if self._may_ask else "With several hosts, ssh cannot ask anything"
        target = f"{address.user}@{address.host}" if address.user else address.host
        port = f"-p {address.port} " if address.port else ""
        start = f"no agent listens at {address.door} there. To start it, there: sudo systemctl start pusher-agent"
        unknown = f"{self.host.unknown} " if self.host.unknown else ""
        if self._may_ask:
            output += ". " + _FORBIDDEN_HINT.format(f"After `{_FORBIDDEN_THERE}`, there")
        return f"{unknown}{output}. If `ssh {port}{target}` works, {start}"


def ahead_s(date: str, *, now_s: float) -> float:
    """How far a clock is ahead that says this `Date` (RFC 9110, to a second); 0, if that cannot be read."""
    try:
        said = parsedate_to_datetime(date)
        return said.replace(tzinfo=UTC).timestamp() + 0.5 - now_s
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _read(body: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of a body. Raises: Usage, for an error of this machine's disk: that is none of the connection."""
    try:
        yield from body
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        what, why = "What is to be sent cannot be read any more", f"{named}{error.strerror or error}"
        raise Usage(what, why=why, hint="Nothing was deployed") from error


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
