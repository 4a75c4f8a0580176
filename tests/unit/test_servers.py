"""What is advised when a server does not accept connections."""

import pytest

from agent.core.servers import port_advice, socket_advice
from pusher.wire import split_command


@pytest.mark.parametrize(
    ("start", "advice"),
    [
        ("gunicorn --reuse-port app:app", "leave it out"),
        ("python -m gunicorn app:app", "unless its configuration has reuse_port"),
        ("uvicorn app:app", "uvicorn needs --fd 3"),
        ("daphne app:app", "daphne needs --fd 3"),
        ("hypercorn app:app", "hypercorn needs --bind fd://3"),
        ("waitress-serve app:app", "waitress-serve uses no socket that it is handed: listen_via"),
        ("uvicorn --fd 3 app:app", "app.run() never uses it"),
        ("python app.py", "For a server that cannot: listen_via"),
    ],
)
def test_the_server_is_named(start: str, advice: str) -> None:
    assert advice in socket_advice(split_command(start))


def test_a_command_without_a_port_is_told_apart() -> None:
    assert "in place of $PORT" in port_advice(("datasette", "-p", "$PORT"))
    assert "in the variable PORT" in port_advice(("python", "app.py"))
