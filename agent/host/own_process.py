"""The agent's own process, as the kernel sees it.

Invariant: only `/proc/self` and the process's own limits are read. Its unit hides the rest of `/proc`
(`ProcSubset=pid`), and a library that wants `/proc/stat` as well says nothing at all there. Everything here blocks
for microseconds.
"""

import os
import resource
import threading
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class OwnProcess:
    """Memory in bytes, time of the processor in seconds, descriptors and threads."""

    resident: int
    virtual: int
    cpu_s: float
    descriptors: int
    descriptors_most: int
    threads: int


def measure() -> OwnProcess:
    """The process now."""
    pages = Path("/proc/self/statm").read_text("ascii").split()
    used = resource.getrusage(resource.RUSAGE_SELF)
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OwnProcess(
        resident=int(pages[1]) * resource.getpagesize(),
        virtual=int(pages[0]) * resource.getpagesize(),
        cpu_s=used.ru_utime + used.ru_stime,
        descriptors=len(os.listdir("/proc/self/fd")) - 1,  # the one that lists them
        descriptors_most=most,
        threads=threading.active_count(),
    )
