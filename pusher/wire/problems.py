"""What can go wrong, for both sides: the codes, and the one error base.

The document form is RFC 9457 (problem details for HTTP APIs).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

PROBLEM_TYPE = "application/problem+json"


class Code(StrEnum):
    """What went wrong, for programs: the stable `code` of a problem document."""

    BAD_REQUEST = "bad_request"
    BUNDLE_MALFORMED = "bundle_malformed"
    BUNDLE_INCOMPLETE = "bundle_incomplete"
    SIGNATURE_INVALID = "signature_invalid"
    SIGNER_UNKNOWN = "signer_unknown"
    SIGNER_REVOKED = "signer_revoked"
    SIGNATURES_MISSING = "signatures_missing"
    TOUCH_MISSING = "touch_missing"
    CONTENT_MISMATCH = "content_mismatch"
    WRONG_APP = "wrong_app"
    WRONG_HOST = "wrong_host"
    OLDER_THAN_ACCEPTED = "older_than_accepted"
    FROM_THE_FUTURE = "from_the_future"
    EXPIRED = "expired"
    CHANNEL_MALFORMED = "channel_malformed"
    CHANNEL_FORKED = "channel_forked"
    CHANNEL_CHANGED = "channel_changed"
    WRONG_CHANNEL = "wrong_channel"
    REPOSITORY_UNREACHABLE = "repository_unreachable"
    REPOSITORY_REDIRECTS = "repository_redirects"
    LIMIT_EXCEEDED = "limit_exceeded"
    NAME_NOT_ALLOWED = "name_not_allowed"
    UNKNOWN_APP = "unknown_app"
    UNKNOWN_RELEASE = "unknown_release"
    UNKNOWN_DEPLOYMENT = "unknown_deployment"
    NOTHING_TO_ROLL_BACK_TO = "nothing_to_roll_back_to"
    NOT_LIVE = "not_live"
    TOO_LATE = "too_late"
    SEVERAL_APPS = "several_apps"
    BUSY = "busy"
    STOPPING = "stopping"
    NOT_ALLOWED = "not_allowed"
    CONFIGURATION = "configuration"
    UPLOAD_BROKEN = "upload_broken"
    DISK_FULL = "disk_full"
    DISK_ERROR = "disk_error"
    RELEASE_DAMAGED = "release_damaged"
    SHARED_FILE_MISSING = "shared_file_missing"
    DEPENDENCIES_FAILED = "dependencies_failed"
    BUILD_FAILED = "build_failed"
    START_NOT_FOUND = "start_not_found"
    PORT_TAKEN = "port_taken"
    SOCKET_NOT_TAKEN = "socket_not_taken"
    APP_EXITED = "app_exited"
    APP_UNHEALTHY = "app_unhealthy"
    HOOK_FAILED = "hook_failed"
    SERVICE_FAILED = "service_failed"
    INTERRUPTED = "interrupted"
    TIMED_OUT = "timed_out"
    NOT_DELIVERED = "not_delivered"
    NOT_UNDONE = "not_undone"
    INTERNAL = "internal"


class Problem(Exception):
    """Something could not be done: what, why, and what to do next.

    The one error base of both sides. `output` has the lines of other programs (a traceback, the output of a hook)
    and is shown last. `to_document` is an RFC 9457 problem document.
    """

    outcome = "failed"
    exit_code = 1

    def __init__(self, code: Code, what: str, *, why: str = "", hint: str = "", output: str = "") -> None:
        super().__init__(code, what)
        self.code = code
        self.what = what
        self.why = why
        self.hint = hint
        self.output = output

    def __str__(self) -> str:
        sentence = f"{self.what}: {self.why}" if self.why else self.what
        return f"{sentence}. {self.hint}" if self.hint else sentence

    def to_document(self, *, status: int | None = None) -> dict[str, Any]:
        """This problem as RFC 9457 members (`title`, `detail`, `status`) and its extension members."""
        document: dict[str, Any] = {"type": "about:blank", "title": self.what, "outcome": self.outcome}
        document["code"] = self.code.value
        if status is not None:
            document["status"] = status
        for member, value in (("detail", self.why), ("hint", self.hint), ("output", self.output)):
            if value:
                document[member] = value
        return document

    @staticmethod
    def from_document(document: Mapping[str, Any]) -> "Problem":
        """The problem in a document, of the class that its `outcome` names.

        An unknown code, of a newer agent, becomes `internal`; `why` has the code.
        """
        kinds: dict[str, type[Problem]] = {kind.outcome: kind for kind in (Refused, Failed, Stuck)}
        kind = kinds.get(str(document.get("outcome")), Failed)
        why = str(document.get("detail", ""))
        try:
            code = Code(str(document.get("code")))
        except ValueError:
            code, why = Code.INTERNAL, f"{why} (code {document.get('code')})".strip()
        return kind(
            code,
            str(document.get("title", "The agent gave no reason")),
            why=why,
            hint=str(document.get("hint", "")),
            output=str(document.get("output", "")),
        )


class Refused(Problem):
    """Bad input. Nothing was done."""

    outcome = "refused"
    exit_code = 4


class Failed(Problem):
    """A step failed, and everything before it was undone."""

    outcome = "failed"
    exit_code = 1


class Stuck(Problem):
    """Undoing failed as well: a person is needed."""

    outcome = "stuck"
    exit_code = 6


def malformed_bundle(why: str) -> Refused:
    """The refusal of a bundle that does not follow the format; `why` continues "The bundle cannot be read"."""
    return Refused(
        Code.BUNDLE_MALFORMED,
        "The bundle cannot be read",
        why=why,
        hint="Pack it with `pusher pack`, and send that file unchanged",
    )
