"""Where everything lies: path arithmetic, and the ids of releases.

Invariant: nothing here reads a disk. Every path that the agent uses is spelled in this file.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HOOKS_FOLDER = "hooks"
"""The folder of a release with its own hooks."""
_ID_FORMAT = "%Y%m%d%H%M%SZ"


@dataclass(frozen=True, slots=True)
class HostLayout:
    """The agent's own paths beneath `root` ("/" on a server, any folder in the embedded default)."""

    root: Path

    @property
    def config(self) -> Path:
        """The folder of `agent.toml`, `apps/`, `hooks/` and `allowed_signers`: root's."""
        return self.root / "etc/pusher-agent"

    @property
    def agent_toml(self) -> Path:
        """The host's configuration."""
        return self.config / "agent.toml"

    @property
    def apps(self) -> Path:
        """The folder of the apps' configurations."""
        return self.config / "apps"

    @property
    def allowed_signers(self) -> Path:
        """Who may sign releases (ssh-keygen(1), "ALLOWED SIGNERS")."""
        return self.config / "allowed_signers"

    @property
    def state(self) -> Path:
        """The folder of the journal and the drop directories: the agent's."""
        return self.root / "var/lib/pusher-agent"

    @property
    def journal(self) -> Path:
        """The journal: an SQLite file."""
        return self.state / "journal.sqlite"

    @property
    def lock(self) -> Path:
        """The file that a running agent has locked."""
        return self.state / "agent.lock"

    @property
    def cache(self) -> Path:
        """The cache of `uv`; may be deleted at any time."""
        return self.root / "var/cache/pusher-agent"

    @property
    def run(self) -> Path:
        """The agent's folder for what ends with this boot."""
        return self.root / "run/pusher-agent"

    @property
    def api_socket(self) -> Path:
        """The unix socket of the HTTP door."""
        return self.run / "api.sock"

    @property
    def mail_socket(self) -> Path:
        """Where the mail unit takes the agent's notices, if root has enabled it."""
        return self.root / "run/pusher-agent-mail.sock"

    @property
    def units(self) -> Path:
        """The folder to which root renders the units of the apps."""
        return self.root / "etc/systemd/system"

    @property
    def polkit_rules(self) -> Path:
        """The rule that lets the agent control the units of its apps."""
        return self.root / "etc/polkit-1/rules.d/50-pusher-agent.rules"

    def preflight_socket(self, app: str) -> Path:
        """The socket of a candidate under systemd. Not in `run`: its folder must be root's (units.py)."""
        return self.root / f"run/pusher-preflight/{app}.sock"

    def build_socket(self, app: str) -> Path:
        """Where the agent orders an app's dependencies under systemd; not in `run`, as the one above."""
        return self.root / f"run/pusher-build/{app}.sock"

    @property
    def pythons(self) -> Path:
        """The folder of managed Pythons, for the apps of this host: root's."""
        return self.root / "opt/pusher-agent/pythons"

    def notes(self, app: str) -> Path:
        """The agent's folder for what it must remember about an app until the next boot."""
        return self.run / app

    @property
    def last_read(self) -> Path:
        """What the agent last read of the apps' files: its own, a file an app."""
        return self.state / "apps"

    def timer_record(self, app: str, name: str) -> Path:
        """What the embedded default keeps of a timer: when it last ran."""
        return self.state / "timers" / f"{app}-{name}.json"

    def agent_drop_in(self, app: str) -> Path:
        """What an app adds to the agent's own unit: root's."""
        return self.units / f"pusher-agent.service.d/app-{app}.conf"

    @property
    def door_drop_in(self) -> Path:
        """What agent.toml adds to the socket unit of the agent: root's."""
        return self.units / "pusher-agent.socket.d/door.conf"

    def app_toml(self, app: str) -> Path:
        """The configuration of an app: root's."""
        return self.apps / f"{app}.toml"

    def app_going(self, app: str) -> Path:
        """The configuration of an app that is being removed; the removal needs it until its end."""
        return self.apps / f"{app}.toml.going"

    def adopted(self, app: str) -> Path:
        """What `app adopt` found of an app, for the way back: root's."""
        return self.config / "adopted" / app

    def hooks(self, app: str) -> Path:
        """The host's own hooks for an app: root's."""
        return self.config / "hooks" / app

    def drop(self, app: str) -> Path:
        """The drop directory of an app."""
        return self.state / "drop" / app

    @property
    def identity(self) -> Path:
        """The agent's own key, with which it signs reports."""
        return self.state / "identity"

    def fetched(self, app: str) -> Path:
        """Where the bundles lie that a subscribed app is fetching."""
        return self.state / "fetched" / app

    def beneath(self, path: str) -> Path:
        """An absolute path of a configuration file, moved beneath `root`."""
        return self.root / path.lstrip("/")


@dataclass(frozen=True, slots=True)
class AppLayout:
    """The paths of one app beneath its `path`."""

    path: Path

    @property
    def releases(self) -> Path:
        """The folder of the releases, each named by its id."""
        return self.path / "releases"

    @property
    def current(self) -> Path:
        """The link to the live release."""
        return self.path / "current"

    @property
    def shared(self) -> Path:
        """What all releases share."""
        return self.path / "shared"

    @property
    def venvs(self) -> Path:
        """The folder of the venvs, each named by its key."""
        return self.shared / "venvs"

    @property
    def shared_venv(self) -> Path:
        """The link to the live release's venv: a convenience for people. No unit uses it, recovery repairs it."""
        return self.shared / "venv"

    @property
    def staging(self) -> Path:
        """Where trees are built: on the same filesystem, so that every rename is atomic."""
        return self.path / ".staging"

    @property
    def exchange(self) -> Path:
        """What the agent passes to the app's units: the agent's, readable to the app's group."""
        return self.path / ".agent"

    @property
    def candidate(self) -> Path:
        """The link to the release that the preflight unit starts."""
        return self.exchange / "candidate"

    @property
    def hook(self) -> Path:
        """The script that the hook unit runs with /bin/sh."""
        return self.exchange / "hook"

    @property
    def hook_output(self) -> Path:
        """The FIFO that a hook writes to."""
        return self.exchange / "hook-output"

    def release(self, release: str) -> Path:
        """The folder of a release."""
        return self.releases / release

    def staged(self, release: str) -> Path:
        """The folder of a release that is being built."""
        return self.staging / release

    def venv(self, key: str) -> Path:
        """The folder of a venv."""
        return self.venvs / key

    def trash(self, name: str) -> Path:
        """The path that a tree is renamed to before it is deleted."""
        return self.staging / f"trash-{name}"


SIGNER_NAME = "signers"
"""The file in a release's metadata folder with the names of those who signed it, for people."""


def metadata_folder(release: Path) -> Path:
    """The folder of a release's signed manifest."""
    return release / ".pusher"


def current_target(release: str) -> str:
    """The target of the link `current`."""
    return f"./releases/{release}"


def live_release(target: str) -> str | None:
    """The release that a link `current` with this target names; None for any other spelling than ours."""
    parts = target.removeprefix("./").split("/")
    return parts[1] if len(parts) == 2 and parts[0] == "releases" and is_release_id(parts[1]) else None


def venv_target(key: str) -> str:
    """The target of a release's link `venv`."""
    return f"../../shared/venvs/{key}"


def live_venv_target(key: str) -> str:
    """The target of the link `shared/venv`."""
    return f"venvs/{key}"


def shared_target(name: str) -> str:
    """The target of the link of a shared path: relative, however deep the path is."""
    return "../" * (2 + name.count("/")) + f"shared/{name}"


def is_release_id(name: str) -> bool:
    """Whether `name` is a release id: a UTC time as `%Y%m%d%H%M%SZ`."""
    try:
        return _moment(name).strftime(_ID_FORMAT) == name
    except ValueError:
        return False


def next_release_id(now: int, used: Iterable[str]) -> str:
    """An id later than every id in `used`: the later of `now` (ms since 1970, UTC) and the last + 1 s."""
    newest = max(used, default="")  # later ids sort later; there may be very many
    last = _seconds(newest) if newest else 0
    return datetime.fromtimestamp(max(now // 1000, last + 1), UTC).strftime(_ID_FORMAT)


def _seconds(release: str) -> int:
    return int(_moment(release).timestamp())


def _moment(release: str) -> datetime:
    return datetime.strptime(release, _ID_FORMAT).replace(tzinfo=UTC)
