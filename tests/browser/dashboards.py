"""`pusher dashboard` as people start it, and what they see of it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Run:
    """One run: the address that it printed, and what it printed after that."""

    process: asyncio.subprocess.Process
    address: str

    @property
    def port(self) -> int:
        return int(urlsplit(self.address).port or 0)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def said(self) -> str:
        """End it as Ctrl-C does, and what it said until then."""
        self.process.send_signal(signal.SIGINT)
        out, _ = await self.process.communicate()
        assert self.process.returncode == 0, out
        return out.decode()


@asynccontextmanager
async def dashboard(*words: str, home: Path, quietly: bool = True, **variables: str) -> AsyncIterator[Run]:
    """A run of `pusher dashboard` with these words; `quietly`, it opens no browser."""
    quiet = ("--no-browser",) if quietly else ()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pusher", "dashboard", *quiet, *words),
        cwd=home,
        env={**os.environ, "HOME": str(home), "PYTHONUNBUFFERED": "1", **variables},
        stdout=-1,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    assert address.startswith("http://127.0.0.1:"), address
    try:
        yield Run(process, address)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await process.communicate()
