"""The patterns of `build_paths`."""

import pathspec
import pytest

from agent.core.build_paths import build_path_matcher

PATTERNS = [
    "static", "static/", "static/**", "static/*", "**/*.mo", "**/static", "**/static/**", "a/**/z", "**.mo",
    "*.css", "a?c", "[a-c]x", "[!a]x", "**", "a*b*c", "locale/*/LC_MESSAGES/*.mo",
]  # fmt: skip
PATHS = [
    "static", "static/a", "static/a/b.css", "x/static", "x/static/y", "a.mo", "x/a.mo", "x/y/a.mo", "a/z", "a/b/z",
    "a/b/c/z/d", "b.css", "x/b.css", "abc", "a/c", "ax", "dx", "aXbYc", "staticx", "locale/de/LC_MESSAGES/m.mo",
    "A.MO",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_matches_what_git_would_match_from_the_top(pattern: str) -> None:
    git = pathspec.GitIgnoreSpec.from_lines([pattern if pattern.startswith("**") else f"/{pattern}"])
    ours = build_path_matcher((pattern,))
    assert [path for path in PATHS if ours(path)] == [path for path in PATHS if git.match_file(path)]


def test_one_of_several_patterns_is_enough_and_none_matches_nothing() -> None:
    ours = build_path_matcher(("static", "**/*.mo"))
    assert (ours("x/a.mo"), ours("static/a"), ours("app.py")) == (True, True, False)
    assert not build_path_matcher(())("a")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("a*" * 100 + "b", "a" * 255), ("a/" + "**/a/" * 50 + "b", "a/" * 2000 + "c")],
)
def test_a_pattern_that_would_hold_a_regular_expression_for_years_is_answered(pattern: str, path: str) -> None:
    assert not build_path_matcher((pattern,))(path)
