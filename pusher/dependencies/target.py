"""Wheels for one kind of host: which file of each package fits, and the lock that has only these.

Invariant: the result needs no index. A package whose condition does not hold on such a host is left out.
"""

import platform
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from packaging.markers import Marker, default_environment
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from pusher.dependencies.cache import digest_of, entry
from pusher.dependencies.download import download
from pusher.dependencies.lock import Lock, LockedFile, Package
from pusher.dependencies.own_wheels import OwnWheels, wheel_of_archive
from pusher.errors import Usage

_GLIBC = 36
"""Of Debian 12: wheels for a newer one are left alone."""


def with_wheels(lock: Lock, own: OwnWheels, *, python: str) -> Lock:
    """The lock with a wheel of every package, for hosts with this Python and the sender's kind of processor.

    `python` like "3.11". Raises: Usage.
    """
    version = tuple(map(int, python.split(".")[:2]))
    ranks = {tag: at for at, tag in enumerate(_tags(version))}
    environment = _environment(python)
    packages = [one for one in lock.packages if not one.marker or Marker(one.marker).evaluate(environment)]
    found = [_with_wheel(one, own, ranks) for one in packages]
    return Lock(tuple(replace(one, marker="") for one in found), f"=={version[0]}.{version[1]}.*")


def with_pure_wheels(lock: Lock, own: OwnWheels) -> tuple[Lock, list[str]]:
    """The lock with a wheel of each package that has only a source archive, and comes to a wheel for any host.

    So most applications need no build on the host. What cannot be built here, or is for one kind of host, stays as
    it is: the host decides. Returns also the names of those that were built.
    """
    built: list[str] = []

    def found(package: Package) -> Package:
        if package.local or not package.files or any(file.is_wheel or not file.url for file in package.files):
            return package
        try:
            wheel = wheel_of_archive(package.name, _fetched(package.files[0]))
        except Usage:
            return package
        if not wheel.name.endswith("-none-any.whl"):
            return package
        built.append(package.name)
        return own.add(package, wheel)

    return Lock(tuple(found(one) for one in lock.packages), lock.requires_python), built


def _with_wheel(package: Package, own: OwnWheels, ranks: dict[Tag, int]) -> Package:
    if package.local and package.files[0].is_wheel:
        return package
    if package.local:
        return own.add(package, wheel_of_archive(package.name, own.folder / package.files[0].path))
    best = min(
        ((rank, file) for file in package.files if (rank := _rank(file, ranks)) is not None),
        key=lambda pair: pair[0],
        default=None,
    )
    sources = [file for file in package.files if not file.is_wheel]
    if best is not None:
        return own.add(package, _fetched(best[1]))
    if sources:
        return own.add(package, wheel_of_archive(package.name, _fetched(sources[0])))
    raise Usage(f"{package.name} {package.version} has no wheel for this kind of host, and no source archive")


def _fetched(file: LockedFile) -> Path:
    def make(into: Path) -> None:
        download(file.url, into / file.name, hashes=file.hashes)

    return entry(digest_of("fetched", file.name, sorted(file.hashes)), make) / file.name


def _rank(file: LockedFile, ranks: dict[Tag, int]) -> int | None:
    if not file.is_wheel:
        return None
    try:
        tags = parse_wheel_filename(file.name)[3]
    except InvalidWheelFilename:
        return None
    return min((ranks[tag] for tag in tags if tag in ranks), default=None)


def _tags(version: tuple[int, ...]) -> Iterator[Tag]:
    machine = platform.machine()
    old = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
    names = []
    for minor in range(_GLIBC, 4, -1):
        names.append(f"manylinux_2_{minor}_{machine}")
        names += [f"{old[minor]}_{machine}"] if minor in old else []
    names.append(f"linux_{machine}")
    interpreter = f"cp{version[0]}{version[1]}"
    return chain(cpython_tags(version, platforms=names), compatible_tags(version, interpreter, names))


def _environment(python: str) -> dict[str, str]:
    short = ".".join(python.split(".")[:2])
    full = python if python.count(".") == 2 else f"{python}.0"
    return {
        **{name: str(value) for name, value in default_environment().items()},
        "python_version": short,
        "python_full_version": full,
        "implementation_version": full,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
    }
