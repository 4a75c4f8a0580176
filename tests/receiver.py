"""A receiver of webhooks: a real HTTP server, whose answers a test chooses and whose requests it sees."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Received:
    """One request, as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Receiver:
    """Answers each request with the next of `answers` (status, headers, body), and with 204 when there is none.

    While `open` is not set, requests get no answer at all.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], str]] = []
        self.received: list[Received] = []
        self.open = asyncio.Event()
        self.open.set()
        self.url = ""
        self._news = asyncio.Event()

    async def count(self, number: int) -> list[Received]:
        """Wait until so many requests have come; all of them."""
        async with asyncio.timeout(20):
            while len(self.received) < number:
                self._news.clear()
                await self._news.wait()
        return self.received

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.received.append(Received(request.method, request.raw_path, request.headers.copy(), body))
        self._news.set()
        await self.open.wait()
        status, headers, text = self.answers.pop(0) if self.answers else (204, {}, "")
        return web.Response(status=status, headers=headers, text=text or None)


@asynccontextmanager
async def receiving(
    *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Receiver]:
    """A receiver that listens during the block."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=tls)
    await site.start()
    receiver.url = f"http{'s' if tls else ''}://{host}:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        receiver.open.set()
        await runner.cleanup()


def certificate(folder: Path, *, host: str = "127.0.0.1") -> tuple[Path, ssl.SSLContext]:
    """A certificate that nobody has vouched for: its file, and a server's context with it."""
    pem, key = folder / "certificate.pem", folder / "certificate.key"
    subprocess.run(
        ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "1", "-subj", "/CN=receiver", "-addext", f"subjectAltName=IP:{host}",
         "-keyout", key, "-out", pem),
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    return pem, context


@asynccontextmanager
async def mailbox(*, host: str = "127.0.0.1") -> AsyncIterator[tuple[int, asyncio.Queue[tuple[str, str]]]]:
    """A mail server (RFC 5321): its port, and the mails that come, each with who it is for."""
    mails: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to = ""
        writer.write(b"220 here\r\n")
        while line := (await reader.readline()).decode():
            word = line[:4].upper()
            if word == "RCPT":
                to = line.partition("<")[2].partition(">")[0]
            if word == "DATA":
                writer.write(b"354 go on\r\n")
                await writer.drain()
                mails.put_nowait((to, (await reader.readuntil(b"\r\n.\r\n")).decode()))
            writer.write(b"221 bye\r\n" if word == "QUIT" else b"250 ok\r\n")
            await writer.drain()
            if word == "QUIT":
                break
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield server.sockets[0].getsockname()[1], mails
    finally:
        server.close()
