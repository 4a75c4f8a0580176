"""docs/architecture.md answers with files and names that are there, and with drawings of the code as it is."""

import ast
import re

import pytest

from tests.docs.documents import DOCUMENTS, NAMES, REPOSITORY
from tests.docs.drawings import DRAWINGS, PLACE, drawn

TEXT = (REPOSITORY / "docs/architecture.md").read_text()
NAMED = re.compile(r"((?:`[\w.]+`(?: and |, )?)+)\s+(?:in|from) `([\w/.-]+\.py)`")
QUESTIONS = (
    "Where is a signature verified?",
    "What happens when confirm fails?",
    "Which code talks to systemd?",
    "How does the CLI reach a host?",
    "Where would a new door go?",
)


def defined(path: str) -> set[str]:
    """Every name that a module defines: at its top, and in its classes as `Class.name`."""
    found: set[str] = set()

    def gather(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                gather(node.body, f"{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            found.update(prefix + one.id for one in targets if isinstance(one, ast.Name))

    gather(ast.parse((REPOSITORY / path).read_text()).body, "")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_a_document_places_in_a_file_is_defined_there(name: str):
    for names, path in NAMED.findall((REPOSITORY / name).read_text()):
        missing = {*re.findall(r"`([\w.]+)`", names)} - defined(path)
        assert not missing, f"{path} does not define {missing}"


def test_a_newcomers_questions_are_answered_with_one_place_each():
    rows = dict(re.findall(r"^\| (.*\?) \| (.*) \|$", TEXT, re.M))
    for question in QUESTIONS:
        assert "/" in rows[question], question
    assert len(NAMED.findall(TEXT)) > 30


def test_every_wing_is_described():
    described = {*re.findall(r"^\| `((?:agent|pusher)/[\w/]*)` \|", TEXT, re.M)}
    folders = {
        f"{init.parent.relative_to(REPOSITORY)}/"
        for top in ("agent", "pusher")
        for init in (REPOSITORY / top).rglob("__init__.py")
    }
    assert described == folders


@pytest.mark.parametrize("name", NAMES)
def test_every_drawing_is_that_of_the_code(name: str):
    text = (REPOSITORY / name).read_text()
    assert drawn(text) == text, "draw it again: python -m tests.docs.drawings"


def test_every_drawing_stands_in_a_document():
    places = {place[1] for document in DOCUMENTS for place in PLACE.findall(document.read_text())}
    assert places == {*DRAWINGS}
