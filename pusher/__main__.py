"""`pusher`: the one place where errors become exit codes (`pusher --help` lists them)."""

import io
import os
import signal
import sys
import weakref
from typing import NoReturn

from pusher.terminal.output import replace_closed_streams, write

_OUR_BUG, _INTERRUPTED = 3, 130


def main() -> int:
    """Run the command in `sys.argv`; the exit code. All messages have been printed."""
    replace_closed_streams()
    _use_utf8()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal's encoding lacks must not end a command whose work is done.
            stream.reconfigure(encoding=_terminal(), errors="backslashreplace")
    try:
        from pusher.cli.main import run

        return run(sys.argv[1:])
    except KeyboardInterrupt as error:
        write(sys.stderr, f"\npusher: {_interruption(error)}\n")
        return _INTERRUPTED
    except Exception as error:
        # Imported here: `pusher --version` does not need it.
        from pusher.errors import NoRoom, is_no_room
        from pusher.terminal.screen import print_problem
        from pusher.wire import Problem

        if isinstance(error, OSError) and is_no_room(error):
            error = NoRoom(error)
        if isinstance(error, Problem):
            print_problem(error)
            return error.exit_code
        # The boundary: every other error is a bug in pusher.
        import traceback

        message = "pusher: This is a bug in pusher, not your mistake. Please report it with the lines above\n"
        write(sys.stderr, traceback.format_exc() + message)
        return _OUR_BUG


def command() -> NoReturn:
    """`main` as a process. It exits at once: cleaning up every object would take 30 ms more.

    What ends it from outside (`timeout`, a cancelled job, a closed terminal) is a Ctrl-C: otherwise a copy of the
    version would stay in the folder of temporary files, and what was begun elsewhere would not be named.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
            signal.signal(number, signal.default_int_handler)
    code = main()
    if code:
        from pusher.fleet.background import leave

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it ends, and another Ctrl-C would only show where it was
        # A version may still be read in a thread, with a copy of it in a temporary folder. That goes. Nothing else
        # that was registered for the end is run: what measures a program, say, may have no room for its file.
        weakref.finalize._exitfunc()  # type: ignore[attr-defined]
        leave()
    for stream in (sys.stdout, sys.stderr):
        write(stream, "")
    os._exit(code)


def _use_utf8() -> None:
    """Run again in UTF-8 mode (PEP 540) where the locale has another encoding: the names of files are signed.

    Read as Latin-1, the two bytes of an accented letter would travel as the four of two letters.
    """
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - itself


def _terminal() -> str | None:
    """The encoding of the terminal, which in UTF-8 mode is not that of the streams; None: as it is."""
    if not sys.flags.utf8_mode:
        return None
    import locale  # here: in UTF-8 itself, nothing else needs it

    return locale.getencoding()


def _interruption(error: BaseException | None) -> str:
    """What goes on elsewhere, also if a second Ctrl-C came while the first was handled."""
    while error is not None and not str(error):
        error = error.__context__
    return str(error) if isinstance(error, KeyboardInterrupt) else "Interrupted"


if __name__ == "__main__":
    command()
