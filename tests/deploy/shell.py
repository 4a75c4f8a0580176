"""`pusher` as people type it, in a project of its own."""

import asyncio
import os
import sys

from tests.host import APP, Host, wsgi


class Shell:
    """Runs `pusher` in a project folder."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.project = host.root / "project"
        self.project.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(host.root),
            "PUSHER_KEY": str(host.key),
            "PUSHER_APP": APP,
            "PUSHER_HOST": f"http://127.0.0.1:{host.door}",
        }

    def version(self, version: str, files: dict[str, str] | None = None) -> None:
        for name, text in (files or wsgi(version)).items():
            path = self.project / "app-src" / version / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755 if text.startswith("#!") else 0o644)

    async def start(self, *words: str, **variables: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pusher", *words,
            cwd=self.project,
            env=os.environ | self.environment | variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip

    async def pusher(self, *words: str, **variables: str) -> tuple[int, str]:
        """Exit code, and everything it wrote."""
        process = await self.start(*words, **variables)
        said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()
