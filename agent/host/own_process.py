"""The agent's own process, as the kernel sees it, and what memory it keeps.

Invariant: only `/proc/self` and the process's own limits are read. Its unit hides the rest of `/proc`
(`ProcSubset=pid`), and a library that wants `/proc/stat` as well says nothing at all there. Everything here blocks
for microseconds.
"""

import ctypes
import os
import resource
import threading
from dataclasses import dataclass
from pathlib import Path

_M_ARENA_MAX = -8  # malloc.h of glibc
_DESCRIPTORS = 8192


@dataclass(frozen=True, slots=True)
class OwnProcess:
    """Memory in bytes, time of the processor in seconds, descriptors and threads."""

    resident: int
    virtual: int
    cpu_s: float
    descriptors: int
    descriptors_most: int
    threads: int


def share_memory() -> None:
    """Let all threads that begin after this take their memory from one place.

    By itself, the C library gives each thread a heap of its own, and what one leaves free no other uses: 2 MB
    after a few deployments. The interpreter lets one thread work at a time, so they hardly wait for each other.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # other C libraries than glibc have no such thing
        library.mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Give free memory back to the system, as after a deployment. Blocking for a millisecond."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def raise_descriptors() -> None:
    """Allow this process more descriptors than the 1,024 with which a shell and a unit begin, if it may have more.

    Not as many as it may have: strangers who connect must not take all memory.
    """
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if most == resource.RLIM_INFINITY else min(_DESCRIPTORS, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


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
