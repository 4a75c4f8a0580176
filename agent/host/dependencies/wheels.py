"""Which wheels fit a Python of this host.

Invariant: it refuses only what uv would refuse as well, one after the other.
"""

from functools import cache

from packaging.markers import default_environment
from packaging.tags import Tag, compatible_tags, cpython_tags, platform_tags

from agent.core.pythons import Python, usual
from agent.core.requirements.pylock import lacking_wheels, without_wheel
from agent.core.requirements.wanted import Wanted


def check_wheels(wanted: Wanted, *, python: Python) -> None:
    """Refuse packages that have no wheel for this Python, all of them at once. Raises: Failed."""
    if not wanted.wheels or not usual(python.facts):
        return
    version = python.version
    tags, environment = _tags(version), _environment(version)
    if names := lacking_wheels(wanted.wheels, wanted.requirements, tags=tags, environment=environment):
        raise without_wheel(names)


@cache
def _tags(version: str) -> frozenset[Tag]:
    major, minor = map(int, version.split(".")[:2])
    platforms = [*platform_tags()]
    own = cpython_tags((major, minor), platforms=platforms)
    return frozenset([*own, *compatible_tags((major, minor), f"cp{major}{minor}", platforms)])


def _environment(version: str) -> dict[str, str]:
    """What conditions of requirements are about (PEP 508), for a CPython of this version here."""
    own = {name: str(value) for name, value in default_environment().items()}
    short = ".".join(version.split(".")[:2])
    cpython = {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    return {
        **own,
        **cpython,
        "python_version": short,
        "python_full_version": version,
        "implementation_version": version,
    }
