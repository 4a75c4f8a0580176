"""Asking the agent of this host, by its unix socket: the kernel tells it who asks.

Invariant: whatever becomes of the agent, a question ends.
"""

import http.client
import json
import socket as sockets
from pathlib import Path
from typing import Any

from pusher.wire import Code, Failed, Problem

_PATIENCE_S = 10.0
_ANSWER_MOST = 65_536


def post(path: str, *, socket: Path, patience_s: float = _PATIENCE_S) -> Any:
    """What the agent answers, from JSON. Raises: Problem, the one that it answers; Failed(service_failed)."""
    connection = http.client.HTTPConnection("localhost", timeout=patience_s)
    try:
        connection.sock = sockets.socket(sockets.AF_UNIX)
        connection.sock.settimeout(patience_s)
        connection.sock.connect(str(socket))
        connection.request("POST", path)
        response = connection.getresponse()
        answer = json.loads(response.read(_ANSWER_MOST))
        if response.status != 200:
            raise Problem.from_document(answer)
        return answer
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        raise Failed(
            Code.SERVICE_FAILED,
            "The agent could not be asked",
            why=getattr(error, "strerror", None) or str(error) or "it does not answer",
            hint="Does it run? systemctl status pusher-agent",
        ) from error
    finally:
        connection.close()
