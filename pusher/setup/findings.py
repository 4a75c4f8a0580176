"""What `pusher doctor` finds: what is well, what is not, and what to do about it.

Invariant: everything here is decided from facts that were asked for before. Nothing is changed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pusher.setup.facts import Facts

CLOCK_S, CLOCK_MOST_S = 30, 300
"""How far two clocks may differ without a word, and at all: a bundle from 5 minutes ahead is refused."""
_PROXY = "sudo systemctl edit pusher-agent, with [Service] and Environment=https_proxy=..."
_ROOM_KIB = 1024 * 1024
_ROOM_SHARE = 0.05
_SHOWN = 200
_UNITS = {
    "pusher-agent.socket": "sudo systemctl start pusher-agent.socket; journalctl -u pusher-agent.socket -n 20",
    "pusher-agent.service": "sudo systemctl restart pusher-agent; journalctl -u pusher-agent -n 20",
    "polkit.service": "sudo systemctl restart polkit: without it, the agent may start and stop nothing",
    "dbus.socket": "sudo systemctl start dbus.socket: without it, the agent cannot ask systemd",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: a sentence, and what to do if something is wrong."""

    sentence: str
    todo: str = ""
    well: bool = True


def wrong(sentence: str, todo: str) -> Finding:
    """A finding that something is wrong."""
    return Finding(sentence, todo, well=False)


def of_host(facts: Facts, *, host: str, key: str, own: str, ahead_s: float) -> Iterator[Finding]:
    """What the facts of a host say. `key` is the public key of this person, `own` the version of this `pusher`.

    `ahead_s` is how far the host's clock is ahead of ours.
    """
    yield Finding(f"{host} is {facts.system or 'a system without a name'}, {facts.architecture}")
    yield from _agent(facts, host=host, own=own)
    if facts.installed:
        yield from _units(facts)
        yield from _rights(facts, key=key)
        yield from _names(facts)
    yield from _clock(ahead_s, host=host)
    yield from _disks(facts.disks)
    yield from _proxy(facts)


def of_check(said: str, *, root: bool) -> Iterator[Finding]:
    """What `pusher-agent check` said there; `root`: it ran as root, and so saw everything."""
    if not root:
        yield Finding(
            "`pusher-agent check` was not asked: sudo wants a password", "sudo pusher-agent check, there"
        )
        return
    lines = [line for line in said.splitlines() if line[:4] in ("ok  ", "BAD ")]
    bad = [line[4:].strip() for line in lines if line.startswith("BAD")]
    if not lines:
        yield wrong("`pusher-agent check` said nothing", "Run it there: sudo pusher-agent check")
    elif not bad:
        yield Finding(f"`pusher-agent check` finds nothing wrong in {len(lines)} checks")
    for line in bad:
        sentence, _, todo = line.partition("; ")
        yield wrong(sentence, todo or "See: sudo pusher-agent check, there")


def of_index(said: str, *, index: str) -> Finding:
    """What came of asking a package index from the host: `ok`, or the last words of what failed."""
    name = index or "the default package index"
    if said.strip() == "ok":
        return Finding(f"{name} answers there")
    words = " ".join(said.split())
    words = words if len(words) <= _SHOWN else f"... {words[-_SHOWN:].partition(' ')[2]}"
    if not words:
        return Finding(f"whether {name} answers is not known", "the installer of the agent could not be run")
    lower = words.lower()
    if "not found in the package registry" in lower:
        return Finding(
            f"{name} answers there, and has no pip", "Is it an index? The address of one mostly ends in /simple"
        )
    todo = f"Can the host reach it? Behind a proxy: {_PROXY}"
    if "dns" in lower or "lookup" in lower or "resolve" in lower:
        todo = f"The name is not found there: see /etc/resolv.conf on the host. Behind a proxy: {_PROXY}"
    elif "certificate" in lower:
        todo = "Install the certificate of your authority there: update-ca-certificates"
    elif "401" in lower or "403" in lower:
        return Finding(f"{name} answers there, and wants a login", "It is in `credentials_file` of the app's file")
    return wrong(f"{name} does not answer there: {words}", f"{todo}. Wheels can also travel: --build-wheels")


def _agent(facts: Facts, *, host: str, own: str) -> Iterator[Finding]:
    if not facts.installed:
        yield wrong("no agent is installed there", f"pusher setup --host {host}")
    elif facts.older:
        yield wrong(
            f"its agent is {facts.installed}, older than this pusher ({own})",
            f"pusher setup --host {host} upgrades it; apps run on",
        )
    elif facts.newer:
        yield wrong(f"its agent is {facts.installed}, newer than this pusher ({own})", "Upgrade pusher here")
    else:
        yield Finding(f"its agent is {facts.installed}, as this pusher")


def _units(facts: Facts) -> Iterator[Finding]:
    down = [(unit, state) for unit, state in facts.units if state != "active"]
    if not down:
        yield Finding(f"running: {', '.join(unit for unit, _ in facts.units)}")
    for unit, state in down:
        yield wrong(f"{unit} is {state or 'not known'}", _UNITS.get(unit, f"systemctl status {unit}"))
    ours = [unit for unit in facts.failed if unit.partition(".")[0] in facts.apps or unit.startswith("pusher-")]
    for unit in ours:
        yield wrong(f"{unit} has failed", f"journalctl -u {unit} -n 50; systemctl reset-failed {unit}")


def _rights(facts: Facts, *, key: str) -> Iterator[Finding]:
    if facts.may_deploy:
        yield Finding(f"{facts.user} may deploy")
    else:
        yield wrong(f"{facts.user} is not in group pusher", f"sudo adduser {facts.user} pusher, there")
    if key and facts.trusts(key):
        yield Finding("your key is trusted there")
    elif key:
        yield wrong("your key is not trusted there", "sudo pusher-agent trust KEY.pub --as YOU, there")
    if not facts.apps:
        yield wrong("it has no app", "sudo pusher-agent app add NAME, there")
    else:
        yield Finding(f"its apps: {', '.join(facts.apps)}")


def _names(facts: Facts) -> Iterator[Finding]:
    if not facts.agent_name.startswith("127."):
        found = f"leads to {facts.agent_name}" if facts.agent_name else "is not known there"
        yield wrong(f"the name agent {found}", "Use 127.0.0.1:9000 in its place, or mend /etc/hosts")
    if not facts.itself:
        yield wrong(f"its own name {facts.hostname} is not found", "Add it to /etc/hosts: 127.0.1.1 NAME")
    if not facts.resolvers:
        yield wrong("no name server is in /etc/resolv.conf", "Package indexes and repositories are not found")


def _clock(ahead_s: float, *, host: str) -> Iterator[Finding]:
    if abs(ahead_s) <= CLOCK_S:
        yield Finding("its clock is right")
        return
    side = "ahead of" if ahead_s > 0 else "behind"
    words = f"its clock is {_span(abs(ahead_s))} {side} yours"
    todo = f"timedatectl status, here and on {host}; for example: sudo timedatectl set-ntp true"
    refuses = ahead_s < -CLOCK_MOST_S
    yield wrong(f"{words}, so it refuses bundles as from the future" if refuses else words, todo)


def _span(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _disks(disks: Sequence[tuple[str, int, int]]) -> Iterator[Finding]:
    short = [(place, size, room) for place, size, room in disks if size and _is_short(size, room)]
    if disks and not short:
        yield Finding(f"there is room: {', '.join(f'{place} {_gib(room)}' for place, _, room in disks)}")
    for place, size, room in short:
        yield wrong(
            f"{place} has {_gib(room)} of {_gib(size)} left", f"See what needs it: sudo du -xh -d2 {place}"
        )


def _is_short(size: int, room: int) -> bool:
    return room < min(_ROOM_KIB, size * 0.5) or room < size * _ROOM_SHARE


def _gib(kib: int) -> str:
    return f"{kib / _ROOM_KIB:.1f} GiB"


def _proxy(facts: Facts) -> Iterator[Finding]:
    if facts.proxy and facts.installed and not facts.agent_proxy:
        yield wrong(
            f"people there use the proxy {facts.proxy}, and the agent does not know it",
            _PROXY,
        )
    if facts.proxy and not {"agent", "*"} & {one.strip() for one in facts.no_proxy.split(",")}:
        yield wrong(
            "curl agent:9000 goes to the proxy there", "Add the name to no_proxy: no_proxy=agent,localhost"
        )
