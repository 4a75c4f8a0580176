"""A whole agent for tests: its own root, real keys, sockets, uv and gunicorn; in the loop of the test."""

import asyncio
import contextlib
import copy
import getpass
import hashlib
import io
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from agent.assembly import serve_host
from agent.core.layout import AppLayout, HostLayout
from agent.host.setup.config_files import read_agent, read_apps, set_apart
from agent.machine import Machine
from pusher.bundle import sign
from pusher.bundle.archive import write_bundle
from pusher.bundle.signed_manifest import SignedManifest
from pusher.bundle.tree import read_tree
from pusher.wire import File, Manifest
from tests.ports import free_port

APP = "flask-demo"
MONTH_MS = 30 * 24 * 3600 * 1000

WSGI = """
import json, os, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/sleep/"):
        time.sleep(float(path.rpartition("/")[2]))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"version": "VERSION", "pid": os.getppid()}).encode()]
"""


def wsgi(version: str, **more: str) -> dict[str, str]:
    """The files of a small application that says its version at every path."""
    files = {"app.py": WSGI.replace("VERSION", version), "requirements.txt": "gunicorn==22.0.0\n"}
    return files | {name.replace("__", "/"): text for name, text in more.items()}


def hook(text: str) -> str:
    """A hook; `Host.write` makes what begins with #! executable."""
    return f"#!/bin/sh\n{text}\n"


class Host:
    """One host with one app (more through `add_app`), on this machine unless another is given."""

    def __init__(
        self, root: Path, *, uv_cache: Path, venvs: Path, name: str = "web1", machine: Machine | None = None
    ) -> None:
        self.root = root
        self.name = name
        self.machine = machine
        self.layout = HostLayout(root)
        self.app = AppLayout(root / "opt" / APP)
        self.key = root / "key"
        self.ports: dict[str, int] = {}
        self.door = 0
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.session: aiohttp.ClientSession | None = None
        self._created = 0
        for folder in (self.layout.apps, self.layout.state, self.layout.run, self.layout.cache.parent):
            folder.mkdir(parents=True)
        self.layout.cache.symlink_to(uv_cache)
        make_key(self.key)
        self.trust(self.key, "tester")
        self.door = free_port()
        self.layout.agent_toml.write_text(
            f'name = "{name}"\nservice = "embedded"\n[door]\naddress = "127.0.0.1:{self.door}"\n'
        )
        self.venvs = venvs
        self.add_app(APP)

    def moved(self, root: Path, *, machine: Machine | None = None) -> "Host":
        """The same host, copied to another root; on the same machine unless another is given."""
        there = copy.copy(self)
        there.root = root
        there.layout = HostLayout(root)
        there.app = AppLayout(root / "opt" / APP)
        there.machine = machine or self.machine
        there.session = None
        there._stop, there._task = asyncio.Event(), None
        return there

    def trust(self, key: Path, who: str) -> None:
        """Add a key to those that may sign."""
        public = key.with_suffix(".pub").read_text().strip()
        with self.layout.allowed_signers.open("a") as file:
            file.write(f'{who} namespaces="pusher-release" {public}\n')

    def add_app(self, name: str, **settings: Any) -> None:
        """Write an app's configuration. Keys of tables are written `health__path=...`."""
        self.ports.setdefault(name, free_port())
        ready = AppLayout(self.root / "opt" / name).venvs
        if not ready.exists():
            shutil.copytree(self.venvs, ready, symlinks=True)
        defaults: dict[str, Any] = {
            "user": getpass.getuser(),
            "listen": f"127.0.0.1:{self.ports[name]}",
            "start": "gunicorn -w 1 app:app",
            "health__version_member": "version",
            "health__deadline_s": 8,
            "drain_s": 5,
        }
        tables: dict[str, dict[str, Any]] = {"": {}}
        for key, value in (defaults | settings).items():
            table, _, member = key.rpartition("__")
            tables.setdefault(table, {})[member] = value
        text = ""
        for table, members in tables.items():
            text += f"[{table}]\n" if table else ""
            text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in members.items())
        self.layout.app_toml(name).write_text(text)

    async def start(self) -> None:
        """Run the agent; return when its door is open."""
        self._stop.clear()
        config = await asyncio.to_thread(read_agent, self.layout)
        apps = set_apart(await asyncio.to_thread(read_apps, self.layout), self.layout)
        self._task = asyncio.create_task(
            serve_host(self.layout, config, apps, stop=self._stop, machine=self.machine)
        )
        while True:
            if self._task.done():
                self._task.result()
                raise AssertionError("the agent ended at once")
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.door)
            except ConnectionRefusedError:
                await asyncio.wait([self._task], timeout=0.02)
                continue
            writer.close()
            await writer.wait_closed()
            return

    async def stop(self) -> None:
        """Stop the agent as SIGTERM does."""
        if self.session is not None:
            await self.session.close()
            self.session = None
        if self._task is not None:
            self._stop.set()
            task, self._task = self._task, None
            await task

    def write(self, folder: str, files: Mapping[str, str]) -> Path:
        """A source folder with these files."""
        top = self.root / "src" / folder
        for name, text in files.items():
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if text.startswith("#!"):
                path.chmod(0o755)
        return top

    def bundle(self, files: Mapping[str, str], version: str, *, key: Path | None = None, **members: Any) -> bytes:
        """A signed bundle; `members` replace those of its manifest."""
        folder = self.write(f"{version}-{time.monotonic_ns()}", files)
        tree = read_tree(folder)
        index = tree.index
        self._created = max(int(time.time() * 1000), self._created + 1)
        manifest = {
            "app": APP,
            "version": version,
            "created": self._created,
            "expires": self._created + MONTH_MS,
            "index_sha256": hashlib.sha256(index).hexdigest(),
            "index_size": len(index),
            "files": len(tree.entries),
            "unpacked_size": sum(entry.size for entry in tree.entries if isinstance(entry, File)),
        } | members
        raw = Manifest(**manifest).to_bytes()
        signed = SignedManifest(raw, sign.sign(raw, key=str(key or self.key)), index)
        return b"".join(write_bundle(signed, tree.contents()))

    async def request(self, method: str, path: str, **arguments: Any) -> tuple[int, dict[str, Any]]:
        """Send a request to the door; status and JSON."""
        if self.session is None:
            self.session = aiohttp.ClientSession(f"http://127.0.0.1:{self.door}")
        async with self.session.request(method, path, **arguments) as answer:
            return answer.status, json.loads(await answer.read())

    async def post(self, data: bytes, *, app: str = APP) -> tuple[int, dict[str, Any]]:
        """Post a bundle as curl does; status and outcome."""
        return await self.request("POST", f"/apps/{app}/deployments", data=io.BytesIO(data))

    async def send(self, files: Mapping[str, str], version: str, **members: Any) -> tuple[int, dict[str, Any]]:
        """Pack, sign and post."""
        return await self.post(await asyncio.to_thread(self.bundle, files, version, **members))

    async def deploy(self, files: Mapping[str, str], version: str) -> dict[str, Any]:
        """Send what must go live."""
        status, answer = await self.send(files, version)
        assert (status, answer.get("outcome")) == (200, "done"), answer
        return answer

    async def rollback(self, to: str = "") -> tuple[int, dict[str, Any]]:
        """Roll back as curl does."""
        return await self.request("POST", f"/rollback?to={to}" if to else "/rollback")

    async def events(self, deployment: str) -> list[dict[str, Any]]:
        """All events of a deployment that has ended."""
        assert self.session is not None
        async with self.session.get(f"/deployments/{deployment}/events") as answer:
            return [json.loads(line) for line in (await answer.read()).splitlines() if line]

    async def answer(self, path: str = "/", *, app: str = APP) -> dict[str, Any]:
        """What the app answers on a fresh connection."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.ports[app]}{path}") as answer,
        ):
            assert answer.status == 200, await answer.text()
            return json.loads(await answer.read())

    async def serving(self, *, app: str = APP) -> str:
        """The version that answers."""
        return str((await self.answer(app=app))["version"])

    def state(self) -> dict[str, Any]:
        """What a failing deployment must leave as it was: links, releases, and what is in staging."""
        current = self.app.current
        return {
            "current": current.readlink() if current.is_symlink() else None,
            "venv": self.app.shared_venv.readlink() if self.app.shared_venv.is_symlink() else None,
            "releases": sorted(one.name for one in self.app.releases.iterdir())
            if self.app.releases.exists()
            else [],
            "staging": sorted(one.name for one in self.app.staging.iterdir()) if self.app.staging.exists() else [],
        }


@contextlib.asynccontextmanager
async def running(host: Host) -> AsyncIterator[Host]:
    """Run the agent of `host` during the block."""
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


def make_key(path: Path) -> None:
    """A throw-away signing key."""
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)), check=True)
