"""The pictures of the terminal in the documents. `make pictures` takes them again: real agents, real commands.

Invariant: a picture names no other address, and is text, so that a change of it can be read.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

import pyte
import pyte.screens

from tests.deploy.embedded_place import free_port
from tests.docs.documents import REPOSITORY
from tests.terminal import Terminal

PICTURES = REPOSITORY / "docs/pictures"
WIDTHS = (80, 120)
ROWS = 200
BIN = Path(sys.executable).parent
HOSTS = ("web1", "web2")
SETTLED_S = 30.0

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


def main() -> int:
    """Take every picture, at every width."""
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


class Photographer:
    """Types a command at a terminal of so many columns, and keeps what it shows at the end."""

    def __init__(self, folder: Path, columns: int) -> None:
        self._folder = folder
        self._columns = columns

    def take(self, command: str, *, wanted: int) -> pyte.Screen:
        unwanted = {name for name in os.environ if name.startswith("PUSHER_")} | {"NO_COLOR"}
        environment = {name: value for name, value in os.environ.items() if name not in unwanted}
        environment |= {"TERM": "xterm-256color", "COLUMNS": str(self._columns), "LINES": str(ROWS)}
        environment |= {"XDG_STATE_HOME": str(self._folder / "state"), "PYTHONPATH": str(REPOSITORY)}
        words = (sys.executable, "-m", "pusher", *shlex.split(command)[1:])
        script = f"cd {shlex.quote(str(self._folder))} && exec {shlex.join(words)}"
        terminal = Terminal(("sh", "-c", script), environment)
        try:
            code = terminal.wait()
        finally:
            terminal.close()
        if code != wanted:
            raise RuntimeError(f"{command} ended with {code}:\n{terminal.said}")
        screen = pyte.Screen(self._columns, ROWS)
        pyte.Stream(screen).feed(f"$ {command}\r\n{terminal.said}")
        return screen


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
    lines = [screen.buffer[row] for row in range(ROWS)]
    shown = max((row for row in range(ROWS) if screen.display[row].strip()), default=0) + 1
    width, height = screen.columns * COLUMN + 32, shown * LINE + 56
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
        f'<rect width="100%" height="28" rx="8" fill="{BAR}"/>',
        *(f'<circle cx="{18 + 18 * at}" cy="14" r="5" fill="{BACKGROUND}"/>' for at in range(3)),
        f'<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="{SIZE}">',
    ]
    for row, line in enumerate(lines[:shown]):
        for column, text, style in _runs(line, screen.columns):
            x, y = 16 + column * COLUMN, 50 + row * LINE
            length = f'textLength="{len(text) * COLUMN:.1f}" lengthAdjust="spacingAndGlyphs"'
            # Viewers make one of several blanks, whatever xml:space says.
            shape = escape(text).replace(" ", "\u00a0")
            parts.append(f'<text x="{x:.1f}" y="{y}" {length} {style}>{shape}</text>')
    return "\n".join([*parts, "</g>", "</svg>"]) + "\n"


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
