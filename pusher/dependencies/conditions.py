"""Version constraints and conditions as Poetry writes them, in the words of the standards.

Invariant: a constraint that is not understood limits nothing; a condition that is not understood is an error.
"""

import re
from collections.abc import Callable, Collection

from packaging.markers import Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

_WORD = re.compile(r"""\s*("[^"]*"|'[^']*'|\(|\)|[^\s()"']+)""")

Known = Callable[[str, str, str], bool | None]
"""Whether a comparison of left side, operator and right side holds, as they are written; None: not known."""


def decided(marker: str, known: Known) -> str | None:
    """A condition without what is known of it; empty if it always holds, None if it never does.

    Format: https://packaging.python.org/specifications/dependency-specifiers/. Raises: InvalidMarker.
    """
    return _Deciding(_WORD.findall(str(Marker(marker))), known).alternatives() if marker else ""


def decided_extras(marker: str, *, extras: Collection[str]) -> str | None:
    """A condition without extras, when these are wanted; None, if it never holds. Raises: InvalidMarker."""

    def known(left: str, operator: str, right: str) -> bool | None:
        return (right.strip("\"'") in extras) == (operator == "==") if left == "extra" else None

    return decided(marker, known)


def both(one: str, other: str) -> str:
    """Both conditions."""
    if not one or not other or one == other:
        return one or other
    return f"({one}) and ({other})"


def either(conditions: Collection[str]) -> str:
    """One of these conditions, of which there is at least one."""
    if "" in conditions:
        return ""
    found = sorted({*conditions})
    return found[0] if len(found) == 1 else " or ".join(f"({one})" for one in found)


def specifiers(constraint: str) -> list[SpecifierSet]:
    """The alternatives of a constraint of Poetry's; none, if it is not understood or limits nothing.

    https://python-poetry.org/, "Dependency specification".
    """
    try:
        return [
            _specifier(part)
            for part in re.split(r"\s*\|\|?\s*", constraint)
            if constraint.strip() not in ("", "*")
        ]
    except (InvalidSpecifier, InvalidVersion):
        return []


def allows(constraint: str, version: str) -> bool:
    """Whether a version is within a constraint of Poetry's."""
    every = specifiers(constraint)
    try:
        return not every or any(one.contains(Version(version), prereleases=True) for one in every)
    except InvalidVersion:
        return True


def _specifier(text: str) -> SpecifierSet:
    parts = [part for part in re.split(r"\s*,\s*|\s+(?=[<>=!~^])", text.strip()) if part]
    return SpecifierSet(",".join(_clause(part.replace(" ", "")) for part in parts))


def _clause(part: str) -> str:
    if part[0] == "^":
        version = Version(part[1:])
        upper = [*version.release]
        at = next((at for at, number in enumerate(upper) if number), len(upper) - 1)
        return f">={version},<{'.'.join(map(str, [*upper[:at], upper[at] + 1]))}"
    if part[0] == "~" and not part.startswith("~="):
        version = Version(part[1:])
        upper = [*version.release[:2]]
        upper[-1] += 1
        return f">={version},<{'.'.join(map(str, upper))}"
    if part[0].isdigit():
        return f"=={part}"
    return part


class _Deciding:
    """The words of a condition, read from the left: `or` binds less than `and`, and brackets more."""

    def __init__(self, words: list[str], known: Known) -> None:
        self._words = [*reversed(words)]
        self._known = known

    def alternatives(self) -> str | None:
        parts = [self._all()]
        while self._next("or"):
            parts.append(self._all())
        possible = [part for part in parts if part is not None]
        return None if not possible else "" if "" in possible else " or ".join(possible)

    def _all(self) -> str | None:
        parts = [self._one()]
        while self._next("and"):
            parts.append(self._one())
        if None in parts:
            return None
        left = [part for part in parts if part]
        return " and ".join(f"({one})" if len(left) > 1 and " or " in one else one for one in left)

    def _one(self) -> str | None:
        if self._next("("):
            inner = self.alternatives()
            self._next(")")
            return inner
        left, operator = self._words.pop(), self._words.pop()
        if operator == "not":
            operator += f" {self._words.pop()}"
        right = self._words.pop()
        holds = self._known(left, operator, right)
        return f"{left} {operator} {right}" if holds is None else "" if holds else None

    def _next(self, word: str) -> bool:
        if self._words and self._words[-1] == word:
            self._words.pop()
            return True
        return False
