"""The names in a drop directory that both sides use (docs/reference/drop-directory.md)."""

from pusher.wire.manifest import INDEX_NAME, MANIFEST_NAME, SIGNATURE_NAME

DROP_ROOT = "/var/lib/pusher-agent/drop"
DROP_FOLDER = "tree"
DROP_MANIFEST, DROP_SIGNATURE, DROP_INDEX = (
    f"{DROP_FOLDER}.{name}" for name in (MANIFEST_NAME, SIGNATURE_NAME, INDEX_NAME)
)
DROP_RESULT_END = ".result.json"
