"""Requirements files as the sender reads them: with all that they include, as one list of statements.

Invariant: a statement that decides what is installed is never left out. Options of pip that only change how it
works are left out, and named.

Format: https://pip.pypa.io/en/stable/reference/requirements-file-format/.
"""

import codecs
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from pusher.dependencies.lock import Lock, Package
from pusher.errors import Usage

_INCLUDES = {"-r": "-r", "--requirement": "-r", "-c": "-c", "--constraint": "-c"}
_HARMLESS = frozenset({"--no-cache-dir", "--prefer-binary", "--disable-pip-version-check", "--no-input"})
_HARMLESS_WITH_VALUE = frozenset({"--progress-bar", "--timeout", "--retries", "--cert", "--cache-dir"})
_DECIDED = frozenset(
    {"--require-hashes", "--no-index", "-i", "--index-url", "--extra-index-url", "--trusted-host", "--pre"}
)
"""What changes nothing where versions and hashes are given: root says where a host looks for them."""
_OF_PROJECTS = ("pyproject.toml", "setup.py", "setup.cfg")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_EDITABLE = re.compile(r"(?:-e|--editable)[ =]\s*")
_FROM_FILE = re.compile(r"^(?P<name>[^@]*?)@?\s*(?P<url>file:///\S+)")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]")
_LOCAL = re.compile(r"\.{0,2}/|\.\.?(?:$|[\[; ])")
_HASH = re.compile(r"--hash(?:=|\s+)(\S+)")


@dataclass(slots=True)
class Requirements:
    """What a file and its includes state. `constraints` are files that only limit versions.

    `files` decide what it comes to: those that were read, and what is named by its place: archives, and the files
    in which projects say what they need.
    """

    statements: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    constraints: list[Path] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """One requirements file that says the same."""
        return "".join(f"{one}\n" for one in (*(f"-c {path}" for path in self.constraints), *self.statements))


def read_requirements(file: Path, *, top: Path) -> Requirements:
    """What `file` states. Raises: Usage, naming the file and the line."""
    found = Requirements()
    _follow(file, found, top, by="")
    return found


def exact_lock(requirements: Requirements) -> Lock | None:
    """The lock that exact versions with hashes already are; None, if anything is left open."""
    packages = []
    for statement in requirements.statements:
        if re.split(r"[=\s]", statement, maxsplit=1)[0] in _DECIDED:
            continue
        text, *_ = _HASH.split(statement, maxsplit=1)
        hashes = _HASH.findall(statement)
        try:
            one = Requirement(text)
        except InvalidRequirement:
            return None
        (only, *more) = [*one.specifier] or [None]
        if (
            not hashes
            or only is None
            or more
            or only.operator not in ("==", "===")
            or "*" in only.version
            or one.url
        ):
            return None
        packages.append(
            Package(canonicalize_name(one.name), only.version, str(one.marker or ""), hashes=tuple(hashes))
        )
    return Lock(tuple(packages))


def _follow(file: Path, found: Requirements, top: Path, by: str) -> None:
    # Not as it is spelled: of two files in two folders that include each other, the path would grow for ever.
    if os.path.realpath(file) in map(os.path.realpath, found.files):
        return
    found.files.append(file)
    name = os.path.relpath(file, top)
    for number, statement in _statements(_text(file, name, by)):
        where = f"{name}, line {number}"
        option, _, value = statement.partition(
            "=" if statement.startswith("--") and "=" in statement.split()[0] else " "
        )
        if option in _INCLUDES and "://" in value:
            found.statements.append(f"{_INCLUDES[option]} {value.strip()}")  # uv fetches it
        elif option in _INCLUDES:
            included = file.parent / value.strip()
            if _INCLUDES[option] == "-c":
                _text(included, value.strip(), where)
                found.constraints.append(included)
                found.files.append(included)
            else:
                _follow(included, found, top, by=where)
        elif option in _HARMLESS or option in _HARMLESS_WITH_VALUE:
            found.passed_over.append(f"{where}: {option} is passed over")
        else:
            place = _check_place(statement, where, bases=(file.parent, top))
            found.files += [place, *(place / name for name in _OF_PROJECTS)] if place else []
            found.statements.append(statement)


def _check_place(statement: str, where: str, *, bases: tuple[Path, ...]) -> Path | None:
    """The folder or file that a line names by its place, which must be there; None if it names none.

    uv would name it without the line, or not at all. Raises: Usage, with the way out.
    """
    editable = _EDITABLE.match(statement)
    named = statement[editable.end() :] if editable else statement
    if editable and named.startswith("git+"):
        hint = f"Leave out {editable[0].strip()}: the release gets the commit of today, built"
        raise Usage(f"{where}: a repository cannot be editable", hint=hint)
    if found := _FROM_FILE.search(named):
        place = Path(unquote(urlsplit(found["url"]).path))
        if not place.exists():
            name = found["name"].strip()
            raise Usage(
                f"{where}: {name or named} is to come from {place}",
                why="that is a place on another machine; conda writes such lines",
                hint=f"Write its version: {name or 'name'}==1.0. To list versions: pip list --format=freeze",
            )
        return place
    elif _WINDOWS.match(named):
        raise Usage(f"{where}: {named} is a path of Windows", hint="Write it relative to this file, with /")
    elif _LOCAL.match(named):
        path = named.partition(";")[0].partition("[")[0].strip()
        there = next((base / path for base in bases if (base / path).exists()), None)
        if there is None:
            raise Usage(f"{where}: {named} is not there", why=f"{bases[0] / path} does not exist")
        if there.is_dir() and not any((there / one).is_file() for one in _OF_PROJECTS[:2]):
            raise Usage(
                f"{where}: {statement} names no project",
                why=f"neither pyproject.toml nor setup.py is in {there}",
                hint="Take the line out: the folder of the release is on Python's path. Or add a pyproject.toml",
            )
        return there
    return None


def _text(file: Path, name: str, by: str) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise Usage(f"{name} cannot be read", why=f"{error.strerror}{f' ({by})' if by else ''}") from error
    if content[:2] in _UTF_16:
        hint = "Save it as UTF-8, in PowerShell: pip freeze | Out-File -Encoding utf8 requirements.txt"
        raise Usage(f"{name} cannot be used", why="it is UTF-16", hint=hint)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Usage(f"{name} cannot be used", why="it is not UTF-8", hint="Save it as UTF-8") from error


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The logical lines without comments, each with the number of its first line."""
    first, joined = 0, ""
    for number, line in enumerate([*text.splitlines(), ""], 1):
        first = first or number
        bare = re.split(r"(?:^|\s)#", line, maxsplit=1)[0]
        joined += bare.removesuffix("\\") + " "
        if bare.endswith("\\"):
            continue
        if statement := " ".join(joined.split()):
            yield first, statement
        first, joined = 0, ""
