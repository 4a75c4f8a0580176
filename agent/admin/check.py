"""What `pusher-agent check` finds: all that would keep the agent from working, and what is well.

Invariant: nothing is changed, and nothing that cannot be looked at ends the look.
"""

import pwd
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from agent.core.config import AppConfig, clashes
from agent.core.layout import AppLayout, HostLayout
from agent.core.units import AGENT, Units
from agent.host.releases.store import ReleaseStore
from agent.host.setup import polkit_rule
from agent.host.setup.config_files import (
    Apps,
    after_mending,
    missing_environment,
    read_agent,
    read_apps,
    signer_lines,
)
from agent.host.setup.rights import hindrance
from agent.host.systemd.unit_files import disagreement, established
from pusher.wire import Problem, Refused

Finding = tuple[bool, str]
"""Whether something is well, and a sentence about it."""


def check(layout: HostLayout) -> Iterator[Finding]:
    """Look over configuration and host."""
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
    signers = signer_lines(layout.allowed_signers)
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
    yield from _check_apps(apps, layout, service=service)
    if service == "systemd":
        yield from _check_rule(apps, layout)


def _check_apps(apps: Apps, layout: HostLayout, *, service: str) -> Iterator[Finding]:
    if not apps.usable and not apps.unusable:
        yield False, f"{layout.apps}: no app yet"
    for name, unusable in apps.unusable.items():
        yield False, f"{name}: {after_mending(name, unusable, service=service)}"
    for clash in clashes(apps.usable):
        yield False, f"{clash.sentence}; change that of one in {layout.apps}, for the agent leaves both alone"
    for name, config in apps.usable.items():
        for look in (_host_of, _releases_of, _shared_of):
            try:
                yield from look(name, config, layout)
            except OSError as error:
                yield False, f"{name}: {error.filename} cannot be looked at: {error.strerror}"
        if service == "systemd":
            yield from _units_of(name, config, layout)


def _host_of(name: str, config: AppConfig, layout: HostLayout) -> Iterator[Finding]:
    python = Path(config.dependencies.python)
    yield python.exists(), f"{name}: python {python}{'' if python.exists() else ' does not exist'}"
    try:
        pwd.getpwnam(config.user)
        yield True, f"{name}: user {config.user}"
    except KeyError:
        yield False, f"{name}: user {config.user} does not exist"
    if absent := missing_environment(config, layout):
        yield False, f"{name}: {absent}, and systemd starts nothing without it"


def _releases_of(name: str, config: AppConfig, layout: HostLayout) -> Iterator[Finding]:
    store = ReleaseStore(AppLayout(layout.beneath(config.path)))
    for release in store.strange():
        why = "it has no signed papers, so that nothing goes back to it and nothing removes it"
        yield False, f"{name}: release {release} is not known: {why}; look at it, and delete it by hand"
    if store.live() is None and store.folders():
        yield False, f"{name}: nothing is current, and nothing starts at the next boot; roll back --to a release"


def _shared_of(name: str, config: AppConfig, layout: HostLayout) -> Iterator[Finding]:
    """What the first deployment would stumble over, and what the app would."""
    shared = AppLayout(layout.beneath(config.path)).shared
    for one in config.shared_files:
        if not (shared / one).is_file():
            yield False, f"{name}: put the shared file {one} into {shared}"
    for one in config.shared:
        try:
            found = hindrance(shared / one, user=config.user)
        except KeyError:
            return  # there is no such user, as was said
        if found:
            yield False, f"{name}: {one}: {found}"


def _units_of(name: str, config: AppConfig, layout: HostLayout) -> Iterator[Finding]:
    with suppress(KeyError):  # there is no agent here
        if found := hindrance(layout.app_toml(name), user=AGENT):
            yield False, f"{name}: {found}"
    try:
        different = disagreement(name, config, host=layout)
    except Refused as problem:  # it says something that no unit can hold
        yield False, f"{name}: {after_mending(name, problem, service='systemd')}"
        return
    hint = f"{different}; `pusher-agent app apply {name}`, as root"
    yield not different, f"{name}: {hint if different else 'its units are what its file asks for'}"


def _check_rule(apps: Apps, layout: HostLayout) -> Iterator[Finding]:
    """Whether polkit lets the agent drive its apps; where that cannot be asked, whether the rule says so."""
    names = sorted({*apps.usable, *established(layout)})
    units = [unit for name in names for unit in Units.of(name).all]
    if not units:
        return
    words = ""
    if polkit_rule.may_ask(layout):
        denied = polkit_rule.denials(units)
        if not denied:
            yield True, f"polkit lets the agent start and stop the units of {', '.join(names)}"
            return
        units, words = list(denied), next(iter(denied.values()))
    file = layout.polkit_rules
    # Whichever it is applied to, the whole rule is written; but one that never was has no units to be named yet.
    mend = [name for name in apps.usable if {*Units.of(name).all} & {*units}] or [*apps.usable, *names]
    todo = f"`pusher-agent app apply {mend[0]}`, as root"
    denial = f"polkit does not let the agent start or stop {_told(units, names)}: {words}"
    try:
        unnamed = polkit_rule.unnamed(units, layout)
    except FileNotFoundError:
        yield False, f"{file} is not there, so that the agent may not start {_told(units, names)}; {todo}"
    except OSError:
        if words:
            yield False, f"{denial}; `pusher-agent check`, as root, can look into {file}"
    else:
        if unnamed:
            them = _told(unnamed, names)
            yield False, f"{file} does not name {them}, so that the agent may not start them; {todo}"
        elif words:
            todo = "is polkit running? `systemctl restart polkit`, as root, and see `journalctl -u polkit`"
            yield False, f"{denial}, although {file} names them; {todo}"
        else:
            yield True, f"{file} names the units of {', '.join(names)}"


def _told(units: Sequence[str], names: Sequence[str]) -> str:
    """Units in few words: an app by its name, where all of its units are among them."""
    whole = [name for name in names if {*Units.of(name).all} <= {*units}]
    others = {*units}.difference(*(Units.of(name).all for name in whole))
    return " and ".join([*([f"the units of {', '.join(whole)}"] if whole else []), *sorted(others)])
