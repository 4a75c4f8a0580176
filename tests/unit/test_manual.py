"""The manual pages describe every command and option, and no other."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.admin import cli as agent_cli
from pusher.cli import parser as pusher_cli

PAGES = Path(__file__).parent.parent.parent / "packaging/man"
PARSERS = {"pusher": pusher_cli.parser(), "pusher-agent": agent_cli.parser()}
SECTIONS = [
    *("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS"),
    *("FILES", "ENVIRONMENT", "EXIT STATUS", "EXAMPLES", "SEE ALSO"),
]


def text(page: str) -> str:
    """A page without what only changes the type: fonts, escaped dashes, continued lines."""
    raw = (PAGES / f"{page}.1").read_text().replace("\\\n", "")
    return re.sub(r"\\f[BIR]", "", raw).replace("\\-", "-")


def section(page: str, name: str) -> str:
    """One section of a page."""
    found = re.search(rf"^\.SH {name}\n(.*?)(?=^\.SH |\Z)", text(page), re.M | re.S)
    assert found, f"{page}(1) has no section {name}"
    return found[1]


def tags(part: str) -> list[str]:
    """What is described in a part of a page: the line after each .TP."""
    return re.findall(r"^\.TP\n(.*)$", part, re.M)


def commands(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that does something, by the words that call it."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for action in below:
        for word, command in action.choices.items():
            yield from commands(command, f"{name} {word}")


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Its options in their long form."""
    return {one for one in parser._option_string_actions if one.startswith("--")} - {"--help", "--version"}


@pytest.mark.parametrize("page", PARSERS)
def test_every_command_is_described_with_all_its_options(page: str) -> None:
    described = {}
    for tag in tags(section(page, "COMMANDS")):
        words = re.match(rf"{page}(?: [a-z]+)+", tag)
        assert words, tag
        described[words[0]] = {*re.findall(r"--[a-z-]+", tag)}
    wanted = {name: options(command) for name, command in commands(PARSERS[page], page)}
    # A command whose argument is one of a few words names them.
    named = {re.sub(r" (bash|zsh|fish)$", "", name): found for name, found in described.items()}
    assert named == wanted


@pytest.mark.parametrize("page", PARSERS)
def test_every_option_is_described_once(page: str) -> None:
    described = [one for tag in tags(section(page, "OPTIONS")) for one in re.findall(r"--[a-z-]+", tag)]
    wanted = set().union(*(options(command) for _, command in commands(PARSERS[page], page)))
    assert sorted(described) == sorted(wanted | {"--help", "--version"})


@pytest.mark.parametrize("page", PARSERS)
def test_a_page_has_the_sections_that_people_look_for(page: str) -> None:
    assert re.findall(r"^\.SH (.*)$", text(page), re.M) == SECTIONS
