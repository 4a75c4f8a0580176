"""`pusher-agent check`: check the configuration and the host.

Invariant: nothing is changed. What cannot be read is reported, and does not end the check.
"""

import argparse
import asyncio
import os
import pwd
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from agent.admin import agent_unit, app_unit, door_unit, notify_files
from agent.admin.app_setup import answer_of, left_behind
from agent.admin.command import Command, no_options
from agent.core.config.app import AppConfig
from agent.core.config.clashes import clashes
from agent.core.layout import AppLayout, HostLayout, metadata_folder
from agent.core.sshsig import key_fault
from agent.core.units import AGENT, Units
from agent.host.bundle.signatures import TrustFiles
from agent.host.dependencies.pythons import Pythons
from agent.host.releases.revocations import Revocations
from agent.host.releases.shared import check_target
from agent.host.releases.store import ReleaseStore
from agent.host.run.environment import unusable_environment
from agent.host.setup import polkit_rule
from agent.host.setup.config_files import (
    Apps,
    after_mending,
    read_agent,
    read_apps,
    signer_lines,
)
from agent.host.setup.rights import foreign, hindrance
from agent.host.storage.journal import SCHEMAS
from agent.host.storage.room import shortage
from agent.host.storage.snapshot import snapshot
from agent.host.systemd.journalctl import logged_heads
from agent.host.systemd.one_off import run_in_unit
from agent.host.systemd.unit_files import disagreement, established, known_units
from pusher.wire import Head, Problem, Refused

_ON_PURPOSE = "if it was replaced on purpose, set `history_since` in agent.toml"

_SHOWN = 60
_FIRST = 10
_WRITE = (
    "import sys, tempfile\n"
    "for at, path in enumerate(sys.argv[1:]):\n"
    "    try:\n"
    "        tempfile.TemporaryFile(dir=path).close()\n"
    "    except OSError:\n"
    f"        sys.exit({_FIRST} + at)\n"
)
"""Tries to write into each folder; the exit code says which is the first that cannot be written to."""

Finding = tuple[bool, str]
"""Whether something is in order, and a sentence about it."""


def _run(arguments: argparse.Namespace, layout: HostLayout) -> int:
    findings = list(_findings(layout))
    for well, sentence in findings:
        print(f"{'ok  ' if well else 'BAD '}  {sentence}")
    return 0 if all(well for well, _ in findings) else Refused.exit_code


COMMAND = Command(
    name="check",
    help="check the configuration and the host; change nothing",
    description="Checks the configuration and the host, and reports what would keep the agent from working. "
    "Changes nothing. Exits with 4 if something is wrong.",
    options=no_options,
    run=_run,
)


def _findings(layout: HostLayout) -> Iterator[Finding]:
    service, trust = "", TrustFiles(layout.allowed_signers)
    try:
        agent = read_agent(layout)
        service = agent.service
        if agent.revoked_keys:
            trust = TrustFiles(layout.allowed_signers, layout.beneath(agent.revoked_keys))
            yield from _check_revoked_keys(trust)
        yield True, f"{layout.agent_toml}: name {agent.name}, door {agent.door.address}, {agent.service}"
        yield from ((False, found) for found in notify_files.findings(agent, layout))
    except Problem as problem:
        yield False, str(problem)
    for command in ("ssh-keygen", "setpriv"):
        found = shutil.which(command)
        yield bool(found), f"{command}: {found or 'not found; install openssh-client and util-linux'}"
    yield from _check_signers(layout)
    try:
        apps = read_apps(layout)
    except Problem as problem:
        yield False, str(problem)
        return
    yield from _check_apps(apps, layout, service=service, trust=trust)
    yield from _check_histories(layout, logged_heads(since=agent.since) if service == "systemd" else {})
    if service == "systemd":
        yield from ((False, found) for found in left_behind(layout))
        if os.geteuid() == 0:
            files = (layout.agent_toml, layout.allowed_signers, *map(layout.app_toml, apps.usable))
            yield from ((False, found) for found in map(foreign, files) if found)
        with suppress(KeyError):  # the agent has no user here
            read = (hindrance(file, user=AGENT) for file in (layout.agent_toml, layout.allowed_signers))
            yield from ((False, found) for found in read if found)
        with suppress(Problem):  # no systemd runs here: an image is being built
            yield from ((False, found) for found in agent_unit.findings(answer_of(agent_unit.SHOW)))
        yield from ((False, found) for found in door_unit.findings(agent, layout))
        yield from _check_rule(apps, layout)


def _check_signers(layout: HostLayout) -> Iterator[Finding]:
    file, faults = layout.allowed_signers, {line: key_fault(line) for line in signer_lines(layout.allowed_signers)}
    keys = sum(not fault for fault in faults.values())
    missing = "no key is trusted yet; run `pusher-agent trust KEY.pub --as WHO`"
    yield keys > 0, f"{file}: {f'{keys} key(s)' if keys else missing}"
    for line, fault in faults.items():
        if fault:
            yield False, f"{file}: the line {line[:_SHOWN]!r} trusts nobody: {fault}; correct it, or take it out"


def _check_apps(apps: Apps, layout: HostLayout, *, service: str, trust: TrustFiles) -> Iterator[Finding]:
    if not apps.usable and not apps.unusable:
        yield False, f"{layout.apps}: no app yet"
    for name, unusable in apps.unusable.items():
        yield False, f"{name}: {after_mending(name, unusable, service=service)}"
    for clash in clashes(apps.usable):
        yield False, f"{clash.sentence}; change one of them in {layout.apps}: until then the agent uses neither"
    for name, config in apps.usable.items():
        for check in (_check_room, _check_host, _check_live, _check_releases, _check_venvs, _check_shared):
            try:
                yield from check(name, config, layout)
            except OSError as error:
                yield False, f"{name}: {error.filename} cannot be read: {error.strerror}"
        yield from _check_keys(name, config, layout, trust=trust)
        if service == "systemd":
            yield from _check_units(name, config, layout)
            yield from app_unit.findings(name, config, layout)
            yield from _check_writing(name, config, layout)


def _check_room(name: str, config: AppConfig, layout: HostLayout) -> Iterator[Finding]:
    """Whether a release and the journal have room, if their folders are there."""
    for path in (layout.beneath(config.path), layout.state):
        if path.exists() and (short := shortage(path)):
            yield False, f"{name}: {short}"


def _check_host(name: str, config: AppConfig, layout: HostLayout) -> Iterator[Finding]:
    pythons = Pythons(layout.pythons, root=layout.root)
    try:
        python = asyncio.run(pythons.choose(config.dependencies.python))
        yield True, f"{name}: python {python.version} ({python.path})"
    except Problem as problem:
        yield False, f"{name}: {problem}"
    try:
        pwd.getpwnam(config.user)
        yield True, f"{name}: user {config.user}"
    except KeyError:
        yield False, f"{name}: user {config.user} does not exist"
    if wrong := unusable_environment(config, layout):
        yield False, f"{name}: {wrong}"


def _check_live(name: str, config: AppConfig, layout: HostLayout) -> Iterator[Finding]:
    """Whether the live release is what was signed, and `current` is a link."""
    store = ReleaseStore(AppLayout(layout.beneath(config.path)))
    current = store.layout.current
    if os.path.lexists(current) and not current.is_symlink():
        yield False, f"{name}: {current} is no link; move it away: mv -T {current} {current}.before"
    elif (live := store.live()) and (difference := store.intact(live)):
        yield False, f"{name}: the live release {live} is not as it was signed: {difference}"


def _check_releases(name: str, config: AppConfig, layout: HostLayout) -> Iterator[Finding]:
    store = ReleaseStore(AppLayout(layout.beneath(config.path)))
    for release in store.strange():
        why, then = "it has no signed manifest", "look into it, and delete it by hand"
        if release == store.live() or (metadata_folder(store.layout.release(release)) / "manifest.json").exists():
            why = "its manifest cannot be read; a newer agent may have written it"
            then = "leave it there: install that version of the agent again, or send a version"
        unused = "so no rollback uses it and no cleanup removes it"
        yield False, f"{name}: release {release} is unknown: {why}, {unused}; {then}"
    if store.live() is None and store.folders():
        yield False, f"{name}: no release is current, so nothing starts at boot; use rollback --to ID"


def _check_venvs(name: str, config: AppConfig, layout: HostLayout) -> Iterator[Finding]:
    """The kept releases whose Python is gone, or is another patch version by now."""
    store = ReleaseStore(AppLayout(layout.beneath(config.path)))
    pythons, live = Pythons(layout.pythons, root=layout.root), store.live()
    for release in store.found():
        venv = store.layout.venv(release.venv)
        if lost := asyncio.run(pythons.why_lost(venv)):
            then = (
                "it does not start again: send a version"
                if release.id == live
                else "a rollback makes it anew, if its lock has hashes"
            )
            yield False, f"{name}: the venv of release {release.id} ({release.version}) is lost: {lost}; {then}"
        else:
            before, now = asyncio.run(pythons.upgraded(venv))
            if before:
                yield True, f"{name}: release {release.id} was made with Python {before}, and runs on {now}"


def _check_revoked_keys(trust: TrustFiles) -> Iterator[Finding]:
    file = trust.revoked_keys
    readable = file is not None and file.is_file() and os.access(file, os.R_OK)
    yield readable, f"{file}: {'the revoked keys' if readable else 'cannot be read, so no bundle is accepted'}"


def _check_keys(name: str, config: AppConfig, layout: HostLayout, *, trust: TrustFiles) -> Iterator[Finding]:
    """The releases whose keys have ended. No rollback goes there; a live one keeps running."""
    store = ReleaseStore(AppLayout(layout.beneath(config.path)))
    revocations = Revocations(store.layout, files=trust, rules=config.signing, allowed=config.allow_revoked)
    live = store.live()
    for release, why in revocations.among(store.found()).items():
        then = "it runs on; send a new version" if release == live else "no rollback goes there"
        yield False, f"{name}: the keys of release {release} ended ({why}): {then}"


def _check_histories(layout: HostLayout, logged: Mapping[str, Sequence[Head]]) -> Iterator[Finding]:
    """Whether the history of each app is whole, and contains every head that the system's journal knows."""
    try:
        with snapshot(layout.journal) as journal:
            if journal.schema() > len(SCHEMAS):
                why = "a newer agent has written it, and this one does not start with it"
                yield False, f"{layout.journal}: {why}; install that version again"
            for name in sorted({*journal.apps(), *logged}):
                heads = logged.get(name, ())
                lost = next((one for one in heads if not journal.contains(name, one)), None)
                if problem := journal.audit(name):
                    yield False, f"{name}: its history was changed: {problem}"
                elif lost is not None:
                    what = f"record {lost.records} of the system's journal ({lost.hash[:16]})"
                    yield (
                        False,
                        f"{name}: its history was shortened or replaced: it lacks {what}; {_ON_PURPOSE}",
                    )
                else:
                    named = f", and contains the {len(heads)} heads in the system's journal" if heads else ""
                    yield True, f"{name}: its history has {journal.head(name).records} records{named}"
    except FileNotFoundError:
        if logged:
            yield (
                False,
                f"{layout.journal}: it is gone, with the histories of {', '.join(sorted(logged))}; {_ON_PURPOSE}",
            )
    except PermissionError:
        yield True, f"{layout.journal}: only root and the agent can check the histories in it"
    except OSError as error:
        yield False, f"{layout.journal}: it cannot be read: {error}"


def _check_shared(name: str, config: AppConfig, layout: HostLayout) -> Iterator[Finding]:
    """What would make the first deployment fail, or the app itself."""
    shared = AppLayout(layout.beneath(config.path)).shared
    for one in config.shared_files:
        if not (shared / one).is_file():
            yield False, f"{name}: put the shared file {one} into {shared}"
    for one in config.shared:
        path = shared / one
        try:
            if path.is_symlink():
                check_target(path)
                if path.lstat().st_uid != 0 and read_agent(layout).service == "systemd":
                    owned = f"sudo ln -sfn {shlex.quote(os.readlink(path))} {path}"
                    why = f"{one} is a link that root has not made, so the app may not write there"
                    yield False, f"{name}: {why}: {owned}"
            if one in config.shared_paths and path.exists() and not path.is_dir():
                yield False, f"{name}: the shared folder {one} is a file: {path}"
            found = hindrance(path, user=config.user)
        except KeyError:
            return  # the user does not exist, as reported above
        except Problem as problem:
            yield False, f"{name}: {problem}"
            continue
        if found:
            yield False, f"{name}: {one}: {found}"


def _check_writing(name: str, config: AppConfig, layout: HostLayout) -> Iterator[Finding]:
    """Whether the app can write where it must, tried as its user in the box of its units."""
    store = ReleaseStore(AppLayout(layout.beneath(config.path)))
    if os.geteuid() or not config.shared_paths or store.live() is None:
        return
    try:
        code = run_in_unit(name, ("python", "-c", _WRITE, *config.shared_paths), config, host=layout)
    except Problem as problem:
        yield False, f"{name}: whether it can write to its shared folders is not known: {problem}"
        return
    at = code - _FIRST
    if 0 <= at < len(config.shared_paths):
        path = store.layout.shared / config.shared_paths[at]
        where = f"{path} -> {os.readlink(path)}" if path.is_symlink() else str(path)
        mend = f"run `pusher-agent app apply {name}`, as root, if the link is new; its owner and mode decide too"
        yield False, f"{name}: the app cannot write to {where}; {mend}"
    else:
        yield (
            code == 0,
            f"{name}: the app can write to {', '.join(config.shared_paths)}"
            if not code
            else (f"{name}: the check of its shared folders ended with exit code {code}"),
        )


def _check_units(name: str, config: AppConfig, layout: HostLayout) -> Iterator[Finding]:
    with suppress(KeyError):  # the agent has no user here
        if found := hindrance(layout.app_toml(name), user=AGENT):
            yield False, f"{name}: {found}"
    try:
        different = disagreement(name, config, host=layout)
    except Refused as problem:  # a value that no unit can contain
        yield False, f"{name}: {after_mending(name, problem, service='systemd')}"
        return
    hint = f"{different}; run `pusher-agent app apply {name}`, as root"
    yield not different, f"{name}: {hint if different else 'its units agree with its file'}"


def _check_rule(apps: Apps, layout: HostLayout) -> Iterator[Finding]:
    """Whether polkit lets the agent start and stop its apps. If polkit cannot be asked: whether the rule does."""
    names = sorted({*apps.usable, *established(layout)})
    units = [unit for name in names for unit in known_units(layout, name)]
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
    # `app apply` writes the whole rule, for any app. An app that was never applied has no units in it yet.
    candidates = [name for name in apps.usable if {*Units.of(name).all} & {*units}] or [*apps.usable, *names]
    todo = f"run `pusher-agent app apply {candidates[0]}`, as root"
    denial = f"polkit does not let the agent start or stop {_named(units, names)}: {words}"
    try:
        unnamed = polkit_rule.unnamed(units, layout)
    except FileNotFoundError:
        yield False, f"{file} does not exist, so the agent may not start {_named(units, names)}; {todo}"
    except OSError:
        if words:
            yield False, f"{denial}; as root, `pusher-agent check` can read {file}"
    else:
        if unnamed:
            them = _named(unnamed, names)
            yield False, f"{file} does not name {them}, so the agent may not start them; {todo}"
        elif words:
            todo = "is polkit running? Run `systemctl restart polkit`, as root, and see `journalctl -u polkit`"
            yield False, f"{denial}, although {file} names them; {todo}"
        else:
            yield True, f"{file} names the units of {', '.join(names)}"


def _named(units: Sequence[str], names: Sequence[str]) -> str:
    """Units in few words: an app by its name, if all of its units are among them."""
    whole = [name for name in names if {*Units.of(name).all} <= {*units}]
    others = {*units}.difference(*(Units.of(name).all for name in whole))
    return " and ".join([*([f"the units of {', '.join(whole)}"] if whole else []), *sorted(others)])
