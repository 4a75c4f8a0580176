"""Versions of the sample application that do what a test needs of them, and the making of them."""

from pathlib import Path

GOOD = (Path(__file__).parent.parent.parent / "app-src/v1/app.py").read_text()
REQUIREMENTS = "Flask==3.0.3\ngunicorn==22.0.0\n"

HELD = """
import os, time
if os.environ.get("PUSHER_PREFLIGHT") and not os.path.exists("/srv/go"):
    while not os.path.exists("/srv/go"):
        time.sleep(0.02)
"""
"""Before anything else: a candidate that does not start before there is a file /srv/go."""

HELD_HOOK = "#!/bin/sh\nuntil [ -e /srv/go ]; do sleep 0.05; done\n"
"""A hook that waits for that file too."""

ONLY_AS_CANDIDATE = """
import os
if not os.environ.get("PUSHER_PREFLIGHT"):
    raise RuntimeError("not in public")
"""


BROKEN_INTO = """

import subprocess
from flask import request

@app.post("/run")
def run():
    return subprocess.run(("sh", "-c", request.get_data()), stdout=-1, stderr=-2, stdin=-3).stdout
"""
"""Runs whatever a visitor says."""


def write(source: Path, version: str, *, before: str = "", after: str = "", **files: str) -> Path:
    """A version in the folder `source` of versions, which is returned; hooks are named `hooks__NAME`."""
    folder = source / version
    folder.mkdir(parents=True)
    (folder / "app.py").write_text(before + GOOD.replace('"v1"', f'"{version}"') + after)
    (folder / "requirements.txt").write_text(REQUIREMENTS)
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        if path.parent.name == "hooks":
            path.chmod(0o755)
    return source
