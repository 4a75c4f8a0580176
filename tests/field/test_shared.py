"""Shared folders that are links to a larger disk, to a home, or to nothing."""

import asyncio
import os
from pathlib import Path

import pytest

from agent.core.config.app import AppConfig
from agent.core.layout import AppLayout, HostLayout
from agent.core.units import render_units
from agent.deploy.steps.link_shared import LinkShared
from agent.deploy.steps.step import Inputs
from agent.host.releases.shared import check_target
from agent.host.storage.disk import Disk
from agent.host.systemd.unit_files import leads_elsewhere, read_templates
from pusher.wire import Failed, Refused
from tests.field.test_folders import ATTEMPT

CONFIG = AppConfig(path="/opt/shop", user="shop", shared_paths=["uploads", "var/data"])


def unit(*elsewhere: str) -> list[str]:
    """The lines of the app's unit that say what it may write."""
    text = render_units(
        "shop", CONFIG, templates=read_templates(), host=HostLayout(Path("/")), elsewhere=elsewhere
    )["shop.service"]
    return [line for line in text.splitlines() if line.startswith(("ReadWritePaths", "BindPaths", "ProtectHome"))]


def test_where_roots_links_lead_is_writable() -> None:
    """`shared/uploads -> /srv/data` is live, and the app can write there."""
    plain = ["ReadWritePaths=-/opt/shop/shared", "ProtectHome=yes"]
    assert unit() == plain
    assert unit("/srv/data", "/mnt/big disk") == [
        "ReadWritePaths=-/opt/shop/shared",
        'ReadWritePaths=-/srv/data "-/mnt/big disk"',
        "ProtectHome=yes",
    ]
    assert unit("/home/shop/data") == [
        "ReadWritePaths=-/opt/shop/shared",
        "BindPaths=-/home/shop/data",
        "ProtectHome=tmpfs",
    ]
    with pytest.raises(Refused, match=r"units have a tmp of their own, or cannot see it"):
        unit("/tmp/data")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs links of root's")
def test_only_roots_links_say_where_the_app_may_write(tmp_path: Path) -> None:
    """Who breaks into the agent cannot open another place to the app."""
    shared = tmp_path / "opt/shop/shared"
    (shared / "var").mkdir(parents=True)
    (shared / "uploads").symlink_to("/srv/data")
    (shared / "var/data").symlink_to("../../shared/uploads")
    host = HostLayout(tmp_path)
    assert leads_elsewhere(CONFIG, host) == {"uploads": "/srv/data"}
    os.lchown(shared / "uploads", 65534, 65534)
    assert leads_elsewhere(CONFIG, host) == {}


def test_a_link_that_leads_nowhere_is_named_with_what_is_away(tmp_path: Path) -> None:
    """The disk is not mounted, or the folder was never made: I am told which."""
    link, fstab, mounts = tmp_path / "uploads", tmp_path / "fstab", tmp_path / "mounts"
    link.symlink_to(f"{tmp_path}/srv/data")
    fstab.write_text(f"# a comment\nUUID=1 / ext4\nUUID=2 {tmp_path}/srv ext4 defaults 0 2\n")
    mounts.write_text("/dev/sda / ext4 rw 0 0\n")
    with pytest.raises(Failed) as caught:
        check_target(link, fstab=fstab, mounts=mounts)
    assert str(caught.value) == (
        f"The shared path uploads leads nowhere: {link} -> {tmp_path}/srv/data, and {tmp_path}/srv is not "
        f"mounted. Mount it, as root: mount {tmp_path}/srv"
    )
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\n/dev/sdb {tmp_path}/srv ext4 rw 0 0\n")
    with pytest.raises(Failed) as caught:
        check_target(link, fstab=fstab, mounts=mounts)
    assert caught.value.hint == f"Make it, as root: mkdir -p {tmp_path}/srv/data"
    (tmp_path / "srv/data").mkdir(parents=True)
    check_target(link, fstab=fstab, mounts=mounts)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.symlink_to("/nowhere/data"), "The shared path uploads leads nowhere"),
        (lambda path: path.touch(), "The shared folder uploads is a file"),
    ],
)
def test_a_deployment_does_not_go_on_without_its_shared_folder(tmp_path: Path, make: object, said: str) -> None:
    """It fails before anything is live, and says which folder."""
    layout = AppLayout(tmp_path)
    layout.release(ATTEMPT.release).mkdir(parents=True)
    layout.shared.mkdir()
    make(layout.shared / "uploads")  # type: ignore[operator]
    step = LinkShared(layout, AppConfig(path=str(tmp_path), user="x", shared_paths=["uploads"]), Disk())
    with pytest.raises(Failed, match=said):
        asyncio.run(step.do(ATTEMPT, Inputs(), print))
