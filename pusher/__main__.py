"""`pusher`: the one place where errors become exit codes (`pusher --help` lists them)."""

import io
import os
import sys
from typing import NoReturn

from pusher.terminal.output import pour, stand_in

_OUR_BUG, _INTERRUPTED = 3, 130


def main() -> int:
    """Run the command of `sys.argv`; its exit code. Everything there is to say has been said."""
    stand_in()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding lacks must not end a command whose work is done.
            stream.reconfigure(errors="backslashreplace")
    try:
        from pusher.cli.main import run

        return run(sys.argv[1:])
    except KeyboardInterrupt as error:
        pour(sys.stderr, f"\npusher: {_interruption(error)}\n")
        return _INTERRUPTED
    except Exception as error:
        # Late, for `pusher --version` has no use for it.
        from pusher.terminal.show import show_problem
        from pusher.wire import Problem

        if isinstance(error, Problem):
            show_problem(error)
            return error.exit_code
        # This is the boundary: what nobody expected, whatever it is, is ours to mend.
        import traceback

        ours = "pusher: This is a bug in pusher, not in what you did. Please report it with the lines above\n"
        pour(sys.stderr, traceback.format_exc() + ours)
        return _OUR_BUG


def command() -> NoReturn:
    """`main` as a process. It is over when the work is: putting every object away first takes 30 ms more."""
    code = main()
    for stream in (sys.stdout, sys.stderr):
        pour(stream, "")
    os._exit(code)


def _interruption(error: BaseException | None) -> str:
    """What goes on elsewhere; a second Ctrl-C, while the first was seen to, does not make us forget it."""
    while error is not None and not str(error):
        error = error.__context__
    return str(error) if isinstance(error, KeyboardInterrupt) else "Interrupted"


if __name__ == "__main__":
    command()
