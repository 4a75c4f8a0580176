"""Visitors at an even pace, each on a new connection, counted by the answers they get."""

import asyncio
import json
import socket
import time
from collections import Counter


class Visitors:
    """Ask `path` of an app so often a second while the block lasts; `endings` counts "200 v1", or what went wrong.

    By hand over a socket, so that what is measured is the app and not the client.
    """

    def __init__(self, address: str, port: int, path: str, *, per_second: int) -> None:
        self.endings: Counter[str] = Counter()
        self.longest_s = 0.0
        self.behind_s = 0.0
        self._to = (address, port)
        self._question = f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode()
        self._pace_s = 1 / per_second
        self._over = False

    async def __aenter__(self) -> "Visitors":
        self._coming = asyncio.create_task(self._come())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await self._coming

    async def _come(self) -> None:
        here: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not self._over:
            visit = asyncio.create_task(self._visit())
            here.add(visit)
            visit.add_done_callback(here.discard)
            due += self._pace_s
            self.behind_s = max(self.behind_s, time.monotonic() - due)
            await asyncio.sleep(max(0, due - time.monotonic()))
        await asyncio.gather(*here)

    async def _visit(self) -> None:
        loop, came = asyncio.get_running_loop(), time.monotonic()
        answer = b""
        with socket.socket() as sock:
            sock.setblocking(False)
            try:
                async with asyncio.timeout(30):
                    await loop.sock_connect(sock, self._to)
                    await loop.sock_sendall(sock, self._question)
                    while chunk := await loop.sock_recv(sock, 4096):
                        answer += chunk
            except OSError as error:
                self.endings[type(error).__name__] += 1
                return
        self.longest_s = max(self.longest_s, time.monotonic() - came)
        self.endings[_judged(answer)] += 1


def _judged(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    try:
        return f"{head.split()[1].decode()} {json.loads(body)['version']}"
    except (IndexError, ValueError, KeyError, TypeError):
        return f"no answer: {answer[:80]!r}"
