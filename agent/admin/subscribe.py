"""`pusher-agent subscribe`: let an app fetch its releases by itself.

Invariant: only the table [subscribe] of the app's file is changed, and only if the file can be used afterwards.
"""

import argparse
import os
import re
from pathlib import Path

from agent.admin.app_file import toml_text
from agent.admin.app_setup import config_of, run
from agent.admin.command import Command
from agent.admin.trust import add_signer, check_named, signer_line
from agent.core.config.app import AppConfig, parse_app
from agent.core.layout import HostLayout
from agent.core.units import AGENT
from agent.host.setup.config_files import read_agent
from agent.host.storage.disk import Disk
from pusher.wire import Code, Refused
from pusher.wire.channel import CHANNEL_NAMESPACE

_TABLE = re.compile(r"(?ms)^\[subscribe\][^\n]*\n(.*?)(?=^\[|\Z)")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the name of the app")
    parser.add_argument(
        "repository",
        nargs="+",
        metavar="REPO",
        help="a folder, https://host/path or s3://bucket/prefix; several: mirrors of one repository",
    )
    parser.add_argument("--channel", default="", metavar="CHANNEL", help="the channel to follow (default stable)")
    parser.add_argument(
        "--trust", type=Path, metavar="KEY.pub", help="accept channel documents that this key has signed"
    )
    parser.add_argument(
        "--as", dest="who", default="", metavar="WHO", help="name of the signer (default: the comment of the key)"
    )


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    app, disk = arguments.name, Disk()
    check_named(arguments.who, arguments.trust)
    agent, config, file = read_agent(layout), config_of(layout, arguments.name), layout.app_toml(arguments.name)
    line = signer_line(arguments.trust, arguments.who, namespace=CHANNEL_NAMESPACE) if arguments.trust else ""
    text = with_subscription(
        file.read_text("utf-8"),
        repository=[_address(one) for one in arguments.repository],
        channel=arguments.channel or config.subscribe.channel,
    )
    changed: AppConfig = parse_app(text, file=str(file), app=app)
    if changed.model_copy(update={"subscribe": config.subscribe}) != config:
        raise Refused(
            Code.CONFIGURATION,
            f"{file} cannot be changed without a person",
            why="more than its table [subscribe] would be another one",
            hint="Write the table yourself: see docs/reference/configuration.md",
        )
    disk.write(file, text.encode(), op="apps.file", replace=True)
    print(f"wrote {file}: {app} follows the channel {changed.subscribe.channel}")
    if line:
        print(add_signer(disk, layout.allowed_signers, line))
    if agent.service == "systemd":
        run(("systemctl", "try-restart", f"{AGENT}.service"))
    else:
        print("the agent does so from its next start on")
    return 0


COMMAND = Command(
    name="subscribe",
    help="let an app fetch its releases by itself",
    description="Lets an app follow a channel of a repository: the agent fetches and deploys by itself what is "
    "published there. With --trust, the holder of a key may say which of the signed releases that is.",
    options=_options,
    run=_run,
)


def with_subscription(text: str, *, repository: list[str], channel: str) -> str:
    """The text of an app's file with this repository and channel; other keys of the table stay."""
    found = _TABLE.search(text)
    others = found[1].splitlines() if found else []
    lines = [
        "[subscribe]",
        f"repository = [{', '.join(map(toml_text, repository))}]",
        f"channel = {toml_text(channel)}",
        *(one for one in others if one and not re.match(r"\s*(repository|channel)\s*=", one)),
    ]
    table = "\n".join(lines)
    if found:
        return f"{text[: found.start()]}{table}\n\n{text[found.end() :]}".rstrip("\n") + "\n"
    return f"{text.rstrip()}\n\n{table}\n"


def _address(repository: str) -> str:
    return repository if "://" in repository else Path(os.path.abspath(repository)).as_uri()
