"""One connection of the door: who opened it, how long it may be idle, how its errors are answered.

Invariant: an error on a connection stays there. A malformed request, a caller that hangs up and a bug of ours each
end one request, and the daemon goes on.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog
from aiohttp import web

from agent.doors.http.guards import printable
from agent.doors.http.responses import problem_response
from agent.doors.refusals import Refusals
from agent.host.net.peer import Caller
from pusher.wire import Code, Failed, Refused

_LINGER_S = 5.0
_HEAD_BYTES = 4_096
_HEADERS = 64

_T = TypeVar("_T")
_log = structlog.get_logger()


class Connection(web.RequestHandler):
    """A connection whose caller was identified before a byte was read.

    `closed` is called when it has closed. `hosts` are the `Host` values its requests may have. `idle_s` is how
    long the next whole request head may take: a limit for idle connections, and for those that send a byte now and
    then. What cannot be read as a request is noted in `refusals`.
    """

    def __init__(
        self,
        server: web.Server,
        *,
        caller: Caller,
        hosts: frozenset[str],
        loop: asyncio.AbstractEventLoop,
        idle_s: float,
        closed: Callable[[], None],
        refusals: Refusals,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=idle_s,
            # After an early response, what still arrives is read for a while: closing with unread bytes would
            # reset the connection, and the caller would never see the response.
            lingering_time=_LINGER_S,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # None turns it off, which the annotation lacks
            max_line_size=_HEAD_BYTES,
            max_field_size=_HEAD_BYTES,
            max_headers=_HEADERS,
        )
        self.caller = caller
        self.hosts = hosts
        self._closed = closed
        self._refusals = refusals
        self.served = asyncio.Event()
        """Set once a request of it has its answer, or none can come any more."""
        self._waiting: asyncio.Task[Any] | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the work that only this caller waits for."""
        super().connection_lost(exc)
        self._closed()
        self.served.set()
        if self._waiting is not None:
            self._waiting.cancel()

    async def while_open(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of `work`, which is cancelled if the caller hangs up, so it must change nothing.

        Raises: ConnectionResetError, if that happens.
        """
        self._waiting = waiting = asyncio.create_task(work)
        if self.transport is None:
            waiting.cancel()
        try:
            return await waiting
        except asyncio.CancelledError:
            here = asyncio.current_task()
            if here is not None and here.cancelling():
                raise  # this request is cancelled, not only the work
            raise ConnectionResetError("the caller hung up") from None
        finally:
            self._waiting = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Respond to bytes that are not HTTP, and to unexpected exceptions: the boundary for bugs of this door.

        Raises: ConnectionResetError, if no response can be sent any more.
        """
        if status < 500:
            why = printable(" ".join((message or "").split()))
            problem = Refused(Code.BAD_REQUEST, "The request cannot be read", why=why)
            self._refusals.note(problem, door="http", caller=self.caller.name)
            response = problem_response(problem)
        elif self.transport is None and isinstance(exc, ConnectionError):
            raise exc
        else:
            response = _bug(request, exc)
        if self.transport is None or request.writer.output_size > 0:
            raise ConnectionResetError("no response can be sent any more") from exc
        response.force_close()
        return response


def _bug(request: web.BaseRequest, error: BaseException | None) -> web.Response:
    incident = secrets.token_hex(4)
    _log.error(
        "request_failed",
        incident=incident,
        method=request.method,
        path=printable(request.raw_path),
        exc_info=error or True,
    )
    return problem_response(
        Failed(
            Code.INTERNAL,
            "The agent met a bug of its own",
            why=f"incident {incident}",
            hint=f"The traceback is in its log: journalctl -u pusher-agent -g {incident}. Please report it",
        )
    )
