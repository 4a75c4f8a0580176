"""Which hosts a command is for: names of hosts, groups and environments of a `pusher.toml`, or addresses.

Invariant: a host is chosen once. A host of an environment that wants to be confirmed is confirmed, however it was
named.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pusher.environments import Environment
from pusher.errors import Usage
from pusher.transport.hosts import Address, Host, parse_address

CONFIG_NAME = "pusher.toml"
ALL, _DEFAULT_GROUP = "all", "default"


@dataclass(frozen=True, slots=True)
class HostChoice:
    """The hosts, groups and environments of a file, by their names."""

    hosts: Mapping[str, Host]
    groups: Mapping[str, tuple[str, ...]]
    environments: Mapping[str, Environment]

    def of(self, named: Sequence[str], *, environment: Environment | None) -> tuple[Host, ...]:
        """The hosts that a command names, in their order; those of its environment, if it names none.

        A command that names neither is for the group `default`, else for every host of the file. In a file with
        environments it is for no host: nobody changes production by leaving a word out. Raises: Usage.
        """
        if environment is None:
            return self._choose(named or self._default())
        own = self._choose(environment.hosts)
        chosen = self._choose(named) if named else own
        addresses = {host.address for host in own}
        for host in chosen:
            if host.address not in addresses:
                what = f"{host.name} does not belong to {environment.name}"
                raise Usage(what, why=f"[env.{environment.name}] has {', '.join(environment.hosts) or 'no hosts'}")
        return chosen

    def confirm(self, chosen: Iterable[Host], *, environment: Environment | None) -> str:
        """The environment to confirm before anything is changed on these hosts; empty for none. Raises: Usage."""
        if environment and environment.confirm:
            return environment.name
        addresses = {host.address for host in chosen}
        for one in self.environments.values():
            if one.confirm and any(host.address in addresses for host in self._choose(one.hosts)):
                return one.name
        return ""

    def _default(self) -> list[str]:
        if _DEFAULT_GROUP in self.groups:
            return [_DEFAULT_GROUP]
        return [] if self.environments else [*self.hosts]

    def _choose(self, names: Iterable[str]) -> tuple[Host, ...]:
        chosen = {name: self.hosts.get(name) or self._named(name) for name in self._members(names)}
        first: dict[Address, str] = {}
        for name, host in chosen.items():
            if (other := first.setdefault(host.address, name)) != name:
                hint = "Name it once: a host refuses a second deployment at the same time"
                raise Usage(f"{other} and {name} are the same host", hint=hint)
        return tuple(chosen.values())

    def _members(self, names: Iterable[str]) -> Iterator[str]:
        for name in names:
            if name in self.groups:
                yield from self.groups[name]
            elif name == ALL and name not in self.hosts:
                if not self.hosts:
                    raise Usage("--host all names no host", why=f"no {CONFIG_NAME} with hosts was found")
                yield from self.hosts
            else:
                yield name

    def _named(self, name: str) -> Host:
        """A host that is no entry of the file: an address, or a name that ssh may know. Raises: Usage."""
        host = Host(name, parse_address(name))
        if not self.hosts or ":" in name:
            return host
        import difflib

        close = difflib.get_close_matches(name, self.hosts, n=1)
        known = f"Did you mean {close[0]}?" if close else f"It knows {', '.join(self.hosts)}."
        return host._replace(unknown=f"{CONFIG_NAME} does not know {name}. {known}")
