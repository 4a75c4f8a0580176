"""Bad bundles at a running agent: refused with what, why and what to do; nothing written, nothing changed."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from pusher.bundle import sign
from pusher.bundle.archive import write_bundle
from pusher.bundle.signed_manifest import SignedManifest
from pusher.wire import File, Manifest, index_line
from tests.host import APP, MONTH_MS, Host, make_key, wsgi

Make = Callable[[Host], bytes]
NOW = int(time.time() * 1000)


def crafted(
    host: Host,
    *,
    manifest: Callable[[bytes], bytes] = lambda raw: raw,
    signature: Callable[[bytes], bytes] = lambda raw: raw,
    index: Callable[[bytes], bytes] = lambda raw: raw,
    content: bytes | None = None,
    **members: Any,
) -> bytes:
    """A bundle of one app, with a part of it changed after it was signed."""
    texts = {name: text.encode() for name, text in wsgi("v2").items()}
    files = [
        File(name, 0o644, len(text), hashlib.sha256(text).hexdigest()) for name, text in sorted(texts.items())
    ]
    lines = b"".join(map(index_line, files))
    raw = Manifest(
        **{
            "app": APP,
            "version": "v2",
            "created": int(time.time() * 1000) + 1_000,
            "expires": NOW + MONTH_MS,
            "index_sha256": hashlib.sha256(lines).hexdigest(),
            "index_size": len(lines),
            "files": len(files),
            "unpacked_size": sum(file.size for file in files),
        }
        | members
    ).to_bytes()
    signed = sign.sign(raw, key=str(host.key))
    if content is not None:
        texts["app.py"] = content
        files[0] = files[0]._replace(size=len(content))
    contents: Iterable[tuple[File, Iterable[bytes]]] = ((file, iter([texts[file.path]])) for file in files)
    return b"".join(
        write_bundle(SignedManifest(manifest(raw), signature(signed), index(lines)), contents)  # type: ignore[arg-type]
    )


def unknown_key(host: Host) -> bytes:
    make_key(host.root / "stranger")
    return host.bundle(wsgi("v2"), "v2", key=host.root / "stranger")


def wrong_namespace(host: Host) -> bytes:
    import subprocess

    def other(raw: bytes) -> bytes:
        return subprocess.run(
            ("ssh-keygen", "-Y", "sign", "-n", "file", "-f", str(host.key)),
            input=raw,
            capture_output=True,
            check=True,
        ).stdout

    raw: list[bytes] = []
    return crafted(host, manifest=lambda one: raw.append(one) or one, signature=lambda _: other(raw[0]))  # type: ignore[func-returns-value]


CASES: dict[str, tuple[str, int, Make]] = {
    "is no bundle": ("bundle_malformed", 400, lambda host: b"hello world" * 100),
    "is empty": ("bundle_malformed", 400, lambda host: b""),
    "is cut off": ("bundle_malformed", 400, lambda host: crafted(host)[:400]),
    "is not signed": ("signature_invalid", 403, lambda host: crafted(host, signature=lambda _: b"unsigned")),
    "is signed for something else": ("signature_invalid", 403, wrong_namespace),
    "is signed by a stranger": ("signer_unknown", 403, unknown_key),
    "has a changed manifest": (
        "signature_invalid",
        403,
        lambda host: crafted(host, manifest=lambda raw: raw.replace(b'"v2"', b'"v9"')),
    ),
    "has a changed index": (
        "content_mismatch",
        422,
        lambda host: crafted(host, index=lambda raw: raw.replace(b'"0644"', b'"0755"')),
    ),
    "is for another app": ("wrong_app", 422, lambda host: crafted(host, app="other")),
    "is for another host": ("wrong_host", 422, lambda host: crafted(host, hosts=("web9",))),
    "has expired": ("expired", 422, lambda host: crafted(host, created=1000, expires=NOW - 1000)),
    "comes from the future": (
        "from_the_future",
        422,
        lambda host: crafted(host, created=NOW + 3_600_000, expires=NOW + 2 * MONTH_MS),
    ),
    "is older than what was accepted": ("older_than_accepted", 409, lambda host: crafted(host, created=1000)),
    "has no requirements": (
        "dependencies_failed",
        422,
        lambda host: host.bundle({"app.py": "pass\n"}, "v2"),
    ),
    "has a hook that is not executable": (
        "hook_failed",
        422,
        lambda host: host.bundle({**wsgi("v2"), "hooks/rollback-after-symlink": "echo hello\n"}, "v2"),
    ),
    "is larger than allowed": (
        "limit_exceeded",
        413,
        lambda host: crafted(host, unpacked_size=10**12),
    ),
}


@pytest.fixture
async def before(host: Host) -> dict[str, Any]:
    await host.deploy(wsgi("v1"), "v1")
    return await everything(host)


async def everything(host: Host) -> dict[str, Any]:
    _, releases = await host.request("GET", "/releases")
    return {**host.state(), **releases, "answer": await host.answer()}


@pytest.mark.parametrize(("code", "status", "make"), CASES.values(), ids=CASES.keys())
async def test_a_bundle_that_is_refused_changes_nothing(
    host: Host, before: dict[str, Any], code: str, status: int, make: Make
):
    data = await asyncio.to_thread(make, host)
    got, problem = await host.post(data)
    assert got == status
    assert (problem["code"], problem["outcome"]) == (code, "refused"), problem
    assert problem["title"]
    assert problem.get("hint") or problem.get("detail")
    assert await everything(host) == before


async def test_a_file_that_was_changed_on_the_way_fails_before_anything_is_live(
    host: Host, before: dict[str, Any]
):
    data = await asyncio.to_thread(lambda: crafted(host, content=b"print('other')  \n"))
    _, problem = await host.post(data)
    assert problem["code"] == "content_mismatch"
    assert "app.py" in problem["title"]
    after = await everything(host)
    assert {**after, "deployments": before["deployments"], "history": before["history"]} == before


async def test_a_replayed_bundle_does_not_bring_an_old_version_back(host: Host):
    old = await asyncio.to_thread(host.bundle, wsgi("v1"), "v1")
    status, _ = await host.post(old)
    assert status == 200
    await host.deploy(wsgi("v2"), "v2")
    status, answer = await host.post(old)
    assert (status, answer["code"]) == (409, "older_than_accepted")
    assert await host.serving() == "v2"


async def test_a_bundle_that_was_rolled_back_from_can_be_sent_again_while_it_is_the_newest(host: Host):
    await host.deploy(wsgi("v1"), "v1")
    data = await asyncio.to_thread(host.bundle, wsgi("v2"), "v2")
    await host.post(data)
    await host.rollback()
    status, answer = await host.post(data)
    assert (status, answer["outcome"]) == (200, "done")
    assert await host.serving() == "v2"


async def test_a_second_send_meanwhile_is_refused_with_the_name_of_who_is_deploying(host: Host):
    slow = wsgi("v1") | {
        "hooks/before-symlink": "#!/bin/sh\ntouch ../../started; while [ ! -e ../../go ]; do sleep 0.01; done\n"
    }
    one = asyncio.create_task(host.send(slow, "v1"))
    started: Path = host.app.path / "started"
    while not await asyncio.to_thread(started.exists):
        await asyncio.wait([one], timeout=0.01)
    status, problem = await host.send(wsgi("v2"), "v2")
    assert (status, problem["code"]) == (409, "busy")
    assert "root" in problem["title"] or "uid" in problem["title"]
    assert "deploying v1" in problem["title"]
    status, problem = await host.rollback()
    assert (status, problem["code"]) == (409, "busy")
    data = await asyncio.to_thread(host.bundle, wsgi("v2"), "v2")
    status, problem = await host.request("POST", f"/apps/{APP}/missing", data=data)
    assert (status, problem["code"]) == (409, "busy")
    (host.app.path / "go").touch()
    status, _ = await one
    assert status == 200


async def test_a_rollback_from_a_release_that_is_not_live_any_more_changes_nothing(host: Host):
    first, second = [(await host.deploy(wsgi(version), version))["release"] for version in ("v1", "v2")]
    status, problem = await host.request("POST", f"/rollback?to={first}&from={first}")
    assert (status, problem["code"], problem["outcome"]) == (409, "not_live", "refused")
    assert problem["detail"] == f"release {second} is live"
    assert await host.serving() == "v2"
    status, answer = await host.request("POST", f"/rollback?to={first}&from={second}")
    assert (status, answer["release"]) == (200, first)


async def test_a_client_that_disconnects_in_the_middle_of_an_upload_leaves_nothing(
    host: Host, before: dict[str, Any]
):
    files = wsgi("v2") | {"static/big": "".join(str(n) for n in range(400_000))}
    data = await asyncio.to_thread(host.bundle, files, "v2")
    _, writer = await asyncio.open_connection("127.0.0.1", host.door)
    head = f"POST /apps/{APP}/deployments HTTP/1.1\r\nHost: 127.0.0.1:{host.door}\r\n"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[: len(data) // 2])
    await writer.drain()
    _, status = await host.request("GET", "/status")
    while not status["deploying"]:
        _, status = await host.request("GET", "/status")
    writer.close()
    await writer.wait_closed()
    while status["last"]["version"] != "v2" or not status["last"]["outcome"]:
        _, status = await host.request("GET", "/status")
    assert status["last"]["problem"]["code"] == "upload_broken"
    after = await everything(host)
    assert {**after, "deployments": before["deployments"], "history": before["history"]} == before
    status_code, _ = await host.post(data)
    assert status_code == 200


async def test_a_refusal_says_in_words_what_to_do(host: Host):
    _, problem = await host.post(await asyncio.to_thread(unknown_key, host))
    assert "pusher-agent trust" in problem["hint"]
    assert json.dumps(problem)
