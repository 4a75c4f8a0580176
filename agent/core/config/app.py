"""The configuration of the host and of its apps: TOML in, checked records out.

Invariant: an unknown key, a wrong type or an impossible value is an error that names the file, the key and what
to write instead. A record that exists is usable.
"""

import difflib
import ipaddress
import itertools
import re
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin

from packaging.utils import canonicalize_name
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from agent.core.layout import is_release_id
from agent.core.notice_formats import Format
from agent.core.process_names import NAME, name_clash
from agent.core.pythons import VERSION
from agent.core.signing import SigningRules
from agent.core.window import parse_window
from pusher.wire import (
    RESERVED_NAMES,
    SIGNATURES_MOST,
    Code,
    Limits,
    Refused,
    WireError,
    check_path,
    split_command,
)
from pusher.wire.channel import check_channel

DEFAULT_INDEX = "default"
"""What `index_url` is called among the indexes."""

_AGENTS = RESERVED_NAMES | {"venvs"}  # the last one in `shared/`, where the names would be folders

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_Record = TypeVar("_Record", bound=BaseModel)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _absolute(path: str) -> str:
    if not path.startswith("/") or ".." in path.split("/"):
        raise ValueError("an absolute path is needed")
    return path


def _relative(path: str) -> str:
    try:
        return check_path(path)
    except WireError as error:
        raise ValueError(str(error)) from error


def _url_path(path: str) -> str:
    if not re.fullmatch(r"/\S*", path):
        raise ValueError('a path like "/health", without a host and without blanks, is needed')
    return path


def _address(address: str) -> str:
    parse_listen(address)
    return address


def _release(name: str) -> str:
    if not is_release_id(name):
        raise ValueError('the id of a release, such as "20261123044011Z", is needed')
    return name


def _absolute_or_none(path: str) -> str:
    return path and _absolute(path)


def _python(setting: str) -> str:
    if setting.startswith("/"):
        return _absolute(setting)
    if not setting or VERSION.fullmatch(setting):
        return setting
    raise ValueError('a version like "3.13", or the absolute path of an interpreter, is needed')


def _time_or_none(text: str) -> str:
    try:
        if text and datetime.fromisoformat(text).tzinfo is None:
            raise ValueError(text)
    except ValueError as error:
        raise ValueError('a time with its zone, such as "2026-11-27T13:00:00Z", is needed') from error
    return text


def _command(command: str) -> str:
    """A command that can be split into words, or nothing."""
    try:
        words = split_command(command) if command else ()
    except WireError as error:
        raise ValueError(str(error)) from error
    if any(_CONTROL.search(word) for word in words):
        raise ValueError("a command cannot hold line breaks or other control characters")
    return command


def _repository(address: str) -> str:
    known = re.fullmatch(
        r"file:///\S*|https?://[^/\s@]+(/\S*)?"
        r"|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?",
        address,
    )
    if not known or "?" in address or "#" in address or "/../" in f"{address}/":
        raise ValueError(
            'an address like "https://deploy.example.com/repo", "s3://bucket/repo" or "file:///srv/repo" is needed'
        )
    return address.rstrip("/")


def _webhook(address: str) -> str:
    if address and not re.fullmatch(r"https?://[^/\s@?#]+(?:[/?]\S*)?", address):
        raise ValueError('an address like "https://hooks.example.com/services/..." is needed, without a login')
    return address


def _email(address: str) -> str:
    if address and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]*(?:@[A-Za-z0-9.-]+)?", address):
        raise ValueError('one address like "ops@example.org" is needed')
    return address


def _notify(address: str) -> str:
    servers = [one.strip() for one in address.split(",")]
    if address not in ("", "repository") and not all(map(_is_nats, servers)):
        raise ValueError(
            '"repository", "" or servers like "tls://n1.example.com:4222,tls://n2.example.com" are needed'
        )
    return ",".join(servers)


def _is_nats(address: str) -> bool:
    return bool(re.fullmatch(r"(?:nats|tls)://(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?", address))


def _channel(name: str) -> str:
    try:
        return check_channel(name)
    except WireError as error:
        raise ValueError(str(error)) from error


def _window(text: str) -> str:
    parse_window(text)
    return text


Seconds = Annotated[float, Field(ge=0, le=86_400, strict=False)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
OptionalPath = Annotated[str, AfterValidator(_absolute_or_none)]
OptionalTime = Annotated[str, AfterValidator(_time_or_none)]
PythonSetting = Annotated[str, AfterValidator(_python)]
ReleaseId = Annotated[str, AfterValidator(_release)]
SharedPath = Annotated[str, AfterValidator(_relative)]
UrlPath = Annotated[str, AfterValidator(_url_path)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")]  # RFC 9110, 5.6.2: token
HeaderValue = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=4_096)]
Command = Annotated[str, AfterValidator(_command)]
ListenAddress = Annotated[str, AfterValidator(_address)]


class Health(_Table):
    """How an app shows that it is healthy: the request, and the answer it must give. Times in seconds."""

    path: UrlPath = "/"
    host: str = ""
    status: list[Annotated[int, Field(ge=100, le=599)]] = Field([200], min_length=1)
    version_member: str = ""
    headers: dict[HeaderName, HeaderValue] = {}
    deadline_s: Seconds = 10
    bake_s: Seconds = 0


class Index(_Table):
    """A package index besides `index_url`.

    With `packages`, it is asked for these alone, and they come from nowhere else. Without, it is asked for every
    package before `index_url` is.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")
    url: str = Field(pattern=r"^https?://\S+$")
    packages: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]] = []


class Dependencies(_Table):
    """What a release's venv is made of, and where from."""

    requirements: SharedPath = "requirements.txt"
    python: PythonSetting = ""
    index_url: str = ""
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


class Resources(_Table):
    """The most that an app may use, under systemd: memory in bytes, processes and threads together.

    Each of its units has these limits for itself. Empty and 0: no limit but the host's.
    """

    memory_max: str = Field("", pattern=r"^([1-9][0-9]{0,17}[KMGT]?)?$")
    tasks_max: int = Field(0, ge=0, le=1_000_000)


class Subscribe(_Table):
    """Where the app fetches its releases: mirrors of one repository, and the channel. Without one: nowhere.

    Times in seconds. `window` is the local time in which a deployment may begin.
    """

    repository: list[Annotated[str, AfterValidator(_repository)]] = Field([], max_length=16)
    channel: Annotated[str, AfterValidator(_channel)] = "stable"
    poll_s: float = Field(60, ge=5, le=86_400, strict=False)
    notify: Annotated[str, AfterValidator(_notify)] = "repository"
    notify_credentials_file: OptionalPath = ""
    window: Annotated[str, AfterValidator(_window)] = ""
    credentials_file: OptionalPath = ""
    ca_file: OptionalPath = ""
    reports: bool = True
    report_s: float = Field(900, ge=10, le=86_400, strict=False)
    labels: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")], str] = Field({}, max_length=32)


Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Login = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class RepositoryConfig(_Table):
    """The server of a repository: `pusher-agent repository serve --config FILE`.

    With `fleet`, an inventory, only its hosts report. `publishers` may write by HTTP: names, and the digests of
    their passwords. A bundle has at most `bundle_most` bytes.
    """

    folder: OptionalPath = ""
    listen: ListenAddress = "127.0.0.1:8180"
    certificate: OptionalPath = ""
    certificate_key: OptionalPath = ""
    fleet: OptionalPath = ""
    bundle_most: int = Field(4 * 1024**3, ge=1)
    publishers: dict[Login, Digest] = {}

    @model_validator(mode="after")
    def _kept_secret(self) -> "RepositoryConfig":
        where = parse_listen(self.listen)
        here = not isinstance(where, str) and ipaddress.ip_address(where[0]).is_loopback
        if self.publishers and not self.certificate and not here:
            raise ValueError(
                "publishers would send their passwords in the clear: name a certificate, or listen on 127.0.0.1"
            )
        return self


class Process(_Table):
    """A process of the app that runs always, beside the one that serves: a worker. Times in seconds.

    `health` is a command: the process is well when that ends with exit code 0. Without `start`, the release says
    how it is started. With 0 instances, the process is known and does not run here.
    """

    start: Command = ""
    drain_s: Seconds = 10
    instances: int = Field(1, ge=0, le=64)
    health: list[Annotated[str, Field(min_length=1)]] = []


class Timer(_Table):
    """A command that runs at the times of `schedule` (systemd.time(7), "Calendar Events").

    Without `start`, the release says what is run.
    """

    start: Command = ""
    schedule: str = Field(min_length=1)


Name = Annotated[str, Field(pattern=NAME.pattern)]


class AppConfig(_Table):
    """One app of the host: `/etc/pusher-agent/apps/<name>.toml`. Times (`_s`) in seconds.

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
    processes: dict[Name, Process] = {}
    timers: dict[Name, Timer] = {}

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


class Door(_Table):
    """The HTTP door: its loopback address, the group whose members may deploy, and who else may read metrics."""

    address: str = Field("127.0.0.1:9000", pattern=r"^127\.\d+\.\d+\.\d+:\d+$")
    group: str = "pusher"
    metrics_users: list[Annotated[str, Field(min_length=1)]] = []


class BundleLimits(_Table):
    """The largest bundle that this host accepts; sizes in bytes, times in seconds."""

    files: int = Field(100_000, ge=1)
    unpacked: int = Field(4 * 1024**3, ge=1)
    path: int = Field(1_024, ge=1, le=4_000)
    depth: int = Field(64, ge=1)
    index: int = Field(64 * 1024**2, ge=1)
    stall_s: Seconds = 30
    total_s: Seconds = 3_600

    @property
    def tree(self) -> Limits:
        """The limits of a tree, in the form that pusher.wire reads."""
        return Limits(files=self.files, unpacked=self.unpacked, path=self.path, depth=self.depth)


class Drop(_Table):
    """The drop directories: how many finished drops of each to keep, and for how many days; how often, in seconds,
    to scan a directory that the kernel cannot watch."""

    keep: int = Field(10, ge=0)
    days: float = Field(30, ge=0, strict=False)
    rescan_s: float = Field(30, gt=0, le=86_400, strict=False)


class Notify(_Table):
    """Who is told how deployments end: an address, or the file of root's with it, and a mail address.

    `format` and the other files belong to the address (agent/core/notice_formats.py).
    """

    url: Annotated[str, AfterValidator(_webhook)] = ""
    url_file: OptionalPath = ""
    format: Format = "json"
    events: list[Literal["failed", "stuck", "done", "rolled_back"]] = ["failed", "stuck", "done", "rolled_back"]
    secret_file: OptionalPath = ""
    credentials_file: OptionalPath = ""
    ca_file: OptionalPath = ""
    email: Annotated[str, AfterValidator(_email)] = ""

    @model_validator(mode="after")
    def _one_address(self) -> "Notify":
        if self.url and self.url_file:
            raise ValueError("`url` and `url_file` cannot both be there: keep one")
        return self


class AgentConfig(_Table):
    """The host itself: `/etc/pusher-agent/agent.toml`. A manifest that has `hosts` must list its `name`."""

    name: str = ""
    service: Literal["systemd", "embedded"] = "systemd"
    revoked_keys: OptionalPath = ""
    history_since: OptionalTime = ""
    door: Door = Door()
    limits: BundleLimits = BundleLimits()
    drop: Drop = Drop()
    notify: Notify = Notify()

    @property
    def since(self) -> int:
        """`history_since` in seconds since 1970; 0 without one."""
        return int(datetime.fromisoformat(self.history_since).timestamp()) if self.history_since else 0


def parse_agent(text: str, *, file: str) -> AgentConfig:
    """The host's configuration. Raises: Refused(configuration), naming `file`, the key and the correction."""
    return _parse(AgentConfig, _toml(text, file), file)


def parse_app(text: str, *, file: str, app: str) -> AppConfig:
    """An app's configuration; `path` and `user` default to the app's name. Raises: as `parse_agent`."""
    return _parse(AppConfig, {"path": f"/opt/{app}", "user": app} | _toml(text, file), file)


def parse_repository(text: str, *, file: str, instead: Mapping[str, str] = {}) -> RepositoryConfig:
    """The configuration of a repository's server; values of `instead` count more. Raises: as `parse_agent`."""
    return _parse(RepositoryConfig, {**_toml(text, file), **instead}, file)


def parse_listen(address: str) -> tuple[str, int] | str:
    """`host:port` or `[v6]:port` as (host, port); `unix:/path` as the path. Raises: ValueError."""
    if address.startswith("unix:/"):
        return address.removeprefix("unix:")
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})", address)
    if not match or not 0 < int(match[3]) < 65536:
        raise ValueError('an address like "0.0.0.0:8000", "[::]:8000" or "unix:/run/app.sock" is needed')
    host = match[1] or match[2]
    ipaddress.ip_address(host)
    return host, int(match[3])


class Clash(NamedTuple):
    """Two apps that cannot both exist, and why, for people."""

    apps: tuple[str, str]
    sentence: str


def clashes(apps: Mapping[str, AppConfig]) -> list[Clash]:
    """Which apps clash, by address or by path."""
    found = []
    for (one, its), (other, others) in itertools.combinations(sorted(apps.items()), 2):
        if _same_address(parse_listen(its.listen), parse_listen(others.listen)):
            sentence = f"{one} and {other} cannot listen at {its.listen} and {others.listen}"
            found.append(Clash((one, other), sentence))
        paths = PurePosixPath(its.path), PurePosixPath(others.path)
        if paths[0].is_relative_to(paths[1]) or paths[1].is_relative_to(paths[0]):
            sentence = f"{one} and {other} cannot have the folders {its.path} and {others.path}"
            found.append(Clash((one, other), sentence))
    return found


def _same_address(one: tuple[str, int] | str, other: tuple[str, int] | str) -> bool:
    """Whether a second socket would find the address occupied by the first."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    hosts = {ipaddress.ip_address(one[0]), ipaddress.ip_address(other[0])}
    # "::" occupies the port of IPv4 as well (ipv6(7), bindv6only).
    every = any(str(host) == "::" for host in hosts)
    some = any(host.is_unspecified for host in hosts) and len({host.version for host in hosts}) == 1
    return one[1] == other[1] and (len(hosts) == 1 or every or some)


def _toml(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refused(Code.CONFIGURATION, f"{file} is not TOML", why=str(error)) from error


def _parse(kind: type[_Record], members: dict[str, Any], file: str) -> _Record:
    try:
        return kind.model_validate(members)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise Refused(
                Code.CONFIGURATION, f"{file}: unknown key {key!r}", hint=_nearest(kind, first["loc"])
            ) from error
        why = str(first["msg"]).removeprefix("Value error, ")
        if not key:
            raise Refused(Code.CONFIGURATION, f"{file} cannot be used", why=why) from error
        if first["type"] == "missing":
            raise Refused(Code.CONFIGURATION, f"{file}: {key!r} is missing") from error
        raise Refused(Code.CONFIGURATION, f"{file}: {key!r} is {first['input']!r}", why=why) from error


def _nearest(kind: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """A hint at the key that was probably meant: one of the same table, or of another."""
    here: type[BaseModel] = kind
    for part in loc[:-1]:
        if isinstance(part, str) and part in here.model_fields:  # others are names in a table of tables
            here = _table(here.model_fields[part].annotation) or here
    name = str(loc[-1])
    known = {key: key for key in here.model_fields}
    if here is not kind:
        known |= {key: f"{key}, above all tables" for key in kind.model_fields if key not in known}
    for table, field in kind.model_fields.items():
        inner = _table(field.annotation)
        known |= {key: f"{key} in [{table}]" for key in (inner.model_fields if inner else ()) if key not in known}
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {known[close[0]]}?"
    return f"Known keys here: {', '.join(here.model_fields)}"


def _table(annotation: Any) -> type[BaseModel] | None:
    """The model of a field that is a table, a list of tables, or a table of tables."""
    if get_origin(annotation) in (list, dict):
        annotation = get_args(annotation)[-1]
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
