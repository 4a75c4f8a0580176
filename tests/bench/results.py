"""What the rows of the bench share: a line of the table, where to work, and how often to measure."""

from dataclasses import dataclass
from pathlib import Path

from tests.bench.place import Place


@dataclass(frozen=True, slots=True)
class Result:
    """A line of the table. `met` is None where there is no goal."""

    what: str
    measured: str
    against: str = ""
    ratio: str = ""
    goal: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """What the rows share: where to work, and how often to measure."""

    folder: Path
    rounds: int

    def place(self, name: str) -> Place:
        (self.folder / name).mkdir()
        return Place(self.folder / name, cache=self.cache)

    @property
    def cache(self) -> Path:
        cache = self.folder / "cache"
        cache.mkdir(exist_ok=True)
        return cache
