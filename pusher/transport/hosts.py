"""Hosts: what people call them, where their agent is, and a connected byte stream to it.

Invariant: bytes leave this machine through `ssh` and in no other way; HTTP itself is spoken only to
loopback addresses and unix sockets (docs/adr: SSH is the remote door).
"""

import os
import re
import shlex
import socket
import subprocess
from dataclasses import dataclass
from typing import IO, NamedTuple

from pusher.errors import Unreachable, Usage

DOOR = "127.0.0.1:9000"
_DOOR = re.compile(r"(127(?:\.[0-9]{1,3}){3}|localhost|\[::1\]):([0-9]{1,5})", re.ASCII)
_LOOPBACK = re.compile(r"127(?:\.[0-9]{1,3}){3}|localhost|agent|::1", re.ASCII)
# Neither part begins with a dash: ssh would take it for an option, and -oProxyCommand=... runs a command.
_PLACE = re.compile(
    r"(?:(?P<user>[^-@/:\s\0][^@/:\s\0]*)@)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^-@/:\s\0\[\]][^@/:\s\0\[\]]*))(?::(?P<port>[0-9]{1,5}))?/?"
)
_FORMS = "Use NAME or ssh://[user@]host[:port], unix:/path, or http://127.0.0.1:9000"
_PATH_BYTES = 107  # unix(7): sun_path has 108, the last of which is NUL
_CONNECT_S, _ANSWER_S = 10.0, 60.0
_LEAVING_S = 2.0
# A person may have to type a passphrase or touch a key before ssh carries the first byte.
_ANSWER_BY_SSH_S = 180.0
_INSTALL = "Install the OpenSSH client, or name another command with `ssh` in pusher.toml"
_ROOM = "Name fewer hosts at once, or see what this machine allows: ulimit -a"
# What ssh says last when something it has already told of ends it.
_ECHOES = ("stdio forwarding failed", "Connection closed by UNKNOWN port 65535")


class Ssh(NamedTuple):
    """The agent's loopback address `door`, as seen from `host`; `user` and `port` are ssh's own if empty."""

    host: str
    user: str = ""
    port: int = 0
    door: str = DOOR


class Unix(NamedTuple):
    """A unix socket of this machine."""

    path: str


class Loopback(NamedTuple):
    """A loopback address of this machine."""

    host: str
    port: int


Address = Ssh | Unix | Loopback


class Host(NamedTuple):
    """A host by the name the user gave it."""

    name: str
    address: Address


def parse_door(text: str) -> str:
    """`text` itself, if it is a loopback address as `ssh -W` takes it. Raises: Usage."""
    if not (match := _DOOR.fullmatch(text)) or not 0 < int(match[2]) < 65536:
        raise Usage(f"door {text!r} is not a loopback address", hint=f"For example: {DOOR}")
    return text


def parse_address(text: str, *, door: str = DOOR) -> Address:
    """The address that `text` spells; a bare name means `ssh://name`. Raises: Usage."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise Usage(f"address {text!r} needs an absolute path", hint="For example: unix:/run/x.sock")
        if len(os.fsencode(path)) > _PATH_BYTES:
            why = f"it has {len(os.fsencode(path))} bytes, and {_PATH_BYTES} are the most for the path of a socket"
            raise Usage(f"address {text!r} is too long", why=why, hint="Use a link with a shorter path")
        return Unix(path)
    scheme, found, rest = text.partition("://")
    place = _PLACE.fullmatch(rest if found else text)
    scheme = scheme if found else "ssh"
    port = int(place["port"] or 0) if place else 0
    if not place or port > 65535 or scheme not in ("ssh", "http") or (scheme == "http" and place["user"]):
        raise Usage(f"{text!r} is not the address of a host", hint=_FORMS)
    host = place["v6"] or place["name"]
    if scheme == "ssh":
        return Ssh(host, place["user"] or "", port, door)
    if not _LOOPBACK.fullmatch(host):
        raise Usage(
            f"{text!r} leaves this machine",
            why="http carries neither encryption nor an identity",
            hint=f"Use ssh://{host}",
        )
    return Loopback(host, port or 9000)


def ssh_argv(address: Ssh, *, command: str, may_ask: bool = True) -> tuple[str, ...]:
    """The command that joins its standard input and output to the agent's door. Raises: Usage.

    If it may not ask, it ends where it would ask for a passphrase, or whether a host key is right.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Usage(f"the ssh command {command!r} cannot be read", why=str(error)) from error
    if not words:
        raise Usage("the ssh command is empty", hint='The default is ssh = "ssh"')
    port = ("-p", str(address.port)) if address.port else ()
    target = f"{address.user}@{address.host}" if address.user else address.host
    # After the user's own words: of two values for one option, ssh takes the first.
    silent = () if may_ask else ("-o", "BatchMode=yes")
    return (*words, *silent, "-W", address.door, *port, target)


@dataclass(slots=True)
class Stream:
    """A connected stream of bytes. `authority` is what goes into the Host header, `answer_s` how long the
    first answer may take, `told` what ssh writes to its standard error where that is not the terminal's."""

    socket: socket.socket
    authority: str
    answer_s: float = _ANSWER_S
    ssh: "subprocess.Popen[bytes] | None" = None
    told: IO[bytes] | None = None

    def why_it_broke(self) -> str:
        """What is known about a stream that ended: what ssh said of it and how it ended, if ssh carried it."""
        if self.ssh is None:
            return ""
        self._end()
        said, code = self._said(), self.ssh.returncode
        self.close()
        return said or (f"ssh ended with exit status {code}" if code > 0 else "the connection was closed")

    def close(self) -> None:
        """Close it, and see ssh end. Idempotent."""
        self._end()
        if self.told is not None:
            self.told.close()

    def _said(self) -> str:
        if self.told is None or self.told.closed:
            return ""
        self.told.seek(0)
        lines = [line.strip() for line in self.told.read().decode(errors="replace").splitlines()]
        telling = [line for line in lines if line and line not in _ECHOES]
        return telling[-1].rstrip(".") if telling else ""

    def _end(self) -> None:
        self.socket.close()
        if self.ssh is not None and self.ssh.returncode is None:
            try:
                # With its input gone it ends by itself, and then its exit status is worth knowing.
                self.ssh.wait(0.5)
            except subprocess.TimeoutExpired:
                self.ssh.terminate()
                try:
                    self.ssh.wait(_LEAVING_S)
                except subprocess.TimeoutExpired:
                    # A wrapper that does not listen must not keep the command from ending.
                    self.ssh.kill()
                    self.ssh.wait()


def connect(host: Host, *, ssh: str, may_ask: bool = True) -> Stream:
    """A stream to the host's agent. `ssh` is the command, options included.

    If ssh `may_ask`, the terminal is its own for that time; else it asks nothing, and what it says is kept.
    With ssh it returns as soon as ssh is started: that the way exists shows when the first answer comes.
    Raises: Unreachable, Usage.
    """
    match host.address:
        case Ssh() as address:
            argv = ssh_argv(address, command=ssh, may_ask=may_ask)
            return _through_ssh(host, argv, address.door, may_ask=may_ask)
        case Unix(path):
            return Stream(_unix(host, path), "localhost")
        case Loopback(name, port):
            authority = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
            return Stream(_tcp(host, name, port, authority), authority)


def _through_ssh(host: Host, argv: tuple[str, ...], door: str, *, may_ask: bool) -> Stream:
    try:
        ours, theirs = socket.socketpair()
        # Its standard error stays the terminal's: host key questions, "touch your key", its own reasons.
        told = None if may_ask else _file()
    except OSError as error:
        why = error.strerror or str(error)
        raise Unreachable(f"{host.name} cannot be reached", why=why, hint=_ROOM) from error
    with theirs:
        try:
            # In a session of its own it has no terminal to ask at, and Ctrl-C at ours does not end it before we
            # have heard what goes on.
            process = subprocess.Popen(
                argv, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=told, start_new_session=not may_ask
            )
        except OSError as error:
            ours.close()
            if told is not None:
                told.close()
            lacking = isinstance(error, FileNotFoundError | PermissionError)
            raise Unreachable(
                f"{host.name} cannot be reached", why=f"{argv[0]} cannot be run ({error.strerror})",
                hint=_INSTALL if lacking else _ROOM,
            ) from error  # fmt: skip
    return Stream(ours, door, _ANSWER_BY_SSH_S if may_ask else _ANSWER_S, process, told)


def _file() -> IO[bytes]:
    # Late, for one host does without. Not a pipe: nobody reads what is said while all goes well.
    import tempfile

    return tempfile.TemporaryFile()


def _unix(host: Host, path: str) -> socket.socket:
    return _connected(host, path, socket.AF_UNIX, path)


def _tcp(host: Host, name: str, port: int, authority: str) -> socket.socket:
    # `agent` is in /etc/hosts where the package is installed, and means this machine everywhere. Nobody is
    # asked what 127.0.0.1 means, which would take longer than all that follows (the codec for idna).
    where = f"http://{authority}"
    if name == "::1":
        found = _connected(host, where, socket.AF_INET6, (name, port))
    else:
        found = _connected(host, where, socket.AF_INET, (name if name[0] == "1" else "127.0.0.1", port))
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def _connected(host: Host, where: str, family: int, address: str | tuple[str, int]) -> socket.socket:
    found = socket.socket(family)
    found.settimeout(_CONNECT_S)
    try:
        found.connect(address)
    except OSError as error:
        found.close()
        raise _nobody(host, where, error) from error
    return found


def _nobody(host: Host, where: str, error: OSError) -> Unreachable:
    hint = "Is the agent running there? See: systemctl status pusher-agent"
    if isinstance(error, PermissionError):
        hint = "Members of the group `pusher` may; a new membership counts from the next login"
    return Unreachable(f"No agent answers for {host.name} at {where}", why=error.strerror or str(error), hint=hint)
