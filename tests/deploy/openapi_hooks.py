"""What schemathesis is told about the door, in its own process: bundles that are real, and what never ends.

`PUSHER_TEST_BUNDLE` names a file with the bundle to send.
"""

import os
import re
from pathlib import Path

import schemathesis
from hypothesis import strategies

BUNDLE = Path(os.environ["PUSHER_TEST_BUNDLE"]).read_bytes()


@schemathesis.serializer("application/zstd")
def zstd(context: schemathesis.SerializationContext, value: object) -> bytes:
    """A bundle as it is."""
    return value if isinstance(value, bytes) else str(value).encode()


schemathesis.openapi.media_type("application/zstd", strategies.just(BUNDLE))


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Whether a request is made: not those whose answer goes on until something else happens."""
    follows = str((case.query or {}).get("follow")) == "1"
    manifest = str((case.path_parameters or {}).get("manifest"))
    return not follows and not re.fullmatch("[0-9a-f]{64}", manifest)
