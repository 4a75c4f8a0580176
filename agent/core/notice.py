"""A notice: how a deployment ended, as people and programs elsewhere are told.

Invariant: names of apps, versions and words of problems are other people's text. Here a line stays one line, and
has its longest length. What a release wrote (`output` of a problem) is in no notice: it may hold secrets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agent.core.phases import Phase
from agent.core.plan import Kind
from pusher.wire import format_timestamp


class Ending(StrEnum):
    """How a deployment ended, as `events` of [notify] names it. `test` is no deployment: `notify --test`."""

    FAILED = "failed"
    STUCK = "stuck"
    DONE = "done"
    ROLLED_BACK = "rolled_back"
    TEST = "test"


FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 1_800.0
"""Between attempts to deliver."""
KEPT_MS = 3 * 24 * 3_600 * 1_000
"""What could not be delivered for so long is left out."""
_LINE, _TEXT = 300, 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One notice. Times are ms since 1970; `problem` has the members of a problem document.

    `id` is that of the deployment, so a notice that is delivered twice can be told by it.
    """

    id: str
    host: str
    ending: Ending
    app: str
    version: str
    time: int
    started: int
    by: str = ""
    release: str = ""
    previous: str = ""
    kind: str = ""
    problem: Mapping[str, Any] = field(default_factory=dict)

    def members(self) -> dict[str, Any]:
        """The notice as JSON members (docs/how-to/notifications.md)."""
        shown = ("code", "title", "detail", "hint")
        return {
            "id": self.id,
            "event": self.ending.value,
            "host": self.host,
            "app": self.app,
            "version": self.version,
            "release": self.release or None,
            "previous": self.previous or None,
            "kind": self.kind or None,
            "by": self.by,
            "started": format_timestamp(self.started),
            "finished": format_timestamp(self.time),
            "ms": max(0, self.time - self.started),
            "problem": {key: str(self.problem[key])[:_TEXT] for key in shown if self.problem.get(key)} or None,
            "text": sentence(self),
        }


def ending(kind: Kind, phase: Phase) -> Ending:
    """How a deployment of this kind ended, in one of the phases that are an end."""
    if phase is Phase.DONE and kind is Kind.ROLLBACK:
        return Ending.ROLLED_BACK
    return Ending(phase.value)


def sentence(notice: Notice) -> str:
    """The notice in one line: what happened, and where."""
    app, version, host = one_line(notice.app), one_line(notice.version), one_line(notice.host)
    match notice.ending:
        case Ending.DONE:
            return f"{app} {version} is live on {host}"
        case Ending.ROLLED_BACK:
            return f"{app} went back to {version} on {host}"
        case Ending.FAILED:
            return f"{app} {version} failed on {host}, and was taken back"
        case Ending.STUCK:
            return f"{app} is STUCK on {host}: a person is needed"
        case _:
            return f"{host} can reach you: this is a test"


def details(notice: Notice) -> list[str]:
    """What people want to know besides, a line each."""
    title, detail, hint = (one_line(str(notice.problem.get(key, ""))) for key in ("title", "detail", "hint"))
    took = f", after {max(0, notice.time - notice.started) / 1000:.1f} s" if notice.kind else ""
    why = f"{title}: {detail}" if title and detail else title
    return [
        *([_sentence(why)] if why else []),
        *([_sentence(hint)] if hint else []),
        *([f"By {one_line(notice.by)}{took}."] if notice.by else []),
    ]


def one_line(text: str, most: int = _LINE) -> str:
    """A text of unknown origin as one line without anything invisible, cut where it is too long."""
    # Not only control characters: marks of direction would turn around what follows them.
    shown = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def pause_s(failures: int, *, chance: float, asked_s: float = 0) -> float:
    """How long to wait after so many failures in a row: longer each time, from half to one and a half of it.

    `chance` is from 0 to 1. A receiver may ask for more time (`asked_s`), and gets it.
    """
    pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * float(1 << min(failures - 1, 20)))
    return max(pause * (0.5 + chance), asked_s * (1 + chance / 10))


def _sentence(line: str) -> str:
    return line if line.endswith((".", "?", "!")) else f"{line}."
