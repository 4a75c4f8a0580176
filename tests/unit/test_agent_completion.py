"""The bash completion of `pusher-agent` offers what it accepts."""

import argparse
import subprocess
from pathlib import Path

import pytest

from agent.admin import cli

SCRIPT = Path(__file__).parent.parent.parent / "packaging/completion/pusher-agent"


def offered(*words: str) -> list[str]:
    """What bash makes of these words, the last of which is being written."""
    program = f""". {SCRIPT}
        COMP_WORDS=(pusher-agent "$@") COMP_CWORD=$#
        _pusher_agent
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(("bash", "-uc", program, "bash", *words), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def parsers(parser: argparse.ArgumentParser, *words: str) -> list[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Every command and what has commands, with the words that lead to it."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    deeper = [
        pair for action in below for word, one in action.choices.items() for pair in parsers(one, *words, word)
    ]
    return [(words, parser), *deeper]


@pytest.mark.parametrize(("words", "parser"), parsers(cli.parser()), ids=lambda one: str(one)[:20])
def test_every_option_of_every_command_is_offered_and_no_other(
    words: tuple[str, ...], parser: argparse.ArgumentParser
) -> None:
    options = {one for one in parser._option_string_actions if one.startswith("--")}
    assert {*offered(*words, "--")} == options


@pytest.mark.parametrize("words", [(), ("app",)])
def test_every_command_is_offered(words: tuple[str, ...]) -> None:
    (found,) = (one for place, one in parsers(cli.parser()) if place == words)
    choices = {word for action in found._actions for word in action.choices or ()}
    assert {one for one in offered(*words, "") if not one.startswith("-")} == choices


def test_an_app_that_is_to_be_changed_is_offered_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "etc/pusher-agent/apps"
    assert offered("app", "apply", "--root", str(tmp_path), "o") == []
    folder.mkdir(parents=True)
    for name in ("other", "one", "flask-demo"):
        (folder / f"{name}.toml").touch()
    assert offered("app", "apply", "--root", str(tmp_path), "o") == ["one", "other"]
    assert offered("app", "--root", str(tmp_path), "remove", "f") == ["flask-demo"]


@pytest.mark.parametrize("words", [("trust", ""), ("init", "--trust", ""), ("app", "add", "x", "--listen", "")])
def test_only_files_are_offered_for_free_text_and_files(words: tuple[str, ...]) -> None:
    assert offered(*words) == []
