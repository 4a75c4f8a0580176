"""The history of an app: a chain of records, each bound to all before it by a hash.

Invariant: a head stands for one history only. A reader who has seen a head can tell from the records after it
whether a later head belongs to the same history. Format: docs/reference/http-api.md#the-history.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pusher.wire.text import check_sha256, take, take_count

NO_RECORDS = "0" * 64
"""The head of a history without a record."""


@dataclass(frozen=True, slots=True)
class Head:
    """How many records a history has, and the hash of the last one."""

    records: int = 0
    hash: str = NO_RECORDS

    def then(self, *lines: bytes) -> "Head":
        """The head after these records, each without its newline."""
        digest = self.hash
        for line in lines:
            digest = hashlib.sha256(bytes.fromhex(digest) + line).hexdigest()
        return Head(self.records + len(lines), digest)

    def leads_to(self, later: "Head", lines: Iterable[bytes]) -> bool:
        """Whether `lines`, the records after this head, end at `later`."""
        at = self
        for line in lines:
            at = at.then(line)
        return at == later

    def members(self) -> dict[str, Any]:
        """As members of a document."""
        return {"records": self.records, "head": self.hash}

    @classmethod
    def from_members(cls, members: Mapping[str, Any]) -> Self:
        """The head in a document. Raises: WireError."""
        return cls(take_count(members, "records"), check_sha256(take(members, "head", str)))
