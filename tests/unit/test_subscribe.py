"""`pusher-agent subscribe`: an app's file says where its releases come from, and nothing else of it changes."""

import tomllib
from pathlib import Path

import pytest

from agent.admin.cli import run
from agent.core.config.app import parse_app
from agent.core.layout import HostLayout
from pusher.wire import Refused
from tests.host import make_key


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An embedded root with one app."""
    make_key(tmp_path / "key")
    assert (
        run(
            [
                "init",
                "--root",
                str(tmp_path),
                "--trust",
                str(tmp_path / "key.pub"),
                "--app",
                "shop",
                "--health",
                "/up",
            ]
        )
        == 0
    )
    return tmp_path


def file(root: Path) -> Path:
    return HostLayout(root).app_toml("shop")


def test_an_app_follows_a_folder_or_mirrors(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = parse_app(file(root).read_text(), file="x", app="shop")
    assert run(["subscribe", "shop", str(root / "repo"), "--root", str(root)]) == 0
    assert "follows the channel stable" in capsys.readouterr().out
    config = parse_app(file(root).read_text(), file="x", app="shop")
    assert config.subscribe.repository == [f"file://{root}/repo"]
    assert config.model_copy(update={"subscribe": before.subscribe}) == before
    mirrors = ["https://a.example/repo", "https://b.example/repo"]
    assert run(["subscribe", "shop", *mirrors, "--channel", "beta", "--root", str(root)]) == 0
    config = parse_app(file(root).read_text(), file="x", app="shop")
    assert (config.subscribe.repository, config.subscribe.channel) == (mirrors, "beta")
    assert run(["subscribe", "shop", mirrors[0], "--root", str(root)]) == 0
    assert parse_app(file(root).read_text(), file="x", app="shop").subscribe.channel == "beta"


def test_other_keys_of_the_table_stay(root: Path) -> None:
    text = (
        file(root)
        .read_text()
        .replace("[health]", '[subscribe]\nrepository = ["file:///old"]\npoll_s = 30\n\n[health]')
    )
    file(root).write_text(text)
    assert run(["subscribe", "shop", "/srv/repo", "--root", str(root)]) == 0
    members = tomllib.loads(file(root).read_text())
    assert members["subscribe"] == {"repository": ["file:///srv/repo"], "channel": "stable", "poll_s": 30}
    assert members["health"]["path"] == "/up"


def test_a_key_that_signs_channels_signs_no_releases(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_key(root / "ci")
    argv = ["subscribe", "shop", "/srv/repo", "--trust", str(root / "ci.pub"), "--as", "ci@example.com"]
    assert run([*argv, "--root", str(root)]) == 0
    make_key(root / "other")
    assert run(["trust", str(root / "other.pub"), "--as", "o@example.com", "--channels", "--root", str(root)]) == 0
    lines = HostLayout(root).allowed_signers.read_text().splitlines()
    assert [line.split()[1] for line in lines] == [
        'namespaces="pusher-release"',
        *['namespaces="pusher-channel"'] * 2,
    ]


@pytest.mark.parametrize(
    "repository",
    [
        *("ftp://a/b", "https://user@host/x", "https://a/b?c", "file://relative"),
        *("https://a:99999/b", "https://a:0/b", "https://a:b/c", "https://[zz]/x", "http://[::1/x"),
    ],
)
def test_what_is_no_repository_changes_nothing(root: Path, repository: str) -> None:
    before = file(root).read_text()
    with pytest.raises(Refused, match="repository"):
        run(["subscribe", "shop", repository, "--root", str(root)])
    assert file(root).read_text() == before


def test_an_address_of_ipv6_is_one(root: Path) -> None:
    assert (
        run(
            ["subscribe", "shop", "https://[2001:db8::1]:8443/x", "http://[fe80::1%25eth0]/x", "--root", str(root)]
        )
        == 0
    )


def test_a_file_in_which_more_would_change_is_left_to_a_person(root: Path) -> None:
    text = file(root).read_text() + '\n[resources]\nmemory_max = """\n[subscribe]\n1G"""\n'
    file(root).write_text(text.replace('"""\n[subscribe]\n1G"""', '"1G"') + "# [subscribe]\n")
    assert run(["subscribe", "shop", "/srv/repo", "--root", str(root)]) == 0
    file(root).write_text('start = """\n[subscribe]\nkeep_releases = 3\n"""\n')
    before = file(root).read_text()
    with pytest.raises(Refused):
        run(["subscribe", "shop", "/srv/repo", "--root", str(root)])
    assert file(root).read_text() == before


def test_an_app_that_is_not_there_is_refused(root: Path) -> None:
    with pytest.raises(Refused, match="no app nothing"):
        run(["subscribe", "nothing", "/srv/repo", "--root", str(root)])


def test_an_option_that_would_change_nothing_is_refused(root: Path) -> None:
    before = file(root).read_bytes()
    for words in (["subscribe", "shop", "/srv/repo", "--as", "ci"], ["init", "--as", "ci"]):
        with pytest.raises(Refused, match=r"--trust KEY\.pub"):
            run([*words, "--root", str(root)])
    with pytest.raises(Refused, match="--app NAME"):
        run(["init", "--listen", "127.0.0.1:8001", "--root", str(root)])
    assert file(root).read_bytes() == before
