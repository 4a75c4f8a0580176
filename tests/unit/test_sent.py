"""What was sent before: a guess of what a host lacks."""

import hashlib
from pathlib import Path

from pusher.bundle.sent import Sent
from pusher.wire import File


def file(path: str, content: str) -> File:
    return File(path, 0o644, len(content), hashlib.sha256(content.encode()).hexdigest())


def name(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_what_went_live_is_known_by_its_manifest(tmp_path: Path) -> None:
    sent, one, two, same = Sent(tmp_path / "sent"), file("a", "1"), file("b", "2"), file("c", "1")
    sent.remember(name(1), (one, same))
    assert sent.lacking(name(1), (one, two, same)) == {two.sha256}
    assert sent.lacking(name(2), (one, two)) is None


def test_only_the_newest_are_remembered(tmp_path: Path) -> None:
    sent, one = Sent(tmp_path), file("a", "1")
    for number in range(70):
        sent.remember(name(number), (one,))
    assert sent.lacking(name(0), (one,)) is None
    assert sent.lacking(name(69), (one,)) == frozenset()
    assert len(list(tmp_path.iterdir())) == 64


def test_a_folder_that_cannot_be_written_costs_nothing_but_a_question(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sent, one = Sent(tmp_path / "file" / "sent"), file("a", "1")
    sent.remember(name(1), (one,))
    assert sent.lacking(name(1), (one,)) is None
