"""From a stored index and arriving files to a staged tree that holds exactly what was signed.

Invariant: only names of the index are created, each beneath a folder opened without following a link, each
file hashed as it is written. The archive's own modes, owners, times and links play no part. Links come last,
so that while files are written there is none to write through.

Content that did not travel comes from kept releases, by copying while hashing. Whoever calls drops the tree
if this raises: what is half there is not cleaned up twice.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.core.layout import papers
from agent.host.disk import Disk
from agent.host.folders import Folders
from agent.host.kept import Kept, stored_index
from agent.host.ports import Bundle
from pusher.wire import (
    INDEX_NAME,
    MANIFEST_NAME,
    SIGNATURE_NAME,
    Code,
    Failed,
    File,
    Limits,
    Link,
    Refused,
)

RESERVE = 16 * 1024 * 1024
"""Room that is left on the filesystem: for the journal, for the app's logs."""

_COPIERS = 2  # hashing and I/O let go of the interpreter; more than two gain nothing measurable
