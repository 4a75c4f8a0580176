"""Whether anybody accepts from a listening socket that somebody else holds: systemd's.

Asked while a connection to it stays unanswered, as `sockets.taken`. Nothing is taken away from it, no right to the
process that holds it is needed. Everything here blocks for a moment.
"""

import ipaddress
from collections.abc import Iterator
from pathlib import Path

from agent.core.config import parse_listen
from agent.host.net.sockets import kernels_address

_ESTABLISHED, _LISTEN = "01", "0A"  # include/net/tcp_states.h
_CONNECTING = "02"  # SS_CONNECTING (linux/net.h): what unix(7) shows for a connection nobody has accepted
_PROC = Path("/proc/self/net")


def taken(address: str, *, proc: Path = _PROC) -> bool:
    """Whether a connection to `address` was accepted, or none waits to be (proc_net_tcp, proc_net_unix)."""
    where = parse_listen(address)
    if isinstance(where, str):
        return not any(row[5] == _CONNECTING and row[7:8] == [where] for row in _rows(proc / "unix"))
    host, port = where
    waiting, accepted = False, False
    for row in (*_rows(proc / "tcp"), *_rows(proc / "tcp6")):
        local, _, local_port = row[1].rpartition(":")
        if int(local_port, 16) != port:
            continue
        if row[3] == _LISTEN and kernels_address(local) == ipaddress.ip_address(host):
            waiting = waiting or int(row[4].partition(":")[2], 16) > 0
        elif row[3] != _LISTEN:
            accepted = accepted or row[9] != "0"
    return accepted or not waiting


def _rows(table: Path) -> Iterator[list[str]]:
    try:
        lines = table.read_text(errors="replace").splitlines()[1:]
    except OSError:  # no such family on this machine
        return
    for line in lines:
        yield line.split()
