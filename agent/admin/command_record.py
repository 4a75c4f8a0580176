"""The record of a one-off command in the app's history: the agent writes it, and is told by its unix socket.

Invariant: a command that cannot be recorded still runs. It may be what brings the agent back. But it is said.
"""

import os
import pwd
import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

from agent.admin.own_agent import post
from agent.core.layout import HostLayout
from pusher.wire import Code, Problem, Route

_LONGEST = 1000


class CommandRecord:
    """The record of one command. Its arguments are a part of it, its output is not."""

    def __init__(self, app: str, layout: HostLayout) -> None:
        self._path = Route.APP_COMMANDS.format(app=quote(app))
        self._socket = layout.api_socket
        self._run = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._known = False

    def begin(self, command: Sequence[str], *, release: str, environment: Mapping[str, str] = os.environ) -> None:
        """Record who runs what, and where."""
        text = shlex.join(command)
        text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
        self._known = self._post({"by": caller(environment), "release": release, "command": text})

    def end(self, code: int) -> None:
        """Record its exit code, if its beginning is recorded."""
        if self._known:
            self._post({"code": str(code)})

    def _post(self, members: Mapping[str, str]) -> bool:
        try:
            post(f"{self._path}?{urlencode({'run': self._run, **members})}", socket=self._socket)
        except Problem as problem:
            why = problem.why if problem.code is Code.SERVICE_FAILED else problem
            print(f"warning: this is not in the history of the app: {why}", file=sys.stderr, flush=True)
            return False
        return True


def caller(environment: Mapping[str, str]) -> str:
    """Who runs it, for people: the user who called sudo, or that of this process: `alice (uid 1000)`."""
    uid = os.getuid()
    if uid == 0 and environment.get("SUDO_UID", "").isdecimal():
        return f"{environment.get('SUDO_USER', '')} (uid {environment['SUDO_UID']})".strip()
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
