"""Every command that a document shows is one that the parsers take."""

import argparse
import re
import shlex
from collections.abc import Iterator

import pytest

from agent.admin import cli as agent_cli
from pusher.cli import parser as pusher_cli
from tests.docs.documents import NAMES, REPOSITORY, blocks, spans

PARSERS = {"pusher": pusher_cli.parser(), "pusher-agent": agent_cli.parser()}
COMMAND = re.compile(r"(?:^|(?<=sudo )|(?<=pusher-agent )(?=pusher-agent ))(pusher(?:-agent)?) (?=[a-z-])", re.M)
END = re.compile(r"\s(?:\||\|\||&&?|;|>>?\S*|[0-9]>\S*|#).*$")
OTHERS = {
    "ssh": {"--ssh"},
    "rsync": {"--checksum", "--chmod", "--delete", "--inplace", "--partial", "--files-from", "--exclude"},
    "curl": {"--fail-with-body", "--retry"},
    "an app's server": {"--fd 3", "--bind fd://3"},
    "the runner": {"--become"},
    "systemd": {"--merge", "--follow", "--job-mode=triggering"},
    "zstd": {"--long"},
    "uv": {"--no-deps", "--require-hashes"},
    "pip": {"--no-cache-dir", "--prefer-binary"},
}
"""Options of other programs, which documents name by themselves."""


def commands(text: str) -> Iterator[str]:
    """The commands in a document's blocks, each in one line, without what a shell does around them."""
    for language, block in blocks(text):
        if language:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if match := COMMAND.search(line):
                yield END.sub("", line[match.start() :])


def below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {word: command for action in found for word, command in action.choices.items()}


def walked(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser that the first words lead to, and the words after it."""
    parser, rest = PARSERS[words[0]], words[1:]
    while rest and rest[0] in below(parser):
        parser, rest = below(parser)[rest[0]], rest[1:]
    return parser, rest


def accepted(parser: argparse.ArgumentParser, words: list[str]) -> bool:
    """Whether it takes these arguments; if not, it says why on standard error."""
    try:
        parser.parse_args(words)
    except SystemExit as error:
        return not error.code
    return True


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {*parser._option_string_actions}.union(*(options(one) for one in below(parser).values()))


@pytest.mark.parametrize("name", NAMES)
def test_every_command_in_a_block_can_be_typed(name: str, capsys: pytest.CaptureFixture[str]):
    for command in commands((REPOSITORY / name).read_text()):
        words = shlex.split(command)
        assert accepted(PARSERS[words[0]], words[1:]), f"{command}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_in_a_sentence_exists_with_its_options(name: str):
    for span in spans((REPOSITORY / name).read_text()):
        match = COMMAND.search(span)
        if not match or "|" in span:
            continue
        parser, rest = walked(shlex.split(END.sub("", span[match.start() :])))
        assert not (below(parser) and rest and not rest[0].startswith("-")), span
        unknown = {word for word in rest if re.fullmatch(r"--?[a-z][a-z-]*", word)} - options(parser)
        assert not unknown, f"{span}: {unknown}"


@pytest.mark.parametrize("name", NAMES)
def test_every_option_that_stands_alone_is_one_of_ours_or_of_a_program_that_is_named(name: str):
    known = set().union(*(options(parser) for parser in PARSERS.values()), *OTHERS.values())
    alone = [span for span in spans((REPOSITORY / name).read_text()) if span.startswith("--")]
    assert [span for span in alone if span not in known and span.split()[0] not in known] == []


def test_commands_are_found():
    counts = {name: len([*commands((REPOSITORY / name).read_text())]) for name in NAMES}
    assert counts["README.md"] >= 15
    assert counts["docs/how-to/operating.md"] >= 15
    assert counts["docs/tutorial/first-releases.md"] >= 8
