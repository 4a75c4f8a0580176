"""Telling systemd how the agent is doing (sd_notify(3)): ready, alive, stopping.

Invariant: where nobody asked to be told (no NOTIFY_SOCKET), nothing happens.
"""

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress

from agent.host.ports import Clock

_PARTS = 2  # sd_watchdog_enabled(3) recommends to report at half of the time


class Notifier:
    """Opens and closes as a door does, after the doors: "ready" is said when everybody can come in."""

    def __init__(self, *, clock: Clock, environment: Mapping[str, str] = os.environ) -> None:
        self._clock = clock
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._every_s = int(environment.get("WATCHDOG_USEC") or 0) / 1_000_000 / _PARTS
        self._watchdog: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.tell("READY=1")
        if self._address and self._every_s:
            self._watchdog = asyncio.create_task(self._show_life())

    async def stop(self) -> None:
        self.say("Stopped")
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def say(self, status: str) -> None:
        """Have a line of text shown by `systemctl status`."""
        self.tell(f"STATUS={' '.join(status.split())}")

    def stopping(self) -> None:
        """Tell that the agent has begun to stop, by whomever it was told to."""
        self.tell("STOPPING=1")

    def tell(self, *assignments: str) -> None:
        """Tell one message of NAME=VALUE lines. Never waits; what cannot be told is not told."""
        if not self._address:
            return
        name = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock, suppress(OSError):
            sock.sendto("\n".join(assignments).encode(), name)

    async def _show_life(self) -> None:
        # From the event loop: if that hangs, the agent is to be started again.
        while True:
            await self._clock.sleep(self._every_s)
            self.tell("WATCHDOG=1")
