"""A bundle as it arrives: a zstd tar, read strictly and once, front to back.

Invariant: the members are in the one order a bundle has, or the bundle is refused. Nothing is buffered that the
sender could make large, and all work is counted against one budget.
"""

from collections.abc import Iterator

from agent.host.bundle.budget import Budget
from agent.host.bundle.zstd import decompress
from pusher.wire import (
    INDEX_NAME,
    MANIFEST_BYTES,
    MANIFEST_NAME,
    PAYLOAD_PREFIX,
    SIGNATURE_BYTES,
    SIGNATURE_NAME,
    Code,
    Manifest,
    Refused,
)
from pusher.wire.problems import malformed_bundle
from pusher.wire.stream import LineSplitter, PieceReader, Read
from pusher.wire.tar import Member, TarReader

_LINE_BYTES = 32 * 1024
_SHOWN = 200


class TarBundle:
    """The `Bundle` port over a blocking `read`."""

    def __init__(self, read: Read, *, budget: Budget | None = None) -> None:
        self._read = read
        self._budget = budget or Budget()
        pieces = PieceReader(decompress(self._counted, self._budget))
        self._tar = TarReader(pieces.read, count=self._budget.header)

    def signed_manifest(self) -> tuple[bytes, bytes]:
        """The manifest and its signature, as in the port."""
        with self._budget.running():
            return self._small(MANIFEST_NAME, MANIFEST_BYTES), self._small(SIGNATURE_NAME, SIGNATURE_BYTES)

    def verified(self, manifest: Manifest) -> None:
        """As in the port."""
        self._budget.extend(manifest)

    def index(self, size: int) -> Iterator[bytes]:
        """The lines of the index, as in the port."""
        with self._budget.running():
            found = self._expected(INDEX_NAME)
        if found != size:
            raise malformed_bundle(f"its index has {found} bytes; the manifest says {size}")
        lines = LineSplitter(_LINE_BYTES)
        for piece in self._content():
            for line in lines.feed(piece):
                if len(line) > _LINE_BYTES:
                    raise malformed_bundle("its index has a line longer than two paths can be")
                yield line + b"\n"
        if rest := lines.end():
            yield rest

    def files(self) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        """The files of the bundle, as in the port."""
        while (member := self._next()) is not None:
            if not member.name.startswith(PAYLOAD_PREFIX):
                shown = repr(member.name[:_SHOWN])
                raise malformed_bundle(f"it contains {shown} after the index, where only files/... may be")
            yield member.name.removeprefix(PAYLOAD_PREFIX), member.size, self._content()

    def _counted(self, size: int) -> bytes:
        part = self._read(size)
        self._budget.compressed(len(part))
        return part

    def _next(self) -> Member | None:
        with self._budget.running():
            return self._tar.next()

    def _content(self) -> Iterator[bytes]:
        """The content of a member. Only the time to read it counts, not what is done with it."""
        pieces = self._tar.content()
        while True:
            with self._budget.running():
                piece = next(pieces, b"")
            if not piece:
                return
            yield piece

    def _small(self, name: str, most: int) -> bytes:
        size = self._expected(name)
        if size > most:
            raise Refused(
                Code.LIMIT_EXCEEDED,
                "The bundle cannot be read",
                why=f"its {name} has {size} bytes; the limit is {most}",
                hint="Pack it with `pusher pack`",
            )
        return b"".join(self._tar.content())

    def _expected(self, name: str) -> int:
        member = self._tar.next()
        if member is None or member.name != name:
            found = "ends" if member is None else f"has {member.name[:_SHOWN]!r}"
            raise malformed_bundle(f"it {found} where {name} should be")
        return member.size
