"""Why a release did not start, found in what it wrote: the cause in one line, and the app's own part of it.

Invariant: text in, text out. What a web server writes about its own end is left out. A traceback is shown once,
however many workers wrote it.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from agent.core.advice import advise

_TRACEBACK = "Traceback (most recent call last):"
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
_FRAME = re.compile(r'^ *File "(?P<file>.+)", line (?P<line>\d+)(?:, in (?P<name>.*))?$')
_MARKS = re.compile(r" +[\^~]+")
_ERROR = re.compile(r"^(?P<kind>[A-Za-z_][\w.]*)(?:: (?P<text>.*))?$")
_PREFIX = re.compile(r"^(?:\[\d{4}-\d\d-\d\d [\d:]{8} [+-]\d{4}\] \[\d+\] \[[A-Z]+\] |(?:ERROR|INFO|WARNING): +)")
"""What gunicorn and uvicorn write before each of their lines."""
_SERVERS_OWN = ("HaltServer", "SystemExit", "KeyboardInterrupt")
_NOISE = re.compile(
    r"Handling signal: \w+|Worker exiting \(pid: \d+\)|Shutting down: Master|Reason: Worker failed to boot\.?|"
    r"Exception in worker process|Worker \(pid:\d+\) (exited with code|was sent SIG).*|"
    r"Booting worker with pid: \d+|Starting gunicorn [\d.]+|Listening at: .*|Using worker: \w+|"
    r"Control socket listening at .*|Control server error: .*|Child process \[\d+\] died|"
    r"Started (parent|server|child) process \[\d+\]|Waiting for (application startup|child process).*|"
    r"Application startup failed\. Exiting\.|Stopping (parent|reloader) process.*|Uvicorn running on .*|"
    r"St(art|opp)(ing|ed) [\w@.-]+\.service - .*|[\w@.-]+\.service: (Main process exited, code=exited, .*|"
    r"Killing process \d+ \(.*\) with signal SIGKILL\.|Failed with result 'exit-code'\.)"
)
"""What servers and systemd say about starting and ending. systemd calls exit code 3 NOTIMPLEMENTED."""
_SAYS = (
    re.compile(r"Failed to find (?:attribute|application object) .*"),
    re.compile(r"Error loading ASGI app\. .*"),
    re.compile(r"(?:unable to load app|no python application found).*"),
)
"""What servers say, without a traceback, about an app that they cannot load."""
_WORKER_ENDED = re.compile(
    r"Worker \(pid:\d+\) (?:exited with code (?P<code>\d+)\.?|was sent (?P<signal>SIG\w+)!.*)|"
    r"Child process \[\d+\] died"
)
"""What gunicorn and uvicorn write about a worker in whose place they start another."""
_OWN_FRAMES_MOST = 12


class Cause(NamedTuple):
    """Why it did not start. `what`, `why` and `hint` are for a problem; `output` is what to show of its lines."""

    what: str
    why: str
    output: str
    hint: str = ""


class Loop(NamedTuple):
    """How workers end, as `exit code 1` or `SIGKILL`, empty if the server does not say; and what they wrote.

    Each line of that is there once.
    """

    how: str
    output: str


class _Traceback(NamedTuple):
    """A traceback with those it is chained to: its frames (head, source lines), and its last line."""

    frames: tuple[tuple[str, ...], ...]
    error: str


def find_cause(written: str, *, release: str, start: Sequence[str]) -> Cause | None:
    """The cause in what a release wrote; None if it names none. `release` is its id, `start` its command."""
    lines = _from_a_beginning([_PREFIX.sub("", line) for line in written.splitlines()])
    tracebacks = [one for one in _tracebacks(lines) if not _is_servers_own(one.error)]
    app = _app(start)
    if tracebacks:
        # An app may have logged an error that it could live with, before the one that ended it.
        chosen = next((one for one in tracebacks if _is_import(one)), tracebacks[-1])
        own = [frame for frame in chosen.frames if _own_path(frame[0], release)]
        at = f" ({_place(own[-1][0], release)})" if own else ""
        what = f"{app} does not import" if _is_import(chosen) else "The app raised an error while it started"
        shown = [_shown(frame, release) for frame in own[-_OWN_FRAMES_MOST:]]
        hint = advise(chosen.error, frames=[frame[0] for frame in chosen.frames])
        return Cause(what, f"{chosen.error}{at}", "\n".join([*_rest(lines), *shown, chosen.error]), hint)
    for line in lines:
        if any(pattern.fullmatch(line) for pattern in _SAYS):
            return Cause(f"{app} does not import", line, "")
    return None


def find_loop(written: str) -> Loop | None:
    """How the workers of a server end that starts others in their place; None if at most one has ended."""
    found = [one for line in written.splitlines() if (one := _WORKER_ENDED.fullmatch(_PREFIX.sub("", line)))]
    if len(found) < 2:  # one may have had an accident
        return None
    code, signal = found[-1]["code"], found[-1]["signal"]
    said = {re.sub(r"\d+", "", line): line for line in without_noise(written).splitlines()}  # times, process ids
    return Loop(f"exit code {code}" if code else signal or "", "\n".join(said.values()))


def without_noise(written: str) -> str:
    """What a release wrote, without what its server says about starting and stopping."""
    kept = [line for line in written.splitlines() if not _NOISE.fullmatch(_PREFIX.sub("", line))]
    return "\n".join(kept)


def _from_a_beginning(lines: Sequence[str]) -> Sequence[str]:
    """The lines without the end of a traceback whose beginning is not among them: only the last ones are kept."""
    frames, at = _frames(lines, 0)
    return lines[at + 1 :] if frames or any(map(_MARKS.fullmatch, lines[:at])) else lines


def _app(start: Sequence[str]) -> str:
    """The app in a start command, as `shop.wsgi:application`."""
    return next((word for word in start[1:] if re.fullmatch(r"[\w.]+:[\w.]+(\(.*\))?", word)), "The app")


def _tracebacks(lines: Sequence[str]) -> Iterator[_Traceback]:
    """The tracebacks in some lines, each as the last of its chain."""
    at = 0
    while at < len(lines):
        if lines[at].strip() != _TRACEBACK:
            at += 1
            continue
        frames, at = _frames(lines, at + 1)
        error = lines[at] if at < len(lines) else ""
        at += 1
        following = next((index for index in range(at, min(at + 3, len(lines))) if lines[index].strip()), None)
        found = following is not None and lines[following].startswith(_CHAINED)
        if found and following is not None and not _chained_is_servers_own(lines, following + 1):
            at = following + 1
            continue
        if _ERROR.match(error):
            yield _Traceback(tuple(frames), error)


def _frames(lines: Sequence[str], at: int) -> tuple[list[tuple[str, ...]], int]:
    """The frames that begin at a line, and the line after them."""
    frames: list[tuple[str, ...]] = []
    while at < len(lines) and (lines[at].startswith(" ") or not lines[at].strip()):
        if _FRAME.match(lines[at]):
            frames.append((lines[at],))
        elif frames:
            frames[-1] = (*frames[-1], lines[at])
        at += 1
    return frames, at


def _chained_is_servers_own(lines: Sequence[str], at: int) -> bool:
    """Whether the next traceback of a chain is only the server's own end."""
    while at < len(lines) and lines[at].strip() != _TRACEBACK:
        at += 1
    _, end = _frames(lines, at + 1)
    return end < len(lines) and _is_servers_own(lines[end])


def _is_import(found: _Traceback) -> bool:
    return any("importlib" in frame[0] or "import_app" in frame[0] for frame in found.frames)


def _is_servers_own(error: str) -> bool:
    found = _ERROR.match(error)
    return found is not None and found["kind"].rpartition(".")[2] in _SERVERS_OWN


def _own_path(frame: str, release: str) -> str:
    """The file of a frame in the release, relative to it; empty if it is not the app's own."""
    found = _FRAME.match(frame)
    _, _, path = found["file"].partition(f"/releases/{release}/") if found else ("", "", "")
    return "" if path.startswith("venv/") else path


def _place(frame: str, release: str) -> str:
    found = _FRAME.match(frame)
    return f"{_own_path(frame, release)}:{found['line']}" if found else ""


def _shown(frame: tuple[str, ...], release: str) -> str:
    before, mark, after = frame[0].partition(f"/releases/{release}/")
    first = f'{before.rpartition(chr(34))[0]}"{after}' if mark and '"' in before else frame[0]
    return "\n".join([first, *frame[1:]])


def _rest(lines: Sequence[str]) -> list[str]:
    """What the app itself wrote beside tracebacks, each line once."""
    kept: dict[str, None] = {}
    at = 0
    while at < len(lines):
        if lines[at].strip() == _TRACEBACK:
            _, at = _frames(lines, at + 1)
        elif lines[at].strip() and not _NOISE.fullmatch(lines[at]) and not lines[at].startswith(_CHAINED):
            kept[lines[at]] = None
        at += 1
    return list(kept)
