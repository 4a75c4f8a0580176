"""What a soak has tried, per kind, and the invariants that were broken."""

from collections import Counter
from dataclasses import dataclass, field

from tests.soak.plan import Point


@dataclass(slots=True)
class Report:
    """Counts points. `say` gets each failure as text, with the command that replays it."""

    place: str
    points: Counter[str] = field(default_factory=Counter)
    tried: int = 0
    broken: int = 0

    def add(self, point: Point, problems: list[str], *, seed: int, log: str) -> None:
        """Count a point, and print what is wrong with it."""
        self.tried += 1
        self.points.update({f"do: {point.action}", f"before: {point.before}", f"during: {point.during}"})
        if problems:
            self.broken += len(problems)
            print(f"\nBROKEN at point {point.number} of seed {seed}, {self.place}: {point}")
            for problem in problems:
                print(f"  {problem}")
            print(
                f"  once more: python -m tests.soak --place {self.place} --seed {seed} --points {point.number + 1}"
            )
            print(f"{log}\n", flush=True)

    def table(self) -> str:
        """The points of each kind, then the sums."""
        lines = [
            f"  {kind:<56}{count:>7}" for kind, count in sorted(self.points.items()) if not kind.endswith(": ")
        ]
        return "\n".join([*lines, f"{self.place}: {self.tried} points tried, invariants broken: {self.broken}"])
