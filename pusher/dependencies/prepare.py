"""A version as it travels: its folder, with the one lock that its dependencies come to.

Invariant: the folder itself is not changed. What a repeated send needs is not worked out twice.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from pusher.bundle.tree import Tree, read_tree
from pusher.config import Dependencies
from pusher.dependencies.cache import digest_of, entry, write
from pusher.dependencies.choice import LOCKS, choose, project_table
from pusher.dependencies.lock import PYLOCK, WHEELS, Lock, Package, note, noted, read_lock, write_lock
from pusher.dependencies.named import named_packages
from pusher.dependencies.own_wheels import PYTHON_PATH, OwnWheels
from pusher.dependencies.pipenv import read_pipenv
from pusher.dependencies.poetry import poetry_project, read_poetry
from pusher.dependencies.requirement_files import Requirements, exact_lock, read_requirements
from pusher.dependencies.target import with_pure_wheels, with_wheels
from pusher.dependencies.uv import UNREACHABLE, UvFailed, compile_lock, export_lock, uv_version
from pusher.errors import Usage
from pusher.run.python import declared_python

DEFAULT_PYTHON = "3.11"
"""Debian 12's: the oldest that a host of ours has."""

_DECIDING = frozenset({"pyproject.toml", "setup.py", "setup.cfg", "uv.toml", "uv.lock", PYLOCK})
_INDEXES = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_PRERELEASE")
_PYTHON_TOO_OLD = re.compile(r"(?:does not satisfy|requires) Python *>=([0-9]+\.[0-9]+)")
_NO_PYTHON = re.compile(r"No interpreter found for Python ([^ \n]+)|Failed to inspect Python interpreter")
_NOTED = "lock.json"
_PYTHONS = tuple(f"3.{minor}" for minor in range(7, 20))
_PATCHES = 100


class Prepared(NamedTuple):
    """A tree to pack, what people should know of how it came to be, a line each, and the names of its packages.

    `requires_python` is which Pythons it admits, as ">=3.12".
    """

    tree: Tree
    notes: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    requires_python: str = ""


def prepare(
    folder: Path, *, wanted: Dependencies, anew: bool = False, tracked: Collection[str] | None = None
) -> Prepared:
    """The tree of `folder` with its `pylock.toml` and the wheels that belong to it. `anew`: ask the index again.

    With `tracked`, of these files alone. Without any file that names dependencies, the tree is as the folder.
    Raises: Usage.
    """
    folder = folder.absolute()  # uv is run elsewhere
    tree = read_tree(folder, tracked=tracked)
    file = choose(folder, named=wanted.file)
    python = declared_python(folder, wanted=wanted.python)
    noted = (python.note,) if python.note else ()
    if file is None and not wanted.python_path:
        return Prepared(tree, noted, named_packages(folder))
    preparing = _Preparing(tree, wanted, anew)
    try:
        found = preparing.prepare(file)
    except _HostDecides as error:
        found = Prepared(tree, (*preparing.notes, str(error)), named_packages(folder))
    return found._replace(notes=(*found.notes, *noted))


class _HostDecides(Exception):
    """The index cannot be asked from here; the host does it, as it does for a folder that is dropped."""


class _Preparing:
    def __init__(self, tree: Tree, wanted: Dependencies, anew: bool) -> None:
        self.tree = tree
        self.folder = tree.folder
        above, _, name = wanted.file.rpartition("/")
        beside = tree.folder / (above if name in (*LOCKS, "pyproject.toml") else "")
        is_member = name == "uv.lock" and beside.resolve() in tree.folder.resolve().parents
        self.project = tree.folder if is_member else beside
        """Whose `pyproject.toml` counts: it lies beside a lock that is named, if that is no workspace's above."""
        self.wanted = wanted
        self.anew = anew
        self.notes: list[str] = []

    def prepare(self, file: Path | None) -> Prepared:
        self._check_python("", file)
        lock = self._lock(file) if file else Lock()
        requires = self._check_python(lock.requires_python, file)
        base = file.parent if file and file.name == "uv.lock" else self.project
        own = OwnWheels(self.tree, base=base)
        packages = lock.packages
        if self.wanted.python_path or self.wanted.project is False:
            packages = tuple(one for one in packages if not self._is_project(one, base))
        lock = replace(lock, packages=tuple(own.settle(one) for one in packages))
        if self.wanted.python_path:
            lock = replace(lock, packages=(*lock.packages, own.python_path(self.wanted.python_path)))
        mine = [one.name for one in lock.packages if own.has(one) and one.name != PYTHON_PATH]
        if self.wanted.wheels:
            lock = with_wheels(self._with_addresses(lock), own, python=self._python())
        else:
            lock, built = with_pure_wheels(lock, own)
            mine += built
        text = write_lock(lock)
        key = digest_of("written", text)
        written = entry(key, lambda into: write(into / PYLOCK, text.encode())) / PYLOCK
        names = tuple(one.name for one in lock.packages)
        if file:
            self.notes.insert(0, self._said(file, lock, mine))
        travelling = self.tree.with_files({PYLOCK: written, **own.made})
        return Prepared(travelling, tuple(self.notes), names, str(requires))

    def _lock(self, file: Path) -> Lock:
        """What the deciding file comes to."""
        extras, groups = self.wanted.extras, self.wanted.groups
        match file.name:
            case "pylock.toml":
                return self._known(file, lambda: _complete(file, extras, groups))
            case "uv.lock":
                return self._known(file, lambda: self._export(file))
            case "poetry.lock":
                lock = self._known(file, lambda: read_poetry(file, extras=extras, groups=groups))
                return replace(lock, packages=(*lock.packages, *poetry_project(self.project)))
            case "Pipfile.lock":
                return read_pipenv(file, groups=groups)
            case "pyproject.toml":
                return self._with_project(self._known(file, lambda: self._compile("pyproject.toml", file)))
            case _:
                return self._requirements(file)

    def _requirements(self, file: Path) -> Lock:
        found = read_requirements(file, top=self.folder)
        self.notes += found.passed_over
        if (lock := exact_lock(found)) is not None:
            return lock
        return self._known(file, lambda: self._compile(found.text, file), found)

    def _known(self, file: Path, make: Callable[[], Lock], requirements: Requirements | None = None) -> Lock:
        """The lock, from the cache if nothing that decides about it has changed."""
        deciding = [
            (one.path, one.sha256)
            for one in self.tree.files
            if one.path.rpartition("/")[2] in _DECIDING or one.path.startswith(f"{WHEELS}/")
        ]
        files = {file, *(requirements.files if requirements else ()), *_members(file)}
        contents = sorted(
            (os.path.relpath(one, self.folder), hashlib.sha256(one.read_bytes()).hexdigest())
            for one in files
            if one.is_file()
        )
        wanted = (self.wanted.extras, self.wanted.groups, self.wanted.package, self._python())
        indexes = {name: os.environ[name] for name in _INDEXES if name in os.environ}

        key = digest_of("lock", uv_version(), file.name, deciding, contents, wanted, indexes)
        found = entry(key, lambda into: write(into / _NOTED, note(make())), anew=self.anew)
        return noted((found / _NOTED).read_bytes())

    def _export(self, file: Path) -> Lock:
        project = self.project if (self.project / "pyproject.toml").is_file() else file.parent
        wanted = self.wanted
        what: dict[str, Any] = {"package": wanted.package, "extras": wanted.extras, "groups": wanted.groups}
        try:
            return read_lock(export_lock(project, **what), name=str(file))
        except UvFailed as error:
            if _NO_PYTHON.search(error.said):
                raise _unusable(file, error) from error
            # A lock that can be used without being checked is one that is not its project's.
            with contextlib.suppress(UvFailed):
                export_lock(project, checked=False, **what)
                why = "" if "needs to be updated" in error.said else error.reason
                raise Usage(f"{file} does not fit its pyproject.toml", why=why, hint="uv lock") from error
            raise _unusable(file, error) from error

    def _compile(self, requirements: str, file: Path) -> Lock:
        extras, groups = self.wanted.extras, self.wanted.groups
        try:
            text = compile_lock(
                requirements,
                folder=self.project,
                wheels=self.folder / WHEELS,
                python=self._python(),
                extras=extras,
                groups=groups,
            )
            return read_lock(text, name=str(file))
        except UvFailed as error:
            if UNREACHABLE.search(error.said):
                name = os.path.relpath(file, self.folder)
                raise _HostDecides(
                    f"{name} travels without a lock, and each host resolves it anew: {error.reason}"
                ) from error
            raise _unusable(file, error) from error

    def _with_project(self, lock: Lock) -> Lock:
        """The project itself as well, if it is one that is installed."""
        table = project_table(self.project)
        project = table.get("project")
        if not isinstance(project, dict) or "build-system" not in table:
            return lock
        own = Package(canonicalize_name(str(project.get("name", "project"))), origin={"directory": {"path": "."}})
        return replace(lock, packages=(*lock.packages, own))

    def _is_project(self, package: Package, base: Path) -> bool:
        match package.origin:
            case {"directory": {"path": str(path)}}:
                return os.path.realpath(base / path) == os.path.realpath(self.project)
        return False

    def _with_addresses(self, lock: Lock) -> Lock:
        """The lock with an address of every file, where the tool that made it has noted none."""
        lacking = [one for one in lock.packages if not one.local and not any(file.url for file in one.files)]
        if not lacking:
            return lock
        text = "".join(f"{one.name}=={one.version}\n" for one in lacking)
        try:
            made = compile_lock(
                text, folder=self.project, wheels=self.folder / WHEELS, python=self._python(), deps=False
            )
            found = read_lock(made, name="uv")
        except UvFailed as error:
            raise Usage("The wheels cannot be found", why=error.reason) from error
        by_name = {(one.name, one.version): one for one in found.packages}
        return replace(
            lock, packages=tuple(_addressed(one, by_name.get((one.name, one.version))) for one in lock.packages)
        )

    def _python(self) -> str:
        """The oldest Python that the version must work with."""
        if declared := declared_python(self.folder, wanted=self.wanted.python).version:
            return declared
        requires = self._project_python()
        later = _PYTHONS[_PYTHONS.index(DEFAULT_PYTHON) :]
        # "3.11" is 3.11.0, and a project may ask for 3.11.2, which Debian 12 has.
        every = (one for minor in later for one in (minor, *(f"{minor}.{patch}" for patch in range(1, _PATCHES))))
        return next(filter(requires.contains, every), DEFAULT_PYTHON)

    def _project_python(self) -> SpecifierSet:
        project = project_table(self.project).get("project")
        stated = project.get("requires-python", "") if isinstance(project, dict) else ""
        try:
            return SpecifierSet(str(stated))
        except InvalidSpecifier as error:
            raise Usage(
                f"{self.project}/pyproject.toml cannot be used", why=f"requires-python is {stated!r}"
            ) from error

    def _check_python(self, stated: str, file: Path | None) -> SpecifierSet:
        """The Pythons that lock and project admit. Raises: Usage, if nobody has one, or another one is named."""
        try:
            requires = SpecifierSet(stated) & self._project_python()
        except InvalidSpecifier as error:
            raise Usage(f"{file} cannot be used", why=f"requires-python is {stated!r}") from error
        if not any(requires.contains(f"{one}.{_PATCHES - 1}") or requires.contains(one) for one in _PYTHONS):
            raise Usage(
                f"There is no Python {requires}", why=f"{file} asks for it", hint="Correct requires-python"
            )
        declared, by, _ = declared_python(self.folder, wanted=self.wanted.python)
        if declared and not (requires.contains(declared) or requires.contains(f"{declared}.{_PATCHES - 1}")):
            raise Usage(
                f"The version needs Python {requires}, and {by} names {declared}",
                hint=f"Correct {by}, or requires-python",
            )
        return requires

    def _said(self, file: Path, lock: Lock, mine: Sequence[str]) -> str:
        name = os.path.relpath(file, self.folder)
        count = sum(one.name != PYTHON_PATH for one in lock.packages)
        number = f"{count} package{'' if count == 1 else 's'}"
        travelling = "all as wheels" if self.wanted.wheels else f"built here: {', '.join(mine)}" if mine else ""
        path = f"modules from {' and '.join(self.wanted.python_path)}" if self.wanted.python_path else ""
        return ", ".join(one for one in (f"dependencies: {name}", number, travelling, path) if one)


def _complete(file: Path, extras: Sequence[str], groups: Sequence[str]) -> Lock:
    """The lock that a folder has itself. Raises: Usage, if a package in it has no hashes."""
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:  # what PowerShell makes of `>`
        raise Usage(f"{file} cannot be used", why="it is not UTF-8", hint="Save it as UTF-8") from error
    lock = read_lock(text, name=str(file), extras=extras, groups=groups)
    for one in lock.packages:
        if not (one.files or one.hashes or one.origin):
            raise Usage(f"{file} cannot be used", why=f"{one.name} has no hashes")
    return lock


def _addressed(package: Package, found: Package | None) -> Package:
    """The package with the files of `found` whose hashes it knows."""
    if found is None or package.local:
        return package
    known = {*package.hashes, *(one for file in package.files for one in file.hashes)}
    files = tuple(file for file in found.files if known & {*file.hashes})
    return replace(package, files=files, hashes=()) if files else package


def _members(lock: Path) -> list[Path]:
    """The projects that a uv.lock names by their folders."""
    if lock.name != "uv.lock":
        return []
    folders = re.findall(r'source = \{ (?:editable|virtual|directory) = "([^"]+)"', lock.read_text("utf-8"))
    return [lock.parent / "pyproject.toml", *(lock.parent / one / "pyproject.toml" for one in folders)]


def _stated_python(lock: Path) -> str:
    """The Pythons that a uv.lock says it is for; empty if it does not."""
    found = re.search(r'^requires-python = "([^"]*)"', lock.read_text("utf-8"), re.M)
    return found[1] if found else ""


def _unusable(file: Path, error: UvFailed) -> Usage:
    if found := _NO_PYTHON.search(error.said):
        python = found[1] or _stated_python(file)
        return Usage(
            f"{file} cannot be read here",
            why=f"it is for Python {python or 'of the version it names'}, and this machine has none",
            hint=f"uv python install '{python}'" if python else "uv python install",
        )
    hint = ""
    if found := re.search(r"git\+(\S+?)`?(?:[@#]|\s|$)", error.said) if "Git operation" in error.said else None:
        hint = f"Can you read that repository from here? To see: git ls-remote {found[1]}"
    elif found := _PYTHON_TOO_OLD.search(error.said):
        hint = (
            f'Write into pusher.toml, under [run]: python = "{found[1]}". The host needs that Python too: '
            f"`sudo pusher-agent python add {found[1]}`. Or choose a version of the package for an older Python"
        )
    return Usage(f"The dependencies in {file} cannot be decided", why=error.reason, hint=hint)
