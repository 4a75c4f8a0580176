"""The HTTP door: a loopback address and a unix socket, the same routes and the same policy on both.

Invariant: no byte of a connection is read before the kernel has said who opened it, and no request is served
before its target, its host and its caller are judged. Whatever becomes of it, the answer is of our own making.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import structlog
from aiohttp import web

from agent.core.config import BundleLimits
from agent.doors.http.connections import Connection
from agent.doors.http.guards import (
    NAMES,
    allowed_hosts,
    check_host,
    check_origin,
    parse_query,
    printable,
    split_target,
)
from agent.doors.http.requests import Call, Desk
from agent.doors.http.responses import problem_answer
from agent.doors.http.routes import Match, Policy, find, nearest_path
from agent.doors.ports import Agent
from agent.host.net import sockets
from agent.host.net.peer import Caller, identify, may_deploy
from pusher.wire import Code, Problem, Refused

_CONNECTIONS_EACH = 64
_WELCOMES = 32
_CLOSING_S = 0.5
_ACCEPT_AGAIN_S = 0.5

_T = TypeVar("_T")
_log = structlog.get_logger()


class HttpDoor:
    """Serves `agent` at `address` (as `127.0.0.1:9000`; with port 0 the kernel chooses) and at the socket `path`.

    Besides root and `own_uid` (the process's own), members of `group` are operators. `idle_s` is how long a
    connection may take to bring a request, `drain_s` how long answers under way may take when the door stops.
    When `stop` is set, uploads end at once: nobody will make them live any more.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        address: str,
        path: Path,
        group: str,
        limits: BundleLimits,
        stop: asyncio.Event | None = None,
        own_uid: int | None = None,
        idle_s: float = 15.0,
        drain_s: float = 5.0,
    ) -> None:
        self.address = address
        self.path = path
        self._desk = Desk(agent, limits, stop or asyncio.Event())
        self._group = group
        self._own_uid = os.geteuid() if own_uid is None else own_uid
        self._idle_s = idle_s
        self._drain_s = drain_s
        # Its own threads, to look callers up: uploads may fill the loop's, and the door must answer still.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="door")
        self._server: web.Server | None = None
        self._listeners: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._welcoming: set[asyncio.Task[None]] = set()
        self._running = 0
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self._stopping = False

    async def start(self) -> None:
        """Open the door; `address` then has the port that was chosen.

        Raises: Refused(port_taken, configuration), with nothing listening.
        """
        tcp = await asyncio.to_thread(_listen, self.address)
        try:
            unix = await asyncio.to_thread(sockets.listen, f"unix:{self.path}")
        except Refused:
            tcp.close()
            raise
        host, port = tcp.getsockname()
        self.address = f"{host}:{port}"
        self._listeners = [tcp, unix]
        self._server = web.Server(self._answer)
        hosts = allowed_hosts(host, port)
        self._accepting = [
            asyncio.create_task(self._accept(tcp, hosts, self._server)),
            asyncio.create_task(self._accept(unix, hosts | set(NAMES), self._server)),
        ]
        _log.info("door_open", address=self.address, socket=str(self.path))

    async def stop(self) -> None:
        """Take no more connections or requests; return when those under way are answered. Idempotent.

        What they wait for has to end by other means: after `drain_s` they are cut off.
        """
        self._stopping = True
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        if self._listeners:
            await asyncio.to_thread(self.path.unlink, missing_ok=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await asyncio.gather(*self._welcoming, return_exceptions=True)
                await self._at_rest.wait()
        if self._server is not None:
            await self._server.shutdown(_CLOSING_S)
        self._accepting, self._listeners, self._server = [], [], None
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _accept(self, listener: socket.socket, hosts: frozenset[str], server: web.Server) -> None:
        listener.setblocking(False)
        while True:
            try:
                sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError as error:  # too many open files, most likely
                _log.warning("accept_failed", error=str(error))
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            # Beside this loop: one look-up that takes long must not keep others waiting.
            welcome = asyncio.create_task(self._welcome(sock, hosts, server))
            self._welcoming.add(welcome)
            welcome.add_done_callback(self._welcoming.discard)
            if len(self._welcoming) >= _WELCOMES:
                await asyncio.wait(self._welcoming, return_when=asyncio.FIRST_COMPLETED)

    async def _welcome(self, sock: socket.socket, hosts: frozenset[str], server: web.Server) -> None:
        """Find out who connected; only then let anything of the connection be read."""
        caller = await self._in_thread(partial(identify, sock))
        open_now = [one for one in server.connections if isinstance(one, Connection)]
        if sum(one.caller.uid == caller.uid for one in open_now) >= _CONNECTIONS_EACH:
            # Files that the agent may open are few: nobody may have so many that a deployment finds none left.
            _log.debug("connection_refused", caller=caller.name)
            sock.close()
            return
        loop = asyncio.get_running_loop()
        connection = Connection(server, caller=caller, hosts=hosts, loop=loop, idle_s=self._idle_s)
        await loop.connect_accepted_socket(lambda: connection, sock)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self._running += 1
        self._at_rest.clear()
        try:
            answer = await self._judged(request)
        except Problem as problem:
            if request.writer.output_size > 0:
                raise RuntimeError("a problem came up after the answer had begun") from problem
            answer = problem_answer(problem)
        finally:
            self._running -= 1
            if not self._running:
                self._at_rest.set()
        if self._stopping or not request.content.is_eof():
            answer.force_close()
        return answer

    async def _judged(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to a request that passes all guards. Raises: Problem."""
        connection = cast(Connection, request.protocol)
        if self._stopping:
            raise Refused(Code.STOPPING, "The agent is stopping", hint="Try again when it is up")
        path, query = split_target(request.raw_path)
        check_host(request.headers.getall("Host", []), allowed=connection.hosts)
        check_origin(request.headers.getall("Origin", []))
        match = find(request.method, path)
        if not isinstance(match, Match):
            return _nothing_there(request.method, path, methods=match)
        if match.row.policy is Policy.OPERATOR:
            await self._check_operator(connection.caller)
        call = Call(
            request,
            connection,
            by=connection.caller.name,
            names=match.names,
            query=parse_query(query, known=match.row.parameters),
        )
        answer = await match.row.answer(self._desk, call)
        if match.row.method not in ("GET", "HEAD"):
            _log.info("request", by=call.by, method=request.method, path=path, status=answer.status)
        return answer

    async def _check_operator(self, caller: Caller) -> None:
        """Raises: Refused(not_allowed)."""
        ask = partial(may_deploy, caller, own_uid=self._own_uid, group=self._group)
        if await self._in_thread(ask):
            return
        if caller.uid is None:
            raise Refused(
                Code.NOT_ALLOWED,
                "Nobody knows who is calling",
                why="the kernel could not name the owner of the other end of this connection",
                hint=f"Call from this host, or by ssh; or use the unix socket {self.path}",
            )
        raise Refused(
            Code.NOT_ALLOWED,
            f"{caller.name} may not deploy on this host",
            why=f"only root, the agent's own user and members of group {self._group} may",
            hint=f"Root can admit them: adduser {caller.login or 'LOGIN'} {self._group}",
        )

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


def _nothing_there(method: str, path: str, *, methods: tuple[str, ...]) -> web.Response:
    if methods:
        said = f"{printable(path)} cannot be asked with {printable(method)}"
        problem = Refused(Code.BAD_REQUEST, said, hint=f"Use {' or '.join(methods)}")
        return problem_answer(problem, status=405, headers={"Allow": ", ".join(methods)})
    problem = Refused(Code.BAD_REQUEST, f"There is no {printable(path)} here", hint=nearest_path(path))
    return problem_answer(problem, status=404)
