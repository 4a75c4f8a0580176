"""Whatever people put into a drop directory is refused or waited for, gets a result, and does no harm."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pusher.wire import Link, index_line
from tests.deploy.conftest import host, host_off  # noqa: F401 - fixtures
from tests.dropping import Load, await_result, drop_folder, load, put, result, rsync, until
from tests.host import APP, Host, make_key, running, wsgi

ROOT = os.geteuid() == 0


@pytest.fixture
async def served(host: Host) -> AsyncIterator[Host]:  # noqa: F811
    """A host that serves v1 and must go on doing so."""
    await host.deploy(wsgi("v1"), "v1")
    yield host
    assert await host.serving() == "v1"
    status, found = await host.request("GET", "/status")
    assert (status, found["live"]["version"], found["trouble"]) == (200, "v1", "")
    assert len((await host.request("GET", "/releases"))[1]["deployments"]) == 1


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    # Bound by a short name: the path of a test's folder may be longer than an address.
    with socket.socket(socket.AF_UNIX) as sock:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            sock.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


def make_folder(path: Path) -> None:
    path.mkdir()
    (path / "etc").mkdir()


def make_link(path: Path) -> None:
    path.symlink_to("/etc/shadow")


def make_device(path: Path) -> None:
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))


KINDS = {"fifo": make_fifo, "socket": make_socket, "folder": make_folder, "link": make_link} | (
    {"device": make_device} if ROOT else {}
)


async def test_a_drop_waits_while_something_else_has_the_name_of_a_file(served: Host) -> None:
    where = served.layout.drop(APP)
    one = await asyncio.to_thread(load, served, wsgi("v2"), "v2")
    for kind, make in KINDS.items():
        make(where / f"{kind}.tar.zst")
        found = await await_result(served, f"{kind}.tar.zst", state="waiting")
        assert found["awaited"] == "arrival"
        assert f"a regular file {kind}.tar.zst (there is a" in found["waiting_for"], found
        # The same in the place of the manifest, and of a file in the folder.
        make(where / "tree.manifest.json")
        await until(lambda: "a regular file tree.manifest.json" in result(served).get("waiting_for", ""))
        await asyncio.to_thread(rsync, f"{one.folder}/", f"{where}/tree/")
        (where / "tree/app.py").unlink()
        make(where / "tree/app.py")
        await asyncio.to_thread(subprocess.run, ("rm", "-r", where / "tree.manifest.json"), check=True)
        one.put_manifest(where)
        found = await until(lambda: "tree/app.py" in result(served).get("waiting_for", "") and result(served))
        assert found["awaited"] == "arrival"
        await asyncio.to_thread(
            subprocess.run, ("rm", "-r", where / "tree", where / "tree.manifest.json"), check=True
        )


async def test_a_link_in_the_place_of_a_folder_is_not_followed(served: Host) -> None:
    where = served.layout.drop(APP)
    one = await asyncio.to_thread(load, served, wsgi("v2", data__x="1"), "v2")
    (where / "tree").symlink_to(one.folder)
    one.put_manifest(where)
    await until(lambda: "something else" in result(served).get("waiting_for", ""))
    (where / "tree.manifest.json").unlink()
    (where / "tree").unlink()
    await asyncio.to_thread(rsync, f"{one.folder}/", f"{where}/tree/")
    await asyncio.to_thread(shutil.rmtree, where / "tree/data")
    (where / "tree/data").symlink_to(one.folder / "data")
    one.put_manifest(where)
    await until(lambda: "tree/data/x (something else is in its place" in result(served).get("waiting_for", ""))


async def test_links_in_the_place_of_results_are_replaced_and_never_followed(served: Host, tmp_path: Path) -> None:
    where, victim = served.layout.drop(APP), tmp_path / "victim"
    victim.write_text("untouched")
    for end in (".result.json", ".result.json.new"):
        (where / f"x.tar.zst{end}").symlink_to(victim)
    put(where / "x.tar.zst", b"nothing good")
    await until(lambda: not (where / "x.tar.zst.result.json").is_symlink() and result(served, "x.tar.zst"))
    assert victim.read_text() == "untouched"
    # A folder there cannot be replaced: the log says so, and everything goes on.
    for end in (".result.json", ".result.json.new"):
        (where / f"y.tar.zst{end}").mkdir()
    put(where / "y.tar.zst", b"nothing good")
    put(where / "z.tar.zst", b"nothing good")
    await await_result(served, "z.tar.zst", state="waiting")
    (where / "y.tar.zst").unlink()  # nor can it be removed when the drop goes
    put(where / "z.tar.zst", b"nothing better")
    os.unlink(where / "z.tar.zst")
    await until(lambda: not (where / "z.tar.zst.result.json").exists())


async def test_results_that_others_write_decide_nothing(served: Host) -> None:
    where = served.layout.drop(APP)
    raw = await asyncio.to_thread(served.bundle, wsgi("v2"), "v2", app="other-app")
    lie = {"state": "deployed", "deployment": f"{APP}-20261123020055Z", "manifest": "0" * 64, "name": "x"}
    for text in (json.dumps(lie), "[1]", "{", "\xff", "[" * 100_000, ""):
        put(where / "x.tar.zst.result.json", text.encode("latin-1"))
        put(where / "x.tar.zst", raw)
        found = await await_result(served, "x.tar.zst", state="refused")
        assert found["problem"]["code"] == "wrong_app"
        os.unlink(where / "x.tar.zst")
        await until(lambda: "x.tar.zst.result.json" in os.listdir(where))


async def test_many_other_files_keep_no_bundle_from_being_deployed(host_off: Host) -> None:  # noqa: F811
    where = host_off.layout.drop(APP)
    where.mkdir(parents=True)
    good = {version: await asyncio.to_thread(host_off.bundle, wsgi(version), version) for version in ("v1", "v2")}
    for number in range(150):
        (where / f"a{number:03}.tar.zst").write_bytes(b"nothing good")
    put(where / "n.tar.zst", good["v1"])  # in the middle, by name and by time
    for number in range(150):
        (where / f"a{number:03}-more.tar.zst").write_bytes(b"nothing better")
    async with running(host_off):
        assert (await await_result(host_off, "n.tar.zst"))["state"] == "deployed"
        # The newest of those that wait have results, and no others.
        assert (await await_result(host_off, "a149-more.tar.zst", state="waiting"))["awaited"] == "arrival"
        await until(lambda: not result(host_off, "a000.tar.zst"))
        put(where / "z.tar.zst", good["v2"])
        assert (await await_result(host_off, "z.tar.zst"))["state"] == "deployed"
        # A rejected file is examined when it changes.
        put(where / "a000.tar.zst", await asyncio.to_thread(host_off.bundle, wsgi("v3"), "v3"))
        assert (await await_result(host_off, "a000.tar.zst"))["state"] == "deployed"
        assert await host_off.serving() == "v3"


@pytest.mark.timeout(240)
async def test_a_hundred_thousand_files_do_not_hold_up_the_door(served: Host) -> None:
    where = served.layout.drop(APP)
    one = await asyncio.to_thread(load, served, wsgi("v2"), "v2")
    (where / "tree").mkdir()

    # By another process: threads of this one would wait for each other.
    script = (
        "(cd tree && seq 100000 | xargs touch); seq 10000 | xargs touch; seq 150 | sed s/$/.tar.zst/ | xargs touch"
    )
    littering = await asyncio.create_subprocess_exec("sh", "-c", script, cwd=where)
    ended = asyncio.create_task(littering.wait())
    loop, longest = asyncio.get_running_loop(), 0.0
    started = loop.time()
    while not ended.done() or not result(served, "150.tar.zst"):
        await asyncio.wait([ended], timeout=0.02)
        began = loop.time()
        assert (await served.request("GET", "/healthz"))[0] == 200
        longest = max(longest, loop.time() - began)
        assert loop.time() - started < 150
    one.put_manifest(where)
    assert longest < 5.0
    await until(lambda: "tree/app.py" in result(served).get("waiting_for", ""))


async def test_many_folders_and_links_to_others_cost_no_watches(served: Host) -> None:
    where = served.layout.drop(APP)
    one = await asyncio.to_thread(load, served, wsgi("v2", data__x="1"), "v2")
    await asyncio.to_thread(rsync, f"{one.folder}/", f"{where}/tree/")
    folders = "mkdir -p $(seq --separator=/ 500); seq -f data/%.0f 5000 | xargs mkdir"
    script = f"cd tree; ln -s / everything; {folders}; rm data/x"
    await asyncio.to_thread(subprocess.run, ("sh", "-ec", script), cwd=where, check=True)
    one.put_manifest(where)
    await until(lambda: "tree/data/x" in result(served).get("waiting_for", ""))
    # The folder above, the directory, `tree` and `data`; and while one watch follows another, the same once more.
    assert await asyncio.to_thread(watches) <= 8


def watches() -> int:
    """How many folders this process watches, by all of its inotify descriptors (proc(5), fdinfo)."""
    found = 0
    for entry in Path("/proc/self/fdinfo").iterdir():
        try:
            found += entry.read_text().count("inotify wd:")
        except FileNotFoundError:
            continue
    return found


async def test_names_that_are_not_utf_8_do_not_end_the_watching(served: Host) -> None:
    where = served.layout.drop(APP)
    for number in range(3):
        os.mkdir(os.fsencode(where) + b"/\xff%d" % number)
        put(where / f"{number}.tar.zst", b"nothing good")
        assert (await await_result(served, f"{number}.tar.zst", state="waiting"))["awaited"] == "arrival"


async def test_paths_that_lead_out_of_the_tree_are_refused_before_anything_is_opened(served: Host) -> None:
    for bad in ("../../../../etc/passwd", "/etc/passwd", "a/../b"):
        line = index_line(Link("x", "y")).replace(b'"x"', json.dumps(bad).encode())
        one = await asyncio.to_thread(load, served, wsgi("v2"), "v2", index=line, files=1, unpacked_size=0)
        await asyncio.to_thread(drop_folder, served, one)
        found = await await_result(served, manifest=one.digest, state="waiting")
        assert "is not a plain relative path" in found["waiting_for"], found


async def test_strangers_forgeries_and_replays_are_refused_or_waited_for(served: Host, tmp_path: Path) -> None:
    where = served.layout.drop(APP)
    await asyncio.to_thread(make_key, tmp_path / "stranger")
    by_stranger = await asyncio.to_thread(load, served, wsgi("v2"), "v2", key=tmp_path / "stranger")
    await asyncio.to_thread(drop_folder, served, by_stranger)
    assert (await await_result(served, manifest=by_stranger.digest))["problem"]["code"] == "signer_unknown"
    # A signature of something else may be followed by the right one.
    genuine = await asyncio.to_thread(load, served, wsgi("v2"), "v2", app="other-app")
    forged = Load(genuine.folder, genuine.manifest, by_stranger.signature, genuine.index)
    forged.put_manifest(where)
    found = await await_result(served, manifest=genuine.digest, state="waiting")
    assert found["waiting_for"].startswith("a tree.manifest.json.sig that belongs to tree.manifest.json")
    genuine.put_manifest(where)
    assert (await await_result(served, manifest=genuine.digest))["problem"]["code"] == "wrong_app"
    old = await asyncio.to_thread(load, served, wsgi("v0"), "v0", created=1_700_000_000_000)
    await asyncio.to_thread(drop_folder, served, old)
    assert (await await_result(served, manifest=old.digest))["problem"]["code"] == "older_than_accepted"
    bundle = bytearray(await asyncio.to_thread(served.bundle, wsgi("v2"), "v2"))
    for at in range(40, len(bundle), 211):
        bundle[at] ^= 0x20
    put(where / "x.tar.zst", bytes(bundle))
    assert (await await_result(served, "x.tar.zst", state="waiting"))["awaited"] == "arrival"


async def test_a_bundle_that_was_deployed_and_rolled_back_from_is_not_replayed(host: Host) -> None:  # noqa: F811
    where = host.layout.drop(APP)
    bundles = {version: await asyncio.to_thread(host.bundle, wsgi(version), version) for version in ("v1", "v2")}
    for version, raw in bundles.items():
        put(where / f"{version}.tar.zst", raw)
        assert (await await_result(host, f"{version}.tar.zst"))["state"] == "deployed"
    put(where / "second.tar.zst", bundles["v1"])
    assert (await await_result(host, "second.tar.zst"))["problem"]["code"] == "older_than_accepted"
    assert result(host, "v1.tar.zst")["state"] == "deployed"
    assert await host.serving() == "v2"
    await host.rollback()
    put(where / "more.tar.zst", bundles["v2"])
    assert (await await_result(host, "more.tar.zst"))["problem"]["code"] == "older_than_accepted"
    assert await host.serving() == "v1"


async def test_a_file_that_is_edited_during_the_copy_is_never_deployed_but_waited_for(host: Host) -> None:  # noqa: F811
    """Edited between check and copy: the copy hashes, finds it, and is undone. Three times, then no more."""
    where, good = host.layout.drop(APP), "y" * 100
    files = wsgi("v1", data__a="x" * 30_000_000, data__b=good)
    one = await asyncio.to_thread(load, host, files, "v1")
    await asyncio.to_thread(rsync, f"{one.folder}/", f"{where}/tree/")
    one.put_manifest(where)
    for time in (1, 2, 3):
        # The index is copied from before `data/a` is, and `data/b` after it.
        await until(lambda: list(host.app.staging.glob("*/data/a")))
        (where / "tree/data/b").write_text("evil" * 25)
        found = await until(
            lambda: (
                (
                    (found := result(host)).get("state") == "failed"
                    or "tree/data/b as it was signed" in found.get("waiting_for", "")
                )
                and found
            )
        )
        assert found["state"] == ("failed" if time == 3 else "waiting"), found
        (where / "tree/data/b").write_text(good)
    assert (found["problem"]["code"], found["step"]) == ("content_mismatch", "unpack")
    assert host.state()["releases"] == []
    # A new signature is a new deployment.
    second = await asyncio.to_thread(load, host, files, "v1")
    second.put_manifest(where)
    assert (await await_result(host, manifest=second.digest))["state"] == "deployed"
    assert (host.app.current / "data/b").read_text() == good


async def test_an_index_that_arrived_in_part_is_waited_for_whatever_it_says(host: Host) -> None:  # noqa: F811
    where = host.layout.drop(APP)
    one = await asyncio.to_thread(load, host, wsgi("v1"), "v1")
    await asyncio.to_thread(rsync, f"{one.folder}/", f"{where}/tree/")
    one.put_manifest(where)
    await await_result(host)
    other = await asyncio.to_thread(load, host, wsgi("v2"), "v2")
    # Of the right size, with a name that would be refused for good if the manifest vouched for it.
    bad = (index_line(Link("REVISION", "x")) * 99)[: len(other.index)]
    Load(other.folder, other.manifest, other.signature, bad).put_manifest(where)
    found = await until(lambda: "the index" in (found := result(host)).get("waiting_for", "") and found)
    assert (found["manifest"], found["awaited"]) == (other.digest, "arrival")
    await asyncio.to_thread(drop_folder, host, other)
    assert (await await_result(host, manifest=other.digest))["state"] == "deployed"
