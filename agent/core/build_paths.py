"""Which files of a release its build steps may make: the patterns of `build_paths`.

They read as in gitignore(5), from the top of the release: `*`, `?` and `[a-z]` within a name, `**` for any number
of folders. A pattern that matches a folder matches what lies in it. There is no `!`, and no backslash.

Invariant: a match never tries a way twice. A release writes the patterns and names the files, and a regular
expression with several `*` would hold the agent for minutes.
"""

import fnmatch
from collections.abc import Callable

_FOLDERS = "**"


def build_path_matcher(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a path of the release, as "static/app.css", is one that the build steps may make."""
    split = [_split(one) for one in patterns]

    def matches(path: str) -> bool:
        names = path.split("/")
        return any(_matches(names, one) for one in split)

    return matches


def _split(pattern: str) -> list[str]:
    parts = pattern.split("/")
    if len(parts) == 1 and pattern.startswith(_FOLDERS) and pattern != _FOLDERS:
        parts = [_FOLDERS, pattern]
    # "x/" and "x/**" are what lies in x, and not x itself.
    if parts[-1] in ("", _FOLDERS):
        parts[-1] = "*"
    return parts


def _matches(names: list[str], parts: list[str]) -> bool:
    """By the places in the pattern that the names so far can have reached: there is no way back."""
    reached = _skip_folders({0}, parts)
    for name in names:
        after = {
            place if parts[place] == _FOLDERS else place + 1 for place in reached if _takes(parts[place], name)
        }
        reached = _skip_folders(after, parts)
        if len(parts) in reached:
            return True
    return False


def _skip_folders(places: set[int], parts: list[str]) -> set[int]:
    """These places, and those behind a `**` that stands for no folder."""
    reached = set(places)
    for place, part in enumerate(parts):
        if place in reached and part == _FOLDERS:
            reached.add(place + 1)
    return reached


def _takes(part: str, name: str) -> bool:
    # fnmatch gives each `*` its first match for good, in an atomic group: it does not try again either.
    return part == _FOLDERS or fnmatch.fnmatchcase(name, part)
