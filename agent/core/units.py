"""The systemd units of an app, as text: root renders them, the agent only compares them.

Invariant: a value of the configuration becomes the value of its own setting and nothing else. What systemd would
expand is escaped (systemd.unit(5), "Specifiers"; systemd.service(5), "Command lines"), and a value with a control
character is refused. Paths that belong to the agent appear only in WorkingDirectory= and ExecStart=, which the
app's user resolves, after process 1 has given up its rights.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.core.config.app import AppConfig
from agent.core.environment import CLEAN_PATH
from agent.core.layout import AppLayout, HostLayout
from agent.core.listen import parse_listen
from agent.core.processes import Instance, instances, timer_of, unit_of, units_beside
from agent.core.run import DEADLINE_MOST_S, HOOK_DEADLINE_MOST_S, SERVICE
from pusher.wire import Code, Refused

AGENT = "pusher-agent"
"""The agent's user, and the name of its unit."""

MARK = "Rendered by `pusher-agent app apply"
"""The first line of every file that root writes for an app contains this."""

BUILDER = "/usr/lib/pusher-agent/bin/python -BI -m agent.host.dependencies.workshop"
"""What the build unit of an app runs: the Python of the package, deaf to the environment it is started in."""

HARDENING = "hardening"
"""The template that all services of an app share."""

BESIDE = ("app-process.service", "app-timer.service", "app-timer.timer")
"""The templates of what `[processes]` and `[timers]` name."""

RUNNER = ("/usr/bin/python3", "-I", "-S", "/usr/lib/pusher-agent/runner.pyc")
"""How the runner is started: agent/host/run/runner.py, which the package compiles when it is installed.

It finds how a release is started in the release itself, so no unit has a start command. It runs after the
environment file was read, which so cannot change what the runner sets."""

_STOP_S = 2.0
"""How much longer than the runner systemd waits: the runner itself kills what does not end."""

_RELOAD_S = 30.0

_PLACE = re.compile(r"@([a-z_]+)@")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HIDDEN = ("/tmp/", "/var/tmp/", "/dev/", "/proc/", "/sys/", "/run/")  # noqa: S108 - refused
_HOMES = ("/home/", "/root/", "/run/user/")


@dataclass(frozen=True, slots=True)
class Units:
    """The names of the units that every app has. They are fixed: the polkit rule names exactly these.

    An app has more for its processes and timers: `every_unit`.
    """

    socket: str
    service: str
    preflight_socket: str
    preflight: str
    hook: str
    build_socket: str
    build: str

    @staticmethod
    def of(app: str) -> "Units":
        """The units of this app."""
        return Units(
            socket=f"{app}.socket",
            service=f"{app}.service",
            preflight_socket=f"{app}-preflight.socket",
            preflight=f"{app}-preflight.service",
            hook=f"{app}-hook.service",
            build_socket=f"{app}-build.socket",
            build=f"{app}-build.service",
        )

    @property
    def helpers(self) -> tuple[str, ...]:
        """Those that run only while the agent waits for them; sockets first, which would start the others."""
        return (self.preflight_socket, self.preflight, self.hook, self.build_socket, self.build)

    @property
    def all(self) -> tuple[str, ...]:
        return (
            *(self.socket, self.service, self.preflight_socket, self.preflight, self.hook),
            *(self.build_socket, self.build),
        )


def every_unit(app: str, config: AppConfig) -> tuple[str, ...]:
    """The names of all units that an app with this configuration has."""
    return (*Units.of(app).all, *units_beside(app, config))


def render_units(
    app: str, config: AppConfig, *, templates: Mapping[str, str], host: HostLayout, elsewhere: Collection[str] = ()
) -> dict[str, str]:
    """The text of each unit of an app, by its name. `templates` has their templates: `app.service` and so on.

    `elsewhere` are the places outside of the app's folder to which its shared paths lead. A line with an empty
    value is left out. Raises: Refused(configuration).
    """
    values = _values(app, config, host) | _elsewhere(config, host, elsewhere)
    values["hardening"] = _fill(templates[HARDENING], values).rstrip("\n")
    units = {name: _fill(templates["app" + name.removeprefix(app)], values) for name in Units.of(app).all}
    process, service, timer = (templates[name] for name in BESIDE)
    for name, one in config.timers.items():
        own = values | {
            "name": name,
            "schedule": _setting(f"timers.{name}.schedule", one.schedule),
            "become": _command(*RUNNER, *become_options(AppLayout(host.beneath(config.path)).current, name)),
        }
        units |= {timer_of(app, name): _fill(timer, own), unit_of(app, name): _fill(service, own)}
    for instance in instances(config):
        units[unit_of(app, instance.name)] = _fill(process, values | _process_values(instance, config, host))
    return units


def render_drop_in(app: str, config: AppConfig, *, host: HostLayout) -> str:
    """What the agent's own unit needs for an app outside of /opt; empty for all others.

    Its folder becomes a mount of its own; all renames stay within it. Raises: Refused(configuration).
    """
    path = _setting("path", str(host.beneath(config.path)))
    if path.startswith(_HIDDEN):
        raise _unusable("path", config.path, f"units have a {path.split('/')[1]} of their own, or cannot see it")
    if path.startswith(str(host.beneath("/opt")) + "/"):
        return ""
    home = "ProtectHome=read-only\n" if f"{path}/".startswith(_HOMES) else ""
    return f'# {MARK} {app}`.\n[Service]\n{home}ReadWritePaths="-{path}"\n'


def runner_options(path: Path, config: AppConfig) -> tuple[str, ...]:
    """What the runner is told of an app that lies at `path`."""
    return (
        f"--path={path}",
        f"--drain={config.drain_s:g}",
        f"--overlap={'yes' if config.overlaps else 'no'}",
    )


def process_options(path: Path, instance: Instance) -> tuple[str, ...]:
    """What the runner of a process is told: as `runner_options`, but without a socket."""
    return (f"--path={path}", f"--drain={instance.config.drain_s:g}", f"--process={instance.process}")


def become_options(folder: Path, process: str) -> tuple[str, ...]:
    """What makes the runner become one process of the release at `folder`, instead of its parent."""
    return (f"--become={folder}", f"--process={process}")


def candidate_options(folder: Path, config: AppConfig) -> tuple[str, ...]:
    """As `become_options`, for a candidate: also at which loopback address its server gets a socket."""
    where = parse_listen(config.listen)
    host = "no" if isinstance(where, str) else "::1" if ":" in where[0] else "127.0.0.1"
    return (*become_options(folder, SERVICE), f"--loopback={host}")


def process_environment(instance: Instance) -> dict[str, str]:
    """By what a process knows which one it is."""
    return {"PUSHER_PROCESS": instance.process, "PUSHER_INSTANCE": str(instance.number)}


def exec_word(word: str) -> str:
    """A word quoted for a command line of systemd (systemd.service(5), "Command lines")."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _values(app: str, config: AppConfig, host: HostLayout) -> dict[str, str]:
    layout = AppLayout(host.beneath(config.path))
    where = parse_listen(config.listen)
    environment = {
        "PATH": CLEAN_PATH,
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",  # a __pycache__ in the release would look like damage to it
        "PYTHONUNBUFFERED": "1",
        "PUSHER_APP": app,
    }
    return {
        "rendered": f"{MARK} {app}`. After a change here, deploys are refused until that is run again.",
        "app": app,
        "agent": AGENT,
        "user": _setting("user", config.user),
        "path": _setting("path", str(layout.path)),
        "listen": _setting("listen", where if isinstance(where, str) else config.listen),
        "free_bind": "yes" if isinstance(where, tuple) and _may_come_late(where[0]) else "",
        "remove": "yes" if isinstance(where, str) else "",
        "preflight_socket": str(host.preflight_socket(app)),
        "candidate": _setting("path", str(layout.candidate)),
        "environment_file": _setting("environment_file", str(host.beneath(config.environment_file)))
        if config.environment_file
        else "",
        "environment": " ".join(f"{name}={value}" for name, value in environment.items()),
        "become": _command(*RUNNER, *candidate_options(layout.candidate, config)),
        "run": _command(*RUNNER, *runner_options(layout.path, config)),
        "reload": f"{' '.join(RUNNER)} --reload=${{MAINPID}}",
        "hook": _command("/bin/sh", str(layout.hook)),
        "build_socket": str(host.build_socket(app)),
        "build_environment": " ".join(f"{name}={environment[name]}" for name in ("PATH", "LANG")),
        "builder": BUILDER,
        "build_deadline": _span(config.dependencies.deadline_s + 10),
        "private_network": "yes" if config.dependencies.network == "none" else "",
        "stop": _span(config.drain_s + _STOP_S),
        # For ExecReload= too (systemd.service(5)): the successor accepts, then the predecessor lets go.
        # The runner and the agent keep the deadline of the release itself, which no unit can know.
        "start_deadline": _span(max(config.health.deadline_s, DEADLINE_MOST_S) + config.drain_s + _RELOAD_S),
        # The agent itself enforces the deadline, the release's own too; this is for a hook whose agent has died.
        "hook_deadline": _span(max(config.hook_deadline_s, HOOK_DEADLINE_MOST_S) + 10),
        "memory_max": config.resources.memory_max,
        "tasks_max": str(config.resources.tasks_max or ""),
        "protect_home": "read-only" if _in_a_home(config, str(layout.path)) else "yes",
    }


def _elsewhere(config: AppConfig, host: HostLayout, paths: Collection[str]) -> dict[str, str]:
    """What makes these places writable; in a home, without showing the rest of it.

    Raises: Refused(configuration).
    """
    for path in paths:
        if f"{path}/".startswith(_HIDDEN):
            why = f"units have a {path.split('/')[1]} of their own, or cannot see it"
            raise _unusable("a shared path", path, why)
    shown = _in_a_home(config, str(host.beneath(config.path)))
    bound = [path for path in paths if f"{path}/".startswith(_HOMES) and not shown]
    named = {
        "elsewhere": " ".join(_optional(path) for path in paths if path not in bound),
        "bound": " ".join(map(_optional, bound)),
    }
    return named | ({"protect_home": "tmpfs"} if bound else {})


def _optional(path: str) -> str:
    """A path of a unit that need not exist when the unit starts."""
    text = f"-{_setting('a shared path', path)}"
    return f'"{text}"' if " " in text else text


def _process_values(instance: Instance, config: AppConfig, host: HostLayout) -> dict[str, str]:
    process, options = instance.config, process_options(host.beneath(config.path), instance)
    return {
        "name": instance.name,
        "own_environment": " ".join(f"{name}={value}" for name, value in process_environment(instance).items()),
        "run": _command(*RUNNER, *options),
        "stop": _span(process.drain_s + _STOP_S),
    }


def _fill(template: str, values: Mapping[str, str]) -> str:
    lines = []
    for line in template.splitlines():
        places = _PLACE.findall(line)
        if places and not line.startswith("#") and not all(values[place] for place in places):
            continue
        lines.append(_PLACE.sub(lambda match: values[match[1]], line))
    return "\n".join(lines) + "\n"


def _setting(key: str, value: str) -> str:
    if _CONTROL.search(value) or value != value.strip() or value.endswith("\\"):
        raise _unusable(key, value, "a unit cannot hold line breaks, blanks around a value, or \\ at its end")
    return value.replace("%", "%%")


def _command(program: str, *words: str) -> str:
    return " ".join([program, *map(exec_word, words)])


def _span(seconds: float) -> str:
    """A time span of systemd. 0 would mean "for ever" (systemd.service(5), TimeoutStopSec=)."""
    return f"{max(1, round(seconds * 1000))}ms"


def _may_come_late(host: str) -> bool:
    """Whether an address may appear only after the socket is opened, early in the boot."""
    return host not in ("0.0.0.0", "::", "::1") and not host.startswith("127.")  # noqa: S104 - compared


def _in_a_home(config: AppConfig, path: str) -> bool:
    return any(f"{one}/".startswith(_HOMES) for one in (path, config.dependencies.python))


def _unusable(key: str, value: str, why: str) -> Refused:
    return Refused(Code.CONFIGURATION, f"{key!r} is {value!r}", why=why)
