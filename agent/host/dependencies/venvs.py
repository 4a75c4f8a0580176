"""Virtual environments: one per set of dependencies, shared by the releases that need it.

Invariant: what is in `shared/venvs/` under its key is whole (`.complete`), flushed, and never changed again; it is
built in `.staging/` and moved by one rename. The venv's own interpreter is never run by the agent: a
wheel's `.pth` file would run with it.
"""

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path

from agent.core.build_needs import debian_packages
from agent.core.config.app import Dependencies
from agent.core.layout import AppLayout
from agent.core.pythons import Python
from agent.core.requirements.pylock import check_python
from agent.core.requirements.requirement import BUILDS_HINT, SEND_WHEELS, WHEELS
from agent.core.requirements.wanted import Wanted, lock_files, read_exported, read_wanted
from agent.core.venv import (
    COMPLETE,
    astray,
    compile_argv,
    describe,
    export_argv,
    index_credentials,
    install_argv,
    make_argv,
    needs_export,
    sources,
    uv_environment,
    venv_key,
    written_files,
)
from agent.core.work_folder import EXPORTED, LOCK_FOLDER, VENV, Source
from agent.host.dependencies.builder import TIED, Builder
from agent.host.dependencies.credentials import read_logins
from agent.host.dependencies.order import UNREACHABLE, Order, found
from agent.host.dependencies.pythons import Pythons
from agent.host.dependencies.release_files import Places, read_file, tree_digests
from agent.host.dependencies.wheels import check_wheels
from agent.host.ports import Lines
from agent.host.releases.run_files import read_run
from agent.host.releases.venv_files import LIST, list_files, mark_of
from agent.host.run import process
from agent.host.run.threads import to_its_end
from agent.host.storage.disk import Disk
from agent.host.storage.errors import explained
from pusher.wire import Code, Failed, Problem

_ERROR = re.compile(r"^error: (.+)(?:\n +cause: (.+))?", re.M)  # "Failed to download" alone says nothing
_PACKAGES = (".whl", ".tar.gz", ".zip")
"""What of `wheels/` is put where uv looks."""


class Venvs:
    """The venvs of one app. `cache` is the agent's cache folder; `credentials` a file in netrc form.

    Without `pythons`, those of the system are used.
    """

    def __init__(
        self,
        layout: AppLayout,
        disk: Disk,
        cache: Path,
        config: Dependencies,
        uv: Path,
        *,
        builder: Builder,
        credentials: Path | None = None,
        pythons: Pythons | None = None,
    ) -> None:
        self._layout = layout
        self._disk = disk
        self._config = config
        self._uv = uv
        self._builder = builder
        self._environment = uv_environment(os.environ, cache=cache)
        self._credentials = credentials
        self._pythons = pythons or Pythons()
        self._places = Places()

    async def key(self, release: Path) -> str:
        """The key of the venv that a release needs.

        Raises: Failed(dependencies_failed) for files that are missing or cannot be used, or another Python than
        they are for; Refused(configuration, dependencies_failed), for a Python that this host does not have.
        """
        inputs = await self._inputs(release)
        check_python(inputs.wanted.requires_python, python=inputs.python.facts)
        return venv_key(
            inputs.wanted,
            python=inputs.python.facts,
            config=self._config,
            wheels=inputs.wheels,
            places=inputs.places,
        )

    async def why_lost(self, release: Path) -> str:
        """Why the venv of a release does not run any more, because of its Python; empty if it does."""
        return await self._pythons.why_lost(release / "venv")

    async def why_not_renewed(self, release: Path) -> str:
        """Why the venv of a release cannot be made anew with another Python, with the same packages in it.

        Empty if it can.
        """
        try:
            inputs = await self._inputs(release)
            check_python(inputs.wanted.requires_python, python=inputs.python.facts)
        except Problem as problem:
            return str(problem)
        if not (inputs.wanted.exact or inputs.wanted.hashed):
            return f"its {inputs.wanted.name} has no hashes, so another venv may have other packages"
        return ""

    async def ensure(self, key: str, release: Path, *, line: Lines) -> bool:
        """Have the venv `key`, which must be the release's. Returns whether it had to be made.

        What uv says goes to `line`. Raises: Failed(dependencies_failed), with uv's words; Failed(disk_*).
        """
        final, work = self._layout.venv(key), self._layout.staging / f"venv-{key}"
        if await asyncio.to_thread((final / COMPLETE).is_file):
            return False
        inputs = await self._inputs(release)
        if self._config.only_binary:
            await asyncio.to_thread(check_wheels, inputs.wanted, python=inputs.python)
        for said in inputs.wanted.passed_over:
            line(said)
        logins = await asyncio.to_thread(read_logins, self._credentials)
        credentials = index_credentials(self._config, logins)
        await to_its_end(self._clear, final, work)
        try:
            async with asyncio.timeout(self._config.deadline_s):
                wanted = await self._export(inputs, release, work, line)
                await to_its_end(self._write_inputs, wanted, inputs, release, work)
                await self._build(wanted, inputs, work, credentials, line)
                await self._compile(work / VENV, final, python=inputs.python.path)
            await to_its_end(self._publish, work, final, inputs.described(self._config))
        except TimeoutError as error:
            raise _failed(f"there was no end after {self._config.deadline_s:g} s") from error
        except OSError as error:
            raise _failed(f"{self._uv} cannot be run: {error.strerror}") from error
        finally:
            await to_its_end(self._disk.discard, work, op="venv.discard")
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

    async def _inputs(self, release: Path) -> "_Inputs":
        wanted, named = await asyncio.to_thread(self._read, release)
        requires = wanted.requires_python
        python = await self._pythons.choose(self._config.python, named=named, requires=requires)
        return await asyncio.to_thread(self._with_digests, wanted, python, release)

    def _read(self, release: Path) -> tuple[Wanted, str]:
        """What a release asks for, and the version of Python that it names."""
        config = self._config
        wanted = read_wanted(
            config.requirements,
            read=lambda name: read_file(release, name),
            wheels_only=config.only_binary,
            indexes={one.name for one in config.indexes},
        )
        run = read_run(release)
        return wanted, run.python if run else ""

    def _with_digests(self, wanted: Wanted, python: Python, release: Path) -> "_Inputs":
        places = self._places.digests(self._config.find_links)
        return _Inputs(wanted, python, tree_digests(release / WHEELS), places)

    def _clear(self, final: Path, work: Path) -> None:
        """Room for a new one: away with what was not finished, here or there."""
        layout = self._layout
        for folder in (layout.staging, layout.shared, layout.venvs):
            # Whatever the umask: an app that could write to one of these could put other code into its venv.
            self._disk.make_folder(folder, mode=0o755, op="venv.folder")
        self._disk.discard(work, op="venv.discard")
        self._disk.remove(final, trash=layout.trash(f"venv-{final.name}"), op="venv.remove")
        self._disk.make_folder(work, mode=0o700, op="venv.work")

    async def _export(self, inputs: "_Inputs", release: Path, work: Path, line: Lines) -> Wanted:
        """What is wanted, as a list of requirements. Of the release, uv reads the lock and its project alone."""
        wanted = inputs.wanted
        if not needs_export(wanted):
            return wanted
        await to_its_end(self._copy_lock, wanted, release, work / LOCK_FOLDER)
        argv = (*TIED, *export_argv(self._uv, python=inputs.python.path))
        ending, said = await found(self._run(argv, folder=work, line=line))
        if ending:
            raise _failed(f"uv export: {ending}", said)
        text = await asyncio.to_thread(read_file, work, EXPORTED)
        try:
            exported = (text or b"").decode()
        except UnicodeDecodeError as error:
            raise RuntimeError("uv wrote a requirements file that is not UTF-8") from error
        return await asyncio.to_thread(read_exported, wanted, exported, wheels_only=self._config.only_binary)

    def _copy_lock(self, wanted: Wanted, release: Path, folder: Path) -> None:
        self._disk.make_folder(folder, op="venv.lock")
        for name in lock_files(wanted):
            content = read_file(release, name) or b""
            self._disk.create(folder / Path(name).name, [content], op="venv.lock", mode=0o644)

    def _write_inputs(self, wanted: Wanted, inputs: "_Inputs", release: Path, work: Path) -> None:
        """The files that uv reads. What it finds in `wheels/` is what the key was made of, or none."""
        for name, text in written_files(wanted, self._config).items():
            self._disk.create(work / name, [text.encode()], op="venv.write", mode=0o644)
        for name, digest in inputs.wheels.items():
            if name.endswith(_PACKAGES):
                self._copy_wheel(release / WHEELS / name, work / WHEELS / name, digest)

    def _copy_wheel(self, source: Path, to: Path, digest: str) -> None:
        self._disk.make_folders(to.parent, op="venv.wheels")
        with explained("read", source), source.open("rb") as file:
            _, found = self._disk.copy(str(to), file.fileno(), op="venv.wheel", mode=0o644)
        if found != digest:
            raise Failed(Code.RELEASE_DAMAGED, f"{source} changed while it was read", why="its digest is another")

    async def _build(
        self, wanted: Wanted, inputs: "_Inputs", work: Path, credentials: dict[str, str], line: Lines
    ) -> None:
        config, wheels = self._config, any("/" not in name for name in inputs.wheels)
        order = Order(
            make=make_argv(self._uv, python=inputs.python.path),
            attempts=tuple(
                (source, install_argv(self._uv, wanted, config=config, source=source, wheels=wheels))
                for source in sources(config, wanted, wheels=bool(inputs.wheels))
            ),
            environment={**self._environment, **credentials},
            deadline_s=config.deadline_s,
        )
        outcome = await self._builder.build(order, folder=work, line=line)
        if outcome.ending and outcome.step == "uv venv":
            raise _failed(f"{outcome.step}: {outcome.ending}", outcome.said)
        if outcome.ending:
            raise _not_installed(outcome.said, config)
        if outcome.source is not Source.LOCAL:
            names = await asyncio.to_thread(_installed, work / VENV)
            if strays := astray(wanted, config, installed=names):
                raise _failed(
                    f"{', '.join(strays)} came from another index than its own",
                    hint="Name it in the requirements: an index of its own counts only for what is named there",
                )

    async def _compile(self, built: Path, final: Path, *, python: str) -> None:
        """Byte code, for faster starts. A module that does not compile is its package's affair, as with pip."""
        await self._run((*TIED, *compile_argv(python, final=final)), folder=built, line=_nobody)

    async def _run(self, argv: tuple[str, ...], *, folder: Path, line: Lines) -> tuple[str, str]:
        return await process.run(
            argv, folder=folder, environment=self._environment, deadline_s=self._config.deadline_s, line=line
        )

    def _publish(self, work: Path, final: Path, made_from: bytes) -> None:
        built = work / VENV
        self._disk.unlink(built / ".lock", op="venv.unlock")  # uv's own, open to everybody's writing
        with explained("read", built):
            files = list_files(built)
        self._disk.write(built / LIST, files, op="venv.list")
        self._disk.write(built / COMPLETE, mark_of(made_from, files), op="venv.complete")
        self._disk.sync_tree(built, op="venv.flush")
        self._disk.rename(built, final, op="venv.publish")
        self._disk.sync_folder(final.parent, op="venv.sync")
        self._disk.sync_folder(work, op="venv.sync-staging")


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What decides about a venv: what is wanted, its Python, and SHA-256 by path."""

    wanted: Wanted
    python: Python
    wheels: dict[str, str]
    places: dict[str, str]

    def described(self, config: Dependencies) -> bytes:
        facts, wheels, places = self.python.facts, self.wheels, self.places
        return describe(self.wanted, python=facts, config=config, wheels=wheels, places=places)


def _installed(venv: Path) -> list[str]:
    """The names of the installed packages."""
    return [one.name.partition("-")[0] for one in venv.glob("lib/python*/site-packages/*.dist-info")]


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _nobody(_: str) -> None:
    pass


def _not_installed(said: str, config: Dependencies) -> Failed:
    if UNREACHABLE.search(said):
        return _failed(
            "the package index cannot be reached, and not everything is in the cache",
            said,
            hint="Mend the network (proxies and SSL_CERT_FILE are taken from the agent's environment), "
            "set index_url, or send wheels along in wheels/",
        )
    found = _ERROR.search(said)
    why = ": ".join(part for part in found.groups() if part) if found else "uv could not install them"
    if not config.only_binary and (packages := debian_packages(said)):
        lacking = f"The build lacks {' and '.join(packages)}"
        return _failed(why, said, hint=f"{lacking}: `sudo apt-get install {' '.join(packages)}`. Or {SEND_WHEELS}")
    hint = "Mend the requirements, or send wheels along in wheels/"
    if config.only_binary and "wheel" in said:
        hint = BUILDS_HINT
    return _failed(why, said, hint=hint)


def _failed(why: str, said: str = "", *, hint: str = "") -> Failed:
    return Failed(Code.DEPENDENCIES_FAILED, "The dependencies were not installed", why=why, hint=hint, output=said)
