"""What `pusher-agent` does besides serving: set up a root, trust a key, list the apps.

Invariant: bad input changes nothing; everything written can be read back by `agent.core.config`.
"""

import getpass
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.core.config import AppConfig, parse_agent, parse_app, parse_listen
from agent.core.layout import HostLayout
from agent.core.sshsig import trust_line
from agent.host.setup.config_files import check_apart, read_apps, signer_lines
from agent.host.storage.disk import Disk
from pusher.wire import Code, Refused, WireError, check_app

_DEFAULTS = AppConfig(path="/opt/app", user="app")


@dataclass(frozen=True, slots=True)
class AppOptions:
    """What an app's file says at first; the workshop's values by default."""

    listen: str = _DEFAULTS.listen
    start: str = _DEFAULTS.start
    keep: int = _DEFAULTS.keep_releases
    health: str = _DEFAULTS.health.path
    version_member: str = _DEFAULTS.health.version_member


def init(
    layout: HostLayout,
    *,
    disk: Disk,
    trust: Path | None = None,
    who: str = "",
    app: str = "",
    options: AppOptions | None = None,
    address: str = "",
) -> Iterator[str]:
    """Make a root for an embedded agent, or add a key or an app to one; says what it did, a line each.

    What is there already stays as it is. Raises: Refused, with nothing written.
    """
    new_agent = "" if layout.agent_toml.exists() else _agent_text(address, layout.agent_toml)
    if address and not new_agent:
        raise Refused(
            Code.CONFIGURATION,
            f"{layout.agent_toml} is there already",
            hint=f'Change its [door] address to "{address}" by hand, and start the agent again',
        )
    line = _signer_line(trust, who) if trust else ""
    new_app = app_text(app, options or AppOptions(), layout, user=getpass.getuser()) if app else ""

    for folder in (layout.apps, layout.state, layout.cache, layout.run):
        disk.make_folders(folder, op="init.folder")
    if new_agent:
        disk.write(layout.agent_toml, new_agent.encode(), op="init.agent")
        yield f"wrote {layout.agent_toml}"
    if line:
        yield _add_signer(disk, layout.allowed_signers, line)
    if new_app:
        disk.write(layout.app_toml(app), new_app.encode(), op="init.app")
        disk.make_folders(layout.beneath(f"/opt/{app}"), op="init.folder")
        yield f"wrote {layout.app_toml(app)}"
        yield from unjudged(app, layout)


def trust(layout: HostLayout, *, key: Path, who: str, disk: Disk) -> str:
    """Let the holder of a key deploy to this host; says what it did. Raises: Refused."""
    line = _signer_line(key, who)
    if not layout.config.is_dir():
        raise Refused(
            Code.CONFIGURATION,
            f"{layout.config} does not exist",
            hint="`pusher-agent init --root DIR` makes one",
        )
    return _add_signer(disk, layout.allowed_signers, line)


def app_list(layout: HostLayout) -> Iterator[str]:
    """The apps of this host, a line each. Raises: Refused(configuration)."""
    apps = read_apps(layout)
    for name in sorted({*apps.usable, *apps.unusable}):
        if problem := apps.unusable.get(name):
            yield f"{name}  cannot be used: {problem}"
        else:
            config = apps.usable[name]
            yield f"{name}  {layout.beneath(config.path)}  {config.listen}  {config.start}"


def unjudged(app: str, layout: HostLayout) -> Iterator[str]:
    """What is to be said of the apps that nobody can hold `app` against. Raises: Refused(configuration)."""
    for name, problem in read_apps(layout).unusable.items():
        if name != app:
            yield f"careful: {problem}"
            yield f"careful: so nobody can tell whether {app} has the address, the folder or the user of {name}"


def _agent_text(address: str, file: Path) -> str:
    text = f'name = {_toml(socket.gethostname())}\n# The agent is the parent of its apps.\nservice = "embedded"\n'
    if address:
        text += f"\n[door]\naddress = {_toml(address)}\n"
    parse_agent(text, file=str(file))
    return text


def app_text(app: str, options: AppOptions, layout: HostLayout, *, user: str) -> str:
    """What the file of a new app says. Raises: Refused(configuration), also if there is one already."""
    file = layout.app_toml(app)
    try:
        check_app(app)
        parse_listen(options.listen)
    except (WireError, ValueError) as error:
        raise Refused(Code.CONFIGURATION, "The app cannot be added", why=str(error)) from error
    if file.exists():
        raise Refused(
            Code.CONFIGURATION, f"{file} is there already", hint="Change it by hand, or name another app"
        )
    text = "".join(
        [
            f"path = {_toml(f'/opt/{app}')}\n",
            f"user = {_toml(user)}\n",
            f"listen = {_toml(options.listen)}\n",
            f"start = {_toml(options.start)}\n",
            f"keep_releases = {options.keep}\n",
            f"\n[health]\npath = {_toml(options.health)}\n",
            f"version_member = {_toml(options.version_member)}\n",
        ]
    )
    check_apart(app, parse_app(text, file=str(file), app=app), read_apps(layout), layout)
    return text


def _signer_line(key: Path, who: str) -> str:
    try:
        text = key.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(Code.CONFIGURATION, f"The key {key} could not be read", why=str(error)) from error
    parts = text.split()
    return trust_line(text, principal=who or (parts[2] if len(parts) > 2 else getpass.getuser())).rstrip("\n")


def _add_signer(disk: Disk, file: Path, line: str) -> str:
    if line in signer_lines(file):
        return f"{file}: trusts that key already"
    text = "".join(f"{one}\n" for one in [*(file.read_text().splitlines() if file.exists() else []), line])
    disk.write(file, text.encode(), op="trust.write", replace=True)
    return f"{file}: trusts {line.split()[0]}"


def _toml(text: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's."""
    return json.dumps(text, ensure_ascii=False)
