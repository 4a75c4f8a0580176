"""The pictures of the terminal in the documents. `make pictures` takes them again: real agents, real commands.

Invariant: a picture names no other address, and is text, so that a change of it can be read.
"""

import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path

import pyte
import pyte.screens

from tests.docs.documents import REPOSITORY
from tests.ports import free_port
from tests.terminal import Terminal

PICTURES = REPOSITORY / "docs/pictures"
WIDTHS = (80, 120)
ROWS = 200
BIN = Path(sys.executable).parent
HOSTS = ("web1", "web2")
SETTLED_S = 30.0
SHUTTER_S = 0.05
SHORTEST_S = 0.02

COLUMN, LINE, SIZE = 8.4, 19, 14
COLOURS = {
    "default": "#d8dee9",
    "red": "#ff7b72",
    "green": "#7ee787",
    "yellow": "#e3b341",
    "brown": "#e3b341",
    "dim": "#8b949e",
}
BACKGROUND, BAR = "#161b22", "#30363d"


CAST = "cast"
CAST_COLUMNS = 88
FILMED = ("pusher send v2 --host web1", "pusher send v4 --host web1", "pusher rollback --host web1")
SLOWER = 3.0
"""The cast is that much slower than it happened: a person has to read it."""
PAUSE_S = 1.5
"""How long the cast rests before each command."""


def main() -> int:
    """Take every picture, at every width, and the cast."""
    file = PICTURES / f"{CAST}.svg"
    file.write_text(film())
    print(file.relative_to(REPOSITORY))
    for name, columns, screen in taken(WIDTHS):
        file = PICTURES / f"{name}-{columns}.svg"
        file.write_text(drawn(screen, title=f"{name}, {columns} columns"))
        print(file.relative_to(REPOSITORY))
    return 0


def taken(widths: tuple[int, ...]) -> Iterator[tuple[str, int, pyte.Screen]]:
    """What a terminal of each width shows: the name of the picture, the columns, the screen."""
    for columns in widths:
        with tempfile.TemporaryDirectory(prefix="pusher-pictures-") as folder, project(Path(folder)) as place:
            photographer = Photographer(place, columns)
            photographer.take("pusher send v1 --host web1", wanted=0)
            yield "send", columns, photographer.take("pusher send v2 --host web1", wanted=0)
            yield "failing-send", columns, photographer.take("pusher send v4 --host web1", wanted=1)
            yield "two-hosts", columns, photographer.take("pusher send v3 --host web1 --host web2", wanted=0)
            photographer.take("pusher rollback --host web1", wanted=0)
            yield "releases", columns, photographer.take("pusher releases --host web1", wanted=0)
            yield "history", columns, photographer.take("pusher history --host web1", wanted=0)
            yield "status", columns, photographer.take("pusher status --host web1", wanted=0)


def film() -> str:
    """A send, one that is refused, and a rollback, as they happen."""
    with tempfile.TemporaryDirectory(prefix="pusher-cast-") as folder, project(Path(folder)) as place:
        photographer = Photographer(place, CAST_COLUMNS)
        for version in ("v1", "v2", "v1"):
            photographer.take(f"pusher send {version} --host web1", wanted=0)
        screen = pyte.Screen(CAST_COLUMNS, ROWS)
        stream, frames, now = pyte.Stream(screen), list[tuple[float, list[str]]](), 0.0
        for command in FILMED:
            stream.feed(f"$ {command}")
            frames.append((now, [*_texts(screen)]))
            now += PAUSE_S
            stream.feed("\r\n")
            for seconds, text in photographer.watch(command):
                stream.feed(text.replace(f"{place}/", ""))
                frames.append((now + SLOWER * seconds, [*_texts(screen)]))
            now = frames[-1][0] + PAUSE_S
            stream.feed("\r\n")
    return moving(frames, rows=_shown(screen))


class Photographer:
    """Types a command at a terminal of so many columns, and keeps what it shows at the end."""

    def __init__(self, folder: Path, columns: int) -> None:
        self._folder = folder
        self._columns = columns

    def watch(self, command: str) -> list[tuple[float, str]]:
        """What a command writes, each piece with the seconds until then."""
        terminal, began, found, seen = self._typed(command), time.monotonic(), list[tuple[float, str]](), 0
        try:
            while not terminal.ended(SHUTTER_S):
                if len(terminal.said) > seen:
                    found.append((time.monotonic() - began, terminal.said[seen:]))
                    seen = len(terminal.said)
        finally:
            terminal.close()
        return [*found, (time.monotonic() - began, terminal.said[seen:])]

    def take(self, command: str, *, wanted: int) -> pyte.Screen:
        terminal = self._typed(command)
        try:
            code = terminal.wait()
        finally:
            terminal.close()
        if code != wanted:
            raise RuntimeError(f"{command} ended with {code}:\n{terminal.said}")
        screen = pyte.Screen(self._columns, ROWS)
        pyte.Stream(screen).feed(f"$ {command}\r\n{terminal.said}".replace(f"{self._folder}/", ""))
        return screen

    def _typed(self, command: str) -> Terminal:
        unwanted = {name for name in os.environ if name.startswith("PUSHER_")} | {"NO_COLOR"}
        environment = {name: value for name, value in os.environ.items() if name not in unwanted}
        environment |= {"TERM": "xterm-256color", "COLUMNS": str(self._columns), "LINES": str(ROWS)}
        environment |= {"XDG_STATE_HOME": str(self._folder / "state"), "PYTHONPATH": str(REPOSITORY)}
        words = (sys.executable, "-m", "pusher", *shlex.split(command)[1:])
        script = f"cd {shlex.quote(str(self._folder))} && exec {shlex.join(words)}"
        return Terminal(("sh", "-c", script), environment)


@contextmanager
def project(folder: Path) -> Iterator[Path]:
    """A project with four versions, the last of which does not import, and the agents of two hosts."""
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    shutil.copytree(REPOSITORY / "app-src", folder / "app-src")
    (folder / "app-src/v4").mkdir()
    (folder / "app-src/v4/app.py").write_text(
        "from flask import Flask\n\nfrom shop import prices\n\napp = Flask(__name__)\n"
    )
    shutil.copy(folder / "app-src/v1/requirements.txt", folder / "app-src/v4")
    subprocess.run(
        ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "alice@example.com", "-f", folder / "key"), **quiet
    )
    text = 'app = "flask-demo"\nkey = "key"\n'
    agents: list[subprocess.Popen[bytes]] = []
    try:
        for host in HOSTS:
            door, root = f"127.0.0.1:{free_port()}", folder / host
            words = ("init", "--root", root, "--trust", folder / "key.pub", "--app", "flask-demo", "--local", door)
            asked = ("--listen", f"127.0.0.1:{free_port()}", "--health", "/version", "--version-member", "version")
            subprocess.run((BIN / "pusher-agent", *words, *asked), **quiet)
            config = root / "etc/pusher-agent/agent.toml"
            _, _, others = config.read_text().partition("\n")
            config.write_text(f'name = "{host}"\n{others}')
            log = (folder / f"{host}.log").open("wb")
            agents.append(
                subprocess.Popen((BIN / "pusher-agent", "serve", "--root", root), stdout=log, stderr=log)
            )
            text += f'[hosts.{host}]\naddress = "unix:{root}/run/pusher-agent/api.sock"\n'
            _wait_for(root / "run/pusher-agent/api.sock")
        (folder / "pusher.toml").write_text(text)
        yield folder
    finally:
        for agent in agents:
            agent.terminate()
        for agent in agents:
            agent.wait()


def drawn(screen: pyte.Screen, *, title: str) -> str:
    """A screen as SVG, as high as what is on it."""
    return "\n".join([*_frame(screen.columns, _shown(screen), title), *_texts(screen), "</g>", "</svg>"]) + "\n"


def moving(frames: Sequence[tuple[float, list[str]]], *, rows: int) -> str:
    """Texts of a terminal as one SVG that shows each from its second on, as long as it stood there."""
    parts = _frame(CAST_COLUMNS, rows, "a send, one that is refused, and a rollback")
    since: dict[str, float] = {}
    for at, texts in (*frames, (math.inf, [])):
        for text in [text for text in since if text not in texts]:
            begins = since.pop(text)
            if at - begins < SHORTEST_S:
                continue  # nobody would see it, and no time at all would mean for ever
            if not math.isinf(at):
                when = f'begin="{begins:.2f}s" dur="{at - begins:.2f}s"'
                moves = f'<set attributeName="visibility" to="visible" {when}/>'
                parts.append(_with(text.replace("<text ", '<text visibility="hidden" ', 1), moves))
            elif begins:
                # It stays: where nothing moves, this is what is seen.
                moves = f'<set attributeName="visibility" to="hidden" begin="0s" dur="{begins:.2f}s"/>'
                parts.append(_with(text, moves))
            else:
                parts.append(text)
        for text in texts:
            since.setdefault(text, at)
    return "\n".join([*parts, "</g>", "</svg>"]) + "\n"


def _with(text: str, moves: str) -> str:
    return f"{text.removesuffix('</text>')}{moves}</text>"


def _shown(screen: pyte.Screen) -> int:
    return max((row for row in range(ROWS) if screen.display[row].strip()), default=0) + 1


def _frame(columns: int, rows: int, title: str) -> list[str]:
    width, height = columns * COLUMN + 32, rows * LINE + 56
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
        f'<rect width="100%" height="28" rx="8" fill="{BAR}"/>',
        *(f'<circle cx="{18 + 18 * at}" cy="14" r="5" fill="{BACKGROUND}"/>' for at in range(3)),
        f'<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="{SIZE}">',
    ]


def _texts(screen: pyte.Screen) -> Iterator[str]:
    for row in range(_shown(screen)):
        for column, text, style in _runs(screen.buffer[row], screen.columns):
            x, y = 16 + column * COLUMN, 50 + row * LINE
            length = f'textLength="{len(text) * COLUMN:.1f}" lengthAdjust="spacingAndGlyphs"'
            # Viewers make one of several blanks, whatever xml:space says.
            shape = escape(text).replace(" ", "\u00a0")
            yield f'<text x="{x:.1f}" y="{y}" {length} {style}>{shape}</text>'


def _runs(line: object, columns: int) -> Iterator[tuple[int, str, str]]:
    """The parts of a line that look alike, without what is blank: where, what, how."""
    cells = [line[at] for at in range(columns)]  # type: ignore[index]
    at = 0
    while at < columns:
        end = at
        while end < columns and _look(cells[end]) == _look(cells[at]):
            end += 1
        text = "".join(cell.data for cell in cells[at:end])
        if kept := text.strip():
            yield at + len(text) - len(text.lstrip()), kept, _look(cells[at])
        at = end


def _look(cell: pyte.screens.Char) -> str:
    weight = ' font-weight="bold"' if cell.bold else ""
    return f'fill="{COLOURS.get(cell.fg, COLOURS["default"])}"{weight}'


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + SETTLED_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path} did not appear")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
