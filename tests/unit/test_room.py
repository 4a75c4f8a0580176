"""How much room is left where something lies."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.host.storage.room import shortage

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a tmpfs as root")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small filesystem with these options; returns its place."""
    places = []

    def mount(options: str) -> Path:
        place = tmp_path / f"{len(places)}"
        place.mkdir()
        subprocess.run(("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)), check=True)
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(("umount", str(place)), check=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("size=40m", ""),
        ("size=40m,nr_inodes=0", ""),
        ("size=20m", "{} has 20,971,520 bytes left, and a deployment needs more: make room there"),
        ("size=40m,nr_inodes=10", "{} has 9 inodes left, and a deployment needs more: remove small files there"),
        ("size=20m,ro", "{} is mounted read-only, so nothing can be deployed"),
    ],
)
def test_what_keeps_a_deployment_from_writing_is_said(
    mounted: Callable[[str], Path], options: str, said: str
) -> None:
    place = mounted(options)
    assert shortage(place).startswith(said.format(place))
    assert bool(shortage(place)) == bool(said)
