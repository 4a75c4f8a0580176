"""`pusher-agent repository login`: make a login for a publisher.

Invariant: the password is shown once, and kept nowhere. The server's file has its digest.
"""

import argparse

from agent.admin.command import Command
from agent.core.config.repository import RepositoryConfig
from agent.core.layout import HostLayout
from agent.repository.logins import make_password
from pusher.wire import Code, Refused


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the name of the publisher")
    parser.add_argument(
        "--machine", default="HOST", metavar="HOST", help="the name of the server, as publishers write it"
    )


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    password, digest = make_password()
    try:
        RepositoryConfig(publishers={arguments.name: digest})
    except ValueError as error:
        why = "it may have letters, digits, '.', '_' and '-'"
        raise Refused(Code.BAD_REQUEST, f"{arguments.name!r} is no name for a login", why=why) from error
    print(f'for the server, in [publishers] of its file:\n\n  "{arguments.name}" = "{digest}"\n')
    print("for the publisher, in the netrc file that `credentials_file` names in pusher.toml:\n")
    print(f"  machine {arguments.machine} login {arguments.name} password {password}")
    return 0


COMMAND = Command(
    name="repository login",
    help="make a login for a publisher",
    description="Makes a login with which `pusher publish` may write to `pusher-agent repository serve`: the line "
    "for the server's file, and the one for the publisher's. It is shown once.",
    options=_options,
    run=_run,
)
