"""Where the agent's log goes, and in which form: entries of the journal, coloured lines, or JSON.

Invariant: no code waits for the log or fails because of it.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any, TextIO, cast

import structlog

from agent.host.log.journald import Journald, entry, is_journal
from agent.host.log.stderr import Stderr


def set_up() -> None:
    """Configure structlog: fields if standard error is the journal, colours at a terminal, else JSON lines."""
    time = structlog.processors.TimeStamper(fmt="iso", utc=True)
    traceback = structlog.processors.format_exc_info
    steps: list[Callable[..., Any]]
    stderr = structlog.WriteLoggerFactory(file=cast(TextIO, Stderr()))
    factory: Callable[..., Any] = stderr
    if sys.stderr.isatty():
        plain = structlog.dev.plain_traceback
        steps = [time, structlog.dev.ConsoleRenderer(exception_formatter=plain)]
    elif is_journal(sys.stderr.fileno()):
        journald = Journald()
        factory = lambda *_: journald  # noqa: E731 - its type is the one above
        steps = [traceback, entry]
    else:
        steps = [time, traceback, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, *steps],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
