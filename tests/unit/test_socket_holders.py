"""Which process has a socket open."""

import os
import socket
from pathlib import Path

from agent.host.net.socket_holders import find_holder


def test_the_process_that_has_a_socket_open_is_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        inode = os.fstat(listener.fileno()).st_ino
        name = Path("/proc/self/comm").read_text().strip()
        assert find_holder(inode) == f"{name} (process {os.getpid()})"
    assert find_holder(inode) == ""
