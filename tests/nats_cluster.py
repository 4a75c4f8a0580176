"""Three NATS servers with JetStream on loopback, with TLS and nkeys, as operators run them."""

import asyncio
import base64
import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import nkeys
from nats.aio.client import Client
from nats.js.api import KeyValueConfig

from tests.ports import free_port

SERVER = Path(sys.executable).with_name("nats-server")
NODES = 3


class Cluster:
    """`host`, `publisher` and `watcher` (of reports) are files with the seeds of nkeys, `authority` is
    the certificate of the servers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = folder / "cert.pem"
        self.host, self.publisher, self.watcher = (
            folder / f"{who}.nk" for who in ("host", "publisher", "watcher")
        )
        self.ports = [free_port() for _ in range(NODES)]
        self.processes: list[subprocess.Popen[bytes]] = []
        self._routes = [free_port() for _ in range(NODES)]

    @property
    def addresses(self) -> str:
        return ",".join(f"tls://localhost:{port}" for port in self.ports)

    def start(self) -> None:
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
        subprocess.run(
            ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "2", "-subj", "/CN=localhost", "-addext", names,
             "-keyout", str(self.folder / "key.pem"), "-out", str(self.authority)),
            check=True,
            capture_output=True,
        )  # fmt: skip
        users = {file: make_seed(file) for file in (self.host, self.publisher, self.watcher)}
        for at in range(NODES):
            config = self.folder / f"n{at}.conf"
            config.write_text(self._config(at, *users.values()))
            self.processes.append(
                subprocess.Popen((SERVER, "-c", str(config), "-l", str(self.folder / f"n{at}.log")))
            )

    def kill(self, at: int) -> None:
        self.processes[at].kill()
        self.processes[at].wait()

    def stop(self) -> None:
        for one in self.processes:
            one.kill()
            one.wait()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        """As the publisher."""
        client = Client()
        tls = ssl.create_default_context(cafile=str(self.authority))
        await client.connect(
            self.addresses.split(","),
            tls=tls,
            nkeys_seed_str=self.publisher.read_text(),
            error_cb=quiet,
            max_reconnect_attempts=200,
            reconnect_time_wait=0,
        )
        try:
            yield client
        finally:
            await client.close()

    async def make_bucket(self, *, replicas: int = NODES) -> None:
        """The bucket for reports, as soon as the servers have found each other."""
        async with asyncio.timeout(60), self.connected() as client:
            while True:
                with suppress(Exception):
                    await client.jetstream().create_key_value(KeyValueConfig(bucket="reports", replicas=replicas))
                    return
                await asyncio.sleep(0.2)

    async def leader(self) -> int:
        """The server that leads the bucket."""
        async with self.connected() as client:
            info = await client.jetstream().stream_info("KV_reports")
            assert info.cluster
            return int((info.cluster.leader or "n0")[1:])

    def _config(self, at: int, host: str, publisher: str, watcher: str) -> str:
        routes: Sequence[str] = [f"nats-route://127.0.0.1:{port}" for port in self._routes]
        cert, key = self.authority, self.folder / "key.pem"
        tls = f'tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{cert}" }}'
        return f"""
listen: "127.0.0.1:{self.ports[at]}"
server_name: n{at}
jetstream {{ store_dir: "{self.folder}/n{at}" }}
{tls}
cluster {{ name: fleet, listen: "127.0.0.1:{self._routes[at]}", routes: [{", ".join(routes)}], {tls} }}
authorization {{ users: [
  {{ nkey: {host}, permissions: {{
    publish: ["$KV.reports.>"], subscribe: ["pusher.bells.>", "_INBOX.>"] }} }}
  {{ nkey: {publisher}, permissions: {{
    publish: ["pusher.bells.>", "$JS.API.>"], subscribe: ["_INBOX.>"] }} }}
  {{ nkey: {watcher}, permissions: {{ publish: [], subscribe: ["$KV.reports.>"] }} }}
] }}
"""


async def quiet(error: Exception) -> None:
    """A server that was killed is what a test wants."""


def make_seed(file: Path) -> str:
    """A new nkey of a user: its seed into a file; the public key."""
    seed: Any = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    file.write_text(f"{bytes(seed).decode()}\n")
    return bytes(nkeys.from_seed(bytearray(seed)).public_key).decode()


def make_creds(file: Path) -> str:
    """A new user of a new account of a new operator: the user's `.creds` into a file; what a server is told."""
    keys: list[Any] = [
        nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), kind)))
        for kind in (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER)
    ]
    operator, account, user = keys
    unlimited = dict.fromkeys(("subs", "data", "payload"), -1)
    limits = {**unlimited, **dict.fromkeys(("imports", "exports", "conn", "leaf"), -1), "wildcards": True}
    account_token = _token(operator, account, {"type": "account", "version": 2, "limits": limits})
    user_token = _token(account, user, {"type": "user", "version": 2, "pub": {}, "sub": {}, **unlimited})
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{user_token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{bytes(user.seed).decode()}\n------END USER NKEY SEED------\n"
    )
    return (
        f"operator: {_token(operator, operator, {'type': 'operator', 'version': 2})}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {_public(account)}: {account_token} }}\n"
    )


def _token(issuer: Any, subject: Any, claims: dict[str, Any]) -> str:
    """A JWT as NATS has them."""
    head = {"typ": "JWT", "alg": "ed25519-nkey"}
    body = {"iss": _public(issuer), "sub": _public(subject), "name": "test", "iat": 1_700_000_000, "nats": claims}
    signed = ".".join(_base64(json.dumps(part).encode()) for part in (head, body))
    return f"{signed}.{_base64(issuer.sign(signed.encode()))}"


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _public(key: Any) -> str:
    return bytes(key.public_key).decode().rstrip("=")
