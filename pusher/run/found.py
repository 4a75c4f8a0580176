"""How a version is started that does not say it: found in its code, by the rules of its framework.

Invariant: nothing of the version is run, and what is not certain is not guessed: then there is no answer, and the
host decides. Sources: Django's "How to deploy" (wsgi.py, asgi.py), Flask's "Application discovery"
(app, application, create_app, make_app), the manuals of FastAPI, Starlette, Quart, Litestar and streamlit.
"""

import ast
import os
import re
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from pusher.run.code import parsed
from pusher.run.servers import Words, listening
from pusher.wire import ANY_ANSWER, RunHealth, RunSection

_WSGI = {"Flask": "flask", "Bottle": "bottle", "Dash": "dash", "Falcon": "falcon"}
_ASGI = {
    "FastAPI": "fastapi",
    "Starlette": "starlette",
    "Quart": "quart",
    "Litestar": "litestar",
    "FastHTML": "python-fasthtml",
    "BlackSheep": "blacksheep",
}
_FACTORIES = ("create_app", "make_app")
_FILES = ("wsgi", "asgi", "app", "main", "application", "server", "api", "run", "manage", "web", "site")
_NAMES = ("app", "application", "api", "asgi", "wsgi", "server")
_WORKERS = ("-w", "2")
_DEFAULT = "gunicorn"
_FILES_MOST = 2_000
_ROOT_ROUTE = re.compile(r"""\(\s*["']/["']|path\(\s*r?["']\^?\$?["']""")
_LOCAL = ("localhost", "127.0.0.1", "[::1]", "*")
_BYTES_MOST = 1_000_000
_NOT_CODE = ("venv", "node_modules", "tests", "test", "docs", "__pycache__")
_SETTINGS = re.compile(r"""DJANGO_SETTINGS_MODULE["']\s*,\s*["']([\w.]+)["']""")


class Found(NamedTuple):
    """A run section that was found, and why, as a sentence. The section is empty if nothing was found.

    `lacking` is a package without which no host could start it, unless the host or the version says how; `then` is
    how it is started with that.
    """

    section: RunSection
    why: str
    lacking: str = ""
    then: str = ""


class _App(NamedTuple):
    """An application object: how a server is to import it, whether by ASGI, and where it was seen."""

    target: str
    asgi: bool
    factory: bool
    seen: str


def find_run(folder: Path, packages: Collection[str]) -> Found:
    """How the version in `folder` is started. `packages` are the names of its dependencies, normalized."""
    if streamlit := _streamlit(folder, packages):
        return streamlit
    app = _django(folder, packages) or _module(folder)
    if app is None:
        why = "no Flask, Django, FastAPI or other application was found in it"
        if not packages or _DEFAULT in packages:
            return Found(RunSection(), why)
        why += f", and {_DEFAULT}, by which a host starts such a version, is not among its dependencies"
        return Found(RunSection(), why, lacking=_DEFAULT)
    words = _command(app, packages)
    if words is None:
        needed = "uvicorn" if app.asgi else "gunicorn"
        why = f"{app.seen}, and its dependencies have no web server: add {needed}"
        then = shlex.join(listening(_command(app, (needed,)) or ()).words)
        return Found(RunSection(), why, lacking=needed, then=then)
    start = listening(words)
    via = start.via if start.via != "socket" else ""
    return Found(RunSection(start=shlex.join(start.words), listen_via=via), app.seen)


def find_health(folder: Path) -> RunHealth:
    """How a version that says nothing about it shows that it is well: it answers `/`, and not with an error.

    A page that leads to a login, or asks for one, is an answer. "Not found" is one only where no code names `/`.
    The host is the first in Django's ALLOWED_HOSTS, where that has no name of this machine.
    """
    sources = [text for text in map(_text, _python_files(folder)) if text]
    status = (*ANY_ANSWER, *(() if any(map(_names_root, sources)) else (404,)))
    return RunHealth(status=status, host=next(filter(None, map(_allowed_host, sources)), None))


def _command(app: _App, packages: Collection[str]) -> Words | None:
    """The first server among the dependencies that can serve it."""
    if not app.asgi:
        target = f"{app.target}()" if app.factory else app.target
        if "gunicorn" in packages:
            return ("gunicorn", *_WORKERS, target)
        if "waitress" in packages:
            return ("waitress-serve", *(("--call",) if app.factory else ()), app.target)
        if "granian" in packages:
            return ("granian", "--interface", "wsgi", *(("--factory",) if app.factory else ()), app.target)
        return None
    factory = ("--factory",) if app.factory else ()
    if "uvicorn" in packages:
        return ("uvicorn", *factory, app.target)
    if "hypercorn" in packages:
        return ("hypercorn", f"{app.target}()" if app.factory else app.target)
    if "granian" in packages:
        return ("granian", "--interface", "asgi", *factory, app.target)
    if "daphne" in packages and not app.factory:
        return ("daphne", app.target)
    return None


def _streamlit(folder: Path, packages: Collection[str]) -> Found | None:
    if "streamlit" not in packages:
        return None
    for name in ("streamlit_app", "app", "main", "Home", "home"):
        tree = _parsed(folder / f"{name}.py")
        if tree is not None and any(_imports(node, "streamlit") for node in ast.walk(tree)):
            start = listening(("streamlit", "run", f"{name}.py"))
            health = RunSection.from_members({"health": {"path": "/_stcore/health"}}).health
            section = RunSection(start=shlex.join(start.words), listen_via=start.via, health=health)
            return Found(section, f"{name}.py is a streamlit script")
    return None


def _django(folder: Path, packages: Collection[str]) -> _App | None:
    """The application of a Django project: beside the settings that manage.py names."""
    try:
        settings = _SETTINGS.search((folder / "manage.py").read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    if settings is None:
        return None
    parts = settings[1].split(".")
    socketed = packages and "gunicorn" not in packages
    for depth in range(len(parts) - 1, 0, -1):
        package = parts[:depth]
        there = [kind for kind in ("wsgi", "asgi") if folder.joinpath(*package, f"{kind}.py").is_file()]
        if there:
            kind = "asgi" if "asgi" in there and (socketed or there == ["asgi"]) else there[0]
            module = ".".join([*package, kind])
            return _App(f"{module}:application", kind == "asgi", False, f"manage.py leads to {module}")
    return None


def _module(folder: Path) -> _App | None:
    """The application in one of the usual modules: an object first, then a factory."""
    factories: list[_App] = []
    for file, module in _modules(folder):
        tree = _parsed(file)
        if tree is None:
            continue
        where = str(file.relative_to(folder))
        for name, asgi, framework in _objects(tree):
            return _App(f"{module}:{name}", asgi, False, f"{where} makes `{name}`, a {framework} application")
        for name, asgi, framework in _made_by_factory(tree):
            factories.append(
                _App(
                    f"{module}:{name}",
                    asgi,
                    True,
                    f"{where} has `{name}()`, which makes a {framework} application",
                )
            )
        for name, imported in _from_factory(tree, any_name=file.stem in ("wsgi", "asgi")):
            framework = "Flask"
            seen = f"{where} makes `{name}` by {imported}()"
            return _App(f"{module}:{name}", _asgi_of(folder), False, seen)
    return factories[0] if factories else None


def _modules(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files where applications usually are, with their module names: the top, then packages, then src/."""
    for name in _FILES:
        if (folder / f"{name}.py").is_file():
            yield folder / f"{name}.py", name
    for top in (folder, folder / "src"):
        try:
            packages = sorted(one for one in top.iterdir() if (one / "__init__.py").is_file())
        except OSError:
            continue
        packages = [one for one in packages if one.name not in ("tests", "test", "docs", "migrations")]
        for package in packages:
            for name in _FILES:
                if (package / f"{name}.py").is_file():
                    yield package / f"{name}.py", f"{package.name}.{name}"
            yield package / "__init__.py", package.name
    if (folder / "app" / "main.py").is_file() and not (folder / "app" / "__init__.py").is_file():
        yield folder / "app" / "main.py", "app.main"
    for file in sorted(folder.glob("*.py")):
        if file.stem not in _FILES and file.stem not in ("setup", "conftest", "config", "gunicorn.conf"):
            yield file, file.stem


def _parsed(file: Path) -> ast.Module | None:
    try:
        return parsed(file.read_bytes()) if file.stat().st_size <= _BYTES_MOST else None
    except OSError:
        return None


def _objects(tree: ast.Module) -> Iterator[tuple[str, bool, str]]:
    """The module's variables that are applications, the usual names first: name, ASGI, framework."""
    found = [
        (target.id, *made)
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and (made := _makes(node.value)) is not None
    ]
    yield from sorted(found, key=lambda one: _NAMES.index(one[0]) if one[0] in _NAMES else len(_NAMES))


def _makes(value: ast.expr | None) -> tuple[bool, str] | None:
    """Whether an expression makes an application: ASGI, framework."""
    if not isinstance(value, ast.Call):
        return None
    name = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
    if name in _WSGI:
        return False, name
    return (True, name) if name in _ASGI else None


def _made_by_factory(tree: ast.Module) -> Iterator[tuple[str, bool, str]]:
    """The functions with a factory's name that make an application and need no argument."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or node.name not in _FACTORIES:
            continue
        arguments = node.args
        if len(arguments.args) + len(arguments.posonlyargs) > len(arguments.defaults):
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.Call) and (made := _makes(inner)) is not None:
                yield node.name, *made
                break


def _from_factory(tree: ast.Module, *, any_name: bool) -> Iterator[tuple[str, str]]:
    """The module's variables that a factory makes, which comes from elsewhere: `app = create_app()`.

    In a module that exists for servers, the variable may have `any_name`.
    """
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        name = getattr(node.value.func, "id", getattr(node.value.func, "attr", ""))
        for target in node.targets:
            if isinstance(target, ast.Name) and (any_name or target.id in _NAMES) and name in _FACTORIES:
                yield target.id, name


def _asgi_of(folder: Path) -> bool:
    """Whether the factory of a folder makes an ASGI application."""
    for file, _ in _modules(folder):
        tree = _parsed(file)
        for _, asgi, _ in _made_by_factory(tree) if tree is not None else ():
            return asgi
    return False


def _python_files(folder: Path) -> Iterator[Path]:
    """The files of the version's own code, at most so many."""
    left = _FILES_MOST
    for above, folders, files in os.walk(folder):
        folders[:] = [one for one in folders if not one.startswith(".") and one not in _NOT_CODE]
        for name in files:
            if name.endswith(".py"):
                left -= 1
                yield Path(above, name)
            if not left:
                return


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8") if file.stat().st_size <= _BYTES_MOST else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _names_root(source: str) -> bool:
    """Whether code names `/`. A text beside it does not count: Django's own urls.py begins with such examples."""
    if not _ROOT_ROUTE.search(source):
        return False
    tree = parsed(source)
    return tree is None or any(map(_is_root, ast.walk(tree)))


def _is_root(node: ast.AST) -> bool:
    """Whether it is a call or a pair that begins with `/`, or with Django's empty path."""
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        known, first = not hasattr(str, name), next(iter(node.args), None)  # "a/b".split("/") is no route
    elif isinstance(node, ast.Tuple):
        name, known, first = "", True, next(iter(node.elts), None)
    else:
        return False
    value = first.value if known and isinstance(first, ast.Constant) else None
    return value == "/" or (isinstance(value, str) and name.endswith("path") and not value.strip("^$"))


def _allowed_host(source: str) -> str | None:
    """The first name in a list ALLOWED_HOSTS that is written out and has none for this machine (Django)."""
    tree = parsed(source) if "ALLOWED_HOSTS" in source else None
    for node in tree.body if tree else ():
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.List):
            continue
        if any(isinstance(one, ast.Name) and one.id == "ALLOWED_HOSTS" for one in node.targets):
            names = [one.value for one in node.value.elts if isinstance(one, ast.Constant)]
            if names and len(names) == len(node.value.elts) and not {*names} & {*_LOCAL}:
                return str(names[0]).lstrip(".")
    return None


def _imports(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.Import):
        return any(one.name.partition(".")[0] == name for one in node.names)
    return isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == name
