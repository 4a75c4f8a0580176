"""The build steps of a version that does not name them: what its framework needs before it can serve.

Invariant: only commands that make files of the release, and what these make. Sources: Django's `collectstatic`
(STATIC_ROOT) and `compilemessages`, Flask-Babel's `translate compile`, Babel's `pybabel compile`.
"""

import ast
import posixpath
import re
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pusher.run.code import parsed

_COMPILES = re.compile(r"\b(translate compile|pybabel compile|compilemessages)\b")
_COLLECTS = re.compile(r"\bmanage\.py collectstatic\b|\bdjango-admin collectstatic\b")
_COLLECT = "python manage.py collectstatic --noinput"
_BYTES_MOST = 1_000_000
_PROJECT = PurePosixPath("/project")
"""Stands for the folder of the project, wherever that is."""
_DEPTH = 20
"""So many names and functions may lead to a path. One that leads to itself ends there."""


class Steps(NamedTuple):
    """Commands, and the files they make (patterns of gitignore(5))."""

    commands: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


def find_build(folder: Path, named: Collection[str] = ()) -> Steps:
    """The build steps of a version: those among the commands it names, and the collecting of Django's files."""
    commands = [one for one in named if _COMPILES.search(one) or _COLLECTS.search(one)]
    paths = ["**/*.mo"] if any(_COMPILES.search(one) for one in commands) else []
    root = _static_root(folder)
    collects = any(_COLLECTS.search(one) for one in commands)
    # Without git, files that are there already would travel, and the step would write them anew.
    if root and not collects and ((folder / ".git").exists() or not (folder / root).exists()):
        commands.append(_COLLECT)
    if root and any(_COLLECTS.search(one) for one in commands):
        paths.append(root)
    elif collects:
        commands = [one for one in commands if not _COLLECTS.search(one)]
    return Steps(tuple(commands), tuple(paths)) if paths else Steps()


def _static_root(folder: Path) -> str:
    """The folder in the project that Django collects static files into; empty if that is not certain."""
    if not (folder / "manage.py").is_file():
        return ""
    for file in _settings(folder):
        try:
            tree = parsed(file.read_bytes()) if file.stat().st_size <= _BYTES_MOST else None
        except OSError:
            continue
        at = _PROJECT / file.relative_to(folder).as_posix()
        if tree and (found := _Settings(tree, at).folder("STATIC_ROOT")):
            return found
    return ""


def _settings(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("*/settings.py"))
    yield from sorted(folder.glob("*/settings/*.py"))
    yield from sorted(folder.glob("*/*/settings*.py"))


class _Settings:
    """The folders that a file of settings names, as far as it says them plainly. `at` is where the file is."""

    def __init__(self, tree: ast.Module, at: PurePosixPath) -> None:
        self._at = at
        self._values = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }

    def folder(self, name: str) -> str:
        """The folder beneath the project that the variable `name` says; empty if it says none, or another."""
        try:
            found = self._path(self._values[name], _DEPTH)
            return "" if found == _PROJECT else str(found.relative_to(_PROJECT))
        except (KeyError, ValueError):
            return ""

    def _path(self, value: ast.expr, depth: int) -> PurePosixPath:
        """The path that an expression says. Raises: ValueError."""
        if not depth:
            raise ValueError
        above = partial(self._path, depth=depth - 1)
        match value:
            case ast.Name(id="__file__"):
                return self._at
            case ast.Name(id=name):
                # A folder from elsewhere (`from .base import BASE_DIR`) is most likely that of the project.
                return above(self._values[name]) if name in self._values else _PROJECT
            case ast.BinOp(left=left, op=ast.Div(), right=ast.Constant(value=str(name))):
                return _joined(above(left), name)
            case ast.Attribute(value=inner, attr="parent"):
                return above(inner).parent
            case ast.Subscript(value=ast.Attribute(value=inner, attr="parents"), slice=ast.Constant(value=int(n))):
                parents = above(inner).parents
                return parents[n] if n < len(parents) else parents[-1]
            case ast.Call(func=ast.Attribute(attr="dirname"), args=[inner]):
                return above(inner).parent
            case ast.Call(func=ast.Attribute(attr="join"), args=[inner, *rest]) if rest:
                return _joined(above(inner), *map(_text, rest))
            case ast.Call(func=ast.Attribute(value=inner, attr="joinpath"), args=rest):
                return _joined(above(inner), *map(_text, rest))
            case ast.Call(func=ast.Attribute(attr="abspath" | "realpath" | "normpath"), args=[inner]):
                return above(inner)
            case ast.Call(func=ast.Attribute(value=inner, attr="resolve" | "absolute"), args=[]):
                return above(inner)
            case ast.Call(func=ast.Name(id="str" | "Path"), args=[inner]):
                return above(inner)
        raise ValueError


def _joined(folder: PurePosixPath, *names: str) -> PurePosixPath:
    return PurePosixPath(posixpath.normpath(folder.joinpath(*names)))


def _text(value: ast.expr) -> str:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return value.value
    raise ValueError
