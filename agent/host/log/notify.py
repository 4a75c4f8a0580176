"""Notifications to systemd (sd_notify(3)): ready, alive, stopping, and a line of status.

Invariant: without NOTIFY_SOCKET nothing happens. No error of the operating system ends the reports of life: an
agent that has no descriptor left for a moment goes on, and systemd must not kill it for that.
"""

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress

from agent.host.ports import Clock

_PARTS = 2  # sd_watchdog_enabled(3) recommends to report at half of the time


class Notifier:
    """Starts and stops like a door, after the doors: it reports "ready" when they are open."""

    def __init__(self, *, clock: Clock, environment: Mapping[str, str] = os.environ) -> None:
        self._clock = clock
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._every_s = int(environment.get("WATCHDOG_USEC") or 0) / 1_000_000 / _PARTS
        self._watchdog: asyncio.Task[None] | None = None
        self._kept: socket.socket | None = None
        """The socket for the reports of life. It is opened while there are descriptors."""

    async def start(self) -> None:
        self.send("READY=1")
        if self._address and self._every_s:
            with suppress(OSError):
                self._kept = _open()
            self._watchdog = asyncio.create_task(self._show_life())

    async def stop(self) -> None:
        self.say("Stopped")
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def say(self, status: str) -> None:
        """Set the line of text that `systemctl status` shows."""
        self.send(f"STATUS={' '.join(status.split())}")

    def stopping(self) -> None:
        """Report that the agent has begun to stop, for whatever reason."""
        self.send("STOPPING=1")

    def send(self, *assignments: str) -> None:
        """Send one message of NAME=VALUE lines. Never waits; a message that cannot be sent is dropped."""
        if not self._address:
            return
        name = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        message = "\n".join(assignments).encode()
        with suppress(OSError):
            if self._kept is not None:
                self._kept.sendto(message, name)
                return
            with _open() as sock:
                sock.sendto(message, name)

    async def _show_life(self) -> None:
        # From the event loop: if that hangs, systemd shall restart the agent.
        while True:
            await self._clock.sleep(self._every_s)
            self.send("WATCHDOG=1")


def _open() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
