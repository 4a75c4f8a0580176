"""What people do to the files of a host while no agent runs, and what of it counts as damage afterwards."""

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.host.releases.store import ReleaseStore
from tests.host import Host


@dataclass(slots=True)
class Damage:
    """What is not the agent's fault: releases and the link that were changed, a journal that knows less."""

    releases: set[str] = field(default_factory=set)
    link: bool = False
    journal: bool = False


def tamper(host: Host, what: str, *, damage: Damage, weekly: Path, chance: random.Random) -> None:
    """Do it, and note it in `damage`. `weekly` has a copy of the journal from earlier."""
    if what:
        _KINDS[what](host, damage, weekly, chance)


def back_up(host: Host, weekly: Path) -> None:
    """Keep a copy of the journal, as a backup once a week does."""
    shutil.rmtree(weekly, ignore_errors=True)
    weekly.mkdir()
    for path in _journal(host):
        shutil.copy(path, weekly)


def move_away(host: Host) -> None:
    """What the agent says to do with a journal that is no database."""
    for path in _journal(host):
        path.unlink()


def _journal(host: Host) -> list[Path]:
    return sorted(host.layout.journal.parent.glob(f"{host.layout.journal.name}*"))


def _lost(host: Host, damage: Damage, weekly: Path, chance: random.Random) -> None:
    damage.journal = True
    move_away(host)


def _truncated(host: Host, damage: Damage, weekly: Path, chance: random.Random) -> None:
    damage.journal = True
    for path in _journal(host):
        os.truncate(path, int(path.stat().st_size * chance.random()))


def _restored(host: Host, damage: Damage, weekly: Path, chance: random.Random) -> None:
    damage.journal = True
    move_away(host)
    for path in weekly.iterdir():
        shutil.copy(path, host.layout.journal.parent)


def _link_removed(host: Host, damage: Damage, weekly: Path, chance: random.Random) -> None:
    damage.link = True
    host.app.current.unlink(missing_ok=True)


def _link_nowhere(host: Host, damage: Damage, weekly: Path, chance: random.Random) -> None:
    _link_removed(host, damage, weekly, chance)
    host.app.current.symlink_to("./releases/20010101000000Z")


def _link_file(host: Host, damage: Damage, weekly: Path, chance: random.Random) -> None:
    _link_removed(host, damage, weekly, chance)
    host.app.current.write_text("not a link\n")


def _link_elsewhere(host: Host, damage: Damage, weekly: Path, chance: random.Random) -> None:
    store = ReleaseStore(host.app)
    if others := [one.name for one in store.folders() if one.name != store.live()]:
        _link_removed(host, damage, weekly, chance)
        host.app.current.symlink_to(f"./releases/{chance.choice(others)}")


def _live_edited(host: Host, damage: Damage, weekly: Path, chance: random.Random) -> None:
    if live := ReleaseStore(host.app).live():
        _edit(host, live, damage)


def _other_edited(host: Host, damage: Damage, weekly: Path, chance: random.Random) -> None:
    if other := _other(host, chance):
        _edit(host, other, damage)


def _other_removed(host: Host, damage: Damage, weekly: Path, chance: random.Random) -> None:
    if other := _other(host, chance):
        damage.releases.add(other)
        shutil.rmtree(host.app.release(other))


def _left(host: Host, damage: Damage, weekly: Path, chance: random.Random) -> None:
    folder = host.app.staging / "20991231235959Z"
    folder.mkdir(parents=True)
    (folder / "half").write_text("built")


def _edit(host: Host, release: str, damage: Damage) -> None:
    damage.releases.add(release)
    (host.app.release(release) / "a/b.txt").write_text("edited\n")


def _other(host: Host, chance: random.Random) -> str:
    store = ReleaseStore(host.app)
    others = [one.name for one in store.folders() if one.name != store.live()]
    return chance.choice(others) if others else ""


_KINDS: dict[str, Callable[[Host, Damage, Path, random.Random], None]] = {
    "journal lost": _lost,
    "journal truncated": _truncated,
    "journal of last week": _restored,
    "current removed": _link_removed,
    "current points nowhere": _link_nowhere,
    "current is a file": _link_file,
    "current points at another release": _link_elsewhere,
    "live release edited": _live_edited,
    "another release edited": _other_edited,
    "another release removed": _other_removed,
    "staging left": _left,
}
