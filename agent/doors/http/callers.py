"""Who opens connections, and which of them are operators as far as the quota is concerned.

Invariant: what is remembered counts for the quota and for names alone. A request that changes something asks the
account database again.
"""

import socket
import time
from collections.abc import Callable

from agent.host.net.peer import Caller, Unanswered, caller_of, may_deploy, uid_at_once, uid_of
from agent.host.net.sock_diag import SockDiag

_REMEMBERED_S = 1.0
_MOST = 1_000


class Callers:
    """Identifies callers. `own_uid` and `group` as for `may_deploy`; `elapsed` is a clock that never goes back.

    `account_of` finds the account of a uid.

    What the account database says of a user is remembered for a second. Asking it takes a millisecond where
    systemd is among its sources (nss-systemd(8)), and a stranger can connect more often than that.
    """

    def __init__(
        self,
        *,
        own_uid: int,
        group: str,
        account_of: Callable[[int | None], Caller] = caller_of,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own_uid = own_uid
        self._group = group
        self._account_of = account_of
        self._elapsed = elapsed
        self._diag = SockDiag()
        self._known: dict[int | None, tuple[float, Caller, bool]] = {}

    def identify(self, connection: socket.socket) -> tuple[Caller, bool]:
        """The caller of an accepted connection, and whether it is an operator. Blocking; in any thread."""
        uid = uid_of(connection)
        if (known := self._remembered(uid)) is not None:
            return known
        caller = self._account_of(uid)
        operator = may_deploy(caller, own_uid=self._own_uid, group=self._group)
        if len(self._known) >= _MOST:
            self._known = {}
        self._known[uid] = (self._elapsed(), caller, operator)
        return caller, operator

    def known(self, connection: socket.socket) -> tuple[Caller, bool] | None:
        """As `identify`, where that takes microseconds and never blocks; None where it might not. In one thread.

        A caller who floods the door is remembered: to refuse it must cost less than to connect.
        """
        try:
            return self._remembered(uid_at_once(connection, self._diag))
        except Unanswered:
            return None

    def close(self) -> None:
        """Let go of what `known` asks with."""
        self._diag.close()

    def _remembered(self, uid: int | None) -> tuple[Caller, bool] | None:
        known = self._known.get(uid)
        return known[1:] if known is not None and self._elapsed() - known[0] < _REMEMBERED_S else None
