"""`pusher-agent notify`: try the ways by which others are told how deployments end; or hand a mail over."""

import argparse
import asyncio
import sys

from agent.admin.command import Command
from agent.admin.own_agent import post
from agent.core.layout import HostLayout
from agent.host.notices.mail import SENT, Sendmail
from agent.host.setup.config_files import read_agent
from pusher.wire import Code, Failed, Problem, Refused, Route

_MAIL_MOST = 256 * 1024
_PATIENCE_S = 180.0


def _options(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--test", action="store_true", help="send a test by each way that agent.toml names")
    what.add_argument(
        "--mail", action="store_true", help="what the mail unit runs: give the mail on standard input to sendmail"
    )


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    return _mail(layout) if arguments.mail else _test(layout)


COMMAND = Command(
    name="notify",
    help="try the notifications of this host",
    description="With --test, the running agent sends a test by each way that [notify] in agent.toml names, with "
    "the rights that it has, and says how that went.",
    options=_options,
    run=_run,
)


def _test(layout: HostLayout) -> int:
    """The agent itself sends the test: what root can reach says nothing about what the agent can."""
    found = post(Route.NOTICES_TEST, socket=layout.api_socket, patience_s=_PATIENCE_S)["ways"]
    for one in found:
        print(f"{one['way']:<5} {one['address']}: {one['problem'] or 'it arrived'}")
    if wrong := [one for one in found if one["problem"]]:
        raise Failed(
            Code.NOT_DELIVERED,
            f"{len(wrong)} of {len(found)} tests did not arrive",
            hint="Mend what is said above; the agent reads agent.toml when it starts",
        )
    return 0


def _mail(layout: HostLayout) -> int:
    """Hand one mail over, and say on standard output that it is, or why not. The agent is at its other end."""
    to = read_agent(layout).notify.email
    try:
        if not to:
            raise Refused(Code.CONFIGURATION, "agent.toml names no `email` in [notify]")
        asyncio.run(Sendmail(to).hand_over(sys.stdin.buffer.read(_MAIL_MOST)))
    except Problem as problem:
        print(problem, flush=True)
        return problem.exit_code
    sys.stdout.write(SENT.decode())
    sys.stdout.flush()
    return 0
