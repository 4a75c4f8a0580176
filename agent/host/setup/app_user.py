"""The user that an app runs as.

Invariant: none who may deploy runs an app. Who was not made for an app is not removed with it.
"""

import grp
import os
import pwd

from agent.core.units import AGENT
from pusher.wire import Code, Refused


def check(user: str, *, group: str) -> None:
    """Raises: Refused, for a user with rights of the agent, of root or of `group`, which may deploy."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return
    try:
        may_deploy = grp.getgrnam(group).gr_gid in os.getgrouplist(user, account.pw_gid)
    except KeyError:
        may_deploy = False
    if account.pw_uid == 0 or user == AGENT or may_deploy:
        raise Refused(
            Code.CONFIGURATION,
            f"The app cannot run as {user}",
            why="that user may deploy, and whoever breaks into the app could then as well",
            hint="Name a user of the app's own; one that does not exist is made",
        )


def useradd_argv(user: str, app: str) -> tuple[str, ...]:
    """Make a user that an app runs as: no password, no shell, no home."""
    return (
        *("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"),
        *("--shell", "/usr/sbin/nologin", "--comment", _comment(app), "--", user),
    )


def exists(user: str) -> bool:
    """Whether there is one of that name."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def made_for(app: str, user: str) -> bool:
    """Whether it was made for this app."""
    try:
        return pwd.getpwnam(user).pw_gecos == _comment(app)
    except KeyError:
        return False


def _comment(app: str) -> str:
    return f"{app} - deployed by pusher-agent"
