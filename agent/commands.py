"""What `pusher-agent` does besides serving: set up a root, look it over, trust a key, list the apps.

Invariant: bad input changes nothing; everything written can be read back by `agent.core.config`.
"""

import getpass
import json
import pwd
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.core.config import AgentConfig, AppConfig, clashes, parse_agent, parse_app, parse_listen
from agent.core.layout import AppLayout, HostLayout
from agent.core.sshsig import trust_line
from agent.host.disk import Disk
from agent.host.shelf import Shelf
from agent.host.unit_files import disagreement
from pusher.wire import Code, Problem, Refused, WireError, check_app

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


def read_agent(layout: HostLayout) -> AgentConfig:
    """The host's configuration; its name defaults to the hostname. Raises: Refused(configuration)."""
    config = parse_agent(_text(layout.agent_toml, layout), file=str(layout.agent_toml))
    return config if config.name else config.model_copy(update={"name": socket.gethostname()})


def read_apps(layout: HostLayout) -> dict[str, AppConfig]:
    """The configuration of every app, by name. Raises: Refused(configuration)."""
    return {
        file.stem: parse_app(_text(file, layout), file=str(file), app=_app_name(file))
        for file in sorted(layout.apps.glob("*.toml"))
    }


def check_apart(apps: Mapping[str, AppConfig], layout: HostLayout) -> None:
    """Raises: Refused(configuration), if apps are in each other's way."""
    for clash in clashes(apps):
        hint = f"Change `listen` or `path` in {layout.apps}"
        raise Refused(Code.CONFIGURATION, "The apps of this host are in each other's way", why=clash, hint=hint)


def missing_environment(config: AppConfig, layout: HostLayout) -> str:
    """What is said of an app's environment file that is not there; empty if it is, or nobody may look."""
    path = layout.beneath(config.environment_file)
    try:
        if config.environment_file:
            path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return f"its environment file {path} does not exist"
    except OSError:
        pass  # in a folder of root's, as secrets are
    return ""


def app_list(layout: HostLayout) -> Iterator[str]:
    """The apps of this host, a line each. Raises: Refused(configuration)."""
    for name, config in read_apps(layout).items():
        yield f"{name}  {layout.beneath(config.path)}  {config.listen}  {config.start}"


def check(layout: HostLayout) -> Iterator[tuple[bool, str]]:
    """Everything that would keep the agent from working, and what is well: (well, sentence) each."""
    service = ""
    try:
        agent = read_agent(layout)
        service = agent.service
        yield True, f"{layout.agent_toml}: name {agent.name}, door {agent.door.address}, {agent.service}"
    except Problem as problem:
        yield False, str(problem)
    for command in ("ssh-keygen", "setpriv"):
        found = shutil.which(command)
        yield bool(found), f"{command}: {found or 'not on PATH; install openssh-client and util-linux'}"
    signers = _lines(layout.allowed_signers)
    yield (
        bool(signers),
        f"{layout.allowed_signers}: {len(signers)} key(s)"
        if signers
        else f"{layout.allowed_signers}: nobody may sign yet; `pusher-agent trust KEY.pub --as WHO`",
    )
    try:
        apps = read_apps(layout)
    except Problem as problem:
        yield False, str(problem)
        return
    if not apps:
        yield False, f"{layout.apps}: no app yet"
    yield from ((False, clash) for clash in clashes(apps))
    for name, config in apps.items():
        yield from _check_app(name, config, layout)
        if service == "systemd":
            different = disagreement(name, config, host=layout)
            hint = f"{different}; `pusher-agent app apply {name}`, as root"
            yield not different, f"{name}: {hint if different else 'its units are what its file asks for'}"


def _check_app(name: str, config: AppConfig, layout: HostLayout) -> Iterator[tuple[bool, str]]:
    python = Path(config.dependencies.python)
    yield python.exists(), f"{name}: python {python}{'' if python.exists() else ' does not exist'}"
    try:
        pwd.getpwnam(config.user)
        yield True, f"{name}: user {config.user}"
    except KeyError:
        yield False, f"{name}: user {config.user} does not exist"
    shelf = Shelf(AppLayout(layout.beneath(config.path)))
    for release in shelf.strange():
        why = "it has no signed papers, so that nothing goes back to it and nothing removes it"
        yield False, f"{name}: release {release} is not known: {why}; look at it, and delete it by hand"
    if shelf.live() is None and shelf.kept():
        yield False, f"{name}: nothing is current, and nothing starts at the next boot; roll back --to a release"
    missing = [one for one in config.shared_files if not (layout.beneath(config.path) / "shared" / one).is_file()]
    if absent := missing_environment(config, layout):
        yield False, f"{name}: {absent}, and systemd starts nothing without it"
    for one in missing:
        yield False, f"{name}: put the shared file {one} into {layout.beneath(config.path) / 'shared'}"


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
    check_apart({**_readable_apps(layout), app: parse_app(text, file=str(file), app=app)}, layout)
    return text


def _readable_apps(layout: HostLayout) -> dict[str, AppConfig]:
    """As `read_apps`; none, where one of them cannot be read: that is not what is asked about."""
    try:
        return read_apps(layout)
    except Refused:
        return {}


def _signer_line(key: Path, who: str) -> str:
    try:
        text = key.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(Code.CONFIGURATION, f"The key {key} could not be read", why=str(error)) from error
    parts = text.split()
    return trust_line(text, principal=who or (parts[2] if len(parts) > 2 else getpass.getuser())).rstrip("\n")


def _add_signer(disk: Disk, file: Path, line: str) -> str:
    lines = _lines(file)
    if line in lines:
        return f"{file}: trusts that key already"
    text = "".join(f"{one}\n" for one in [*(file.read_text().splitlines() if file.exists() else []), line])
    disk.write(file, text.encode(), op="trust.write", replace=True)
    return f"{file}: trusts {line.split()[0]}"


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]
    except OSError:
        return []


def _text(file: Path, layout: HostLayout) -> str:
    try:
        return file.read_text()
    except FileNotFoundError as error:
        raise Refused(
            Code.CONFIGURATION,
            f"{file} does not exist",
            hint=f"`pusher-agent init --root {layout.root}` makes one",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(Code.CONFIGURATION, f"{file} could not be read", why=str(error)) from error


def _app_name(file: Path) -> str:
    try:
        return check_app(file.stem)
    except WireError as error:
        raise Refused(Code.CONFIGURATION, f"{file} is not named after an app", why=str(error)) from error


def _toml(text: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's."""
    return json.dumps(text, ensure_ascii=False)
