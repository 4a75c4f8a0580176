"""What is renewed while everything runs: certificates, authorities, logins. Nobody restarts anything."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest
from aiohttp import web

from agent.admin import cli
from agent.host.channel.mirror import Unreachable
from agent.host.channel.web import Web, WebLimits
from agent.repository.certificate import Certificate
from agent.repository.objects import Objects
from agent.repository.server import RepositoryServer
from pusher.errors import Unreachable as NoAnswer
from pusher.repository.web_folder import WebFolder
from pusher.wire import Refused
from pusher.wire.channel import CHANNEL_BYTES, channel_name
from tests.hostile.repository_server import serving
from tests.ports import free_port
from tests.publishing import APP, CHANNEL, Publisher

DOCUMENT = channel_name(APP, CHANNEL)
LIMITS = WebLimits(connect_s=5, stall_s=5, small_s=5)


def certify(folder: Path, name: str) -> Path:
    """A certificate for localhost, with a key of its own, in one file."""
    argv = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost",
            "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.cert"))  # fmt: skip
    subprocess.run(argv, check=True, capture_output=True)
    return folder / name


def put(certificate: Path, *, cert: Path, key: Path) -> None:
    """Replace the files as who renews them does: each by a rename."""
    for file, content in ((cert, certificate.with_suffix(".cert")), (key, certificate.with_suffix(".key"))):
        fresh = file.with_name(f"{file.name}.fresh")
        fresh.write_bytes(content.read_bytes())
        fresh.replace(file)


def tls_of(certificate: Path) -> ssl.SSLContext:
    return Certificate(certificate.with_suffix(".cert"), certificate.with_suffix(".key")).context


async def shown(port: int, *, name: str | None = None) -> bytes:
    """The certificate that a server shows, asked by a name or by nothing but its address."""
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    assert isinstance(found, bytes)
    return found


async def test_a_certificate_that_is_renewed_counts_from_the_next_connection_on(
    tmp_path: Path, publisher: Publisher
) -> None:
    first, second, third = [await asyncio.to_thread(certify, tmp_path, name) for name in ("one", "two", "three")]
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    put(first, cert=cert, key=key)
    await publisher.publish({"app.py": "v1", "requirements.txt": ""}, "v1")
    certificate = await asyncio.to_thread(Certificate, cert, key)
    tls = certificate.context
    server = RepositoryServer(Objects(publisher.folder), host="127.0.0.1", port=0, tls=tls)
    port = await server.start()
    try:
        before = await shown(port)
        assert before == await shown(port, name="localhost")
        mirror = Web(f"https://localhost:{port}", limits=LIMITS, ca_file=cert)
        assert await mirror.read(DOCUMENT, most=CHANNEL_BYTES)
        await mirror.close()

        put(second, cert=cert, key=key)
        await asyncio.to_thread(certificate.renew)
        after = await shown(port)
        assert after != before
        assert after == await shown(port, name="localhost")
        # The host's own file of authorities is the same file here: it is read anew as well.
        assert await mirror.read(DOCUMENT, most=CHANNEL_BYTES)
        await mirror.close()

        cert.write_bytes(third.with_suffix(".cert").read_bytes())  # its key is still on its way
        await asyncio.to_thread(certificate.renew)
        assert await shown(port) == after
        cert.unlink()
        await asyncio.to_thread(certificate.renew)
        assert await shown(port) == after
        put(third, cert=cert, key=key)
        await asyncio.to_thread(certificate.renew)
        assert await shown(port) not in (before, after)
    finally:
        await server.stop()


async def test_a_host_that_does_not_know_a_certificate_says_so_and_what_to_do(
    tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await asyncio.to_thread(certify, tmp_path, "own")
    tls = await asyncio.to_thread(tls_of, made)
    async with serving(publisher.folder, tls=tls) as server:
        mirror = Web(server.address, limits=LIMITS)
        with pytest.raises(Unreachable, match=r"is not trusted: self-signed certificate") as found:
            await mirror.read(DOCUMENT, most=CHANNEL_BYTES)
        await mirror.close()
        assert "Renew its certificate" in found.value.hint
        assert "ca_file" in found.value.hint
        folder = await asyncio.to_thread(WebFolder, server.address)
        with pytest.raises(NoAnswer, match="cannot be trusted: self-signed certificate") as ours:
            await asyncio.to_thread(folder.read, DOCUMENT, most=CHANNEL_BYTES)
        assert "Renew its certificate" in ours.value.hint


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "https://"), (403, "https://"), (404, "Publish there"), (500, "")]
)
async def test_an_answer_that_is_no_document_comes_with_what_to_do(
    publisher: Publisher, status: int, hint: str
) -> None:
    async def behave(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    async with serving(publisher.folder) as server:
        server.behaviour = behave
        mirror = Web(server.address, limits=LIMITS)
        with pytest.raises(Unreachable, match=f"answered {status}") as found:
            await mirror.read(DOCUMENT, most=CHANNEL_BYTES)
        await mirror.close()
    assert hint in found.value.hint
    assert bool(hint) is bool(found.value.hint)


async def test_a_server_that_is_gone_is_told_plainly() -> None:
    mirror = Web(f"http://127.0.0.1:{free_port()}", limits=LIMITS)
    with pytest.raises(Unreachable, match=r"does not answer: Connect call failed \('127") as found:
        await mirror.read(DOCUMENT, most=CHANNEL_BYTES)
    await mirror.close()
    assert "If it has moved" in found.value.hint


async def test_a_login_that_ended_is_named_and_a_new_one_counts_with_the_next_question(
    tmp_path: Path, publisher: Publisher
) -> None:
    async def behave(request: web.Request) -> web.StreamResponse | None:
        return None if request.headers.get("Authorization") == "Basic d2ViOm5ldw==" else web.Response(status=401)

    await publisher.publish({"app.py": "v1", "requirements.txt": ""}, "v1")
    made = await asyncio.to_thread(certify, tmp_path, "own")
    tls = await asyncio.to_thread(tls_of, made)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login web password old\n")
    async with serving(publisher.folder, tls=tls) as server:
        server.behaviour = behave
        mirror = Web(server.address, limits=LIMITS, ca_file=made.with_suffix(".cert"), credentials=netrc)
        with pytest.raises(Unreachable, match="answered 401") as found:
            await mirror.read(DOCUMENT, most=CHANNEL_BYTES)
        assert "credentials_file" in found.value.hint
        netrc.write_text("machine localhost login web password new\n")
        assert await mirror.read(DOCUMENT, most=CHANNEL_BYTES)
        await mirror.close()


def test_a_server_does_not_begin_with_what_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "cert.pem").write_text("nothing\n")
    serve = ("repository", "serve", str(tmp_path / "repo"), "--listen", "127.0.0.1:1")
    with pytest.raises(Refused, match=r"inventory .*/fleet\.allowed cannot be read: No such file") as caught:
        cli.run([*serve, "--fleet", str(tmp_path / "fleet.allowed")])
    assert "pusher fleet adopt" in caught.value.hint
    with pytest.raises(Refused, match=r"certificate .*/cert\.pem cannot be used") as caught:
        cli.run([*serve, "--certificate", str(tmp_path / "cert.pem")])
    assert "certificate_key" in caught.value.hint
