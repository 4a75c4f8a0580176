"""Which apps of a host cannot exist beside each other."""

import itertools
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from agent.core.config.app import AppConfig
from agent.core.listen import collide, parse_listen


class Clash(NamedTuple):
    """Two apps that cannot both exist, and why, for people."""

    apps: tuple[str, str]
    sentence: str


def clashes(apps: Mapping[str, AppConfig]) -> list[Clash]:
    """Which apps clash, by address or by path."""
    found = []
    for (one, its), (other, others) in itertools.combinations(sorted(apps.items()), 2):
        if collide(parse_listen(its.listen), parse_listen(others.listen)):
            sentence = f"{one} and {other} cannot listen at {its.listen} and {others.listen}"
            found.append(Clash((one, other), sentence))
        paths = PurePosixPath(its.path), PurePosixPath(others.path)
        if paths[0].is_relative_to(paths[1]) or paths[1].is_relative_to(paths[0]):
            sentence = f"{one} and {other} cannot have the folders {its.path} and {others.path}"
            found.append(Clash((one, other), sentence))
    return found
