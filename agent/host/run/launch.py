"""How a process of a release is started: its command, user and environment."""

import difflib
import os
import pwd
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.core.config.app import AppConfig
from agent.core.environment import Account, app_environment, trampoline
from agent.core.environment_file import parse_environment_file
from agent.core.layout import HostLayout
from agent.core.processes import Instance
from agent.core.pythons import DEFAULT_PYTHON
from agent.core.run import SERVICE, Words
from agent.core.units import candidate_options, process_environment, process_options, runner_options
from agent.host.ports import Placed
from pusher.wire import Code, Failed, Refused

_SHOWN = 20
_RUNNER = Path(__file__).parent / "runner.py"


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything that is needed to start a process."""

    argv: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]


def prepare_candidate(app: str, config: AppConfig, placed: Placed, *, host: HostLayout) -> Launch:
    """How to start a candidate. The process must get its private socket as its standard input. Blocking.

    Raises: Failed(start_not_found), Refused(configuration).
    """
    folder = placed.path.resolve()
    find_start(placed.run.start, release=folder)
    command = _runner(config, candidate_options(folder, config))
    own = {"PUSHER_APP": app, "PUSHER_PREFLIGHT": "1"}
    return _without_venv(_prepare(command, config, folder, own, host=host, socket=True))


def prepare_runner(app: str, config: AppConfig, placed: Placed, *, host: HostLayout, report: int) -> Launch:
    """How to start the runner of an app; its listening socket becomes standard input. Blocking.

    It starts the release that `current` points at, and reports to the inherited socket `report`. It runs on the
    Python of the app, which the app's user can read. Raises: Failed(start_not_found), Refused(configuration).
    """
    folder = host.beneath(config.path)
    find_start(placed.run.start, release=placed.path)
    command = _runner(config, (*runner_options(folder, config), f"--report={report}"))
    return _without_venv(_prepare(command, config, folder, {"PUSHER_APP": app}, host=host, socket=True))


def prepare_process(
    app: str, config: AppConfig, placed: Placed, instance: Instance, *, host: HostLayout, report: int
) -> Launch:
    """How to start the runner of a worker; otherwise as `prepare_runner`. Blocking."""
    folder, process = host.beneath(config.path), instance.process
    find_start(placed.run.processes[process].start, release=placed.path, process=process)
    command = _runner(config, (*process_options(folder, instance), f"--report={report}"))
    own = {"PUSHER_APP": app, **process_environment(instance)}
    return _without_venv(_prepare(command, config, folder, own, host=host, socket=False))


def prepare_hook(
    command: tuple[str, ...], config: AppConfig, folder: Path, own: Mapping[str, str], *, host: HostLayout
) -> Launch:
    """How to start a hook or another command in the release at `folder`; `own` are its PUSHER_* variables.

    Blocking. Raises: Refused(configuration).
    """
    return _prepare(command, config, folder.resolve(), own, host=host, socket=False)


def prepare_command(
    app: str, command: Sequence[str], config: AppConfig, placed: Placed, *, host: HostLayout
) -> Launch:
    """How to start a person's command in a release. It keeps the terminal. Blocking.

    Raises: Refused(start_not_found, configuration).
    """
    folder = placed.path.resolve()
    own = {"PUSHER_APP": app, "PUSHER_RELEASE": placed.release, "PUSHER_VERSION": placed.version}
    program = find_program(command[0], release=folder)
    return _prepare((program, *command[1:]), config, folder, own, host=host, socket=False)


def find_program(program: str, *, release: Path) -> str:
    """A program of the release's venv, looked up there and nowhere else. Blocking.

    Raises: Refused(start_not_found), naming the nearest one, or listing what the venv has.
    """
    found = release / "venv/bin" / program
    if program and "/" not in program and found.is_file() and os.access(found, os.X_OK, effective_ids=True):
        return str(found)
    there = _programs(release / "venv/bin")
    hint = _nearest(program, there) or _listing(there)
    raise Refused(
        Code.START_NOT_FOUND,
        f"{program!r} cannot be run",
        why="it is not a program of the live release's venv",
        hint=f"Name the program without a folder. {hint}" if "/" in program else hint,
    )


def find_start(start: Words, *, release: Path, process: str = SERVICE) -> Words:
    """The command of a process as argv. Its program is looked up in the release's venv, nowhere else. Blocking.

    Raises: Failed(start_not_found), naming the nearest program, and listing what the venv has.
    """
    program, *arguments = start
    found = release / "venv/bin" / program
    if "/" not in program and found.is_file() and os.access(found, os.X_OK):
        return (str(found), *arguments)
    there = _programs(release / "venv/bin")
    hint = " ".join(filter(None, (_nearest(program, there), _listing(there))))
    if "/" in program:
        hint = f"Name the program without a folder. {hint}"
    elif "=" in program:
        hint = f"No shell runs it: {program.partition('=')[0]} belongs into the app's environment_file. {hint}"
    raise Failed(
        Code.START_NOT_FOUND,
        f"The start command {shlex.join(start)!r}{'' if process == SERVICE else f' of {process}'} cannot be run",
        why=f"{program} is not a program of the release's venv",
        hint=f"{hint}. Add the package that brings it to the requirements, or change how it is started: by the "
        "release ([run] in pusher.toml, Procfile), or by `start` in the app's file, which counts more",
    )


def find_account(user: str) -> Account:
    """The user that an app runs as. Blocking.

    Raises: Refused(configuration), if there is no such user, or the agent cannot start processes as that user.
    """
    me = os.geteuid()
    try:
        wanted = pwd.getpwnam(user)
    except KeyError as error:
        raise Refused(
            Code.CONFIGURATION,
            f"The app cannot run as {user!r}",
            why="this machine has no user of that name",
            hint="Create it, or set `user` in the app's configuration",
        ) from error
    if wanted.pw_uid != me and me != 0:
        raise Refused(
            Code.CONFIGURATION,
            f"The app cannot run as {user!r}",
            why=f"the agent runs as {_name(me)}, and only root may become another user",
            hint=f"Set `user` to {_name(me)}, or run the agent as root",
        )
    return Account(user, wanted.pw_uid, wanted.pw_gid, wanted.pw_dir, switch=wanted.pw_uid != me)


def read_environment_file(path: Path) -> dict[str, str]:
    """The assignments of an app's environment file. Blocking. Raises: Refused(configuration)."""
    try:
        return parse_environment_file(path.read_text("utf-8"), file=str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8"
        raise Refused(
            Code.CONFIGURATION,
            f"The environment file {path} cannot be read",
            why=why,
            hint="Create it, or remove `environment_file` from the app's configuration",
        ) from error


def _prepare(
    command: tuple[str, ...],
    config: AppConfig,
    folder: Path,
    own: Mapping[str, str],
    *,
    host: HostLayout,
    socket: bool,
) -> Launch:
    account = find_account(config.user)
    name = config.environment_file
    file = read_environment_file(host.beneath(name)) if name else {}
    environment = app_environment(own, release=folder, account=account, file=file)
    return Launch(trampoline(command, parent=os.getpid(), account=account, socket=socket), folder, environment)


def _runner(config: AppConfig, options: tuple[str, ...]) -> tuple[str, ...]:
    setting = config.dependencies.python
    python = setting if setting.startswith("/") else DEFAULT_PYTHON
    return (python, "-I", "-S", str(_RUNNER), *options)


def _without_venv(launch: Launch) -> Launch:
    """The runner finds the venv itself, with the release."""
    environment = {name: value for name, value in launch.environment.items() if name != "VIRTUAL_ENV"}
    environment["PATH"] = environment["PATH"].removeprefix(f"{launch.folder}/venv/bin:")
    return Launch(launch.argv, launch.folder, environment)


def _programs(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if os.access(folder / name, os.X_OK))
    except OSError:
        return []


def _nearest(program: str, there: list[str]) -> str:
    """A question for the program that is meant; empty if none is near."""
    close = difflib.get_close_matches(program.rpartition("/")[2], there, n=1)
    return f"Did you mean {close[0]}?" if close else ""


def _listing(there: list[str]) -> str:
    if not there:
        return "The venv has no programs at all"
    return f"The venv has: {', '.join([*there[:_SHOWN], '...'] if len(there) > _SHOWN else there)}"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
