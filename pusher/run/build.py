"""The build steps of a version that does not name them: what its framework needs before it can serve.

Invariant: only commands that make files of the release, and what these make. Sources: Django's `collectstatic`
(STATIC_ROOT) and `compilemessages`, Flask-Babel's `translate compile`, Babel's `pybabel compile`.
"""

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

_COMPILES = re.compile(r"\b(translate compile|pybabel compile|compilemessages)\b")
_COLLECTS = re.compile(r"\bmanage\.py collectstatic\b|\bdjango-admin collectstatic\b")
_COLLECT = "python manage.py collectstatic --noinput"
_BYTES_MOST = 1_000_000


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
            tree = ast.parse(file.read_bytes()) if file.stat().st_size <= _BYTES_MOST else None
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in tree.body if tree else ():
            if isinstance(node, ast.Assign) and any(
                getattr(one, "id", "") == "STATIC_ROOT" for one in node.targets
            ):
                return _beneath(node.value)
    return ""


def _settings(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("*/settings.py"))
    yield from sorted(folder.glob("*/settings/*.py"))
    yield from sorted(folder.glob("*/*/settings*.py"))


def _beneath(value: ast.expr) -> str:
    """What follows the folder in `BASE_DIR / "static"`, `os.path.join(BASE_DIR, "static")`, `str(...)` of one."""
    match value:
        case ast.BinOp(left=left, op=ast.Div(), right=ast.Constant(value=str(name))):
            above = _beneath(left) if isinstance(left, ast.BinOp) else "" if isinstance(left, ast.Name) else None
            return "" if above is None or not name else f"{above}/{name}".strip("/")
        case ast.Call(args=[ast.Name(), *rest]) if _is_join(value) and rest:
            names = [one.value for one in rest if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            return "/".join(names).strip("/") if len(names) == len(rest) else ""
        case ast.Call(args=[inner], func=ast.Name(id="str")):
            return _beneath(inner)
    return ""


def _is_join(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "join"
