"""Joining the parts that tell others how deployments end.

Invariant: without [notify] in agent.toml there is no part here: no row in the journal, no module in memory.
"""

from collections.abc import Collection, Mapping

from agent.core.config.host import AgentConfig
from agent.core.layout import HostLayout
from agent.core.notice import Ending
from agent.host.notices.courier import Courier
from agent.host.notices.way import Way
from agent.host.ports import Clock
from agent.host.storage.journal import Journal

WEB, MAIL = "web", "mail"


def rules(host: AgentConfig) -> dict[str, Collection[Ending]]:
    """The ways to tell others, each with the endings it is for."""
    notify = host.notify
    wanted = frozenset(Ending(one) for one in notify.events)
    by_web, by_mail = bool(notify.url or notify.url_file), bool(notify.email)
    return {way: wanted for way, used in ((WEB, by_web), (MAIL, by_mail)) if used}


def courier(host: AgentConfig, *, layout: HostLayout, journal: Journal, clock: Clock) -> Courier:
    """What delivers the notices of this host."""
    ways: Mapping[str, Way] = {
        name: _webhook(host, layout=layout, clock=clock) if name == WEB else _mail(host, layout=layout)
        for name in rules(host)
    }
    return Courier(ways, host=host.name, journal=journal, clock=clock)


def _webhook(host: AgentConfig, *, layout: HostLayout, clock: Clock) -> Way:
    from agent.host.notices.web import Webhook, WebhookFiles

    notify = host.notify
    url, secret, credentials, authorities = (
        layout.beneath(one) if one else None
        for one in (notify.url_file, notify.secret_file, notify.credentials_file, notify.ca_file)
    )
    files = WebhookFiles(url=url, secret=secret, credentials=credentials, authorities=authorities)
    return Webhook(notify.url, form=notify.format, clock=clock, files=files)


def _mail(host: AgentConfig, *, layout: HostLayout) -> Way:
    """Under systemd, the agent has none of the rights that a sendmail needs: another unit hands the mail over."""
    from agent.host.notices.mail import MailUnit, Sendmail

    to = host.notify.email
    return Sendmail(to) if host.service == "embedded" else MailUnit(to, socket=layout.mail_socket)
