"""`pusher setup`: from a server that can be reached by ssh to one that takes releases."""

import argparse
import getpass
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pusher.commands.command import Command
from pusher.commands.confirm import confirm
from pusher.commands.options import add_options
from pusher.config import load
from pusher.errors import Usage
from pusher.terminal.output import write
from pusher.terminal.screen import Screen
from pusher.wire import Code, Failed, Refused

if TYPE_CHECKING:
    from pusher.setup.package import Package

_STATE = "systemctl is-active pusher-agent.socket; true"
_APP_OPTIONS = {
    "--listen": "ADDR",
    "--start": "COMMAND",
    "--keep": "N",
    "--health": "PATH",
    "--version-member": "NAME",
    "--health-host": "NAME",
    "--health-deadline": "SECONDS",
    "--requirements": "FILE",
    "--python": "PATH",
    "--env-file": "FILE",
}
"""Options of `pusher-agent app add`, which decides what they mean."""


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--package", type=Path, metavar="FILE", help="the agent's Debian package")
    parser.add_argument("--as", dest="signer", default="", metavar="WHO", help="your name as a signer there")
    parser.add_argument("--yes", action="store_true", help="do it without a question")
    add_options(parser, "host", "app", "key", "ssh")
    group = parser.add_argument_group("options of the app, as for `pusher-agent app add`")
    for option, metavar in _APP_OPTIONS.items():
        group.add_argument(option, metavar=metavar)
    group.add_argument("--shared", action="append", default=[], metavar="FOLDER")


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    from pusher.bundle.sign import public_key
    from pusher.setup.facts import PROBE, parse_facts
    from pusher.setup.plan import KEY, PACKAGE, SCRIPT, Wanted, check_possible, plan, script
    from pusher.setup.remote import Remote, at_terminal, only_host

    settings = load(vars(arguments))
    remote = Remote(only_host(settings), ssh=settings.ssh)
    key = public_key(settings.key)
    package = _package(arguments.package, screen)
    screen.passing(f"asking {remote.name} ...")
    screen.clear()
    facts = parse_facts(remote.ask(PROBE, package.version if package else ""))
    signer = arguments.signer or own_name()
    app = settings.app_name() if settings.app else ""
    options = _app_options(arguments)
    if options and not app:
        raise Usage("There are options of an app, and no app", hint="Name it: --app NAME")
    wanted = Wanted(package=package, key=key, signer=signer, app=app, options=options)
    check_possible(facts, wanted, host=remote.name, may_ask=at_terminal())
    actions = plan(facts, wanted)
    screen.line(f"{remote.name} ({facts.system}, as {facts.user}):")
    for action in actions:
        screen.line(f"  {'already so:' if action.done else 'to do:     '} {action.words}")
    if any(not action.done for action in actions) and not arguments.yes:
        if settings.confirm:
            confirm(arguments, settings, doing="sets up the agent")
        else:
            _ask()
    files = {KEY: f"{key}\n".encode(), SCRIPT: script(actions, strict=bool(app or facts.apps)).encode()}
    if package is not None and not actions[0].done:
        files[PACKAGE] = package.path.read_bytes()
    folder = remote.put(files)
    become = () if facts.root else ("sudo",)
    todo = f'cd {folder} && sh {SCRIPT}; code=$?; rm -rf {folder}; exit "$code"'
    code = remote.see((*become, "sh", "-c", todo), terminal=not facts.root and not facts.sudo_free)
    if code:
        remote.remove(folder)  # sudo may have run nothing, and Ctrl-C have ended the shell
        raise Failed(
            Code.CONFIGURATION,
            f"{remote.name} is not ready yet",
            why=f"the last command above ended with exit status {code}",
            hint="Mend what it says, and run this again: what is done is not done twice",
        )
    state = remote.ask(_STATE).strip()
    if state != "active":
        raise Failed(
            Code.CONFIGURATION,
            f"{remote.name} is not ready yet",
            why=f"pusher-agent.socket is {state or 'not known'} there",
            hint="To start the agent, there: sudo systemctl enable --now pusher-agent.socket pusher-agent.service",
        )
    then = f"pusher send VERSION --host {remote.name}" if app else "add an app: --app NAME"
    screen.line(f"{remote.name} is ready. Next: {then}")
    return 0


COMMAND = Command(
    name="setup",
    help="set up a server, over ssh and sudo",
    description="Sets up a server that you reach by ssh, where you may use sudo: installs the agent, trusts your "
    "key, lets you deploy, adds the app, and checks everything. Shows what it will do, and asks. It can be run "
    "again: what is so already stays.",
    options=_options,
    run=_run,
)


def _package(named: Path | None, screen: Screen) -> "Package | None":
    """The package to install: a file, or that of the checkout; None without either."""
    from pusher.setup.package import build_package, checkout, read_package

    if named is not None:
        return read_package(named)
    if (top := checkout()) is None:
        return None
    screen.line(f"building the package of {top}")
    return build_package(top)


def own_name() -> str:
    """The user, and this machine. Raises: Usage, for a user without a name, as in a container."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError) as error:
        raise Usage("You have no name here to sign by", why=str(error), hint="Name yourself: --as WHO") from error


def _app_options(arguments: argparse.Namespace) -> tuple[str, ...]:
    found: list[str] = []
    for option in _APP_OPTIONS:
        value = getattr(arguments, option.removeprefix("--").replace("-", "_"))
        if value is not None:
            found += [option, value]
    for folder in arguments.shared:
        found += ["--shared", folder]
    return tuple(found)


def _ask() -> None:
    """Raises: Refused, unless the answer is yes."""
    from pusher.setup.remote import at_terminal

    if not at_terminal():
        hint = "To do it without a question: --yes"
        raise Refused(Code.NOT_ALLOWED, "Nothing was changed", why="there is no terminal to ask at", hint=hint)
    write(sys.stderr, "Go on? [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused(Code.NOT_ALLOWED, "Nothing was changed", why="you did not say yes")
