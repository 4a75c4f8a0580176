"""An S3-compatible store over real HTTP, from `moto`, with one bucket."""

import http.client
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer

BUCKET = "fleet"


@contextmanager
def storing() -> Iterator[str]:
    """The address of the store during the block."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    try:
        host, port = store.get_host_and_port()
        connection = http.client.HTTPConnection(host, port)
        connection.request("POST", "/moto-api/reset")
        connection.getresponse().read()
        connection.request("PUT", f"/{BUCKET}")
        assert connection.getresponse().read() is not None
        connection.close()
        yield f"http://{host}:{port}"
    finally:
        store.stop()


def variables(address: str) -> dict[str, str]:
    """The environment of a publisher."""
    return {
        "AWS_ACCESS_KEY_ID": "access",
        "AWS_SECRET_ACCESS_KEY": "secret-word",
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": address,
    }


def credentials(address: str) -> str:
    """The credentials file of a host."""
    return (
        "[default]\naws_access_key_id = access\naws_secret_access_key = secret-word\n"
        f"region = eu-central-1\nendpoint_url = {address}\n"
    )
