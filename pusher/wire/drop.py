"""The names in a drop directory that both sides use (docs/reference/drop-directory.md)."""

from pusher.wire.manifest import INDEX_NAME, MANIFEST_NAME, SIGNATURE_NAME
from pusher.wire.text import canonical

DROP_ROOT = "/var/lib/pusher-agent/drop"
DROP_FOLDER = "tree"
DROP_MANIFEST, DROP_SIGNATURE, DROP_INDEX = (
    f"{DROP_FOLDER}.{name}" for name in (MANIFEST_NAME, SIGNATURE_NAME, INDEX_NAME)
)
DROP_RESULT_END = ".result.json"
DROP_MARK = ".pusher-drop"
"""A file in every drop directory by which it is told from any other folder."""


def drop_mark(app: str) -> bytes:
    """What stands in the mark of an app's drop directory."""
    return canonical({"drop_directory_of": app}) + b"\n"
