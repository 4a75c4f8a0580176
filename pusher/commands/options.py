"""The options that several commands have. All but --json are settings (`pusher.config`)."""

import argparse

from pusher.wire import WireError

DAYS = 7
"""How long a channel document is good, by default."""

_HOST = (
    "a host: a name or a group in pusher.toml (`all`: every host there), a name in your ssh configuration, "
    "ssh://[user@]host[:port], unix:/path, or http://127.0.0.1:9000; repeatable (PUSHER_HOST: several, separated "
    "by spaces; default: the group `default`, or every host in pusher.toml)"
)
_SETTINGS = {
    "app": ("NAME", "the app"),
    "source": ("FOLDER", "the folder of the versions (default app-src)"),
    "root": ("FOLDER", "the folder that is sent if none is named (default: that of pusher.toml)"),
    "key": ("FILE", "the SSH key that signs; with an ssh-agent, its .pub file"),
    "ssh": ("COMMAND", "the command that runs ssh, with its options"),
    "repository": (
        "REPO",
        "the repository: a folder, ssh://host/folder, https://host/path, or s3://bucket/prefix",
    ),
}


def add_what(parser: argparse.ArgumentParser, *, files: bool = True) -> None:
    """The version, folder or (with `files`) bundle file that a command is about, and how it is taken from git."""
    file = "a bundle file, " if files else ""
    parser.add_argument(
        "what",
        nargs="?",
        default="",
        metavar="VERSION|FILE|FOLDER" if files else "VERSION|FOLDER",
        help=f"app-src/VERSION, {file}or a folder; in a git work tree, . or nothing sends what git tracks",
    )
    parser.add_argument(
        "--as", dest="named", default="", metavar="NAME", help="the version (default: as git describes the commit)"
    )
    parser.add_argument("--dirty", action="store_true", help="also if files differ from the last commit")
    add_options(parser, "root")


def add_channel(parser: argparse.ArgumentParser) -> None:
    """Which channel, and how long what is signed for it is good."""
    parser.add_argument(
        "--channel", type=_channel, default="stable", metavar="NAME", help="the channel (default stable)"
    )
    parser.add_argument(
        "--signers",
        metavar="FILE",
        help="an allowed_signers file: whose channel documents count (default: to sign anew, only those of your "
        "own key) (PUSHER_SIGNERS)",
    )


def add_good_for(parser: argparse.ArgumentParser) -> None:
    """How long a channel document is good."""
    parser.add_argument(
        "--good-for",
        type=lambda text: count(text, least=1, most=365, of="a number of days"),
        default=DAYS,
        metavar="DAYS",
        help=f"how long hosts follow the document without a renewal (default {DAYS})",
    )


def add_dependencies(parser: argparse.ArgumentParser) -> None:
    """How the dependencies of a folder travel."""
    parser.add_argument(
        "--build-wheels", action="store_true", help="send a wheel of every dependency: the host needs no network"
    )
    parser.add_argument(
        "--relock", action="store_true", help="resolve dependencies anew, where the folder has no lock of its own"
    )


def add_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """The options of these names; --config as well, if the command has settings."""
    for name in names:
        match name:
            case "host":
                parser.add_argument("--host", action="append", metavar="HOST", help=_HOST)
            case "json":
                parser.add_argument(
                    "--json", action="store_true", help="print JSON: one document a line for each host"
                )
            case _:
                metavar, help_ = _SETTINGS[name]
                parser.add_argument(f"--{name}", metavar=metavar, help=f"{help_} (PUSHER_{name.upper()})")
    if "app" in names:
        parser.add_argument(
            "--env", metavar="NAME", help="an environment in pusher.toml: its hosts, and what differs (PUSHER_ENV)"
        )
        parser.add_argument(
            "--config", metavar="FILE", help="use this file, not the nearest pusher.toml (PUSHER_CONFIG)"
        )


def count(text: str, *, least: int, most: int, of: str) -> int:
    """A whole number in this range. Raises: ArgumentTypeError."""
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"expected {of} from {least} to {most}")
    return int(text)


def _channel(text: str) -> str:
    from pusher.wire.channel import check_channel  # here: most commands have no channel, and it takes a while

    try:
        return check_channel(text)
    except WireError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
