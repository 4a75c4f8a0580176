"""One word, one meaning: the words that were given up (docs/explanation/concepts.md has those in use) are gone."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.documents import DOCUMENTS, REPOSITORY, source_files

GIVEN_UP = {
    "shelf": "release store",
    "shelves": "release stores",
    "desk": "handlers",
    "landing": "drop, upload",
    "landings": "drops, uploads",
    "crowd": "fair queue",
    "crowded": "fair queue",
    "crowds": "fair queue",
    "headline": "status line",
    "overview": "status",
    "settlement": "recovery",
    "tidy": "reconcile",
    "papers": "signed manifest, verified manifest, metadata folder",
    "leftovers": "orphans",
    "whoever": "the operator, the sender, the caller, the signer",
    "whosever": "the operator, the sender, the caller, the signer",
    "he": "a role",
    "him": "a role",
    "his": "a role",
}
"""Words that are wrong everywhere, and what is said instead."""

NOT_A_NAME = {
    "fallback": "rollback target",
    "judge": "check",
    "judged": "checked",
    "judges": "checks",
    "look": "scan, check",
    "looking": "scanning",
    "looks": "scans",
    "tell": "subscribe, run, print",
    "tells": "subscribe, run, print",
    "told": "subscribe, run, print",
    "untold": "subscribe, run, print",
    "turn": "lock, pool",
    "turns": "lock, pool",
    "taken": "occupied, accepting, consumed",
}
"""Ordinary English words that must not name anything in the product: no function, variable, file or event."""

NOT_A_NAME_IN = {
    "agent/doors/http": {"answer", "answers", "call", "calls"},  # response, request. Elsewhere hooks are called.
    "agent/deploy": {"settle", "settled", "unsettled"},  # recover. A drop may be settled.
}

NEVER_ALONE = {"again"}
"""Not by itself: `retry` says what for."""

CONTRACT = {
    '"landing"': "the event of a drop's stream (docs/reference/http-api.md)",
    '"event":"landing"': "the same, in a document",
    "event `landing`": "the same, in a document",
    "'landing'": "the same, as JSON is shown",
    "port_taken": "a problem's code",
    "PORT_TAKEN": "a problem's code",
    "socket_not_taken": "a problem's code",
    "SOCKET_NOT_TAKEN": "a problem's code",
    "in_turn": "the option --in-turn",
    "Awaited.TURN": "a drop's JSON value `turn`",
    "fallback: bool": "a release's JSON member",
    "TURN =": "a drop's JSON value `turn`",
}
"""What stays although it has such a word: other people's programs read it."""

FILES = [path for path in (*source_files(), *DOCUMENTS) if path != Path(__file__)]
PRODUCT = ("agent", "pusher")
AREAS = ("agent", "pusher", "packaging", "tests", "app-src", "docs", "")
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def area(path: Path) -> str:
    """The top-level folder of a file; empty for those at the top."""
    parts = path.relative_to(REPOSITORY).parts
    return parts[0] if len(parts) > 1 else ""


def plain(path: Path) -> str:
    """The text of a file without what the contract keeps."""
    text = path.read_text()
    for kept in CONTRACT:
        text = text.replace(kept, "_" * len(kept))
    return text


def words(name: str) -> set[str]:
    """The words of a name, however it is spelled."""
    return {word.lower() for word in WORD.findall(name)}


def not_names(path: Path) -> set[str]:
    """The words that may not name anything in this file."""
    here = str(path.relative_to(REPOSITORY))
    return {*NOT_A_NAME}.union(*(found for folder, found in NOT_A_NAME_IN.items() if here.startswith(folder)))


def names(text: str) -> Iterator[tuple[int, str]]:
    """The names in a module, and the events in its strings, each with its line."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_event = token.type == tokenize.STRING and re.fullmatch(r'"[a-z]+(_[a-z]+)+"', token.string)
        if token.type == tokenize.NAME or is_event:
            yield token.start[0], token.string


@pytest.mark.parametrize("top", AREAS)
def test_no_word_that_was_given_up_is_left(top: str):
    left = [
        f"{path.relative_to(REPOSITORY)}:{at}: {word} ({GIVEN_UP[word]})"
        for path in FILES
        if area(path) == top
        for at, line in enumerate(plain(path).splitlines(), 1)
        for word in sorted(words(line) & {*GIVEN_UP})
    ]
    assert not left, "\n".join(left)


@pytest.mark.parametrize("top", PRODUCT)
def test_no_name_is_one_of_the_words_that_mean_too_much(top: str):
    left = [
        f"{path.relative_to(REPOSITORY)}:{at}: {name}"
        for path in FILES
        if area(path) == top and path.suffix == ".py"
        for at, name in names(plain(path))
        if words(name) & not_names(path) or name in NEVER_ALONE
    ]
    assert not left, "\n".join(left)


@pytest.mark.parametrize("top", PRODUCT)
def test_no_file_is_named_by_such_a_word(top: str):
    assert [path for path in FILES if area(path) == top and words(path.stem) & {*GIVEN_UP, *not_names(path)}] == []


def test_the_table_of_words_has_none_of_them():
    table = re.findall(r"^\| \*\*(.+?)\*\* \|", (REPOSITORY / "docs/explanation/concepts.md").read_text(), re.M)
    assert len(table) == len({*table}) > 30
    assert not {word for entry in table for word in words(entry)} & {*GIVEN_UP, *NOT_A_NAME}
