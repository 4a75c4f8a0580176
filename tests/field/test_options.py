"""What everybody would edit by hand is an option of `init` and `app add`."""

import tomllib
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.core.config.app import parse_app


def test_the_usual_settings_are_options(tmp_path: Path) -> None:
    """I set up my app with one line, and edit no file."""
    root = tmp_path / "root"
    options = (
        "--requirements requirements/prod.txt --python 3.12 --env-file /etc/shop.env --shared uploads "
        "--shared media --health-host shop.example.com --health-deadline 45"
    )
    assert main(["init", "--root", str(root), "--app", "shop", *options.split()]) == 0
    text = (root / "etc/pusher-agent/apps/shop.toml").read_text()
    config = parse_app(text, file="shop.toml", app="shop")
    assert config.dependencies.requirements == "requirements/prod.txt"
    assert config.environment_file == "/etc/shop.env"
    assert list(config.shared_paths) == ["uploads", "media"]
    assert (config.health.host, config.health.deadline_s) == ("shop.example.com", 45)
    assert tomllib.loads(text)["dependencies"]["python"] == "3.12"


@pytest.mark.parametrize(
    ("option", "value"), [("--shared", "../x"), ("--health-deadline", "-1"), ("--env-file", "x")]
)
def test_a_value_that_cannot_be_writes_nothing(tmp_path: Path, option: str, value: str) -> None:
    """A mistake is said at once, not at the first deployment."""
    assert main(["init", "--root", str(tmp_path), "--app", "shop", option, value]) == 4
    assert not (tmp_path / "etc/pusher-agent/apps/shop.toml").exists()
