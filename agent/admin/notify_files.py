"""What would keep notices from being delivered, as far as files on this host can tell.

Invariant: nobody is asked, and nothing is sent: `pusher-agent notify --test` does that.
"""

import stat
from collections.abc import Iterator
from contextlib import suppress

from agent.core.config.host import AgentConfig
from agent.core.layout import HostLayout
from agent.core.units import AGENT
from agent.host.setup.rights import hindrance

_SECRET = ("url_file", "secret_file", "credentials_file")


def findings(agent: AgentConfig, layout: HostLayout) -> Iterator[str]:
    """A sentence for each thing that is wrong with what [notify] names, and what mends it."""
    for key in (*_SECRET, "ca_file"):
        if not (named := getattr(agent.notify, key)):
            continue
        file = layout.beneath(named)
        try:
            mode = file.stat().st_mode
        except OSError as error:
            yield f"{file}: {error.strerror}; `{key}` in [notify] names it"
            continue
        if key in _SECRET and mode & stat.S_IROTH:
            yield f"{file}: everybody can read it; run `chgrp {AGENT} {file}; chmod 640 {file}`, as root"
        if agent.service == "systemd":
            with suppress(KeyError):  # the agent has no user here
                if found := hindrance(file, user=AGENT):
                    yield f"{file}: {found}"
    if agent.notify.email and agent.service == "systemd" and not layout.mail_socket.is_socket():
        yield "no mail is sent: run `systemctl enable --now pusher-agent-mail.socket`, as root"
