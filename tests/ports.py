"""Ports of this machine for tests."""

import itertools
import os
import random
import socket

_FIRST, _EACH, _WORKERS = 10_000, 5_000, 4
_START = _FIRST + _EACH * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _WORKERS)
_OFFSETS = itertools.count(random.randrange(_EACH))


def free_port() -> int:
    """A port on loopback that nothing listens on.

    Not one that the kernel would choose (ip_local_port_range begins at 32,768): it might give that to another
    program before the test takes it. Each worker has ports of its own, for the same reason.
    """
    while True:
        port = _START + next(_OFFSETS) % _EACH
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
