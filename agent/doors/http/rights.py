"""Who may use which routes of the door, and what those are told who may not.

Invariant: the account database is asked for every request, so that a right that was taken away is gone at once.
"""

from collections.abc import Collection
from pathlib import Path

from agent.doors.http.routes import Policy
from agent.host.net.peer import Caller, may_deploy, may_watch
from pusher.wire import Code, Refused


class Rights:
    """The rights at one door. `own_uid` and `group` as for `may_deploy`; `path` is the door's unix socket."""

    def __init__(self, *, own_uid: int, group: str, metrics_users: Collection[str], path: Path) -> None:
        self._own_uid = own_uid
        self._group = group
        self._metrics_users = frozenset(metrics_users)
        self._path = path

    def check(self, policy: Policy, caller: Caller) -> None:
        """Refuse a caller whom the policy does not admit. Blocking. Raises: Refused(not_allowed)."""
        if not self._admits(policy, caller):
            raise self._refusal(policy, caller)

    def _admits(self, policy: Policy, caller: Caller) -> bool:
        own_uid, group = self._own_uid, self._group
        match policy:
            case Policy.ANYONE:
                return True
            case Policy.WATCHER:
                return may_watch(caller, own_uid=own_uid, group=group, users=self._metrics_users)
            case Policy.OPERATOR:
                return may_deploy(caller, own_uid=own_uid, group=group)
            case Policy.ROOT:
                return caller.uid in (0, own_uid)

    def _refusal(self, policy: Policy, caller: Caller) -> Refused:
        login = caller.login or "LOGIN"
        if policy is Policy.ROOT:
            why = "only root and the agent's own user may"
            return Refused(Code.NOT_ALLOWED, f"{caller.name} may not add to the history of this host", why=why)
        if caller.uid is None:
            return Refused(
                Code.NOT_ALLOWED,
                "The caller is unknown",
                why="the kernel could not name the owner of the other end of this connection",
                hint=f"Call from this host, or by ssh; or use the unix socket {self._path}",
            )
        operators = f"root, the agent's own user and members of group {self._group}"
        if policy is Policy.WATCHER:
            return Refused(
                Code.NOT_ALLOWED,
                f"{caller.name} may not read the metrics of this host",
                why=f"only {operators} may, and those whom metrics_users names",
                hint=f'Root can add metrics_users = ["{login}"] to [door] in agent.toml, and restart the agent',
            )
        return Refused(
            Code.NOT_ALLOWED,
            f"{caller.name} may not deploy on this host",
            why=f"only {operators} may",
            hint=f"Root can add a member: adduser {login} {self._group}",
        )
