"""Virtual environments: one per set of dependencies, shared by the releases that need it.

Invariant: what is in `shared/venvs/` under its key is whole (`.complete`), flushed, and never changed again; it is
built in `.staging/` and moved by one rename. The venv's own interpreter is never run by the agent: a
wheel's `.pth` file would run with it.
"""

import asyncio
import errno
import hashlib
import os
import re
from pathlib import Path

from agent.core.config import Dependencies
from agent.core.layout import AppLayout
from agent.core.requirements import WHEELS, Kind, Wanted, read_wanted
from agent.core.venv import (
    COMPLETE,
    Source,
    compile_argv,
    describe,
    export_argv,
    facts_argv,
    install_argv,
    make_argv,
    sources,
    uv_environment,
    venv_key,
)
from agent.host.ports import Lines
from agent.host.run import process
from agent.host.run.threads import to_its_end
from agent.host.storage.disk import Disk
from pusher.wire import Code, Failed, Refused

_UNREACHABLE = re.compile(r"error sending request|client error \(Connect\)|dns error|operation timed out", re.I)
_ERROR = re.compile(r"^error: (.+)(?:\n +cause: (.+))?", re.M)  # "Failed to download" alone says nothing
_FACTS_DEADLINE_S = 30.0
_TIED = ("/usr/bin/setpriv", "--pdeathsig=KILL")
"""A builder that outlived its agent would write into the folder where the next agent builds (setpriv(1))."""
_NOT_FOUND = "exit code 127"


class Venvs:
    """The venvs of one app. `cache` is the agent's cache folder; `credentials` a file in netrc form."""

    def __init__(
        self,
        layout: AppLayout,
        disk: Disk,
        cache: Path,
        config: Dependencies,
        uv: Path,
        *,
        credentials: Path | None = None,
    ) -> None:
        self._layout = layout
        self._disk = disk
        self._config = config
        self._uv = uv
        self._environment = uv_environment(os.environ, cache=cache, credentials=credentials)
        self._credentials = credentials
        self._facts: dict[tuple[object, ...], str] = {}

    async def key(self, release: Path) -> str:
        """The key of the venv that a release needs.

        Raises: Failed(dependencies_failed) for files that are missing or cannot be used, Refused(configuration).
        """
        facts = await self._python_facts()
        wanted, wheels = await asyncio.to_thread(self._read, release)
        return venv_key(wanted, python=facts, config=self._config, wheels=wheels)

    async def ensure(self, key: str, release: Path, *, line: Lines) -> bool:
        """Have the venv `key`, which must be the release's. Returns whether it had to be made.

        What uv says goes to `line`. Raises: Failed(dependencies_failed), with uv's words; Failed(disk_*).
        """
        final, staged = self._layout.venv(key), self._layout.staging / f"venv-{key}"
        if await asyncio.to_thread((final / COMPLETE).is_file):
            return False
        facts = await self._python_facts()
        wanted, wheels = await asyncio.to_thread(self._read, release)
        await to_its_end(self._clear, final, staged)
        try:
            async with asyncio.timeout(self._config.deadline_s):
                await self._build(wanted, release=release, into=staged, wheels=bool(wheels), line=line)
                await self._compile(staged, final)
            mark = describe(wanted, python=facts, config=self._config, wheels=wheels)
            await to_its_end(self._publish, staged, final, mark)
        except TimeoutError as error:
            raise _failed(f"there was no end after {self._config.deadline_s:g} s") from error
        except OSError as error:
            raise _failed(f"{self._uv} cannot be run: {error.strerror}") from error
        finally:
            await to_its_end(self._disk.discard, staged, op="venv.discard")
        return True

    def prune(self, keep: set[str]) -> None:
        """Take away the venvs whose keys are not in `keep`, and what an interrupted build left. Blocking."""
        layout = self._layout
        for path in _children(layout.venvs):
            if path.name not in keep:
                self._disk.remove(path, trash=layout.trash(f"venv-{path.name}"), op="venv.remove")
        for path in _children(layout.staging):
            if path.name.startswith("venv-"):
                self._disk.discard(path, op="venv.discard")

    def _read(self, release: Path) -> tuple[Wanted, dict[str, str]]:
        """What a release asks for, and the SHA-256 of each file in its `wheels/`."""
        inside = release.resolve()

        def read(name: str) -> bytes | None:
            path = (inside / name).resolve()
            return path.read_bytes() if path.is_relative_to(inside) and path.is_file() else None

        wanted = read_wanted(self._config.requirements, read=read, wheels_only=self._config.only_binary)
        return wanted, {path.name: _digest(path) for path in _children(inside / WHEELS) if path.is_file()}

    async def _python_facts(self) -> str:
        """What build the configured Python is, asked again when its file has changed."""
        python = self._config.python
        try:
            real = await asyncio.to_thread(os.path.realpath, python)
            stat = await asyncio.to_thread(os.stat, real)
            known = (real, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if known not in self._facts:
                ending, said = await process.run(
                    facts_argv(python),
                    folder=Path("/"),
                    environment=self._environment,
                    deadline_s=_FACTS_DEADLINE_S,
                    line=_nobody,
                )
                if ending:
                    raise OSError(f"{ending}\n{said}")
                self._facts[known] = said
        except OSError as error:
            raise Refused(
                Code.CONFIGURATION,
                f"The Python {python} cannot be run",
                why=error.strerror or str(error),
                hint="Install it, or set `python` in [dependencies]",
            ) from error
        return self._facts[known]

    def _clear(self, final: Path, staged: Path) -> None:
        """Room for a new one: away with what was not finished, here or there."""
        if self._credentials is not None and not os.access(self._credentials, os.R_OK):
            raise Refused(
                Code.CONFIGURATION,
                f"The credentials {self._credentials} cannot be read",
                hint="Create the file (netrc form, readable by the agent), or empty `credentials_file`",
            )
        layout = self._layout
        for folder in (layout.staging, layout.shared, layout.venvs):
            # Whatever the umask: an app that could write to one of these could put other code into its venv.
            self._disk.make_folder(folder, mode=0o755, op="venv.folder")
        self._disk.discard(staged, op="venv.discard")
        self._disk.remove(final, trash=layout.trash(f"venv-{final.name}"), op="venv.remove")

    async def _build(self, wanted: Wanted, *, release: Path, into: Path, wheels: bool, line: Lines) -> None:
        said = ""
        for source in sources(self._config, wheels=wheels):
            if source is Source.CACHE and not _UNREACHABLE.search(said):
                break
            # Anew for each attempt: uv may run the venv's interpreter, and would run with it the `.pth` files that
            # an attempt which broke off has left there.
            await self._make_empty(wanted, release=release, into=into, line=line)
            argv = install_argv(self._uv, wanted, into=into, config=self._config, source=source, wheels=wheels)
            # Only what decides is told: that wheels/ or the cache lacks something is no news.
            held: list[str] = []
            live = source is Source.INDEX or self._config.no_index
            ending, heard = await self._run(argv, folder=release, line=line if live else held.append)
            if not ending:
                for text in held:
                    line(text)
                return
            said = heard if live or not said else said
        raise _not_installed(said, self._config)

    async def _make_empty(self, wanted: Wanted, *, release: Path, into: Path, line: Lines) -> None:
        await to_its_end(self._disk.discard, into, op="venv.discard")
        python = self._config.python
        steps = [(make_argv(self._uv, python=python, into=into), into.parent)]
        if wanted.kind is Kind.LOCK:
            steps.append((export_argv(self._uv, wanted, python=python, into=into), release))
        for argv, folder in steps:
            ending, said = await self._run(argv, folder=folder, line=line)
            if ending:
                raise _failed(f"uv {argv[1]}: {ending}", said)

    async def _compile(self, built: Path, final: Path) -> None:
        """Byte code, for faster starts. A module that does not compile is its package's affair, as with pip."""
        argv = compile_argv(self._config.python, built=built, final=final)
        await self._run(argv, folder=Path("/"), line=_nobody)

    async def _run(self, argv: tuple[str, ...], *, folder: Path, line: Lines) -> tuple[str, str]:
        ending, said = await process.run(
            (*_TIED, *argv),
            folder=folder,
            environment=self._environment,
            deadline_s=self._config.deadline_s,
            line=line,
        )
        if ending == _NOT_FOUND:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return ending, said

    def _publish(self, staged: Path, final: Path, mark: bytes) -> None:
        self._disk.unlink(staged / ".lock", op="venv.unlock")  # uv's own, open to everybody's writing
        self._disk.write(staged / COMPLETE, mark, op="venv.complete")
        self._disk.sync_tree(staged, op="venv.flush")
        self._disk.rename(staged, final, op="venv.publish")
        self._disk.sync_folder(final.parent, op="venv.sync")
        self._disk.sync_folder(staged.parent, op="venv.sync-staging")


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _nobody(_: str) -> None:
    pass


def _not_installed(said: str, config: Dependencies) -> Failed:
    if _UNREACHABLE.search(said):
        return _failed(
            "the package index cannot be reached, and not everything is in the cache",
            said,
            hint="Mend the network (proxies and SSL_CERT_FILE are taken from the agent's environment), "
            "set index_url, or send wheels along in wheels/",
        )
    found = _ERROR.search(said)
    why = ": ".join(part for part in found.groups() if part) if found else "uv could not install them"
    hint = "Mend the requirements, or send wheels along in wheels/"
    if config.only_binary and "wheel" in said:
        hint += ". Only wheels are installed (only_binary)"
    return _failed(why, said, hint=hint)


def _failed(why: str, said: str = "", *, hint: str = "") -> Failed:
    return Failed(Code.DEPENDENCIES_FAILED, "The dependencies were not installed", why=why, hint=hint, output=said)
