"""`pusher`: the one place where errors become exit codes (`pusher --help` lists them)."""

import io
import os
import sys
from typing import NoReturn

_OUR_BUG, _INTERRUPTED = 3, 130


def main() -> int:
    """Run the command of `sys.argv`; its exit code. Everything there is to say has been said."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding lacks must not end a command whose work is done.
            stream.reconfigure(errors="backslashreplace")
    try:
        from pusher.cli import run

        return run(sys.argv[1:])
    except KeyboardInterrupt as error:
        print(f"\npusher: {str(error) or 'Interrupted'}", file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        # Late, for `pusher --version` has no use for it.
        from pusher.show import show_problem
        from pusher.wire import Problem

        if isinstance(error, Problem):
            show_problem(error)
            return error.exit_code
        # This is the boundary: what nobody expected, whatever it is, is ours to mend.
        import traceback

        traceback.print_exc()
        print("pusher: This is a bug in pusher, not in what you did. Please report it with the lines above",
              file=sys.stderr)  # fmt: skip
        return _OUR_BUG


def command() -> NoReturn:
    """`main` as a process. It is over when the work is: putting every object away first takes 30 ms more."""
    code = main()
    from contextlib import suppress

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(BrokenPipeError):
                stream.flush()
    os._exit(code)


if __name__ == "__main__":
    command()
