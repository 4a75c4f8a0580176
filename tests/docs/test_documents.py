"""The documents: links that lead somewhere, paths that exist, lines that fit a screen."""

import re
from pathlib import Path

import pytest

from tests.docs.documents import DOCUMENTS, NAMES, REPOSITORY, anchors, prose, source_files, spans

WIDEST = 120
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"(?:agent|pusher|tests|packaging|docs|app-src)/[\w./-]*")
IN_CODE = re.compile(r"(?<!tests/)docs/[\w./-]*\w")
KINDS = ("tutorial", "how-to", "reference", "explanation", "adr")


@pytest.mark.parametrize("name", NAMES)
def test_every_link_to_a_file_or_heading_leads_somewhere(name: str):
    document = REPOSITORY / name
    for link in LINK.findall(prose(document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("name", NAMES)
def test_every_path_of_the_repository_that_a_document_names_exists(name: str):
    named = [span for span in spans((REPOSITORY / name).read_text()) if PATH.fullmatch(span)]
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_line_is_wider_than_a_screen(name: str):
    lines = (REPOSITORY / name).read_text().splitlines()
    assert [at for at, line in enumerate(lines, 1) if len(line) > WIDEST] == []


def test_every_document_that_code_names_exists():
    gone = [
        f"{file.relative_to(REPOSITORY)}: {named}"
        for file in source_files()
        if file != Path(__file__)
        for named in IN_CODE.findall(file.read_text().replace("\\-", "-"))
        if not [*REPOSITORY.glob(f"{named}*")]
    ]
    assert gone == []


def test_the_index_lists_every_document_once():
    index = REPOSITORY / "docs/README.md"
    listed = [(index.parent / link).resolve() for link in LINK.findall(index.read_text())]
    assert len(listed) == len({*listed})
    assert {*DOCUMENTS} - {*listed} == {index, REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md"}


def test_every_document_is_a_tutorial_a_how_to_a_reference_an_explanation_or_a_decision():
    folder = REPOSITORY / "docs"
    beneath = [path.relative_to(folder).parts for path in DOCUMENTS if path.is_relative_to(folder)]
    assert {parts[0] for parts in beneath if len(parts) > 1} == {*KINDS}
    assert {parts[0] for parts in beneath if len(parts) == 1} == {"README.md", "architecture.md", "security.md"}
