"""The answers of a release show whether it is healthy, as early as possible."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.config.app import Health
from agent.core.run import Run
from agent.host.clock import SystemClock
from agent.host.net import accepting, sockets
from agent.host.ports import Placed
from agent.host.run import health
from pusher.wire import Code, Failed
from pusher.wire.run import split_command

CLOCK = SystemClock()
Answer = Callable[[bytes], bytes | None]


class Release:
    """A `Running` that answers by a function; None keeps the visitor waiting for ever."""

    def __init__(self, answer: Answer | None = None, *, path: Path | None = None) -> None:
        self.placed = Placed("20261123020055Z", "v1", Path("/opt/demo"))
        self.requests: list[bytes] = []
        self._visits: list[asyncio.Task[None]] = []
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self.socket = sockets.listen_unix(path, mode=0o600) if path else socket.create_server(("127.0.0.1", 0))
        self.address = f"unix:{path}" if path else f"127.0.0.1:{self.socket.getsockname()[1]}"

    async def __aenter__(self) -> "Release":
        if self._answer is not None:
            self.socket.setblocking(False)
            self._server = await asyncio.start_server(self._serve, sock=self.socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._answer is not None:
            self._server.close()
            await asyncio.gather(*self._visits)
        self.socket.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._visits.append(asyncio.current_task())
        with suppress(OSError, asyncio.IncompleteReadError):  # the visitor's time was up
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            answer = self._answer(self.requests[-1])
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def wait(self) -> str:
        return await asyncio.shield(self.ended)

    async def tail(self) -> str:
        return "Traceback: oh"

    async def end(self) -> None: ...

    def dismiss(self) -> None: ...

    async def accepts(self) -> bool:
        return await asyncio.to_thread(accepting.accepts, self.socket)


def http(status: int, body: bytes = b"") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


async def check(release: Release, deadline_s: float = 20, **settings: object) -> None:
    await health.check(release, Health.model_validate(settings), version="v1", deadline_s=deadline_s, clock=CLOCK)


async def failure(doing: Awaitable[None]) -> Failed:
    with pytest.raises(Failed) as caught:
        await doing
    return caught.value


async def test_the_wanted_status_is_enough() -> None:
    async with Release(lambda _: http(200)) as release:
        await check(release)
        assert b"GET / HTTP/1.1\r\n" in release.requests[0]


async def test_path_host_and_status_are_the_configured_ones() -> None:
    async with Release(lambda _: http(204)) as release:
        await check(release, path="/up?deep=1%2F2", host="www.example.org", status=[200, 204])
        assert release.requests[0].startswith(b"GET /up?deep=1%2F2 HTTP/1.1\r\nHost: www.example.org\r\n")


async def test_a_candidate_answers_on_a_private_socket_however_deep(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    async with Release(lambda _: http(200, b'{"version": "v1"}'), path=folder / "a.sock") as release:
        await check(release, version_member="version")


async def test_candidate_and_live_release_are_asked_as_the_same_host(tmp_path: Path) -> None:
    for path in (None, tmp_path / "a.sock"):
        async with Release(lambda _: http(200), path=path) as release:
            await check(release)
            assert b"\r\nHost: localhost\r\n" in release.requests[0]


@pytest.mark.parametrize(
    ("answer", "host", "said"),
    [
        (
            b"HTTP/1.1 301 X\r\nLocation: https://a.b/\r\nContent-Length: 0\r\n\r\n",
            "",
            "and redirects to https://a.b/",
        ),
        (http(301), "", "Redirects are not followed"),
        (http(400), "", "The Host header was localhost"),
        (http(400), "a.b", "Correct the release, or [health] in the app's configuration"),
        (http(500), "", "Correct the release, or [health] in the app's configuration"),
    ],
)
async def test_a_bad_answer_comes_with_a_hint(answer: bytes, host: str, said: str) -> None:
    async with Release(lambda _: answer) as release:
        problem = await failure(check(release, 0.1, host=host))
    assert said in str(problem)
    assert ("Host header" in str(problem)) == ("Host header" in said)


async def test_an_app_that_warms_up_is_asked_again_soon() -> None:
    answers = [http(503), b"", http(200)]
    async with Release(lambda _: answers.pop(0)) as release:
        began = time.monotonic()
        await check(release)
        assert time.monotonic() - began < 5
        assert answers == []


async def test_another_version_fails_at_once_and_says_both() -> None:
    async with Release(lambda _: http(200, b'{"version": "v0"}')) as release:
        began = time.monotonic()
        problem = await failure(check(release, path="/version", version_member="version"))
        assert time.monotonic() - began < 10
    assert problem.code is Code.APP_UNHEALTHY
    assert f"{problem.what}: {problem.why}" == (
        "Release 20261123020055Z was not healthy: /version says version 'v0', not 'v1'"
    )
    assert "the git tag, or the NAME of `pusher send --as NAME`" in problem.hint
    assert problem.output == '{"version": "v0"}\n\nTraceback: oh'


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (http(500, b"oh\nno"), "/ answered 500, expected was 200"),
        (http(302), "/ answered 302, expected was 200"),
        (http(200, b"<html>"), "/ did not answer JSON, which version_member needs"),
        (http(200, b"[" * 60_000), "/ did not answer JSON, which version_member needs"),
        (http(200, b'{"release": "v1"}'), "/ answered JSON without the member 'version'"),
        (http(200, b"[]"), "/ answered JSON without the member 'version'"),
        (b"nonsense\r\n\r\n", "the connection broke"),
        (b"", "the connection broke"),
    ],
)
async def test_a_bad_answer_that_stays_bad_fails_at_the_deadline(answer: bytes, why: str) -> None:
    async with Release(lambda _: answer) as release:
        problem = await failure(check(release, 0.1, version_member="version"))
        assert len(release.requests) > 1
    assert problem.code is Code.APP_UNHEALTHY
    assert "was not healthy within 0.1 s" in problem.what
    assert why in problem.why
    assert problem.output.endswith("Traceback: oh")


async def test_no_part_of_an_answer_can_move_a_cursor_or_fill_a_screen() -> None:
    async with Release(lambda _: http(500, b"\x1b]0;title\x07\x1b[2Joh\r\nno")) as release:
        problem = await failure(check(release, 0.1))
        assert problem.output.startswith("oh\nno\n")
    async with Release(lambda _: http(200, b'{"version": "%b"}' % (b"x" * 10_000))) as release:
        problem = await failure(check(release, 5, version_member="version"))
        assert len(problem.why) < 400


async def test_only_so_much_of_an_answer_is_read() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (4 * health.BODY_BYTES)
    async with Release(lambda _: endless) as release:
        await check(release)
        problem = await failure(check(release, 0.1, version_member="version"))
    assert len(problem.output) < 2 * health.BODY_BYTES


async def test_an_app_that_accepts_and_never_answers_is_unhealthy() -> None:
    async with Release(lambda _: None) as release:
        problem = await failure(check(release, 0.2))
    assert (problem.code, problem.why) == (Code.APP_UNHEALTHY, "it did not answer")


@pytest.mark.parametrize("private", [True, False])
async def test_a_socket_that_the_app_does_not_accept_from_is_reported_as_that(
    tmp_path: Path, private: bool
) -> None:
    async with Release(path=tmp_path / "a.sock" if private else None) as release:
        problem = await failure(check(release, 0.2))
        release.placed = replace(release.placed, run=Run(start=split_command("python app.py")))
        other = await failure(check(release, 0.2))
    assert problem.code is other.code is Code.SOCKET_NOT_TAKEN
    assert str(problem) == (
        "Release 20261123020055Z was not loaded within 0.2 s: gunicorn holds the socket, and its workers still "
        "load the app. If it needs longer, raise deadline_s in [health]. If its configuration has reuse_port, it "
        "takes no socket: leave that out. Its last lines are below"
    )
    assert "app.run() never uses it" in other.hint


async def test_an_app_that_becomes_a_daemon_is_told_so() -> None:
    async with Release() as release:
        release.ended.set_result("exit code 0")
        problem = await failure(check(release))
    assert problem.why == "exit code 0, before it answered"
    assert problem.hint.startswith("Does it daemonize? It must stay in the foreground: leave out --daemon.")


async def test_an_app_that_wants_https_is_asked_with_the_header_that_says_so() -> None:
    def answer(request: bytes) -> bytes:
        if b"X-Forwarded-Proto: https" in request:
            return http(200)
        return b"HTTP/1.1 301 X\r\nLocation: https://shop.example.com/\r\nContent-Length: 0\r\n\r\n"

    async with Release(answer) as release:
        problem = await failure(check(release, 0.2))
        assert problem.hint == (
            "The app wants https. nginx would tell it so, and the health check can: [health] headers = "
            '{ X-Forwarded-Proto = "https" }'
        )
        await check(release, headers={"X-Forwarded-Proto": "https"})


async def test_an_app_that_ends_is_not_waited_for() -> None:
    async with Release() as release:
        asyncio.get_running_loop().call_later(0.05, release.ended.set_result, "exit code 3")
        began = time.monotonic()
        problem = await failure(check(release))
        assert time.monotonic() - began < 10
    assert (problem.code, problem.why, problem.output) == (Code.APP_EXITED, "exit code 3", "Traceback: oh")


async def test_an_address_without_a_listener_is_a_broken_connection() -> None:
    async with Release() as release:
        release.socket.close()
        with socket.create_server(("127.0.0.1", 0)) as other:
            release.address = f"127.0.0.1:{other.getsockname()[1]}"
        problem = await failure(check(release, 0.05))
    assert "ClientConnectorError" in problem.why


@pytest.mark.parametrize(
    ("address", "url", "path"),
    [
        ("0.0.0.0:8000", "http://127.0.0.1:8000/x", None),
        ("[::]:8000", "http://[::1]:8000/x", None),
        ("10.0.0.1:81", "http://10.0.0.1:81/x", None),
        ("unix:/run/app.sock", "http://localhost/x", Path("/run/app.sock")),
    ],
)
def test_any_address_means_the_loopback_one(address: str, url: str, path: Path | None) -> None:
    assert tuple(map(str, health.url_of(address, Health(path="/x")))) == (url, str(path))


async def watch(release: Release, seconds: float) -> None:
    await health.watch(release, Health(), version="v1", seconds=seconds, clock=CLOCK)


async def test_a_watch_of_no_length_asks_nothing() -> None:
    async with Release(lambda _: http(500)) as release:
        await watch(release, 0)
        assert release.requests == []


async def test_a_watch_ends_well_if_every_answer_was_good() -> None:
    async with Release(lambda _: http(200)) as release:
        await watch(release, 0.05)
        assert len(release.requests) == 1


async def test_one_bad_answer_ends_a_watch() -> None:
    async with Release(lambda _: http(500)) as release:
        problem = await failure(watch(release, 20))
    assert "was not healthy 0 s after it went live" in problem.what


async def test_an_exit_ends_a_watch() -> None:
    async with Release(lambda _: http(200)) as release:
        asyncio.get_running_loop().call_later(0.05, release.ended.set_result, "signal 9 (KILL)")
        problem = await failure(watch(release, 20))
    assert (problem.code, problem.why) == (Code.APP_EXITED, "signal 9 (KILL)")
