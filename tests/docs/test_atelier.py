"""docs/tutorial/atelier.md: its commands are those that the pages in English have, which tests type on hosts."""

from tests.docs.documents import REPOSITORY, blocks

TYPED = ("docs/how-to/operating.md", "docs/tutorial/first-releases.md", "README.md")


def lines(name: str) -> set[str]:
    text = (REPOSITORY / name).read_text()
    return {
        line.partition("  #")[0].strip()
        for language, block in blocks(text)
        if not language
        for line in block.splitlines()
    }


def test_every_command_of_the_page_in_french_is_one_of_the_pages_in_english() -> None:
    known = set[str]().union(*map(lines, TYPED))
    assert lines("docs/tutorial/atelier.md") - known == set()
