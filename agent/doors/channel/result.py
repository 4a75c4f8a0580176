"""What a subscribed app shows of its channel: in the status, and in its report.

Invariant: it says what was found out last, and when. It decides nothing.
"""

from dataclasses import dataclass
from typing import Any

from agent.core.channel import Awaited, State, TrustedChannel
from pusher.wire import Problem, format_timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How the app stands to its channel. `checked` is when a mirror answered last (ms), `problem` what is in the
    way.
    """

    state: State = State.WAITING
    awaited: Awaited | None = None
    trusted: TrustedChannel | None = None
    checked: int | None = None
    mirror: str = ""
    deployment: str = ""
    problem: Problem | None = None

    def members(self) -> dict[str, Any]:
        """As JSON members (docs/reference/http-api.md)."""
        document = self.trusted.document if self.trusted else None
        release = document.target.release if document else None
        return {
            "state": self.state.value,
            "awaited": self.awaited.value if self.awaited else None,
            "wanted": {"version": release.version, "manifest": release.manifest} if release else None,
            "attempt": document.rollout.attempt if document else None,
            "signed": format_timestamp(document.created) if document else None,
            "expires": format_timestamp(document.expires) if document else None,
            "checked": None if self.checked is None else format_timestamp(self.checked),
            "mirror": self.mirror,
            "deployment": self.deployment or None,
            "problem": self.problem.to_document() if self.problem else None,
        }
