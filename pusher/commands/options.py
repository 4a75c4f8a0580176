"""The options that several commands have. All but --json are settings (`pusher.config`)."""

import argparse

_HOST = (
    "a host: a name in pusher.toml or in your ssh configuration, ssh://[user@]host[:port], unix:/path, or "
    "http://127.0.0.1:9000; repeatable (PUSHER_HOST: several, separated by spaces)"
)
_SETTINGS = {
    "app": ("NAME", "the app"),
    "source": ("FOLDER", "the folder of the versions (default app-src)"),
    "key": ("FILE", "the SSH key that signs; with an ssh-agent, its .pub file"),
    "ssh": ("COMMAND", "the command that runs ssh, with its options"),
}


def add_what(parser: argparse.ArgumentParser) -> None:
    """The version, bundle file or folder that a command is about."""
    parser.add_argument("what", metavar="VERSION|FILE|FOLDER", help="app-src/VERSION, a bundle file, or a folder")


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
            "--config", metavar="FILE", help="use this file, not the nearest pusher.toml (PUSHER_CONFIG)"
        )


def count(text: str, *, least: int, most: int, of: str) -> int:
    """A whole number in this range. Raises: ArgumentTypeError."""
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"expected {of} from {least} to {most}")
    return int(text)
