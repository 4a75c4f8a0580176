"""An app that another tool deployed, as its unit and its folders show it: what `app adopt` takes over.

Invariant: nothing here is guessed. What the old unit does not say is left to the options, or to the release.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

ASKED = (
    *("FragmentPath", "User", "ActiveState", "UnitFileState", "ExecStart", "EnvironmentFiles", "Environment"),
    "MemoryMax",
)
"""The properties of the old unit that are needed, as `systemctl show` calls them."""
_VENVS = ("venv", ".venv", "env")
_ARGV = re.compile(r"argv\[\]=(.*?) ; ")
_FILE = re.compile(r"(/.*?) \(ignore_errors=(?:yes|no)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class OldUnit:
    """What the unit says. `listen` is empty if its command names no address; `user` if it runs as root."""

    file: str
    user: str
    active: bool
    enabled: bool
    command: tuple[str, ...]
    listen: str
    environment_files: tuple[str, ...]
    variables: tuple[str, ...]
    """The names of what is set in the unit itself."""
    memory_max: str
    """In bytes; empty if there is no limit."""


def parse_unit(shown: str) -> OldUnit:
    """What `systemctl show --property=...` printed about it."""
    values: dict[str, list[str]] = {}
    for line in shown.splitlines():
        name, _, value = line.partition("=")
        values.setdefault(name, []).append(value)
    one = {name: found[-1] for name, found in values.items()}
    command = _ARGV.search(one.get("ExecStart", ""))
    words = tuple(command[1].split()) if command else ()
    return OldUnit(
        file=one.get("FragmentPath", ""),
        user="" if one.get("User") == "root" else one.get("User", ""),
        active=one.get("ActiveState") in ("active", "activating", "reloading"),
        enabled=one.get("UnitFileState", "").startswith("enabled"),
        command=words,
        listen=listen_of(words),
        environment_files=tuple(_FILE.findall(" ".join(values.get("EnvironmentFiles", [])))),
        variables=tuple(word.partition("=")[0].strip('"') for word in one.get("Environment", "").split()),
        memory_max=one.get("MemoryMax", "").replace("infinity", ""),
    )


def listen_of(command: Sequence[str]) -> str:
    """The address in the command of gunicorn, uvicorn, hypercorn, daphne or waitress; empty if there is none."""
    said: dict[str, str] = {}
    for word, after in pairwise([*command, ""]):
        name, equals, value = word.partition("=")
        if name in _OPTIONS:
            said[_OPTIONS[name]] = value if equals else after
        elif word[:2] in ("-b", "-p") and len(word) > 2 and not word.startswith("--"):
            said[_OPTIONS[word[:2]]] = word[2:]
    address = said.get("bind", "")
    if not address and "port" in said:
        address = f"{said.get('host', '127.0.0.1')}:{said['port']}"
    if address.startswith(":"):
        address = f"0.0.0.0{address}"  # noqa: S104 - gunicorn's word for that
    return address.removeprefix("tcp://")


_OPTIONS = {
    **dict.fromkeys(("-b", "--bind", "--listen"), "bind"),
    **dict.fromkeys(("-p", "--port"), "port"),
    "--host": "host",
}


def shared_of(links: Mapping[str, str], *, shared: str) -> dict[str, str]:
    """What a release shares: where in it, and where in the folder `shared`.

    `links` are the links in a release, by their place in it, each with what it leads to (a real path). Venvs are
    left out: here every release has its own.
    """
    inside = f"{shared}/"
    found = {at: target.removeprefix(inside) for at, target in links.items() if target.startswith(inside)}
    return {at: target for at, target in sorted(found.items()) if target.rpartition("/")[2] not in _VENVS}
