"""The real `pusher drop` with the real rsync, over ssh and on the host itself."""

import asyncio
import os
import subprocess

import pytest

from tests.deploy.shell import Shell
from tests.dropping import await_result, result
from tests.host import APP, hook, wsgi
from tests.sshd import MISSING, USER, Server


async def test_a_folder_is_dropped_and_later_only_its_changes(shell: Shell) -> None:
    odd = {"static/[a]*?\\.css": "a", "static/ b.css": "b", ".hidden": "x", "big.bin": "z" * 500_000}
    stays = {
        "__pycache__/app.pyc": "stays",
        "static/__pycache__/x[1].pyc": "stays",
        "venv/bin/python": "stays",
        ".env": "stays",
    }
    for version, more in (("v1", {"gone.txt": "1"}), ("v2", {})):
        shell.version(version, wsgi(version) | odd | stays | more)
        (shell.project / "app-src" / version / "lost").symlink_to("nowhere")
        code, said = await shell.pusher("drop", version)
        assert code == 0, said
        assert "warning: the link lost -> nowhere" in said
        assert f"{APP} {version} is live" in said
        assert "confirm" in said
        assert await shell.host.serving() == version
    assert "rsync: 4 files" in said, said  # app.py, manifest, signature and index
    tree = shell.host.layout.drop(APP) / "tree"
    lying = {str(one.relative_to(tree)) for one in tree.rglob("*") if one.is_file()}
    assert lying == {*wsgi("v2"), *odd}


@pytest.mark.skipif(MISSING, reason="runs sshd as root")
async def test_a_drop_uses_the_users_ssh_for_a_folder_and_for_a_bundle_file(shell: Shell, server: Server) -> None:
    server.admit("")
    (shell.project / "pusher.toml").write_text(
        f'app = "{APP}"\nssh = "{server.ssh}"\n[hosts.web1]\n'
        f'address = "ssh://{USER}@127.0.0.1:{server.port}"\ndoor = "127.0.0.1:{shell.host.door}"\n'
        f'drop = "{shell.host.layout.drop(APP).parent}"\n'
    )
    for version, how in (("v1", ()), ("v2", ("--bundle",))):
        shell.version(version)
        code, said = await shell.pusher("drop", version, "--host", "web1", *how)
        assert code == 0, said
    assert (await await_result(shell.host, f"{APP}-v2.tar.zst"))["state"] == "deployed"
    shell.version("v3")
    assert (await shell.pusher("pack", "v3"))[0] == 0
    code, said = await shell.pusher("drop", f"{APP}-v3.tar.zst", "--host", "web1")
    assert code == 0, said
    assert await shell.host.serving() == "v3"


async def test_a_failed_or_refused_drop_ends_as_for_send(shell: Shell) -> None:
    shell.version("v1", wsgi("v1") | {"hooks/before-symlink": hook("echo the table is locked; exit 3")})
    code, said = await shell.pusher("drop", "v1")
    assert code == 1, said
    assert said.rstrip().endswith("the table is locked")
    for version in ("v2", "v3"):
        shell.version(version)
        assert (await shell.pusher("pack", version))[0] == 0
    assert (await shell.pusher("drop", f"{APP}-v3.tar.zst"))[0] == 0
    code, said = await shell.pusher("drop", f"{APP}-v2.tar.zst")
    assert code == 4, said
    assert "older" in said


async def test_if_one_host_would_refuse_nothing_is_dropped_on_any(shell: Shell) -> None:
    shell.version("v1")
    both = f"http://127.0.0.1:{shell.host.door} unix:{shell.host.layout.api_socket}"
    code, said = await shell.pusher("drop", "v1", PUSHER_HOST=both, PUSHER_APP="other")
    assert code == 4, said
    assert "Nothing was changed on any host" in said
    assert "rsync" not in said


async def test_the_documented_rsync_commands_deploy_what_pusher_only_signed(shell: Shell) -> None:
    for version in ("v1", "v2"):
        shell.version(version)
        drop = shell.host.layout.drop(APP)
        code, said = await shell.pusher("pack", version, "--manifest", "signed")
        assert code == 0, said
        for argv in (
            ("-rlp", "--checksum", "--chmod=D2775,F664", "--delete", f"app-src/{version}/", f"{drop}/tree/"),
            ("-rlp", "--checksum", "--chmod=F664", "signed/", f"{drop}/"),
        ):
            done = await asyncio.to_thread(
                subprocess.run, ("rsync", *argv), cwd=shell.project, env=os.environ, check=True
            )
            assert done.returncode == 0
        assert (await await_result(shell.host, state="deployed"))["state"] == "deployed"
        assert await asyncio.to_thread(lambda: result(shell.host)["name"]) == "tree"
