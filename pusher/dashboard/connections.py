"""Connections to hosts, for several requests at the same time.

Invariant: a client is used by one thread at a time. One that is given back is used again, for to connect by ssh
takes longer than to ask.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pusher.transport.client import Client
from pusher.transport.hosts import Host
from pusher.wire import Code, Refused

_KEPT = 2
_ANSWER_S = 20.0


class Connections:
    """Connections to these hosts, each named by its place. ssh asks nothing: there is no terminal for it."""

    def __init__(self, hosts: Sequence[Host], *, ssh: str) -> None:
        self.hosts = tuple(hosts)
        self._ssh = ssh
        self._lock = threading.Lock()
        self._idle: dict[int, list[Client]] = {}
        self._used: set[Client] = set()

    @contextmanager
    def borrow(self, place: int) -> Iterator[Client]:
        """A client for the host at this place. Raises: Refused(bad_request), if there is none."""
        if not 0 <= place < len(self.hosts):
            raise Refused(Code.BAD_REQUEST, f"There is no host {place} here")
        with self._lock:
            kept = self._idle.get(place)
            client = kept.pop() if kept else None
            if client is None:
                client = Client(self.hosts[place], ssh=self._ssh, may_ask=False, answer_s=_ANSWER_S)
            self._used.add(client)
        try:
            yield client
        finally:
            with self._lock:
                self._used.discard(client)
                kept = self._idle.setdefault(place, [])
                spare = len(kept) >= _KEPT
                if not spare:
                    kept.append(client)
            if spare:
                client.close()

    def close(self) -> None:
        """End all requests, and hang up."""
        with self._lock:
            used, idle = list(self._used), [one for kept in self._idle.values() for one in kept]
            self._idle = {}
        for client in used:
            client.abandon()
        for client in idle:
            client.close()
