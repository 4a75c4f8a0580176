"""A version whose dependencies were decided where it was packed."""

import json
import re

from tests.deploy.shell import Shell
from tests.docs.documents import REPOSITORY
from tests.unit.test_dependencies import project

APP = """
import importlib.metadata, json, lib

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    said = {"version": "v1", "lib": importlib.metadata.version("lib"), "name": lib.NAME, "file": lib.__file__}
    return [json.dumps(said).encode()]
"""


def exact(name: str) -> str:
    """A package of constraints.txt with its hashes, as a lock has it."""
    found = re.search(
        rf"^{name}==(\S+) \\\n((?: +--hash=\S+(?: \\)?\n)+)", (REPOSITORY / "constraints.txt").read_text(), re.M
    )
    assert found
    hashes = json.dumps(re.findall(r"--hash=(\S+)", found[2]))
    return f'[[packages]]\nname = "{name}"\nversion = "{found[1]}"\ntool.pusher.hashes = {hashes}\n'


async def test_a_lock_and_a_project_of_its_own_go_live_whatever_else_the_folder_says(shell: Shell):
    own = '[[packages]]\nname = "lib"\ndirectory = { path = "libs/lib", editable = true }\n'
    lock = 'lock-version = "1.0"\n' + exact("gunicorn") + exact("packaging") + own
    shell.version("v1", {"app.py": APP, "pylock.toml": lock, "requirements.txt": "-e .\n"})
    project(shell.project / "app-src/v1/libs/lib", "lib")
    code, said = await shell.pusher("send", "v1")
    assert code == 0, said
    assert "dependencies: pylock.toml, 3 packages, built here: lib" in said
    answer = await shell.host.answer()
    assert (answer["lib"], answer["name"]) == ("1", "lib")
    assert "/shared/venvs/" in answer["file"]

    code, said = await shell.pusher("diff", "v1")
    assert "7 the same" in said, said
    (shell.project / "app-src/v1/libs/lib/src/lib/__init__.py").write_text("NAME = 'changed'\n")
    code, said = await shell.pusher("diff", "v1")
    assert "the dependencies are installed anew" in said
    code, said = await shell.pusher("send", "v1")
    assert (await shell.host.answer())["name"] == "changed"
    code, _ = await shell.pusher("rollback")
    assert (code, (await shell.host.answer())["name"]) == (0, "lib")


async def test_a_lock_for_another_python_is_refused_with_both_versions(shell: Shell):
    shell.version(
        "v1", {"app.py": "", "pylock.toml": 'lock-version = "1.0"\nrequires-python = "==3.9.*"\npackages = []\n'}
    )
    code, said = await shell.pusher("send", "v1")
    assert code == 4
    assert "3.9" in said
    assert "pusher-agent python add 3.9" in said
