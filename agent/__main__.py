"""The `pusher-agent` command: the one place where problems become exit codes."""

import os
import sys
import traceback
from collections.abc import Sequence

from agent.admin.cli import run
from agent.admin.output import Output
from pusher.wire import Problem, Refused

_USAGE, _OUR_BUG, _INTERRUPTED = 2, 3, 130
LIBRARIES = ("aiohttp", "inotify_simple", "prometheus_client", "pydantic", "structlog", "yarl")
"""What the extra `agent` installs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `pusher-agent` with these arguments; its exit code (docs/explanation/concepts.md, 3 for our own bug)."""
    if argv is None and sys.getfilesystemencoding() != "utf-8":
        # The names of files are signed in UTF-8; another locale (/etc/default/locale) would make others of them.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - itself
    if argv is None:
        # structlog draws with these where they can be imported: 5 MB in a daemon that draws nothing.
        for name in ("rich", "colorama"):
            sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # makes an import of it fail
    output = Output() if argv is None else None
    try:
        return _checked(argv, output)
    except Problem as problem:
        print(f"pusher-agent: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except ModuleNotFoundError as error:
        if error.name not in LIBRARIES:
            return _report_bug()
        print(
            f"pusher-agent: The agent cannot run: its libraries are not installed ({error.name})\n"
            "  Only the commands of `pusher` were. On a server, install the Debian package. Elsewhere,\n"
            "  install the extra `agent`, in a checkout: pipx install '.[agent]'",
            file=sys.stderr,
        )
        return _USAGE
    except PermissionError as error:
        # Any look at a file may be the first that this user must not take. Without a name it is ours.
        return _report_bug() if error.filename is None else _report_missing_right(error)
    except Exception:
        return _report_bug()


def _checked(argv: Sequence[str] | None, output: Output | None) -> int:
    """As `run`. Raises: Failed, if its output was lost, and nothing else went wrong."""
    try:
        code = run(argv)
    except SystemExit as ending:  # --help and --version
        if output and not ending.code:
            output.check()
        raise
    if output and not code:
        output.check()
    return code


def _report_missing_right(error: PermissionError) -> int:
    """Print which file this user may not use; the exit code."""
    print(
        f"pusher-agent: {os.fsdecode(error.filename)} cannot be used: {error.strerror}. "
        "Run it as root (sudo), or as the user to whom the agent's folder belongs",
        file=sys.stderr,
    )
    return Refused.exit_code


def _report_bug() -> int:
    """Print the error that is being handled; the exit code."""
    traceback.print_exc()
    print("pusher-agent: This is a bug. Please report it with the lines above", file=sys.stderr)
    return _OUR_BUG


if __name__ == "__main__":
    sys.exit(main())
