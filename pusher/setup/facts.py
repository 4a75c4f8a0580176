"""What is so on a server now: one question, answered without root's rights, and without changing anything.

Invariant: what a server says is text of unknown origin. A fact that cannot be read is empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass

PROBE = r"""
say() { printf '%s=%s\n' "$1" "$2"; }
each() { while IFS= read -r line; do say "$1" "$line"; done; }
if [ -r /etc/os-release ]; then
    say system "$(. /etc/os-release; printf %s "$PRETTY_NAME")"
    say family "$(. /etc/os-release; printf '%s %s' "$ID" "$ID_LIKE")"
fi
say architecture "$(dpkg --print-architecture 2>/dev/null)"
say python "$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"
say systemd "$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
[ -d /run/systemd/system ] && say booted yes
say user "$(id -un)"
say groups " $(id -nG) "
say hostname "$(hostname 2>/dev/null || cat /etc/hostname)"
[ "$(id -u)" = 0 ] && say root yes
command -v sudo >/dev/null 2>&1 && say sudo yes
sudo -n true >/dev/null 2>&1 && say sudo_free yes
case $(dpkg-query -W -f='${db:Status-Abbrev}' pusher-agent 2>/dev/null) in
ii*)
    installed=$(dpkg-query -W -f='${Version}' pusher-agent)
    say installed "$installed"
    if [ -n "$1" ]; then
        dpkg --compare-versions "$installed" lt "$1" && say older yes
        dpkg --compare-versions "$installed" gt "$1" && say newer yes
    fi
    ;;
esac
say members ",$(getent group pusher | cut -d: -f4),"
[ -r /etc/pusher-agent/allowed_signers ] && each signer </etc/pusher-agent/allowed_signers
for file in /etc/pusher-agent/apps/*.toml; do
    [ -e "$file" ] || continue
    name=${file##*/}
    say app "${name%.toml}"
    section=$(sed -n '/^\[dependencies\]/,/^\[/p' "$file" 2>/dev/null)
    # An app that asks no index needs none.
    printf '%s\n' "$section" | grep -q -e '^no_index *= *true' -e '^network *= *"none"' && continue
    say index "$(printf '%s\n' "$section" | sed -n 's/^index_url *= *"\([^"]*\)".*/\1/p')"
done
for unit in pusher-agent.socket pusher-agent.service polkit.service dbus.socket; do
    state=$(systemctl show "$unit" --property=LoadState --value 2>/dev/null)
    [ "$state" = loaded ] && state=$(systemctl is-active "$unit" 2>/dev/null)
    # The bus starts polkit when it is asked for the first time.
    [ "$unit $state" = "polkit.service inactive" ] && state=active
    say unit "$unit $state"
done
systemctl --failed --plain --no-legend 2>/dev/null | sed 's/ .*//' | each failed
say time "$(date +%s)"
for place in /opt /var/lib /tmp; do
    say disk "$place $(df -Pk "$place" 2>/dev/null | awk 'NR == 2 { print $2, $4 }')"
done
say resolvers "$(grep -c '^nameserver' /etc/resolv.conf 2>/dev/null)"
say itself "$(getent hosts "$(hostname 2>/dev/null)" | cut -d' ' -f1)"
say agent_name "$(getent hosts agent | cut -d' ' -f1)"
say proxy "${https_proxy:-${HTTPS_PROXY:-}}"
say no_proxy "${no_proxy:-${NO_PROXY:-}}"
say agent_proxy "$(systemctl show pusher-agent.service --property=Environment --value 2>/dev/null |
    tr ' ' '\n' | sed -n 's/^https_proxy=//Ip')"
"""
"""A script for any POSIX shell. Its first word is the version of the package to compare with, or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a server says. `sudo`: it has it; `sudo_free`: it asks this user for no password.

    `indexes` are the package indexes of its apps, empty for the default one; of a host without apps, that one.
    `older` and `newer` compare the installed agent with the package at hand. `disks` has place, size and room in
    KiB; `units` their states.
    """

    system: str = ""
    family: tuple[str, ...] = ()
    architecture: str = ""
    python: str = ""
    systemd: int = 0
    booted: bool = False
    user: str = ""
    groups: tuple[str, ...] = ()
    hostname: str = ""
    root: bool = False
    sudo: bool = False
    sudo_free: bool = False
    installed: str = ""
    older: bool = False
    newer: bool = False
    members: tuple[str, ...] = ()
    signers: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    units: tuple[tuple[str, str], ...] = ()
    failed: tuple[str, ...] = ()
    time: int = 0
    disks: tuple[tuple[str, int, int], ...] = ()
    resolvers: int = 0
    itself: str = ""
    agent_name: str = ""
    proxy: str = ""
    no_proxy: str = ""
    agent_proxy: str = ""

    def trusts(self, public_key: str) -> bool:
        """Whether a key (type and base64, then perhaps a comment) may sign releases."""
        wanted = public_key.split()[:2]
        for line in self.signers:
            words = line.split()
            if not line.startswith("#") and any(words[at : at + 2] == wanted for at in range(len(words))):
                return 'namespaces="pusher-channel"' not in line
        return False

    @property
    def may_deploy(self) -> bool:
        """Whether this user may use the door."""
        return self.root or "pusher" in self.groups or self.user in self.members


def parse_facts(text: str) -> Facts:
    """The facts in what `PROBE` wrote. Lines that it did not write are passed over."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, is_fact, value = line.partition("=")
        if is_fact:
            found.setdefault(name, []).append(value.strip())

    def one(name: str) -> str:
        return found.get(name, [""])[0]

    return Facts(
        system=one("system"),
        family=tuple(one("family").split()),
        architecture=one("architecture"),
        python=one("python"),
        systemd=_number(one("systemd")),
        booted=bool(one("booted")),
        user=one("user"),
        groups=tuple(one("groups").split()),
        hostname=one("hostname"),
        root=bool(one("root")),
        sudo=bool(one("sudo")),
        sudo_free=bool(one("sudo_free")),
        installed=one("installed"),
        older=bool(one("older")),
        newer=bool(one("newer")),
        members=tuple(filter(None, one("members").split(","))),
        signers=tuple(found.get("signer", ())),
        apps=tuple(found.get("app", ())),
        indexes=tuple(sorted({*found.get("index", () if "app" in found else ("",))})),
        units=tuple(_pair(unit) for unit in found.get("unit", ())),
        failed=tuple(found.get("failed", ())),
        time=_number(one("time")),
        disks=tuple(_disks(found.get("disk", ()))),
        resolvers=_number(one("resolvers")),
        itself=one("itself"),
        agent_name=one("agent_name"),
        proxy=one("proxy"),
        no_proxy=one("no_proxy"),
        agent_proxy=one("agent_proxy"),
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0


def _pair(text: str) -> tuple[str, str]:
    name, _, state = text.partition(" ")
    return name, state


def _disks(lines: Sequence[str]) -> list[tuple[str, int, int]]:
    words = [line.split() for line in lines]
    return [(place, _number(size), _number(room)) for place, size, room in (one for one in words if len(one) == 3)]
