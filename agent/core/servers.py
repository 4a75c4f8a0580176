"""What to do when a server does not accept connections: by the server that a start command names.

Invariant: this is advice for people, and decides nothing.
"""

from collections.abc import Sequence

_TAKES = {
    "uvicorn": ("--fd", "uvicorn needs --fd 3"),
    "daphne": ("--fd", "daphne needs --fd 3"),
    "hypercorn": ("fd://", "hypercorn needs --bind fd://3"),
}
"""By the server: what its command must have for it to use the socket, and how to say so."""

_KNOWS_A_PORT = ("waitress-serve", "granian", "streamlit", "datasette", "flask", "fastapi")
_PORT = 'listen_via = "port" in [run] of pusher.toml gives it a port instead, in place of $PORT in `start`'


def socket_advice(start: Sequence[str]) -> str:
    """Why the server in this command may not accept from the socket that it was handed, and what to do."""
    names = [word.rpartition("/")[2] for word in start]
    if opens_its_own(start):
        return "With --reuse-port, gunicorn opens sockets of its own, not the one it is handed: leave it out"
    if "gunicorn" in names:
        return "gunicorn uses the socket by itself, unless its configuration has reuse_port: leave that out"
    for name, (needed, advice) in _TAKES.items():
        if name in names and not any(needed in word for word in start):
            return f"The socket is descriptor 3 (LISTEN_FDS), and {advice}"
    if name := next((one for one in names if one in _KNOWS_A_PORT), ""):
        return f"{name} uses no socket that it is handed: {_PORT}"
    return f"The socket is descriptor 3 (LISTEN_FDS); app.run() never uses it. For a server that cannot: {_PORT}"


def opens_its_own(start: Sequence[str]) -> bool:
    """Whether it is a gunicorn that was told to open sockets of its own."""
    named = any(word.rpartition("/")[2] == "gunicorn" for word in start)
    return named and any(word.startswith("--reuse-port") for word in start)


def port_advice(start: Sequence[str]) -> str:
    """Why the server in this command may not listen at the port that it was told, and what to do."""
    if any("$PORT" in word for word in start):
        return "It must listen at 127.0.0.1 and the port that stands in place of $PORT"
    return "Its command has no $PORT: it must listen at 127.0.0.1 and the port in the variable PORT"
