"""Root's folder of managed Pythons: what `uv` knows is put there, used by the apps of this host, and taken away.

Invariant: nothing gets there whose SHA-256 is not the one that uv has in itself, or that root has named. Nothing
is taken away that a kept release needs. A folder there that is named by its version is whole: it has answered.
"""

import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from agent.core.config.app import AppConfig
from agent.core.layout import AppLayout, HostLayout
from agent.core.pythons import Python, fits, real_path
from agent.core.venv import COMPLETE, facts_argv
from agent.host.dependencies.pythons import interpreters, managed_folders
from agent.host.releases.store import ReleaseStore
from agent.host.setup.python_builds import Ask, Build, choose_build, uv_argv
from agent.host.storage.disk import Disk
from pusher.wire import Code, Failed, Problem, Refused

_FOLDER = re.compile(r"cpython-(3\.\d+\.\d+)\S*-linux-\S+", re.ASCII)


def check_may_change(layout: HostLayout) -> None:
    """Check that this process may change the folder. Raises: Refused(not_allowed)."""
    there = next(one for one in (layout.pythons, *layout.pythons.parents) if one.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        why = f"{there} cannot be written by this user"
        raise Refused(Code.NOT_ALLOWED, "Only root can change the Pythons of this host", why=why, hint="Use sudo")


def install(
    version: str, *, source: str, sha256: str, layout: HostLayout, disk: Disk, uv: Path, ask: Ask
) -> Iterator[str]:
    """Put a Python of this version into the folder; says what it did, in lines.

    `source`: a mirror (URL or folder), an archive, or "" for uv's default. `sha256`: of an archive that uv does
    not know. Raises: Refused, Failed; the folder is then as before.
    """
    archive = Path(source) if source and Path(source).is_file() else None
    build = choose_build(version, archive, sha256=sha256, uv=uv, ask=ask)
    folder = layout.pythons / build.key
    if folder.exists():
        yield f"Python {build.version} is here already: {folder}"
        return
    work = layout.pythons / ".new"
    try:
        disk.make_folders(layout.pythons, op="pythons.folder", most=0o755)
        disk.discard(work, op="pythons.discard")
        disk.make_folder(work, op="pythons.work", mode=0o700)
        where = _where(build, archive, source, sha256=sha256, work=work, disk=disk)
        _fetch(build, where, layout=layout, disk=disk, uv=uv, ask=ask, local=archive is not None)
    finally:
        disk.discard(work, op="pythons.discard")
    yield f"added Python {build.version}: {folder}"
    minor = ".".join(build.version.split(".")[:2])
    yield f'apps get it with `python = "{minor}"` in [dependencies], or if their releases name it'


def remove(name: str, *, layout: HostLayout, apps: Mapping[str, AppConfig], disk: Disk) -> Iterator[str]:
    """Take a managed Python away: `name` is its version, or its folder. Raises: Refused, with nothing changed."""
    every = managed(layout)
    chosen = [one for one, version in every.items() if name == one.name or fits(version, name)]
    if len(chosen) != 1:
        available = ", ".join(one.name for one in chosen or every) or "none"
        why = "several are of this version" if chosen else "there is no managed Python of this name or version"
        raise Refused(Code.CONFIGURATION, f"{name} cannot be removed", why=why, hint=f"Available: {available}")
    (folder,) = chosen
    if users := users_of(folder, layout=layout, apps=apps):
        hint = "Let the app use another Python, and send a version until no kept release needs this one"
        raise Refused(
            Code.CONFIGURATION, f"{folder.name} cannot be removed", why=f"{users[0]} needs it", hint=hint
        )
    disk.remove(folder, trash=layout.pythons / f".trash-{folder.name}", op="pythons.remove")
    yield f"removed {folder}"


def managed(layout: HostLayout) -> dict[Path, str]:
    """The folders of the managed Pythons, the newest first, each with its version."""
    found = ((one, _FOLDER.fullmatch(one.name)) for one in managed_folders(layout.pythons))
    return {one: match[1] for one, match in found if match}


def users_of(folder: Path, *, layout: HostLayout, apps: Mapping[str, AppConfig]) -> list[str]:
    """Who needs the Python in this folder, for people: apps by their file, and kept releases by their venvs."""
    found = []
    for name, config in apps.items():
        if _beneath(config.dependencies.python, folder):
            found.append(f"the file of {name}")
        store = ReleaseStore(AppLayout(layout.beneath(config.path)))
        for release in store.found():
            if _beneath(_made_with(store.layout.venv(release.venv)), folder):
                found.append(f"release {release.id} ({release.version}) of {name}")
    return found


def _where(
    build: Build, archive: Path | None, source: str, *, sha256: str, work: Path, disk: Disk
) -> tuple[str, ...]:
    """The options of uv that say where the build comes from."""
    if archive is None and not source:
        return ()
    if archive is None:
        mirror = source if "://" in source else f"file://{quote(os.path.abspath(source))}"
        return ("--mirror", mirror)
    real = str(archive.resolve())
    if sha256:
        described = {build.key: _described(build, real, sha256=sha256)}
        disk.write(work / "builds.json", json.dumps(described).encode(), op="pythons.builds")
        return ("--python-downloads-json-url", f"file://{quote(str(work / 'builds.json'))}")
    folder = work / urlsplit(build.url).path.split("/")[-2]
    disk.make_folder(folder, op="pythons.mirror", mode=0o700)
    disk.link(folder / archive.name, real, op="pythons.archive")
    return ("--mirror", f"file://{quote(str(work))}")


def _described(build: Build, path: str, *, sha256: str) -> dict[str, object]:
    """A build as uv's list of downloads has it (its `--python-downloads-json-url`)."""
    major, minor, patch = map(int, build.version.split("."))
    return {
        "name": "cpython",
        "arch": {"family": platform.machine(), "variant": None},
        "os": "linux",
        "libc": build.key.rpartition("-")[2],
        "major": major,
        "minor": minor,
        "patch": patch,
        "prerelease": "",
        "url": f"file://{quote(path)}",
        "sha256": sha256,
        "variant": None,
        "build": None,
    }


def _fetch(
    build: Build,
    where: tuple[str, ...],
    *,
    layout: HostLayout,
    disk: Disk,
    uv: Path,
    ask: Ask,
    local: bool,
) -> None:
    """Have uv unpack the build, then ask the result for its version; what does not answer is taken away again."""
    folder = layout.pythons / build.key
    into = ("--install-dir", str(layout.pythons), "--no-bin", *where)
    try:
        ask(uv_argv(uv, "python", "install", build.key, *into, "--system-certs"))
        if (found := _answer(folder, ask)) != build.version:
            raise Failed(Code.DEPENDENCIES_FAILED, "It does not answer", why=f"it says that it is {found or '?'}")
    except Problem as problem:
        disk.discard(folder, op="pythons.discard")
        hint = "" if local else f"Without a network: fetch {build.url} elsewhere, and use --from FILE"
        why = re.sub(r"^error: ", "", problem.why.strip()) or problem.what
        raise Failed(
            Code.DEPENDENCIES_FAILED, f"Python {build.version} was not added", why=why, hint=hint
        ) from problem
    finally:
        disk.unlink(layout.pythons / ".lock", op="pythons.unlock")  # uv's own, open to everybody's writing
        for one in layout.pythons.iterdir():
            if one.is_symlink():  # to the newest patch version of a minor one: it would move under a venv
                disk.unlink(one, op="pythons.unlink")


def _answer(folder: Path, ask: Ask) -> str:
    for path in interpreters(folder / "bin"):
        return Python(str(path), ask(facts_argv(str(path)))).version
    return ""


def _made_with(venv: Path) -> str:
    """The file of the Python that a venv was made with; empty if that is not known."""
    try:
        return real_path(json.loads((venv / COMPLETE).read_bytes())["python"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _beneath(path: str, folder: Path) -> bool:
    return path.startswith("/") and Path(os.path.realpath(path)).is_relative_to(folder.resolve())
