"""Hosts: their names, the addresses of their agents, and a connected byte stream to one.

Invariant: bytes leave this machine only through `ssh`. Plain HTTP goes only to loopback addresses and unix sockets
(docs/adr: SSH is the remote door).
"""

import ipaddress
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, NamedTuple

from pusher.errors import Unreachable, Usage
from pusher.transport import listener
from pusher.wire import SSH_DOOR

_DOOR = re.compile(r"(127(?:\.[0-9]{1,3}){3}|localhost|\[::1\]):([0-9]{1,5})", re.ASCII)
_LOOPBACK = re.compile(r"127(?:\.[0-9]{1,3}){3}|localhost|agent|::1", re.ASCII)
# No part begins with a dash: ssh would read it as an option, and -oProxyCommand=... runs a command.
_PLACE = re.compile(
    r"(?:(?P<user>[^-@/:\s\0][^@/:\s\0]*)@)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^-@/:\s\0\[\]][^@/:\s\0\[\]]*))(?::(?P<port>[0-9]{1,5}))?/?"
)
_QUOTES = re.compile(r"(['\\])")
_FORMS = "Use NAME or ssh://[user@]host[:port], unix:/path, or http://127.0.0.1:9000"
_PATH_BYTES = 107  # unix(7): sun_path has 108 bytes with the final NUL
_CONNECT_S, _ANSWER_S = 10.0, 60.0
_LEAVING_S = 2.0
# The user may have to type a passphrase or touch a key before ssh carries the first byte.
_ANSWER_BY_SSH_S = 180.0
_INSTALL = "Install the OpenSSH client, or name another command with `ssh` in pusher.toml"
_ROOM = "Name fewer hosts at once, or raise the limits of this machine: ulimit -a"
NOT_RUNNING = (
    "If it does not run, start it there: sudo systemctl start pusher-agent. One that `pusher-agent init` has set "
    "up: pusher-agent serve --root DIR"
)
"""What to do about an agent of this machine that does not answer."""
# The last messages of ssh when it ends because of an error it has already reported.
_ECHOES = ("stdio forwarding failed", "Connection closed by UNKNOWN port 65535")


class Ssh(NamedTuple):
    """The agent's loopback address `door`, as seen from `host`. If empty, ssh chooses `user` and `port`."""

    host: str
    user: str = ""
    port: int = 0
    door: str = SSH_DOOR


class Unix(NamedTuple):
    """A unix socket of this machine. `owner` may run the agent, besides root, pusher-agent and the user."""

    path: str
    owner: str = ""


class Loopback(NamedTuple):
    """A loopback address of this machine; `owner` as for `Unix`."""

    host: str
    port: int
    owner: str = ""


Address = Ssh | Unix | Loopback


class Host(NamedTuple):
    """A host, with the name that the user gave it. `drop` is the folder of its drop directories, or empty.

    `unknown` says that `pusher.toml` has hosts, and this is none of them; empty otherwise.
    """

    name: str
    address: Address
    drop: str = ""
    unknown: str = ""


def parse_door(text: str) -> str:
    """`text` itself, if it is a loopback address that `ssh -W` accepts. Raises: Usage."""
    if not (match := _DOOR.fullmatch(text)) or not 0 < int(match[2]) < 65536 or not _is_address(match[1]):
        raise Usage(f"door {text!r} is not a loopback address", hint=f"For example: {SSH_DOOR}")
    return text


def parse_address(text: str, *, door: str = SSH_DOOR, owner: str = "") -> Address:
    """The address that `text` spells. A bare name means `ssh://name`. Raises: Usage."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise Usage(f"address {text!r} needs an absolute path", hint="For example: unix:/run/x.sock")
        if len(os.fsencode(path)) > _PATH_BYTES:
            why = f"it has {len(os.fsencode(path))} bytes; the limit for the path of a socket is {_PATH_BYTES}"
            raise Usage(f"address {text!r} is too long", why=why, hint="Use a link with a shorter path")
        return Unix(path, owner)
    scheme, found, rest = text.partition("://")
    place = _PLACE.fullmatch(rest if found else text)
    scheme = scheme if found else "ssh"
    port = int(place["port"] or 0) if place else 0
    if not place or port > 65535 or scheme not in ("ssh", "http") or (scheme == "http" and place["user"]):
        raise Usage(f"{text!r} is not a valid address of a host", hint=_FORMS)
    host = place["v6"] or place["name"]
    if scheme == "ssh":
        return Ssh(host, place["user"] or "", port, door)
    if not _LOOPBACK.fullmatch(host):
        raise Usage(
            f"{text!r} is not on this machine",
            why="plain http has no encryption and no identity",
            hint=f"Use ssh://{host}",
        )
    if not _is_address(host):
        raise Usage(f"{text!r} is not a valid address of a host", hint=_FORMS)
    return Loopback(host, port or 9000, owner)


def _is_address(name: str) -> bool:
    """Whether a name that begins like a loopback address is one: 127.0.0.256 is none."""
    if not name.startswith("127."):
        return True
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def ssh_argv(address: Ssh, *, command: str, may_ask: bool = True) -> tuple[str, ...]:
    """The command that connects its standard input and output to the agent's door. Raises: Usage.

    Without `may_ask`, it fails where it would ask for a passphrase or about a host key.
    """
    # After the words of the user: of two values for one option, ssh uses the first.
    silent = () if may_ask else ("-o", "BatchMode=yes")
    return (*_words(command), *silent, "-W", address.door, *_target(address))


def run_argv(address: Ssh, words: Sequence[str], *, ssh: str, terminal: bool) -> tuple[str, ...]:
    """The command that runs `words` on the host, there at a terminal or not. Raises: Usage.

    ssh joins its arguments, and the user's shell on the host reads the line. So each word is quoted for a shell.
    """
    return (*_words(ssh), "-t" if terminal else "-T", *_target(address), "--", quoted(words))


def config_argv(address: Ssh, *, command: str) -> tuple[str, ...]:
    """The command that prints the user's configuration for the host, and connects to nothing. Raises: Usage."""
    return (*_words(command), "-G", *_target(address))


def quoted(words: Sequence[str]) -> str:
    """The words for the shell of a user on a host.

    Between quotes, fish takes a backslash for an escape, and a POSIX shell does not. Outside of them, both do.
    """
    parts = ([*filter(None, _QUOTES.split(word))] or [""] for word in words)
    return " ".join("".join(map(_quoted, word)) for word in parts)


def _quoted(part: str) -> str:
    return f"\\{part}" if _QUOTES.fullmatch(part) else shlex.quote(part)


@dataclass(slots=True)
class Stream:
    """A connected stream of bytes.

    `authority` goes into the Host header. `answer_s` is how long an answer may take, `leaving_s` how long ssh may
    take to end. `errors` is the standard error of ssh, if that is not the terminal.
    """

    socket: socket.socket
    authority: str
    answer_s: float = _ANSWER_S
    ssh: "subprocess.Popen[bytes] | None" = None
    errors: IO[bytes] | None = None
    leaving_s: float = _LEAVING_S

    def why_it_broke(self) -> str:
        """Why the stream ended: the last message of ssh, or its exit status. Empty without ssh."""
        if self.ssh is None:
            return ""
        self._end()
        message, code = self._message(), self.ssh.returncode
        self.close()
        return message or (f"ssh ended with exit status {code}" if code > 0 else "the connection was closed")

    def close(self) -> None:
        """Close the stream, and wait until ssh has ended. Idempotent."""
        self._end()
        if self.errors is not None:
            self.errors.close()

    def _message(self) -> str:
        """The last line that ssh wrote to `errors`, without those that only repeat another."""
        if self.errors is None or self.errors.closed:
            return ""
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors.read().decode(errors="replace").splitlines()]
        messages = [line for line in lines if line and line not in _ECHOES]
        return messages[-1].rstrip(".") if messages else ""

    def _end(self) -> None:
        self.socket.close()
        if self.ssh is not None and self.ssh.returncode is None:
            try:
                # Without input it ends by itself, and then its exit status is of use.
                self.ssh.wait(0.5)
            except subprocess.TimeoutExpired:
                self.ssh.terminate()
                try:
                    self.ssh.wait(self.leaving_s)
                except subprocess.TimeoutExpired:
                    # A wrapper that ignores the signal must not keep the command from ending.
                    self.ssh.kill()
                    self.ssh.wait()


def connect(host: Host, *, ssh: str, may_ask: bool = True) -> Stream:
    """A stream to the host's agent. `ssh` is the command, options included.

    With `may_ask`, ssh uses the terminal. Otherwise it asks nothing, and its messages are collected. This returns
    as soon as ssh has started: whether it reaches the host shows with the first answer.
    Raises: Unreachable, Usage.
    """
    match host.address:
        case Ssh() as address:
            argv = ssh_argv(address, command=ssh, may_ask=may_ask)
            return _through_ssh(host, argv, address.door, may_ask=may_ask)
        case Unix(path, owner):
            return Stream(_unix(host, path, owner), "localhost")
        case Loopback(name, port, owner):
            authority = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
            return Stream(_tcp(host, name, port, authority, owner), authority)


def _through_ssh(host: Host, argv: tuple[str, ...], door: str, *, may_ask: bool) -> Stream:
    try:
        ours, theirs = socket.socketpair()
        # The terminal is its standard error: host key questions, "touch your key", error messages.
        errors = None if may_ask else _file()
    except OSError as error:
        why = error.strerror or str(error)
        raise Unreachable(f"{host.name} cannot be reached", why=why, hint=_ROOM) from error
    with theirs:
        try:
            # In a session of its own it has no terminal to ask at. And Ctrl-C does not end it before the agent's
            # answer has come.
            process = subprocess.Popen(
                argv, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=errors, start_new_session=not may_ask
            )
        except OSError as error:
            ours.close()
            if errors is not None:
                errors.close()
            lacking = isinstance(error, FileNotFoundError | PermissionError)
            raise Unreachable(
                f"{host.name} cannot be reached", why=f"{argv[0]} cannot be run ({error.strerror})",
                hint=_INSTALL if lacking else _ROOM,
            ) from error  # fmt: skip
    return Stream(ours, door, _ANSWER_BY_SSH_S if may_ask else _ANSWER_S, process, errors)


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Usage(f"the ssh command {command!r} cannot be read", why=str(error)) from error
    if not words:
        raise Usage("the ssh command is empty", hint='The default is ssh = "ssh"')
    return words


def _target(address: Ssh) -> tuple[str, ...]:
    port = ("-p", str(address.port)) if address.port else ()
    return (*port, f"{address.user}@{address.host}" if address.user else address.host)


def _file() -> IO[bytes]:
    # Not a pipe: nothing reads the messages while all goes well, and a full pipe would block ssh.
    import tempfile  # here: a single host does not need it

    return tempfile.TemporaryFile()


def _unix(host: Host, path: str, owner: str) -> socket.socket:
    found = _connected(host, path, socket.AF_UNIX, path)
    uid = listener.unix_owner(found)
    if uid not in listener.trusted(owner):
        found.close()
        raise _stranger(host, path, listener.user(uid))
    return found


def _tcp(host: Host, name: str, port: int, authority: str, owner: str) -> socket.socket:
    # `agent` means this machine everywhere, even where it is not in /etc/hosts. 127.0.0.1 is not looked up either:
    # that would import the codec for idna, which takes longer than the rest.
    where, numeric = f"http://{authority}", name if name[0] in "1:" else "127.0.0.1"
    before = _listeners(host, where, numeric, port)
    if who := listener.stranger(before, owner=owner):
        raise _stranger(host, where, who)
    family = socket.AF_INET6 if ":" in numeric else socket.AF_INET
    found = _connected(host, where, family, (numeric, port))
    if not before or _listeners(host, where, numeric, port) != before:
        found.close()
        hint = "Run the command again. If this happens again, see who listens there: ss -lntpe"
        why = "another socket was opened there in this moment"
        raise Unreachable(f"It is not certain who answers for {host.name} at {where}", why=why, hint=hint)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def _listeners(host: Host, where: str, address: str, port: int) -> frozenset[listener.Listener]:
    try:
        return listener.listeners(address, port)
    except OSError as error:
        hint = "Only Linux tells. On another system, reach the agent by ssh: ssh://[user@]host"
        why = f"this machine does not tell who listens at {where}"
        raise Unreachable(f"It is not certain who answers for {host.name}", why=why, hint=hint) from error


def _stranger(host: Host, where: str, who: str) -> Unreachable:
    return Unreachable(
        f"What listens at {where} is not the agent of {host.name}",
        why=f"it is run by {who}, and not by root, {listener.AGENT} or you",
        hint='Nothing was sent. If that user runs the agent, name them in pusher.toml: owner = "LOGIN"',
    )


def _connected(host: Host, where: str, family: int, address: str | tuple[str, int]) -> socket.socket:
    found = socket.socket(family)
    found.settimeout(_CONNECT_S)
    try:
        found.connect(address)
    except OSError as error:
        found.close()
        raise _no_agent(host, where, error) from error
    return found


def _no_agent(host: Host, where: str, error: OSError) -> Unreachable:
    hint = NOT_RUNNING
    if isinstance(error, PermissionError):
        hint = "Only members of the group `pusher` may connect; a new membership counts from the next login"
    return Unreachable(f"No agent answers for {host.name} at {where}", why=error.strerror or str(error), hint=hint)
