"""The command line: what can be asked for, and who does it.

Invariant: a command imports what it needs when it runs, so that every other one starts fast.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO, cast

from pusher import __version__
from pusher.terminal.output import pour

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

    from pusher.config import Settings
    from pusher.fleet.rollout import Tour
    from pusher.terminal.show import Screen

_READING = ("status", "releases", "diff", "logs", "verify")
_EXIT_CODES = """exit codes: 0 done, 1 failed and undone, 2 usage, 3 a bug of ours, 4 refused, 5 unreachable,
6 stuck: somebody has to look, 130 interrupted"""


def run(argv: Sequence[str]) -> int:
    """Do what the arguments say; the exit code.

    Raises: Problem, Interrupted; SystemExit for --help, --version and arguments that cannot be read.
    """
    if argv[:1] == ["__complete"]:
        from pusher.cli.completion import candidates

        _tell("\n".join(candidates(argv[1:], parser())) + "\n")
        return 0
    arguments = parser().parse_args(argv)
    if arguments.command == "completion":
        from pusher.cli.completion import script

        _tell(script(arguments.shell))
        return 0

    from pusher.terminal.show import Screen

    screen = Screen()
    try:
        exit_code = _run(arguments, screen)
    finally:
        screen.settle()
    return _unless_lost(exit_code, screen, arguments)


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = _Parser(
        prog="pusher",
        description="Sends releases of Python web applications to their hosts.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"pusher {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    _add_remote(commands)
    _add_local(commands)
    return top


class _Parser(argparse.ArgumentParser):
    """Errors name the way on, in the form all errors have here."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"pusher: {message}\n  See: {self.prog} --help\n")

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        _tell(message, sys.stderr if file is None else cast(TextIO, file))


def _add_remote(commands: "argparse._SubParsersAction[_Parser]") -> None:
    add = commands.add_parser
    send = add("send", help="deploy a version, and stay until it serves", description=_SEND, allow_abbrev=False)
    send.add_argument("what", metavar="VERSION|FILE|FOLDER", help="app-src/VERSION, a bundle, or a folder")
    _options(send, "host", "app", "source", "key", "ssh", "tour")
    send.add_argument("--all-or-none", action="store_true",
                      help="if a host fails, take the others back to what was live there")  # fmt: skip

    status = add("status", help="what is live, and what goes on", allow_abbrev=False)
    status.add_argument("--deployment", default="", metavar="ID", help="one deployment instead")
    status.add_argument("--follow", action="store_true", help="stay until it has ended")
    _options(status, "host", "app", "ssh", "json")

    releases = add("releases", help="the releases there, and the last deployments", allow_abbrev=False)
    _options(releases, "host", "app", "ssh", "json")

    diff = add("diff", help="what sending a version would change; nothing is sent or signed", allow_abbrev=False)
    diff.add_argument("what", metavar="VERSION|FILE|FOLDER", help="app-src/VERSION, a bundle, or a folder")
    diff.add_argument("--release", default="", metavar="ID", help="compare with this release, not the live one")
    _options(diff, "host", "app", "source", "ssh", "json")

    logs = add("logs", help="what the app wrote, and was said about it", allow_abbrev=False)
    logs.add_argument("-n", "--lines", type=_lines, default=_LOG_LINES, metavar="N",
                      help=f"so many of the last lines (default {_LOG_LINES})")  # fmt: skip
    logs.add_argument("-f", "--follow", action="store_true", help="stay, and show what is written from now on")
    logs.add_argument("--unit", default="", choices=_LOG_UNITS, help="of this one alone")
    _options(logs, "host", "app", "ssh", "json")

    rollback = add("rollback", help="go back to the release before", allow_abbrev=False)
    rollback.add_argument("--to", default="", metavar="ID", help="to this release instead")
    _options(rollback, "host", "app", "ssh", "tour")

    for name, help_ in (("pin", "keep a release whatever its age"), ("unpin", "let go of a pinned release")):
        pin = add(name, help=help_, allow_abbrev=False)
        pin.add_argument("release", metavar="ID", help="as `pusher releases` lists it")
        _options(pin, "host", "app", "ssh")

    drop = add("drop", help="deploy a version by rsync, into the drop directory", allow_abbrev=False)
    drop.add_argument("what", metavar="VERSION|FILE|FOLDER", help="app-src/VERSION, a bundle, or a folder")
    drop.add_argument("--bundle", action="store_true", help="as a bundle's file, not as a folder")
    _options(drop, "host", "app", "source", "key", "ssh")


def _add_local(commands: "argparse._SubParsersAction[_Parser]") -> None:
    add = commands.add_parser
    pack = add("pack", help="sign a version into a bundle's file", allow_abbrev=False)
    pack.add_argument("what", metavar="VERSION|FOLDER", help="app-src/VERSION, or a folder")
    pack.add_argument("-o", "--output", default="", metavar="FILE", help="default: APP-VERSION.tar.zst")
    pack.add_argument("--manifest", default="", metavar="FOLDER",
                      help="write only the papers, as they lie beside a dropped folder")  # fmt: skip
    pack.add_argument("--for", dest="only", action="append", default=[], metavar="NAME",
                      help="only the host of this name (in its agent.toml) may take it; repeatable")  # fmt: skip
    pack.add_argument("--days", type=_days, default=30, help="how long it can be deployed (default 30)")
    _options(pack, "app", "source", "key")

    verify = add("verify", help="check a bundle's file, contents and signature", allow_abbrev=False)
    verify.add_argument("file", type=Path, metavar="FILE")
    verify.add_argument("--signers", type=Path, metavar="FILE", help="allowed_signers: who may have signed it")
    _options(verify, "json")

    completion = add("completion", help="the completion script of a shell", allow_abbrev=False)
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))


def _options(command: argparse.ArgumentParser, *names: str) -> None:
    """Options that several commands have; all but --json are settings (`pusher.config`)."""
    for name in names:
        match name:
            case "host":
                command.add_argument("--host", action="append", metavar="HOST", help=_HOST_HELP)
            case "json":
                command.add_argument("--json", action="store_true", help="a JSON document a line and host")
            case "tour":
                some = command.add_mutually_exclusive_group()
                some.add_argument("--in-turn", action="store_true", help=_IN_TURN_HELP)
                some.add_argument("--parallel", type=_count, default=0, metavar="N",
                                  help="how many hosts at once (default 8)")  # fmt: skip
                command.add_argument("--skip-unreachable", action="store_true", help=_SKIP_HELP)
            case _:
                metavar, help_ = _SETTINGS[name]
                command.add_argument(f"--{name}", metavar=metavar, help=f"{help_} (PUSHER_{name.upper()})")
    if "app" in names:
        command.add_argument("--config", metavar="FILE", help="instead of the nearest pusher.toml (PUSHER_CONFIG)")


_SEND = (
    "Deploys a version, and stays until it serves. Several hosts are all asked first: while one of them cannot be "
    "reached, or would refuse, none is changed."
)
# As in `pusher.wire.log`, which is not imported for the sake of `pusher --help`.
_LOG_LINES, _LOG_LINES_MOST = 100, 10_000
_LOG_UNITS = ("service", "socket", "preflight", "hook")
_HOST_HELP = (
    "a name of pusher.toml or of ssh, ssh://[user@]host[:port], unix:/path, or http://127.0.0.1:9000; "
    "repeatable (PUSHER_HOST, separated by spaces)"
)
_IN_TURN_HELP = "one host after the other; stop at the first that fails"
_SKIP_HELP = "go on without the hosts that cannot be reached, instead of changing none"
_SETTINGS = {
    "app": ("NAME", "the app"),
    "source": ("FOLDER", "where the versions are, app-src unless told"),
    "key": ("FILE", "the SSH key that signs; a .pub file with an ssh-agent"),
    "ssh": ("COMMAND", "how to run ssh, options included"),
}


def _days(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 3650:
        raise argparse.ArgumentTypeError("a number of days from 1 to 3650 is needed")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1000:
        raise argparse.ArgumentTypeError("a number of hosts from 1 to 1000 is needed")
    return int(text)


def _tour(arguments: argparse.Namespace) -> "Tour":
    from pusher.fleet.fleet import AT_ONCE
    from pusher.fleet.rollout import Tour

    return Tour(
        at_once=arguments.parallel or AT_ONCE,
        in_turn=arguments.in_turn,
        skip_unreachable=arguments.skip_unreachable,
        all_or_none=getattr(arguments, "all_or_none", False),
    )


def _lines(text: str) -> int:
    if not text.isdecimal() or int(text) > _LOG_LINES_MOST:
        raise argparse.ArgumentTypeError(f"a number from 0 to {_LOG_LINES_MOST} is needed")
    return int(text)


def _tell(text: str, out: TextIO | None = None) -> None:
    """Write what was asked for. Raises: Unwritten."""
    error = pour(out or sys.stdout, text)
    if error is None or isinstance(error, BrokenPipeError) or out is sys.stderr:
        return
    from pusher.errors import Unwritten

    raise Unwritten(error)


def _unless_lost(exit_code: int, screen: "Screen", arguments: argparse.Namespace) -> int:
    """The exit code of a command whose output may have been lost. Raises: Unwritten, if that was all it was for.

    Who closes a pipe has read enough.
    """
    if screen.lost is None or isinstance(screen.lost, BrokenPipeError):
        return exit_code
    from pusher.errors import Unwritten
    from pusher.terminal.show import show_problem

    follows = arguments.command == "status" and arguments.follow
    if arguments.command in _READING and not follows and not exit_code:
        raise Unwritten(screen.lost)
    # What was done is done, whoever reads about it.
    show_problem(Unwritten(screen.lost, hint="How it ended, the exit code says"))
    return exit_code


def _run(arguments: argparse.Namespace, screen: "Screen") -> int:
    if arguments.command == "verify":
        from pusher.commands import local

        local.verify(arguments.file, screen, signers=arguments.signers, as_json=arguments.json)
        return 0

    from pusher.config import load

    settings = load(vars(arguments))
    match arguments.command:
        case "send":
            from pusher.commands.send import send

            return send(arguments.what, settings, screen, tour=_tour(arguments))
        case "pack":
            from pusher.commands import local

            local.pack_into(
                arguments.what,
                settings,
                screen,
                file=arguments.output,
                manifest_into=arguments.manifest,
                hosts=arguments.only,
                days=arguments.days,
            )
            return 0
        case "drop":
            from pusher.commands.drop import drop

            return drop(arguments.what, settings, screen, as_bundle=arguments.bundle)
        case "diff":
            from pusher.commands.diff import diff

            return diff(arguments.what, settings, screen, release=arguments.release, as_json=arguments.json)
        case "logs":
            from pusher.commands.logs import logs

            return logs(
                settings,
                screen,
                lines=arguments.lines,
                follow_it=arguments.follow,
                unit=arguments.unit,
                as_json=arguments.json,
            )
        case _:
            return _run_remote(arguments, settings, screen)


def _run_remote(arguments: argparse.Namespace, settings: "Settings", screen: "Screen") -> int:
    from pusher.commands import remote

    match arguments.command:
        case "status":
            return remote.status(
                settings,
                screen,
                deployment=arguments.deployment,
                follow_it=arguments.follow,
                as_json=arguments.json,
            )
        case "releases":
            return remote.releases(settings, screen, as_json=arguments.json)
        case "rollback":
            return remote.rollback(settings, screen, to=arguments.to, tour=_tour(arguments))
        case _:
            return remote.pin(arguments.release, settings, screen, pinned=arguments.command == "pin")
