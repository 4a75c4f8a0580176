"""Settings: a flag beats a `PUSHER_*` variable beats `pusher.toml` beats the default.

Invariant: every `Settings` is well-formed. An unknown key or a wrong type is an error that names the file, the
key and the closest known one.
"""

import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pusher.environments import Environment, find_environment, parse_environments
from pusher.errors import Usage
from pusher.host_choice import ALL, CONFIG_NAME, HostChoice
from pusher.run.table import parse_section
from pusher.toml_table import check_table, read_table
from pusher.transport.hosts import Host, parse_address, parse_door
from pusher.wire import SSH_DOOR, RunSection, WireError, check_app

_KEYS = {
    "app": str,
    "source": (str, dict),
    "root": str,
    "key": str,
    "ssh": str,
    "keep_open_s": int,
    "repository": str,
    "credentials_file": str,
    "fleet": str,
    "signers": str,
    "bell": str,
    "bell_credentials_file": str,
    "hosts": (list, dict),
    "groups": dict,
    "env": dict,
    "dependencies": dict,
    "run": dict,
}
_SOURCE_KEYS = {"versions": str}
_LONGEST_OPEN_S = 86_400
_CONTROL_PATH = "~/.ssh/pusher-%C"  # only the user may enter that folder; `~` as `_ssh_home`
_HOST_KEYS = {"address": str, "door": str, "owner": str, "drop": str}
_ELSEWHERE = {
    **dict.fromkeys(_KEYS, "It belongs before the first [hosts.NAME]"),
    **dict.fromkeys(_HOST_KEYS, "It belongs into a table [hosts.NAME]"),
}
_DEPENDENCY_KEYS = {
    "file": str,
    "extras": list,
    "groups": list,
    "package": str,
    "python": str,
    "wheels": bool,
    "project": bool,
    "python_path": list,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What is taken of a version's dependencies, and how they travel."""

    file: str = ""
    """The file that names them; empty: the first that there is, in the order of the documentation."""
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    package: str = ""
    """The member of a workspace that is deployed."""
    python: str = ""
    """The host's Python, like "3.11"."""
    wheels: bool = False
    """Whether all wheels travel, so that a host needs no network."""
    project: bool = True
    """Whether a wheel of the project itself is built, where its tool would install it."""
    python_path: tuple[str, ...] = ()
    """Folders of a release where Python finds modules, instead of a wheel of the project."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a command works with. `app` and `key` are empty if none is named."""

    app: str = ""
    file: Path | None = None
    """The `pusher.toml` that was read."""
    source: Path = Path("app-src")
    root: Path = Path()
    """The folder that is sent if none is named."""
    key: str = ""
    ssh: str = "ssh"
    repository: str = ""
    """Where releases are published: a folder, or an address."""
    credentials_file: str = ""
    """Logins for web servers, in netrc form."""
    fleet: str = "fleet.allowed"
    """The inventory: the hosts that belong to the fleet."""
    signers: str = ""
    """An allowed_signers file: whose channel documents count. Without it, signing goes on from one's own alone."""
    bell: str = ""
    """The web server, or the servers of NATS, whose bell is rung after a publish."""
    bell_credentials_file: str = ""
    """An nkey's seed, or a `.creds` file, for NATS."""
    hosts: Mapping[str, Host] = field(default_factory=dict)
    """The hosts in `pusher.toml`, by name."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The names of hosts in each group of `pusher.toml`."""
    dependencies: Dependencies = Dependencies()
    run: RunSection = field(default_factory=RunSection)
    """How the app runs, as far as `pusher.toml` says it."""
    environments: Mapping[str, Environment] = field(default_factory=dict)
    """The environments of `pusher.toml`, by name."""
    chosen: tuple[Host, ...] = ()
    """The hosts of this command, in the order given, each once."""
    confirm: str = ""
    """The environment that a person must confirm before this command changes anything; empty: none."""

    def app_name(self) -> str:
        """The app, for a command that cannot do without. Raises: Usage, if none is named, or with a wrong name."""
        if not self.app:
            hint = 'Name it with --app, PUSHER_APP, or app = "..." in pusher.toml'
            why = "" if self.file else f"there is no {CONFIG_NAME} from {os.getcwd()} upwards"
            hint += "" if self.file else ". `pusher init` writes one"
            raise Usage("No app is named", why=why, hint=hint)
        try:
            return check_app(self.app)
        except WireError as error:
            raise Usage("The name of the app is not valid", why=str(error)) from error


def load(
    flags: Mapping[str, Any], *, environment: Mapping[str, str] | None = None, start: Path | None = None
) -> Settings:
    """The settings of one command.

    `flags` may have `config`, `env`, `app`, `source`, `root`, `key`, `ssh`, `repository` (text or None) and `host`
    (a list of texts or None). `environment` defaults to that of the process, `start` to the working directory.
    Raises: Usage.
    """
    environment = os.environ if environment is None else environment
    config = flags.get("config") or environment.get("PUSHER_CONFIG")
    file = Path(config) if config else find(start or _here())
    table = read_table(file) if file else {}
    check_table(table, _KEYS, file=file, place="", elsewhere=_ELSEWHERE)
    if isinstance(source := table.get("source"), dict):
        check_table(source, _SOURCE_KEYS, file=file, place="source.")
        table["source"] = source.get("versions", "")
    environments = parse_environments(table.get("env", {}), file)
    chosen_name = flags.get("env") or environment.get("PUSHER_ENV")
    chosen = find_environment(chosen_name, environments, file) if chosen_name else None
    if chosen:
        table |= chosen.settings
    given = _Given(flags, environment, table, file.parent if file else Path())
    dependencies, run = _one_python(
        _dependencies(table.get("dependencies", {}), file, wheels=bool(flags.get("build_wheels"))),
        parse_section(table.get("run", {}), file=str(file)),
        file,
    )
    hosts = _hosts(table.get("hosts", {}), file)
    groups = {name: _group(name, entry, hosts, file) for name, entry in table.get("groups", {}).items()}
    named = flags.get("host") or environment.get("PUSHER_HOST", "").split()
    choice = HostChoice(hosts, groups, environments)
    meant = choice.of(named, environment=chosen)
    return Settings(
        app=given.text("app", ""),
        file=file,
        source=Path(given.path("source", "app-src")),
        root=Path(given.path("root", ".")),
        key=given.path("key", ""),
        ssh=_kept_open(given.text("ssh", "ssh"), given.text("keep_open_s", "0")),
        repository=address if "://" in (address := given.text("repository", "")) else given.path("repository", ""),
        credentials_file=given.path("credentials_file", ""),
        fleet=given.path("fleet", "fleet.allowed"),
        signers=given.path("signers", ""),
        bell=_bell(given.text("bell", "")),
        bell_credentials_file=given.path("bell_credentials_file", ""),
        hosts=hosts,
        groups=groups,
        dependencies=dependencies,
        run=run,
        environments=environments,
        chosen=meant,
        confirm=choice.confirm(meant, environment=chosen),
    )


def find(start: Path) -> Path | None:
    """The nearest `pusher.toml` from `start` upwards.

    It can name a command to run (`ssh`). So a file that another user put into a shared folder must not be used:
    its owner must be the user, root, or the owner of `start`. Raises: Usage.
    """
    here = start.resolve()
    for folder in (here, *here.parents):
        file = folder / CONFIG_NAME
        # Not `is_file`: it raises where this user may not read (`sudo -u deploy` in root's home).
        if os.path.isfile(file):
            owner = file.stat().st_uid
            if owner not in (os.geteuid(), 0) and owner != here.stat().st_uid:
                raise Usage(
                    f"{file} is not used",
                    why=f"it belongs to another user (uid {owner}) and can name a command to run",
                    hint=f"If you trust it, name it: --config {file}",
                )
            return file
    return None


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        hint = f"Change to a folder that exists, or name a {CONFIG_NAME} with --config"
        raise Usage(
            "The working directory does not exist any more", why=error.strerror or str(error), hint=hint
        ) from error


@dataclass(frozen=True, slots=True)
class _Given:
    """What is given for a key: by a flag, else by a variable, else in the file, whose paths start at `base`."""

    flags: Mapping[str, Any]
    environment: Mapping[str, str]
    table: Mapping[str, Any]
    base: Path

    def text(self, key: str, default: str) -> str:
        return str(self._outside(key) or self.table.get(key) or default)

    def path(self, key: str, default: str) -> str:
        text = os.path.expanduser(self.text(key, default))
        return text if self._outside(key) or not text else str(self.base / text)

    def _outside(self, key: str) -> Any:
        return self.flags.get(key) or self.environment.get(f"PUSHER_{key.upper()}")


def _hosts(entry: Any, file: Path | None) -> dict[str, Host]:
    """The hosts of the file: a list of names that ssh knows, or a table for each."""
    if isinstance(entry, dict):
        return {name: _host(name, one, file) for name, one in entry.items()}
    if not all(isinstance(one, str) and one for one in entry):
        hint = 'For example: hosts = ["web1", "web2"]'
        raise Usage(f"{file}: 'hosts' is {entry!r}", why="it must be a list of names", hint=hint)
    return {name: Host(name, parse_address(name)) for name in entry}


def _host(name: str, entry: object, file: Path | None) -> Host:
    if not isinstance(entry, dict):
        raise Usage(f"{file}: hosts.{name} is not a table", hint=f'Write [hosts.{name}] and address = "..."')
    check_table(entry, _HOST_KEYS, file=file, place=f"hosts.{name}.", elsewhere=_ELSEWHERE)
    if "address" not in entry:
        raise Usage(f"{file}: [hosts.{name}] has no address", hint=f'For example: address = "ssh://{name}"')
    try:
        door = parse_door(entry.get("door", SSH_DOOR))
        address = parse_address(entry["address"], door=door, owner=entry.get("owner", ""))
        return Host(name, address, entry.get("drop", ""))
    except Usage as error:
        raise Usage(f"{file}: hosts.{name}: {error.what}", why=error.why, hint=error.hint) from error


def _group(name: str, entry: object, hosts: Mapping[str, Host], file: Path | None) -> tuple[str, ...]:
    if not isinstance(entry, list) or not entry or not all(isinstance(one, str) and one for one in entry):
        hint = f'For example: {name} = ["web1", "web2"]'
        raise Usage(f"{file}: groups.{name} is {entry!r}", why="it must be a list of hosts", hint=hint)
    if name in hosts or name == ALL:
        why = "a host has that name" if name in hosts else "it stands for every host in this file"
        raise Usage(f"{file}: a group cannot be called {name}", why=why)
    return tuple(entry)


def _dependencies(table: dict[str, Any], file: Path | None, *, wheels: bool) -> Dependencies:
    check_table(table, _DEPENDENCY_KEYS, file=file, place="dependencies.")
    for key, value in table.items():
        if isinstance(value, list) and not all(isinstance(one, str) and one for one in value):
            raise Usage(f"{file}: 'dependencies.{key}' is {value!r}", why="it must be a list of texts")
    for one in table.get("python_path", []):
        if one.startswith("/") or ".." in one.split("/"):
            raise Usage(f"{file}: 'dependencies.python_path' is {one!r}", why="a folder of the version is needed")
    if (python := table.get("python")) and not re.fullmatch(r"3\.\d+(\.\d+)?", python):
        raise Usage(f"{file}: 'dependencies.python' is {python!r}", why='it must be like "3.11"')
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
    }
    given["wheels"] = wheels or table.get("wheels", False)
    return Dependencies(**given)


def _one_python(dependencies: Dependencies, run: RunSection, file: Path | None) -> tuple[Dependencies, RunSection]:
    """Both with the Python that one of them names."""
    python = dependencies.python or run.python
    if run.python and run.python != python:
        raise Usage(
            f"{file}: 'run.python' is {run.python!r}, and 'dependencies.python' {python!r}",
            why="a version runs on the Python that its dependencies are for",
            hint="Take one of them out",
        )
    return replace(dependencies, python=python), replace(run, python=python)


def _bell(address: str) -> str:
    """Raises: Usage, if it is neither a web server's address, nor those of NATS."""
    servers = [one.strip() for one in address.split(",")]
    is_nats = all(re.fullmatch(r"(nats|tls)://[^/\s@,]+", one) for one in servers)
    if address and not is_nats and not re.fullmatch(r"https?://[^/\s@]+(/\S*)?", address):
        why = 'it must be like "http://127.0.0.1:8180", or "tls://n1.example.com:4222,tls://n2.example.com:4222"'
        raise Usage(f"bell is {address!r}", why=why)
    return address


def _kept_open(ssh: str, seconds: str) -> str:
    """The ssh command that leaves its connection open for so long, for the next command. 0: it does not.

    ssh itself does this (ssh_config(5), ControlPersist), and closes its output when it stays behind.
    """
    if not seconds.isascii() or not seconds.isdecimal() or int(seconds) > _LONGEST_OPEN_S:
        raise Usage(f"keep_open_s is {seconds!r}", why=f"it must be a whole number from 0 to {_LONGEST_OPEN_S}")
    # Without the folder, ssh would end. It has nothing to connect with then, or gets everything by options.
    if not int(seconds) or not os.path.isdir(os.path.join(_ssh_home(), ".ssh")):
        return ssh
    options = ("ControlMaster=auto", f"ControlPath={_CONTROL_PATH}", f"ControlPersist={int(seconds)}")
    return " ".join([ssh, *(f"-o {option}" for option in options)])


def _ssh_home() -> str:
    """What ssh takes for `~`: never $HOME, which in a container of a CI is often another folder."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # ssh does not run for such a user
        return ""
