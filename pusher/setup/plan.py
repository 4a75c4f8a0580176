"""What `pusher setup` will do on a server, as data: showing it is printing it.

Invariant: what is in the way is found before anything is changed, and what is already so is not done again.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pusher.setup.facts import Facts
from pusher.setup.package import Package
from pusher.wire import Code, Refused

LEAST_SYSTEMD = 252
_INSTALL = "apt-get install --yes --quiet --no-install-recommends"
PACKAGE, KEY, SCRIPT = "pusher-agent.deb", "key.pub", "setup.sh"
"""The names of the files that travel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What shall be so. `key` is a public key, `signer` its name there; `app` may be empty, with its options."""

    package: Package | None
    key: str
    signer: str
    app: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do, in words, and the commands for it: lines of a shell script, or none if it is so already."""

    words: str
    commands: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether it is so already."""
        return not self.commands


def check_possible(facts: Facts, wanted: Wanted, *, host: str, may_ask: bool) -> None:
    """Raises: Refused, with the first thing that is in the way; nothing has been changed."""
    for what, why, hint in _hindrances(facts, wanted, host=host, may_ask=may_ask):
        raise Refused(Code.CONFIGURATION, what, why=why, hint=hint)


def plan(facts: Facts, wanted: Wanted) -> list[Action]:
    """What to do, in order; what is so already is among it."""
    return [
        _install(facts, wanted.package),
        _trust(facts, wanted),
        _join(facts),
        *([_add(facts, wanted)] if wanted.app else []),
    ]


def script(actions: Sequence[Action], *, strict: bool) -> str:
    """A shell script for root that does what is to do and ends with `pusher-agent check`.

    It runs in the folder of the files that travelled. If `strict`, its exit code is that of the check, which says
    that something is wrong as long as there is no app.
    """
    lines = [
        "set -eu",
        "export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        'quiet() { "$@" >log 2>&1 </dev/null || { cat log >&2; return 1; }; }',
    ]
    for action in actions:
        if not action.done:
            lines += [f"printf '%s\\n' {shlex.quote(f'  {action.words}')}", *action.commands]
    lines += [
        "echo '  pusher-agent check'",
        "code=0",
        "pusher-agent check >log 2>&1 || code=$?",
        "sed 's/^/    /' log",
        'exit "$code"' if strict else "exit 0",
        "",
    ]
    return "\n".join(lines)


def _install(facts: Facts, package: Package | None) -> Action:
    if package is None or (facts.installed and not facts.older):
        newer = f", which is newer than {package.version}" if package and facts.newer else ""
        return Action(f"the agent is installed: {facts.installed}{newer}")
    what = f"upgrade the agent from {facts.installed} to" if facts.installed else "install the agent"
    # A bare server may have no list of packages yet.
    install = f"{_INSTALL} ./{PACKAGE}"
    return Action(
        f"{what} {package.version} ({package.path.name})",
        (f"quiet {install} || {{ quiet apt-get update --quiet; quiet {install}; }}",),
    )


def _trust(facts: Facts, wanted: Wanted) -> Action:
    kind, key = wanted.key.split()[:2]
    shown = f"{kind} ...{key[-12:]}"
    if facts.trusts(wanted.key):
        return Action(f"your key is trusted: {shown}")
    command = shlex.join(("pusher-agent", "trust", KEY, "--as", wanted.signer))
    return Action(f"trust your key {shown}, as {wanted.signer}", (f"quiet {command}",))


def _join(facts: Facts) -> Action:
    if facts.root:
        return Action("root may deploy")
    if facts.may_deploy:
        return Action(f"{facts.user} is in group pusher")
    return Action(
        f"add {facts.user} to group pusher",
        (shlex.join(("usermod", "--append", "--groups", "pusher", facts.user)),),
    )


def _add(facts: Facts, wanted: Wanted) -> Action:
    if wanted.app in facts.apps:
        return Action(f"the app {wanted.app} is there; its file stays as it is")
    words = ("pusher-agent", "app", "add", wanted.app, *wanted.options)
    return Action(f"add the app {shlex.join((wanted.app, *wanted.options))}", (f"quiet {shlex.join(words)}",))


def _hindrances(facts: Facts, wanted: Wanted, *, host: str, may_ask: bool) -> Iterator[tuple[str, str, str]]:
    """What is in the way: what, why, and what to do."""
    nothing = "Nothing was changed"
    if "debian" not in facts.family and not facts.architecture:
        yield (
            f"{host} is no Debian",
            f"it says that it is {facts.system or 'something else'}, and it has no dpkg",
            f"{nothing}. The agent's package is for Debian",
        )
    if not facts.booted or facts.systemd < LEAST_SYSTEMD:
        found = f"systemd {facts.systemd}" if facts.systemd else "no systemd"
        yield (
            f"{host} cannot run the agent's units",
            f"it runs {found if facts.booted or not facts.systemd else 'another process 1'}",
            f"{nothing}. systemd {LEAST_SYSTEMD} or newer is needed",
        )
    if not facts.root and not facts.sudo:
        yield (
            f"{facts.user} cannot become root on {host}",
            "it has no sudo",
            f"{nothing}. Come as root, --host ssh://root@{host}, or install sudo there",
        )
    if not facts.root and not facts.sudo_free and not may_ask:
        yield (
            f"{facts.user} cannot become root on {host} by itself",
            "sudo wants a password, and there is no terminal to ask at",
            f"{nothing}. Run this command at a terminal, without --yes",
        )
    package = wanted.package
    if package is None and not facts.installed:
        yield (
            f"{host} has no agent, and there is no package to install",
            "this command does not run from a checkout",
            f"{nothing}. Name one: --package FILE (`make deb` in a checkout builds it)",
        )
    if package is not None and (not facts.installed or facts.older):
        if package.architecture not in ("all", facts.architecture):
            yield (
                f"{package.path.name} is not for {host}",
                f"it is for {package.architecture}, and {host} is {facts.architecture}",
                f"{nothing}. Build it on such a machine: make deb",
            )
        if package.python and package.python != facts.python:
            yield (
                f"{package.path.name} is not for {host}",
                f"it is for Python {package.python}, and {facts.system} has {facts.python or 'none in /usr/bin'}",
                f"{nothing}. Build it on a machine like that: make deb",
            )
