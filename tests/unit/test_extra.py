"""A machine that only sends installs nothing of the agent: its libraries are an extra."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from agent.__main__ import LIBRARIES, main

REPOSITORY = Path(__file__).parents[2]


def test_without_the_agents_libraries_the_way_to_them_is_told() -> None:
    """They are an extra: who only sends has none of them."""
    program = """if True:
        import sys
        sys.modules["pydantic"] = None
        from agent.__main__ import main
        sys.exit(main(["serve"]))
    """
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "pusher-agent: The agent cannot run: its libraries are not installed (pydantic)\n"
        "  Only the commands of `pusher` were. On a server, install the Debian package. Elsewhere,\n"
        "  install the extra `agent`, in a checkout: pipx install '.[agent]'\n",
    )


def test_a_module_of_ours_that_is_missing_is_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacking(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'agent.nothing'", name="agent.nothing")

    monkeypatch.setattr("agent.__main__.run", lacking)
    assert main(["app", "list"]) == 3
    assert "This is a bug" in capsys.readouterr().err


def test_the_extra_has_the_agents_libraries_and_the_rest_is_enough_for_pusher() -> None:
    table = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    theirs, ours = (
        {Requirement(one).name.replace("-", "_") for one in listed}
        for listed in (table["dependencies"], table["optional-dependencies"]["agent"])
    )
    top = {
        name.partition(".")[0]
        for file in (REPOSITORY / "pusher").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        for name in (
            [one.name for one in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    strange = top - {*sys.stdlib_module_names, "pusher", "_typeshed"}
    assert strange <= theirs | {"obstore", "nats"}
    assert {*LIBRARIES} == ours
