"""What a venv is made in: the names in the work folder, and where an attempt looks for packages.

Invariant: imports nothing, for the program that builds as another user starts with it.
"""

from enum import StrEnum

VENV = "venv"
"""Where the venv is made."""

LOCK_FOLDER = "lock"
"""Where a lock and its project lie alone while uv exports them."""

EXPORTED = "exported.txt"
"""What a `uv.lock` is turned into."""

REQUIREMENTS, CONSTRAINTS, BOUND = "requirements.txt", "constraints.txt", "pyproject.toml"
"""What is written for uv: what to install, what limits it, and which packages come from an index of their own."""


class Source(StrEnum):
    """Where one attempt looks for packages."""

    LOCAL = "local"  # wheels/ and find_links, nothing else
    INDEX = "index"
    CACHE = "cache"  # what the index once gave
