"""The contract between `pusher` and the agent: manifest, index, tar, events, problems and routes.

Invariant: no I/O, and only the standard library, so that both sides read and write a document with the same code
and the command line starts fast (docs/adr/0001). Every parser is strict: its result, written again, gives the same
bytes. The formats are described in docs/reference/bundle-format.md. The agent may import this package and nothing
else of `pusher`.
"""

from pusher.wire.drop import (
    DROP_FOLDER,
    DROP_INDEX,
    DROP_MANIFEST,
    DROP_MARK,
    DROP_RESULT_END,
    DROP_ROOT,
    DROP_SIGNATURE,
    drop_mark,
)
from pusher.wire.events import EVENTS_TYPE, Event, Happened
from pusher.wire.history import NO_RECORDS, Head
from pusher.wire.index import (
    RESERVED_NAMES,
    Entry,
    File,
    Limits,
    Link,
    check_path,
    check_target,
    index_line,
    parse_index_line,
    read_index,
    reserved,
)
from pusher.wire.log import LOG_LINES, LOG_LINES_MOST, PRIORITY, LogLine, LogUnit
from pusher.wire.manifest import (
    BUNDLE_TYPE,
    INDEX_NAME,
    MANIFEST_BYTES,
    MANIFEST_NAME,
    PAYLOAD_PREFIX,
    SCHEMA,
    SIGNATURE_BYTES,
    SIGNATURE_NAME,
    SIGNATURE_NAMESPACE,
    Manifest,
    Source,
)
from pusher.wire.problems import PROBLEM_TYPE, Code, Failed, Problem, Refused, Stuck, malformed_bundle
from pusher.wire.procfile import PROCFILE, ProcfileLine, procfile_lines
from pusher.wire.routes import DOOR, SSH_DOOR, Route
from pusher.wire.run import RunHealth, RunProcess, RunSection, split_command
from pusher.wire.signatures import SIGNATURES_MOST, split_signatures
from pusher.wire.text import (
    LimitError,
    WireError,
    canonical,
    check_app,
    check_version,
    format_timestamp,
    parse_timestamp,
)

__all__ = [
    "BUNDLE_TYPE",
    "DOOR",
    "DROP_FOLDER",
    "DROP_INDEX",
    "DROP_MANIFEST",
    "DROP_MARK",
    "DROP_RESULT_END",
    "DROP_ROOT",
    "DROP_SIGNATURE",
    "EVENTS_TYPE",
    "INDEX_NAME",
    "LOG_LINES",
    "LOG_LINES_MOST",
    "MANIFEST_BYTES",
    "MANIFEST_NAME",
    "NO_RECORDS",
    "PAYLOAD_PREFIX",
    "PRIORITY",
    "PROBLEM_TYPE",
    "PROCFILE",
    "RESERVED_NAMES",
    "SCHEMA",
    "SIGNATURES_MOST",
    "SIGNATURE_BYTES",
    "SIGNATURE_NAME",
    "SIGNATURE_NAMESPACE",
    "SSH_DOOR",
    "Code",
    "Entry",
    "Event",
    "Failed",
    "File",
    "Happened",
    "Head",
    "LimitError",
    "Limits",
    "Link",
    "LogLine",
    "LogUnit",
    "Manifest",
    "Problem",
    "ProcfileLine",
    "Refused",
    "Route",
    "RunHealth",
    "RunProcess",
    "RunSection",
    "Source",
    "Stuck",
    "WireError",
    "canonical",
    "check_app",
    "check_path",
    "check_target",
    "check_version",
    "drop_mark",
    "format_timestamp",
    "index_line",
    "malformed_bundle",
    "parse_index_line",
    "parse_timestamp",
    "procfile_lines",
    "read_index",
    "reserved",
    "split_command",
    "split_signatures",
]
