"""`pusher-agent untrust`: accept nothing more that a key, or a person, signs.

Invariant: only whole lines of allowed_signers go. Releases of such a key stay; rollbacks pass them over.
"""

import argparse
from pathlib import Path

from agent.admin.command import Command
from agent.core.layout import HostLayout
from agent.core.sshsig import trust_line
from agent.host.storage.disk import Disk
from pusher.wire import Code, Refused


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("who", metavar="KEY.pub|WHO", help="the file of a public SSH key, or the name of a signer")


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    file, who = layout.allowed_signers, arguments.who
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError as error:
        raise Refused(Code.CONFIGURATION, f"{file} cannot be read", why=error.strerror or str(error)) from error
    key = _key(Path(who))
    going = [line for line in lines if line.strip() and not line.startswith("#") and _is_of(line, who, key)]
    if not going:
        names = ", ".join(dict.fromkeys(line.split()[0] for line in lines if line.strip() and line[0] != "#"))
        hint = f"Trusted here: {names}" if names else "Nobody is trusted here"
        raise Refused(Code.SIGNER_UNKNOWN, f"{file} does not trust {who}", hint=hint)
    text = "".join(f"{line}\n" for line in lines if line not in going)
    Disk().write(file, text.encode(), op="trust.write", replace=True)
    for line in going:
        print(f"{file}: does not trust {line.split()[0]} any more ({' '.join(line.split()[-2:])[:60]}...)")
    print("Releases that it signed stay; no rollback goes to them. A live one runs on: send a new version")
    return 0


COMMAND = Command(
    name="untrust",
    help="accept nothing more that a key or a person signs",
    description="Accepts nothing more that an SSH key, or a signer of this name, signs. It takes effect at once. "
    "No rollback goes to releases that only they signed.",
    options=_options,
    run=_run,
)


def _key(file: Path) -> str:
    """Type and key in a file of a public key; empty if there is no such file. Raises: Refused."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    trust_line(text, principal="x")  # that it is a key
    return " ".join(text.split()[:2])


def _is_of(line: str, who: str, key: str) -> bool:
    if key:
        return f" {key}" in " ".join(line.split())
    return who in line.split()[0].split(",")
