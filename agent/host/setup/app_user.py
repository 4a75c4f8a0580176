"""The user that an app runs as.

Invariant: no app runs as a user that may deploy. A user that was not made for an app is not removed with it.
"""

import grp
import os
import pwd
from contextlib import suppress

from agent.core.units import AGENT
from pusher.wire import Code, Refused

_DYNAMIC = range(0xEF00, 0xFFF0)
"""The numbers that systemd gives to users of a unit (https://systemd.io/UIDS-GIDS)."""


def check(user: str, *, group: str) -> None:
    """Check that an app may run as `user`. Blocking.

    Raises: Refused(configuration), for root, the agent's user, and members of `group`, who may deploy.
    """
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
            why="that user may deploy, and so could an intruder in the app",
            hint="Name a user that only this app uses; it is made if it does not exist",
        )


def check_free(name: str) -> None:
    """Whether systemd can make a user of this name for a unit. Raises: Refused, for one that is there for good.

    It would take that one instead, with all that it may do (systemd.exec(5), DynamicUser=).
    """
    found = []
    with suppress(KeyError):
        found.append(("user", pwd.getpwnam(name).pw_uid))
    with suppress(KeyError):
        found.append(("group", grp.getgrnam(name).gr_gid))
    for what, number in found:
        if number not in _DYNAMIC:  # else it is of a build under way
            raise Refused(
                Code.CONFIGURATION,
                f"The dependencies cannot be built as {name}",
                why=f"there is a {what} of that name, and a build would run with its rights",
                hint=f"Rename that {what}, or choose another name for the app",
            )


def useradd_argv(user: str, app: str) -> tuple[str, ...]:
    """Make a user that an app runs as: no password, no shell, no home (useradd(8))."""
    return (
        *("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"),
        *("--shell", "/usr/sbin/nologin", "--comment", _comment(app), "--", user),
    )


def exists(user: str) -> bool:
    """Whether there is a user of this name. Blocking."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def made_for(app: str, user: str) -> bool:
    """Whether `user` was made for this app. Blocking."""
    try:
        return pwd.getpwnam(user).pw_gecos == _comment(app)
    except KeyError:
        return False


def _comment(app: str) -> str:
    return f"{app} - deployed by pusher-agent"
