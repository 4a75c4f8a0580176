"""What becomes of releases whose Python is gone; on a host that has the same interpreter twice."""

import os
import re
import shutil
from pathlib import Path

from agent.core.pythons import version_of
from agent.core.venv import facts_argv
from tests.deploy.test_venvs import said
from tests.host import APP, Host, running, wsgi

SYSTEM = os.path.realpath("/usr/bin/python3")
VERSION = version_of(said(*facts_argv(SYSTEM)))
MINOR = VERSION.rpartition(".")[0]
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def locked(*names: str) -> str:
    """Requirements with hashes, as this project's own lock has them."""
    pinned = re.findall(r"^((\S+)==\S+ \\\n(?: +--hash=\S+(?: \\)?\n)+)", CONSTRAINTS.read_text(), re.M)
    return "".join(text for text, name in pinned if name in names)


def add_python(host: Host) -> Path:
    """A copy of the system's interpreter in root's folder. It finds its library where it was built for."""
    path = host.layout.pythons / f"cpython-{VERSION}-linux/bin/{os.path.basename(SYSTEM)}"
    path.parent.mkdir(parents=True)
    shutil.copy(SYSTEM, path)
    return path


async def test_a_rollback_makes_a_venv_anew_or_says_before_anything_changes_why_not(host_off: Host) -> None:
    host = host_off
    host.add_app(APP, dependencies__python=MINOR)
    added = add_python(host)
    async with running(host):
        loose = (await host.deploy(wsgi("v1"), "v1"))["release"]
        exact = (await host.deploy(wsgi("v2") | {"requirements.txt": locked("gunicorn", "packaging")}, "v2"))[
            "release"
        ]
        before = os.readlink(host.app.release(exact) / "venv")
        shutil.rmtree(host.layout.pythons)
        await host.deploy(wsgi("v3"), "v3")
        status, answer = await host.rollback(to=loose)
        assert (status, answer["code"]) == (422, "dependencies_failed")
        assert f"Python {VERSION} ({added}) is gone, and its venv is not made anew" in answer["detail"]
        assert await host.serving() == "v3"
        status, answer = await host.rollback()
        assert (status, answer["version"]) == (200, "v2")
        assert await host.serving() == "v2"
        assert os.readlink(host.app.release(exact) / "venv") != before
