"""What `app adopt` reads of an old unit, of a release's links, and how it hands over what is shared."""

import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from agent.core.adoption import listen_of, parse_unit, shared_of
from agent.host.setup.adoption import give_back, links_in, open_to, take
from pusher.wire import Failed

SHOWN = """\
ExecStart={ path=/srv/bin/gunicorn ; argv[]=/srv/bin/gunicorn -w 2 -b 0.0.0.0:8000 app:app ; ignore_errors=no }
Environment="PATH=/srv/venv/bin" DEBUG=0
EnvironmentFiles=/etc/shop.env (ignore_errors=no)
EnvironmentFiles=/srv/shared/more env (ignore_errors=yes)
User=www-data
FragmentPath=/etc/systemd/system/shop.service
ActiveState=active
UnitFileState=enabled
MemoryMax=209715200
"""


def test_a_unit_is_read_as_systemctl_shows_it() -> None:
    old = parse_unit(SHOWN)
    assert (old.file, old.user) == ("/etc/systemd/system/shop.service", "www-data")
    assert (old.active, old.enabled, old.listen) == (True, True, "0.0.0.0:8000")
    assert old.command == ("/srv/bin/gunicorn", "-w", "2", "-b", "0.0.0.0:8000", "app:app")
    assert old.environment_files == ("/etc/shop.env", "/srv/shared/more env")
    assert old.variables == ("PATH", "DEBUG")
    assert old.memory_max == "209715200"


def test_a_unit_that_says_little_is_read_as_that() -> None:
    old = parse_unit("User=root\nActiveState=inactive\nno line\nMemoryMax=infinity\n")
    assert old.memory_max == ""
    assert (old.file, old.user, old.active, old.enabled) == ("", "", False, False)
    assert (old.command, old.listen, old.environment_files, old.variables) == ((), "", (), ())


@pytest.mark.parametrize(
    ("command", "listen"),
    [
        ("gunicorn -b 127.0.0.1:8000 app:app", "127.0.0.1:8000"),
        ("gunicorn -b127.0.0.1:8000 app:app", "127.0.0.1:8000"),
        ("gunicorn --bind=unix:/run/app.sock app:app", "unix:/run/app.sock"),
        ("gunicorn --bind :8000 app:app", "0.0.0.0:8000"),
        ("gunicorn --bind tcp://0.0.0.0:80 app:app", "0.0.0.0:80"),
        ("uvicorn --host 0.0.0.0 --port 8080 main:app", "0.0.0.0:8080"),
        ("uvicorn main:app --port=8080", "127.0.0.1:8080"),
        ("daphne -p 8001 shop.asgi:application", "127.0.0.1:8001"),
        ("waitress-serve --listen=*:6543 shop:app", "*:6543"),
        ("gunicorn app:app", ""),
        ("uvicorn --host 0.0.0.0 main:app", ""),
        ("gunicorn app:app -b", ""),
        ("", ""),
    ],
)
def test_the_address_is_what_the_command_says(command: str, listen: str) -> None:
    assert listen_of(command.split()) == listen


def test_what_a_release_shares_is_what_its_links_lead_to_but_no_venv() -> None:
    links = {
        "media": "/opt/x/shared/media",
        "venv": "/opt/x/shared/venv",
        "log": "/var/log/x",
        ".env": "/opt/x/shared/.env",
    }
    assert shared_of(links, shared="/opt/x/shared") == {".env": ".env", "media": "media"}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    made = tmp_path / "old/shared"
    (made / "public/media/deep").mkdir(parents=True)
    (made / "public/media/deep/one.txt").write_text("1")
    (made / ".env").write_text("A=1")
    (tmp_path / "new/shared").mkdir(parents=True)
    return made


def test_links_are_found_near_the_top_of_a_release(tmp_path: Path) -> None:
    for name in ("a/b/c/d", "a/b/near", "top"):
        (tmp_path / "release" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "release" / name).symlink_to(tmp_path)
    assert links_in(tmp_path / "release") == {"top": str(tmp_path), "a/b/near": str(tmp_path)}


def test_what_is_shared_moves_and_the_old_app_finds_it_through_a_link_until_it_moves_back(
    old: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new/shared"
    for _ in range(2):
        for name in ("public/media", ".env"):
            take(name, old=old, new=new, gid=os.getgid())
        assert (old / "public/media").is_symlink()
        assert (
            (old / "public/media/deep/one.txt").read_text()
            == (new / "public/media/deep/one.txt").read_text()
            == "1"
        )
        assert (old / ".env").read_text() == "A=1"
    assert stat.S_IMODE((new / "public/media/deep").stat().st_mode) & 0o2770 == 0o2770
    assert stat.S_IMODE((new / "public/media/deep/one.txt").stat().st_mode) & 0o660 == 0o660
    for _ in range(2):
        for name in ("public/media", ".env"):
            give_back(name, old=old, new=new)
    assert not (old / "public/media").is_symlink()
    assert (old / "public/media/deep/one.txt").read_text() == "1"
    assert (old / ".env").read_text() == "A=1"
    assert not os.path.lexists(new / ".env")


def test_an_empty_folder_that_is_there_already_is_in_no_way_and_a_full_one_is(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new/shared"
    (new / "public/media").mkdir(parents=True)
    take("public/media", old=old, new=new, gid=os.getgid())
    assert (new / "public/media/deep").is_dir()
    (new / "full").mkdir()
    (new / "full/one").touch()
    (old / "full").mkdir()
    with pytest.raises(Failed, match="could not be moved"):
        take("full", old=old, new=new, gid=os.getgid())
    assert (old / "full").is_dir()


def test_no_link_is_followed_and_a_file_of_two_names_is_left_alone(tmp_path: Path) -> None:
    roots = tmp_path / "roots"
    roots.write_text("root's")
    roots.chmod(0o600)
    place = tmp_path / "place"
    place.mkdir()
    (place / "link").symlink_to(roots)
    os.link(roots, place / "hard")
    (place / "mine").write_text("")
    (place / "mine").chmod(0o600)
    os.mkfifo(place / "fifo", 0o600)
    (place / "lends").write_text("")
    (place / "lends").chmod(0o6755)
    open_to("place", beneath=tmp_path, gid=os.getgid())
    assert stat.S_IMODE((place / "lends").stat().st_mode) == 0o775
    modes = {one.name: stat.S_IMODE(one.lstat().st_mode) for one in (roots, place / "mine", place / "fifo")}
    assert modes == {"roots": 0o600, "mine": 0o660, "fifo": 0o600}
    (tmp_path / "way").symlink_to(place)
    for name in ("way", "way/mine"):
        (place / "mine").chmod(0o600)
        with suppress(OSError):
            open_to(name, beneath=tmp_path, gid=os.getgid())
        assert stat.S_IMODE((place / "mine").stat().st_mode) == 0o600


def test_a_folder_that_became_a_link_is_not_entered(old: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere/media").mkdir(parents=True)
    (old / "public").rename(tmp_path / "away")
    (old / "public").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failed, match="could not be moved"):
        take("public/media", old=old, new=tmp_path / "new/shared", gid=os.getgid())
    (old / "public").unlink()
    (old / "public").symlink_to(tmp_path / "away")
    (tmp_path / "away/media").rename(tmp_path / "away/real")
    (tmp_path / "away/media").symlink_to("real")
    (tmp_path / "new/shared/public/media").mkdir(parents=True)
    with pytest.raises(Failed, match="could not be moved"):
        give_back("public/media", old=old, new=tmp_path / "new/shared")
