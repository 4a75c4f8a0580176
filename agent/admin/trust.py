"""`pusher-agent trust`: accept bundles that a key has signed.

Invariant: a signer is written as a literal name, with the namespace of releases, in the form of ssh-keygen(1).
"""

import argparse
import getpass
from pathlib import Path

from agent.admin.command import Command
from agent.admin.text_file import read_text
from agent.core.layout import HostLayout
from agent.core.sshsig import trust_line
from agent.host.setup.config_files import signer_lines
from agent.host.storage.disk import Disk
from pusher.wire import SIGNATURE_NAMESPACE, Code, Refused
from pusher.wire.channel import CHANNEL_NAMESPACE


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", type=Path, metavar="KEY.pub", help="the file of a public SSH key")
    parser.add_argument(
        "--as", dest="who", required=True, metavar="WHO", help="name of the signer, for example alice@example.com"
    )
    parser.add_argument(
        "--channels",
        action="store_true",
        help="accept channel documents by this key, which choose among signed releases, and no bundles",
    )


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    namespace = CHANNEL_NAMESPACE if arguments.channels else SIGNATURE_NAMESPACE
    line = signer_line(arguments.key, arguments.who, namespace=namespace)
    if not layout.config.is_dir():
        raise Refused(
            Code.CONFIGURATION,
            f"{layout.config} does not exist",
            hint="Make it with `pusher-agent init --root DIR`",
        )
    print(add_signer(Disk(), layout.allowed_signers, line))
    return 0


COMMAND = Command(
    name="trust",
    help="accept bundles that a key has signed",
    description="Accepts bundles that the holder of an SSH key has signed, or with --channels, channel documents. "
    "It takes effect at once.",
    options=_options,
    run=_run,
)


def signer_line(key: Path, who: str, *, namespace: str = SIGNATURE_NAMESPACE) -> str:
    """The line for `key` in allowed_signers, without newline. The signer is `who`, or the key's comment.

    `namespace` is what the key may sign.

    Raises: Refused, if the file cannot be read or is not a key.
    """
    text = read_text(key, what="The key")
    parts = text.split()
    principal = who or (parts[2] if len(parts) > 2 else getpass.getuser())
    return trust_line(text, principal=principal, namespace=namespace).rstrip("\n")


def check_named(who: str, key: Path | None) -> None:
    """Raises: Refused, for the name of a signer without a key: nobody would be trusted."""
    if who and key is None:
        raise Refused(Code.BAD_REQUEST, f"{who} is trusted by no key", hint="Name one: --trust KEY.pub")


def add_signer(disk: Disk, file: Path, line: str) -> str:
    """Add a line to allowed_signers, if it is not there yet; returns what was done."""
    if line in signer_lines(file):
        return f"{file}: trusts this key already"
    text = "".join(f"{one}\n" for one in [*(file.read_text("utf-8").splitlines() if file.exists() else []), line])
    disk.write(file, text.encode(), op="trust.write", replace=True)
    return f"{file}: trusts {line.split()[0]}"
