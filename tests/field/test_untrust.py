"""A key that was trusted can be distrusted with one command."""

from pathlib import Path

import pytest

from agent.__main__ import main

KEYS = {
    "alice": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUcUXfVGFRdAfYkKhZ0B9kCSkGJZ6OHa5gjYPtfNWSF alice@laptop",
    "bob": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN3lbYbPmWFYyfQBAWBSZXDjtDWBZMP1TcFUUVq8DQjD bob@laptop",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for who, text in KEYS.items():
        (tmp_path / f"{who}.pub").write_text(text + "\n")
    assert main(["init", "--root", str(tmp_path / "root"), "--trust", str(tmp_path / "alice.pub")]) == 0
    assert main(["trust", "--root", str(tmp_path / "root"), str(tmp_path / "bob.pub"), "--as", "bob"]) == 0
    return tmp_path / "root"


@pytest.mark.parametrize("who", ["bob", "bob.pub"])
def test_a_key_is_distrusted_by_its_file_or_by_its_name(
    root: Path, who: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bob has left; I need not edit a file by hand."""
    named = str(root.parent / who) if who.endswith(".pub") else who
    assert main(["untrust", "--root", str(root), named]) == 0
    text = (root / "etc/pusher-agent/allowed_signers").read_text()
    assert "alice@laptop" in text
    assert "bob" not in text
    assert "does not trust bob any more" in capsys.readouterr().out
    assert main(["untrust", "--root", str(root), named]) == 4
    assert f"does not trust {named}. Trusted here: alice@laptop" in capsys.readouterr().err
