"""docs/security.md names a test for each threat, and each of these tests is seen to fail without the defence."""

import re

import pytest

from tests.canary.__main__ import replaced
from tests.canary.canaries import CANARIES, Canary
from tests.docs.documents import REPOSITORY

TEXT = (REPOSITORY / "docs/security.md").read_text()
ROWS = re.findall(r"^- Threat: (.+)\n  Defence: (.+)\n  Test: `(.+)::(\w+)`$", TEXT, re.M)


def test_each_threat_has_its_defence_and_its_test_in_one_line_each():
    assert len(ROWS) == TEXT.count("- Threat:") == TEXT.count("  Defence:") == TEXT.count("  Test:") > 50


@pytest.mark.parametrize(("threat", "file", "name"), [(threat, file, name) for threat, _, file, name in ROWS])
def test_each_named_test_is_there(threat: str, file: str, name: str):
    assert re.search(rf"^(async )?def {name}\(", (REPOSITORY / file).read_text(), re.M)


def test_each_named_test_has_a_canary_and_the_other_way_round():
    assert {one.test for one in CANARIES} == {f"{file}::{name}" for _, _, file, name in ROWS}


@pytest.mark.parametrize("canary", CANARIES, ids=lambda one: one.test.rpartition(":")[2])
def test_each_canary_still_changes_its_files(canary: Canary):
    for edit in canary.edits:
        text = (REPOSITORY / edit.file).read_text()
        assert replaced(text, edit) != text
