"""The HTTP door: a loopback address and a unix socket, the same routes and the same policy on both.

Invariant: no byte of a connection is read before the kernel has said who opened it. No request is served before
its target, its host and its caller are checked. Every response is our own, also to what is not HTTP.
"""

import asyncio
import os
import resource
import socket
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import structlog
from aiohttp import web

from agent.core.config.host import BundleLimits
from agent.doors.http.acceptor import Acceptor
from agent.doors.http.arrivals import withhold_silent
from agent.doors.http.callers import Callers
from agent.doors.http.connections import Connection
from agent.doors.http.guards import (
    NAMES,
    allowed_hosts,
    check_host,
    check_origin,
    check_site,
    parse_query,
    printable,
    split_target,
)
from agent.doors.http.handlers import Handlers
from agent.doors.http.limits import DoorLimits
from agent.doors.http.metrics import Metrics
from agent.doors.http.quota import ConnectionQuota
from agent.doors.http.requests import Request
from agent.doors.http.responses import problem_response
from agent.doors.http.rights import Rights
from agent.doors.http.routes import Match, Policy, find, nearest_path
from agent.doors.http.streams import Streams
from agent.doors.http.uploads import Uploads
from agent.doors.ports import Agent
from agent.doors.refusals import Refusals
from agent.host.clock import SystemClock
from agent.host.net import sockets
from agent.host.ports import Clock
from pusher.wire import Code, Problem, Refused

_CLOSING_S = 0.5
_FRESH_S = 0.5

_T = TypeVar("_T")
_log = structlog.get_logger()


class HttpDoor:
    """Serves `agent` at `address` (as `127.0.0.1:9000`; with port 0 the kernel chooses) and at the socket `path`.

    Besides root and `own_uid` (by default the process's own), members of `group` are operators. `metrics_users`
    may read the metrics, too. When `stop` is set, uploads end at once: they would not be deployed any more. `held`
    are listening sockets that process 1 holds: with them, the door binds and removes nothing.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        address: str,
        path: Path,
        group: str,
        metrics_users: Collection[str] = (),
        limits: BundleLimits,
        door_limits: DoorLimits | None = None,
        stop: asyncio.Event | None = None,
        held: Sequence[socket.socket] = (),
        own_uid: int | None = None,
        refusals: Refusals | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.address = address
        self.path = path
        self._limits = door_limits or DoorLimits()
        stop = stop or asyncio.Event()
        self._refusals = refusals or Refusals()
        uploads = Uploads(limits=limits, stop=stop)
        self._handlers = Handlers(
            agent,
            uploads=uploads,
            metrics=Metrics(
                agent,
                refusals=self._refusals,
                connections=lambda: self.connections,
                uploads=lambda: uploads.under_way,
                clock=clock or SystemClock(),
            ),
            streams=Streams(silence_s=self._limits.silence_s, unread_s=self._limits.unread_s, stop=stop),
        )
        own_uid = os.geteuid() if own_uid is None else own_uid
        self._rights = Rights(own_uid=own_uid, group=group, metrics_users=metrics_users, path=path)
        self._callers = Callers(own_uid=own_uid, group=group)
        # Threads of its own, to identify callers: uploads may take all of the loop's, and the door must still
        # respond.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="door")
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._quota = ConnectionQuota(
            each=self._limits.connections_each,
            others=min(self._limits.connections_others, files // 4),
            rate=self._limits.rate_each,
            burst=self._limits.burst_each,
        )
        self._server: web.Server | None = None
        self._held = held
        self._listeners: list[socket.socket] = []
        self._acceptor: Acceptor | None = None
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    @property
    def connections(self) -> int:
        """How many connections are open, as far as the door knows."""
        known = self._server.connections if self._server is not None else []
        return sum(one.transport is not None for one in known)

    async def start(self) -> None:
        """Open the door; `address` then has the port that was chosen.

        Raises: Refused(port_taken, configuration), with nothing listening.
        """
        self._listeners = [*(self._held or await self._bind())]
        self._server = web.Server(self._respond)
        tcp = [sock for sock in self._listeners if sock.family == socket.AF_INET]
        for sock in tcp:
            withhold_silent(sock, self._limits.withheld_s)
        hosts = {sock: allowed_hosts(*sock.getsockname()) for sock in tcp}
        unix = frozenset(NAMES).union(*hosts.values())
        self._acceptor = Acceptor(
            self._server,
            callers=self._callers,
            quota=self._quota,
            limits=self._limits,
            refusals=self._refusals,
            threads=self._threads,
        )
        for one in self._listeners:
            self._acceptor.begin(one, hosts.get(one, unix))
        _log.info("door_open", address=self.address, socket=str(self.path))

    async def stop(self) -> None:
        """Accept no more connections or requests; return when the requests under way have their responses.
        Idempotent.

        What they wait for must end by other means: after `drain_s` they are cut off.
        """
        self._stopping = True
        if self._acceptor is not None:
            await self._acceptor.stop()
        for listener in self._listeners:
            listener.close()
        if self._listeners and not self._held:
            await asyncio.to_thread(self.path.unlink, missing_ok=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain_s):
                if self._acceptor is not None:
                    await self._acceptor.settled()
                await self._first_responses()
                await self._idle.wait()
        if self._server is not None:
            await self._server.shutdown(_CLOSING_S)
        self._acceptor, self._listeners, self._server = None, [], None
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._callers.close()

    async def _first_responses(self) -> None:
        """Let connections that were accepted a moment ago have one response; those that ask nothing are left."""
        known = self._server.connections if self._server is not None else []
        fresh = [one for one in known if isinstance(one, Connection) and not one.served.is_set()]
        if fresh:
            waiting = [asyncio.create_task(one.served.wait()) for one in fresh]
            _, late = await asyncio.wait(waiting, timeout=_FRESH_S)
            for task in late:
                task.cancel()

    async def _bind(self) -> list[socket.socket]:
        tcp = await asyncio.to_thread(_listen, self.address)
        try:
            unix = await asyncio.to_thread(sockets.listen, f"unix:{self.path}")
        except Refused:
            tcp.close()
            raise
        host, port = tcp.getsockname()
        self.address = f"{host}:{port}"
        return [tcp, unix]

    async def _respond(self, http: web.BaseRequest) -> web.StreamResponse:
        self._running += 1
        self._idle.clear()
        try:
            response = await self._serve(http)
        except Problem as problem:
            if http.writer.output_size > 0:
                raise RuntimeError("a problem came up after the response had begun") from problem
            self._note(problem, http)
            response = problem_response(problem)
        finally:
            cast(Connection, http.protocol).served.set()
            self._running -= 1
            if not self._running:
                self._idle.set()
        if self._stopping or not http.content.is_eof():
            response.force_close()
        return response

    async def _serve(self, http: web.BaseRequest) -> web.StreamResponse:
        """The response to a request that passes all guards. Raises: Problem."""
        connection = cast(Connection, http.protocol)
        if self._stopping and connection.served.is_set():
            raise Refused(Code.STOPPING, "The agent is stopping", hint="Try again when it is up")
        path, query = split_target(http.raw_path)
        hosts, reads = http.headers.getall("Host", []), http.method in ("GET", "HEAD")
        check_host(hosts, allowed=connection.hosts)
        check_origin(http.headers.getall("Origin", []), host=hosts[0], reads=reads)
        check_site(http.headers.getall("Sec-Fetch-Site", []), reads=reads)
        match = find(http.method, path)
        if not isinstance(match, Match):
            problem = _not_found(http.method, path, methods=match)
            self._note(problem, http)
            headers = {"Allow": ", ".join(match)} if match else {}
            return problem_response(problem, status=405 if match else 404, headers=headers)
        if match.row.policy is not Policy.ANYONE:
            await self._in_thread(partial(self._rights.check, match.row.policy, connection.caller))
        request = Request(
            http,
            connection,
            by=connection.caller.name,
            names=match.names,
            query=parse_query(query, known=match.row.parameters),
        )
        response = await match.row.handler(self._handlers, request)
        if match.row.method not in ("GET", "HEAD"):
            _log.info("request", by=request.by, method=http.method, path=path, status=response.status)
        return response

    def _note(self, problem: Problem, http: web.BaseRequest) -> None:
        """Log a refusal. A deployment that began logs its own end."""
        caller = cast(Connection, http.protocol).caller.name
        path = printable(http.raw_path.partition("?")[0])
        self._refusals.note(problem, door="http", caller=caller, method=printable(http.method), path=path)

    async def _in_thread(self, ask: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    if int(port) == 0:
        return socket.create_server((host, 0))
    try:
        return sockets.listen(address)
    except Refused as problem:
        hint = "Stop it, or set another `address` in [door] of agent.toml"
        raise Refused(problem.code, problem.what, why=problem.why, hint=hint) from problem


def _not_found(method: str, path: str, *, methods: tuple[str, ...]) -> Refused:
    if methods:
        said = f"{printable(path)} has no method {printable(method)}"
        return Refused(Code.BAD_REQUEST, said, hint=f"Use {' or '.join(methods)}")
    return Refused(Code.BAD_REQUEST, f"There is no {printable(path)} here", hint=nearest_path(path))
