"""Who opens connections, and which of them are operators as far as the quota is concerned.

Invariant: what is remembered counts for the quota and for names alone. A request that changes something asks the
account database again.
"""

import socket
import time
from collections.abc import Callable

from agent.host.net.peer import Caller, caller_of, may_deploy, uid_of

_REMEMBERED_S = 1.0
_MOST = 1_000


class Callers:
    """Identifies callers. `own_uid` and `group` as for `may_deploy`; `elapsed` is a clock that never goes back.

    `look_up` finds the account of a uid.

    What the account database says of a user is remembered for a second. Asking it takes a millisecond where
    systemd is among its sources (nss-systemd(8)), and a stranger can connect more often than that.
    """

    def __init__(
        self,
        *,
        own_uid: int,
        group: str,
        look_up: Callable[[int | None], Caller] = caller_of,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own_uid = own_uid
        self._group = group
        self._look_up = look_up
        self._elapsed = elapsed
        self._known: dict[int | None, tuple[float, Caller, bool]] = {}

    def identify(self, connection: socket.socket) -> tuple[Caller, bool]:
        """The caller of an accepted connection, and whether it is an operator. Blocking; in any thread."""
        uid = uid_of(connection)
        now = self._elapsed()
        known = self._known.get(uid)
        if known is None or now - known[0] >= _REMEMBERED_S:
            if len(self._known) >= _MOST:
                self._known = {}
            caller = self._look_up(uid)
            known = (now, caller, may_deploy(caller, own_uid=self._own_uid, group=self._group))
            self._known[uid] = known
        return known[1], known[2]
