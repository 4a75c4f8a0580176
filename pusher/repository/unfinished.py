"""Files in a repository that a write has left which was cut off: by a power cut, or a connection that broke.

Invariant: only names that publishers themselves give to unfinished files count. What else is hidden there is
somebody else's, and locks stay.
"""

import re

_CUT_OFF = re.compile(
    r"(?:bundles|releases|(?:channels|brakes)/[a-z0-9-]+)/\.[A-Za-z0-9][A-Za-z0-9._-]*\.(?:[0-9]{1,10}|new)"
    # rsync's own: what it writes to, and what it goes on with.
    r"|bundles/(?:\.[0-9a-f]{64}\.tar\.zst\.[A-Za-z0-9]{6}|\.partial/[^/]+)",
    re.ASCII,
)


def is_cut_off(name: str) -> bool:
    """Whether a file of this name is one that was being written."""
    return _CUT_OFF.fullmatch(name) is not None


def writer_of(name: str) -> int:
    """The process that writes a file of such a name; 0 if the name does not tell."""
    end = name.rpartition(".")[2]
    return int(end) if end.isascii() and end.isdecimal() else 0
