"""The polkit rule that lets the agent control the units of its apps, and nothing else.

Invariant: unit names and verbs are compared as whole strings. A pattern would also admit transient units, which
run anything as any user.

The rule also refuses lingering to the users that apps run as: with it, an app could run processes outside of its
units, which go on after the app was removed.
"""

import json
from collections.abc import Iterable

from agent.core.units import AGENT

VERBS = ("start", "stop", "restart", "reload", "reset-failed")
"""What the agent may do with its units. Not `enable`, `mask` or `set-property`: those are root's."""

_ACTION = "org.freedesktop.systemd1.manage-units"
_LINGERING = ("org.freedesktop.login1.set-self-linger", "org.freedesktop.login1.set-user-linger")

_RULE = """\
// Written by `pusher-agent app add`, `apply` and `remove` from /etc/pusher-agent/apps; a change here is lost.
polkit.addRule(function (action, subject) {{
    var units = {units};
    var verbs = {verbs};
    if (action.id === {action} && subject.user === {user} &&
        units.indexOf(action.lookup("unit")) >= 0 && verbs.indexOf(action.lookup("verb")) >= 0) {{
        return polkit.Result.YES;
    }}
    var users = {users};
    var lingering = {lingering};
    if (users.indexOf(subject.user) >= 0 && lingering.indexOf(action.id) >= 0) {{
        return polkit.Result.NO;
    }}
}});
"""


def render_rule(units: Iterable[str], *, users: Iterable[str] = ()) -> str:
    """The rule for these units and the users of their apps, in ECMAScript 5 for polkit 122 (polkit(8))."""
    return _RULE.format(
        units=json.dumps([*units]),
        verbs=json.dumps(VERBS),
        action=json.dumps(_ACTION),
        user=json.dumps(AGENT),
        users=json.dumps(sorted(set(users))),
        lingering=json.dumps(_LINGERING),
    )
