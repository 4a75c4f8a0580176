"""The configuration of one app: `/etc/pusher-agent/apps/<name>.toml`."""

from typing import Literal

from packaging.utils import canonicalize_name
from pydantic import Field, ValidationInfo, field_validator, model_validator

from agent.core.config.table import Table, parse_table
from agent.core.config.values import (
    AbsolutePath,
    BellServers,
    Channel,
    Command,
    HeaderName,
    HeaderValue,
    HttpStatus,
    IndexName,
    IndexUrl,
    LabelName,
    ListenAddress,
    NotEmpty,
    OptionalPath,
    PackageName,
    ProcessName,
    PythonSetting,
    ReleaseId,
    Repository,
    Seconds,
    SharedPath,
    UrlPath,
    Window,
)
from agent.core.process_names import name_clash
from agent.core.signing import SigningRules
from pusher.wire import RESERVED_NAMES, SIGNATURES_MOST

DEFAULT_INDEX = "default"
"""What `index_url` is called among the indexes."""

_AGENTS = RESERVED_NAMES | {"venvs"}  # the last one in `shared/`, where the names would be folders


class Health(Table):
    """How an app shows that it is healthy: the request, and the answer it must give. Times in seconds."""

    path: UrlPath = "/"
    host: str = ""
    status: list[HttpStatus] = Field([200], min_length=1)
    version_member: str = ""
    headers: dict[HeaderName, HeaderValue] = {}
    deadline_s: Seconds = 10
    bake_s: Seconds = 0


class Index(Table):
    """A package index besides `index_url`.

    With `packages`, it is asked for these alone, and they come from nowhere else. Without, it is asked for every
    package before `index_url` is.
    """

    name: IndexName
    url: IndexUrl = Field(pattern=r"^https?://\S+$")
    packages: list[PackageName] = []


class Dependencies(Table):
    """What a release's venv is made of, and where from."""

    requirements: SharedPath = "requirements.txt"
    python: PythonSetting = ""
    index_url: IndexUrl = ""
    indexes: list[Index] = []
    credentials_file: str = ""
    find_links: list[str] = []
    no_index: bool = False
    only_binary: bool = True
    network: Literal["index", "none"] = "index"
    deadline_s: Seconds = 600

    @field_validator("indexes")
    @classmethod
    def _distinct(cls, indexes: list[Index]) -> list[Index]:
        names = [DEFAULT_INDEX, *(one.name for one in indexes)]
        bound: list[str] = [canonicalize_name(package) for one in indexes for package in one.packages]
        for kind, every in (("name", names), ("package", bound)):
            if twice := {one for one in every if every.count(one) > 1}:
                raise ValueError(f"the {kind} {min(twice)!r} is there twice")
        return indexes


class Resources(Table):
    """The most that an app may use, under systemd: memory in bytes, processes and threads together.

    Each of its units has these limits for itself. Empty and 0: no limit but the host's.
    """

    memory_max: str = Field("", pattern=r"^([1-9][0-9]{0,17}[KMGT]?)?$")
    tasks_max: int = Field(0, ge=0, le=1_000_000)


class Subscribe(Table):
    """Where the app fetches its releases: mirrors of one repository, and the channel. Without one: nowhere.

    Times in seconds. `window` is the local time in which a deployment may begin.
    """

    repository: list[Repository] = Field([], max_length=16)
    channel: Channel = "stable"
    poll_s: float = Field(60, ge=5, le=86_400, strict=False)
    notify: BellServers = "repository"
    notify_credentials_file: OptionalPath = ""
    window: Window = ""
    credentials_file: OptionalPath = ""
    ca_file: OptionalPath = ""
    reports: bool = True
    report_s: float = Field(900, ge=10, le=86_400, strict=False)
    labels: dict[LabelName, str] = Field({}, max_length=32)


class Process(Table):
    """A process of the app that runs always, beside the one that serves: a worker. Times in seconds.

    `health` is a command: the process is well when that ends with exit code 0. Without `start`, the release says
    how it is started. With 0 instances, the process is known and does not run here.
    """

    start: Command = ""
    drain_s: Seconds = 10
    instances: int = Field(1, ge=0, le=64)
    health: list[NotEmpty] = []


class Timer(Table):
    """A command that runs at the times of `schedule` (systemd.time(7), "Calendar Events").

    Without `start`, the release says what is run.
    """

    start: Command = ""
    schedule: str = Field(min_length=1)


class AppConfig(Table):
    """One app of the host. Times (`_s`) in seconds.

    What is empty or not there of `start`, `listen_via`, `hook_deadline_s`, `health`, `processes` and `timers`, the
    release may say (agent/core/run.py), unless `release_decides` is false.
    """

    path: AbsolutePath
    user: str
    listen: ListenAddress = "0.0.0.0:8000"
    start: Command = ""
    listen_via: Literal["", "socket", "port"] = ""
    release_decides: bool = True
    environment_file: str = ""
    keep_releases: int = Field(5, ge=1, le=1000)
    shared_paths: list[SharedPath] = []
    shared_files: list[SharedPath] = []
    drain_s: Seconds = 10
    preflight: bool = True
    overlap: bool | None = None
    hook_deadline_s: Seconds = 300
    signatures_required: int = Field(1, ge=1, le=SIGNATURES_MOST)
    require_touch: bool = False
    require_pin: bool = False
    allow_revoked: list[ReleaseId] = []
    health: Health = Health()
    dependencies: Dependencies = Dependencies()
    resources: Resources = Resources()
    subscribe: Subscribe = Subscribe()
    processes: dict[ProcessName, Process] = {}
    timers: dict[ProcessName, Timer] = {}

    @model_validator(mode="after")
    def _named_apart(self) -> "AppConfig":
        if clash := name_clash({name: one.instances for name, one in self.processes.items()}, self.timers):
            raise ValueError(clash)
        return self

    @field_validator("shared_paths", "shared_files")
    @classmethod
    def _apart(cls, names: list[str], info: ValidationInfo) -> list[str]:
        """Each name is a link in the release: it cannot be one of the agent's, or lie beneath another link."""
        others: list[str] = [] if info.field_name == "shared_paths" else [*info.data.get("shared_paths", [])]
        for name in names:
            if name.partition("/")[0] in _AGENTS:
                raise ValueError(f"{name!r} begins with a name that the agent uses itself")
            for other in others:
                if f"{name}/".startswith(f"{other}/") or f"{other}/".startswith(f"{name}/"):
                    raise ValueError(f"{name!r} and {other!r} cannot both be links: name only the upper one, once")
            others.append(name)
        return names

    @property
    def overlaps(self) -> bool:
        """Whether two releases may run side by side for a moment; unless it is set, as `preflight`."""
        return self.preflight if self.overlap is None else self.overlap

    @property
    def shared(self) -> tuple[str, ...]:
        """Every name that is a link into `shared/`, and so may not be in a bundle."""
        return (*self.shared_paths, *self.shared_files)

    @property
    def signing(self) -> SigningRules:
        """What the signatures of a new bundle must be."""
        return SigningRules(self.signatures_required, self.require_touch, self.require_pin)


def parse_app(text: str, *, file: str, app: str) -> AppConfig:
    """An app's configuration; `path` and `user` default to the app's name.

    Raises: Refused(configuration), naming `file`, the key and the correction.
    """
    return parse_table(AppConfig, text, file=file, defaults={"path": f"/opt/{app}", "user": app})
