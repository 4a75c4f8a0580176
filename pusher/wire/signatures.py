"""Several signatures of one manifest: armored SSH signatures, one after the other.

Invariant: the parts, joined, give the same bytes. One signature is one part, so a bundle with a single signature
is what it always was. Format: docs/reference/bundle-format.md.
"""

from pusher.wire.text import LimitError

SIGNATURES_MOST = 4
"""How many signatures one manifest may carry. They cost a verifier time before it trusts anything."""

_END = b"-----END SSH SIGNATURE-----\n"


def split_signatures(raw: bytes) -> list[bytes]:
    """The armored signatures in `manifest.json.sig`, each to the end of its armor.

    What follows the last armor is a part as well: the reader of a signature refuses it. Raises: LimitError.
    """
    if raw.count(_END) > SIGNATURES_MOST:
        raise LimitError(f"it has {raw.count(_END)} signatures; the limit is {SIGNATURES_MOST}")
    *whole, rest = raw.split(_END)
    return [part + _END for part in whole] + ([rest] if rest or not whole else [])
