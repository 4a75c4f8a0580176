"""Web servers, and how each is told where it gets its connections.

Invariant: a server that can accept from the socket it is handed (LISTEN_FDS, sd_listen_fds(3)) gets that. Every
other one gets a port on loopback, by the variable PORT and in place of `$PORT` in its words.

Sources: the manuals of gunicorn (settings, `bind`), uvicorn (`--fd`), hypercorn (`--bind fd://`), daphne (`--fd`),
waitress-serve (`--listen`), granian, streamlit and datasette (`--port`).
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

PORT = "$PORT"
"""What stands for the port in a word of a command."""

_PORT = re.compile(r"\$\{PORT(?::?-[^}]*)?\}|\$PORT\b")
_LOOPBACK = "127.0.0.1"

Words = tuple[str, ...]


class Listening(NamedTuple):
    """A start command, and how it gets its connections: "socket" or "port"."""

    words: Words
    via: str


def listening(words: Words, *, unknown: str = "socket") -> Listening:
    """The command without an address of its own, where its server is known. An unknown one keeps its words.

    `unknown` is how such a one gets its connections, if it does not name a port.
    """
    words = tuple(_PORT.sub(lambda _: PORT, word) for word in words)
    known = _SERVERS.get(words[0]) or _named(words)
    if known is not None:
        return known(words)
    return Listening(words, "port" if any(PORT in word for word in words) else unknown)


def _named(words: Words) -> Callable[[Words], Listening] | None:
    """The server in `python -m SERVER`, and the servers of frameworks."""
    if words[0] in ("python", "python3") and words[1:2] == ("-m",) and words[2:3] and words[2] in _SERVERS:
        return lambda words: _as_module(words)
    if words[:2] == ("flask", "run"):
        return _port_options(("--port", "-p"), ("--host", "-h"))
    if words[:2] in (("fastapi", "run"), ("fastapi", "dev")):
        return _port_options(("--port",), ("--host",))
    if words[:2] in (("streamlit", "run"), ("streamlit", "hello")):
        return _streamlit
    return None


def _as_module(words: Words) -> Listening:
    found = _SERVERS[words[2]]((words[2], *words[3:]))
    return Listening((*words[:3], *found.words[1:]), found.via)


def _gunicorn(words: Words) -> Listening:
    return Listening(_without(words, {"--bind", "-b"}), "socket")


def _uvicorn(words: Words) -> Listening:
    if "--fd" in words:
        return Listening(words, "socket")
    rest = _without(words, {"--host", "--port", "--uds"}, flags={"--reload"})
    return Listening((*rest, "--fd", "3"), "socket")


def _hypercorn(words: Words) -> Listening:
    rest = _without(words, {"--bind", "-b", "--insecure-bind", "--quic-bind"}, flags={"--reload"})
    return Listening((*rest, "--bind", "fd://3"), "socket")


def _daphne(words: Words) -> Listening:
    if "--fd" in words:
        return Listening(words, "socket")
    rest = _without(words, {"--port", "-p", "--bind", "-b", "-u", "--unix-socket", "-e", "--endpoint"})
    return Listening((rest[0], "--fd", "3", *rest[1:]), "socket")


def _waitress(words: Words) -> Listening:
    rest = _without(words, {"--listen", "--host", "--port", "--unix-socket"})
    return Listening((rest[0], f"--listen={_LOOPBACK}:{PORT}", *rest[1:]), "port")


def _streamlit(words: Words) -> Listening:
    rest = _without(words, {"--server.port", "--server.address"})
    said = any(one.partition("=")[0] == "--server.headless" for one in rest)
    headless = () if said else ("--server.headless", "true")
    return Listening((*rest, "--server.port", PORT, "--server.address", _LOOPBACK, *headless), "port")


def _port_options(port: Sequence[str], host: Sequence[str]) -> Callable[[Words], Listening]:
    def found(words: Words) -> Listening:
        rest = _without(words, {*port, *host}, flags={"--reload"})
        return Listening((*rest, port[0], PORT, host[0], _LOOPBACK), "port")

    return found


_SERVERS: Mapping[str, Callable[[Words], Listening]] = {
    "gunicorn": _gunicorn,
    "uvicorn": _uvicorn,
    "hypercorn": _hypercorn,
    "daphne": _daphne,
    "waitress-serve": _waitress,
    "granian": _port_options(("--port",), ("--host",)),
    "datasette": _port_options(("--port", "-p"), ("--host", "-h")),
}


def _without(words: Words, options: set[str], *, flags: Collection[str] = ()) -> Words:
    """The words without these options and their values: `--bind X`, `--bind=X`, `-b X` and `-bX`."""
    short = tuple(one for one in options if len(one) == 2)
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in options:
            skip = True
        elif word not in flags and word.partition("=")[0] not in options and not _is_short(word, short):
            kept.append(word)
    return tuple(kept)


def _is_short(word: str, short: tuple[str, ...]) -> bool:
    """Whether a word is a short option with its value: `-b0.0.0.0:80`."""
    return not word.startswith("--") and word.startswith(short)
