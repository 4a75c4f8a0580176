"""Wheels that travel: of the project itself, of folders beside it, of repositories and archives that a lock names.

Invariant: a wheel is built by its project's own backend, from the files that are packed and no others, in a folder
of its own. Equal sources give an equal wheel, which is built once.
"""

import contextlib
import hashlib
import json
import os
import posixpath
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pusher.bundle import git
from pusher.bundle.commit import without_login
from pusher.bundle.git import GitFailed
from pusher.bundle.tree import Tree, read_tree
from pusher.dependencies.cache import digest_of, entry, write
from pusher.dependencies.download import download
from pusher.dependencies.lock import WHEELS, LockedFile, Package
from pusher.dependencies.uv import UvFailed, build_wheel, uv_version
from pusher.errors import Usage
from pusher.wire import Link

PYTHON_PATH = "pusher-python-path"
"""The package that puts folders of the release on Python's path."""

_PYTHON_PATH = PYTHON_PATH.replace("-", "_")


class OwnWheels:
    """The wheels of one version. `made` has each by its path in the release."""

    def __init__(self, tree: Tree, *, base: Path) -> None:
        """`base`: the folder that paths in the lock start at."""
        self._tree = tree
        self._base = base
        self.made: dict[str, Path] = {}
        self.folder = tree.folder

    def settle(self, package: Package) -> Package:
        """The package with a wheel that travels, if it comes from elsewhere than an index. Raises: Usage."""
        match package.origin:
            case {"directory": dict(table)}:
                return self.add(package, self.of_folder(package.name, table))
            case {"vcs": dict(table)}:
                return self.add(package, _of_repository(package.name, table))
            case {"archive": dict(table)}:
                return self._archive(package, table)
        local = [file for file in package.files if file.url.startswith("file:") or file.path]
        if local:
            file = local[0]
            source = (
                Path(unquote(urlsplit(file.url).path)) if file.url.startswith("file:") else self._base / file.path
            )
            return self._local(package, source)
        return package

    def of_folder(self, name: str, table: Mapping[str, Any]) -> Path:
        """A wheel of a folder: of the version itself, or outside of it."""
        source = Path(os.path.normpath(self._base / table.get("path", ".") / table.get("subdirectory", "")))
        inside = source.resolve().is_relative_to(self._tree.folder.resolve())
        tree = self._tree if inside else read_tree(source)
        at = str(source.resolve().relative_to(tree.folder.resolve()))
        prefix = "" if at == "." else f"{at}/"
        files = [(one.path, one.mode, one.sha256) for one in tree.files if one.path.startswith(prefix)]
        if not any(path in (f"{prefix}pyproject.toml", f"{prefix}setup.py") for path, *_ in files):
            raise Usage(f"{name} cannot be built", why=f"{source} has neither pyproject.toml nor setup.py")

        def make(into: Path) -> None:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as copy:
                _copy(tree, Path(copy))
                _build(name, Path(copy) / at, into)

        return _only_wheel(entry(digest_of("folder", at, files, _revision(tree.folder), *_machine()), make))

    def python_path(self, folders: Sequence[str]) -> Package:
        """A wheel that puts folders of the release where Python finds modules."""
        wheel = _python_path_wheel(folders)
        key = digest_of("path", hashlib.sha256(wheel).hexdigest())
        return self.add(
            Package(PYTHON_PATH, "1"),
            _only_wheel(entry(key, lambda into: write(into / f"{_PYTHON_PATH}-1-py3-none-any.whl", wheel))),
        )

    def add(self, package: Package, wheel: Path) -> Package:
        """The package, which is this wheel and nothing else."""
        path = f"{WHEELS}/{wheel.name}"
        self.made[path] = wheel
        with wheel.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        version = wheel.name.split("-")[1]
        file = LockedFile(wheel.name, (f"sha256:{digest}",), path=path)
        return replace(package, version=version, files=(file,), hashes=(), origin=None)

    def has(self, package: Package) -> bool:
        """Whether the package is one of these wheels."""
        return any(file.path in self.made for file in package.files)

    def _local(self, package: Package, source: Path) -> Package:
        """A file in the release's own `wheels/` stays as it is: whether it may be built is the host's to say.

        One that git does not track, or `.pusherignore` leaves out, would not travel by itself.
        """
        path = os.path.relpath(source.resolve(), self._tree.folder.resolve())
        if not path.startswith(f"{WHEELS}/") or all(one.path != path for one in self._tree.files):
            return self.add(package, _wheel_of_file(package.name, source))
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        file = LockedFile(source.name, (f"sha256:{digest}",), path=path)
        return replace(package, files=(file,), hashes=(), origin=None)

    def _archive(self, package: Package, table: Mapping[str, Any]) -> Package:
        if "path" in table:
            return self._local(package, self._base / table["path"])
        known = [f"{kind}:{value}" for kind, value in table.get("hashes", {}).items()] + [*package.hashes]
        known += [one for file in package.files for one in file.hashes]
        url = str(table["url"])

        def make(into: Path) -> None:
            name = posixpath.basename(unquote(urlsplit(url).path))
            if name.endswith(".whl"):
                download(url, into / name, hashes=known)
                return
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                download(url, Path(folder) / name, hashes=known)
                _build(package.name, Path(folder) / name, into)

        return self.add(package, _only_wheel(entry(digest_of("archive", url, known, *_machine()), make)))


def wheel_of_archive(name: str, archive: Path) -> Path:
    """A wheel of a source archive. Raises: Usage."""
    with archive.open("rb") as file:
        key = digest_of("source", hashlib.file_digest(file, "sha256").hexdigest(), *_machine())
    return _only_wheel(entry(key, lambda into: _build(name, archive, into)))


def _wheel_of_file(name: str, source: Path) -> Path:
    if not source.is_file():
        raise Usage(f"{name} cannot be packed", why=f"{source} is not there")
    return source if source.suffix == ".whl" else wheel_of_archive(name, source)


def _of_repository(name: str, table: Mapping[str, Any]) -> Path:
    url, commit, inside = str(table.get("url", "")), str(table.get("commit-id", "")), table.get("subdirectory", "")
    what = f"{name} cannot be packed"
    if table.get("type") != "git":
        raise Usage(what, why=f"it comes from a repository of {table.get('type')}, not git")

    def make(into: Path) -> None:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            for argv in (
                ("git", "clone", "--quiet", "--no-checkout", "--", url, folder),
                ("git", "-C", folder, "checkout", "--quiet", commit),
                ("git", "-C", folder, "submodule", "--quiet", "update", "--init", "--recursive"),
            ):
                try:
                    done = subprocess.run(
                        argv,
                        stdin=subprocess.DEVNULL,
                        stderr=subprocess.PIPE,
                        text=True,
                        errors="replace",
                        env=git.environment(),
                        check=False,
                    )
                except OSError as error:
                    raise Usage(what, why=f"git cannot be run: {error.strerror}", hint="Install git") from error
                if done.returncode:
                    problem = Usage(what, why=f"{without_login(url)} does not give {commit}")
                    problem.output = done.stderr
                    raise problem
            _build(name, Path(folder) / inside, into)

    return _only_wheel(entry(digest_of("git", url, commit, inside, *_machine()), make))


def _build(name: str, source: Path, into: Path) -> None:
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as out:
            shutil.copy(build_wheel(source, Path(out)), into)
    except UvFailed as error:
        problem = Usage(
            f"The wheel of {name} could not be built",
            why=error.reason,
            hint="If its code is imported from its folder, and not installed, write into pusher.toml, under "
            '[dependencies]: project = false (or python_path = ["src"])',
        )
        problem.output = "\n".join(error.said.strip().splitlines()[-20:])
        raise problem from error


def _copy(tree: Tree, into: Path) -> None:
    for file, content in tree.contents():
        target = into / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            for piece in content:
                out.write(piece)
        target.chmod(file.mode)
    for entry_ in tree.entries:
        if isinstance(entry_, Link):
            (into / entry_.path).parent.mkdir(parents=True, exist_ok=True)
            (into / entry_.path).symlink_to(entry_.target)
    if (tree.folder / ".git").exists():
        with contextlib.suppress(GitFailed):
            _copy_repository(tree.folder, into / ".git")


def _copy_repository(folder: Path, into: Path) -> None:
    """The repository of a folder, for backends that take the version from it: with a HEAD and an index of its own.

    A file that only names the real one would have git write there: into the index, and, of a further work tree,
    where that lies. Raises: GitFailed.
    """
    own = Path(git.ask(folder, "rev-parse", "--absolute-git-dir"))
    common = git.ask(folder, "rev-parse", "--git-common-dir")
    into.mkdir()
    (into / "commondir").write_text(f"{os.path.join(os.path.realpath(folder), common)}\n", "utf-8")
    for file in (own / "HEAD", own / "index", *own.glob("sharedindex.*")):
        if file.is_file():
            shutil.copyfile(file, into / file.name)


def _revision(folder: Path) -> str:
    """What a backend may take the version from; empty without a repository."""
    if not (folder / ".git").exists():
        return ""
    try:
        return git.ask(folder, "describe", "--always", "--tags", "--dirty")
    except GitFailed:
        return ""


def _machine() -> tuple[str, ...]:
    import sysconfig

    return uv_version(), sysconfig.get_platform(), sysconfig.get_python_version()


def _only_wheel(folder: Path) -> Path:
    return next(folder.glob("*.whl"))


def _python_path_wheel(folders: Sequence[str]) -> bytes:
    """A wheel with one `.pth` file: Python runs a line in it that begins with `import` (site(3)).

    A release's processes start in its folder, which is the one that has `.pusher`.
    """
    import io

    code = (
        "import os, sys; os.path.isdir('.pusher') and "
        f"sys.path.__setitem__(slice(0, 0), [os.path.abspath(one) for one in {json.dumps([*folders])}])\n"
    )
    info = f"{_PYTHON_PATH}-1.dist-info"
    members = {
        f"{_PYTHON_PATH}.pth": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PYTHON_PATH}\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: pusher\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    members[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*members, f"{info}/RECORD"])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in members.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), text)
    return content.getvalue()
