"""Others are told how deployments end by the hardened agent of a booted host: by https, and by a real sendmail."""

import asyncio
import email
import email.policy
import ipaddress
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.receiver import certificate, mailbox, receiving
from tests.system.server import APP, Server

AGENT_TOML = "etc/pusher-agent/agent.toml"


@contextmanager
def telling(live: Server, text: str) -> Iterator[None]:
    """The agent with this [notify], during the block."""
    file = live.machine.root / AGENT_TOML
    before = file.read_text()
    file.write_text(f"{before}\n[notify]\n{text}\n")
    try:
        live.machine.run("systemctl", "restart", "pusher-agent")
        yield
    finally:
        file.write_text(before)
        live.machine.run("systemctl", "restart", "pusher-agent")


def near(live: Server) -> str:
    """Our address, as the host sees us."""
    return str(ipaddress.ip_address(live.machine.address) - 1)


def test(live: Server) -> tuple[int, str]:
    """`pusher-agent notify --test` on the host: exit code and what it says."""
    done = live.machine.run("pusher-agent", "notify", "--test", check=False)
    return done.returncode, done.stdout + done.stderr


test.__test__ = False  # type: ignore[attr-defined]


async def within(call: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(call, *arguments)


async def test_https_goes_out_of_the_hardened_agent_with_a_secret_from_a_file_of_root(
    live: Server, tmp_path: Path
):
    pem, context = await within(lambda: certificate(tmp_path, host=near(live)))
    etc = live.machine.root / "etc/pusher-agent"
    async with receiving(tls=context, host=near(live)) as receiver:

        def prepare() -> None:
            shutil.copy(pem, etc / "receiver.pem")
            (etc / "notify.url").write_text(f"{receiver.url}/T0/secret\n")
            (etc / "notify.secret").write_text("whsec_c2VjcmV0\n")
            for name in ("notify.url", "notify.secret"):
                live.machine.run("chown", "root:pusher-agent", f"/etc/pusher-agent/{name}")
                live.machine.run("chmod", "640", f"/etc/pusher-agent/{name}")

        await within(prepare)
        files = (
            'url_file = "/etc/pusher-agent/notify.url"\nsecret_file = "/etc/pusher-agent/notify.secret"\n'
            'format = "cloudevents"\n'
        )
        with telling(live, files):
            code, said = await within(test, live)
            assert code == 1
            assert "certificate verify failed" in said
        with telling(live, files + 'ca_file = "/etc/pusher-agent/receiver.pem"'):
            assert await within(test, live) == (
                0,
                "web   the address in /etc/pusher-agent/notify.url: it arrived\n",
            )
            await within(live.deploy, "v2")
            found = await receiver.count(2)
    event = json.loads(found[1].body)
    assert (event["type"], event["source"], event["subject"]) == (
        "pusher.deployment.done",
        "/pusher-agent/web1",
        APP,
    )
    assert found[1].headers["webhook-signature"].startswith("v1,")


async def test_a_mail_goes_out_by_the_hosts_sendmail_once_root_allows_it(live: Server):
    async with mailbox(host=near(live)) as (port, mails):
        with telling(live, 'email = "ops@example.org"'):
            code, said = await within(test, live)
            assert code == 1
            assert "As root: systemctl enable --now pusher-agent-mail.socket" in said
            await within(smarthost, live, port)
            await within(live.machine.run, "systemctl", "enable", "--now", "pusher-agent-mail.socket")
            try:
                code, said = await within(test, live)
                assert (code, said) == (0, "mail  ops@example.org: it arrived\n"), live.log()
                await within(live.deploy, "v1")
                async with asyncio.timeout(30):
                    found = [await mails.get(), await mails.get()]
                stranger = live.machine.run(
                    "curl",
                    "-sS",
                    "--unix-socket",
                    "/run/pusher-agent-mail.sock",
                    "http://x",
                    user="mallory",
                    check=False,
                )
                assert stranger.returncode != 0
            finally:
                await within(live.machine.run, "systemctl", "disable", "--now", "pusher-agent-mail.socket")
    assert [to for to, _ in found] == ["ops@example.org"] * 2
    subjects = {str(email.message_from_string(text, policy=email.policy.default)["Subject"]) for _, text in found}
    assert subjects == {"[test] web1 can reach you: this is a test", f"[done] {APP} v1 is live on web1"}


def smarthost(live: Server, port: int) -> None:
    """What an administrator writes into /etc/dma/dma.conf."""
    conf = live.machine.root / "etc/dma/dma.conf"
    conf.write_text(f"SMARTHOST {near(live)}\nPORT {port}\n")
    live.machine.run("chown", "root:mail", "/etc/dma/dma.conf")


@pytest.mark.parametrize(("unit", "most"), [("pusher-agent.service", 1.4)])
def test_telling_others_costs_nothing_of_the_agents_hardening(live: Server, unit: str, most: float):
    said = live.machine.run("systemd-analyze", "security", "--no-pager", unit, check=False).stdout
    exposure = float(said.strip().splitlines()[-1].rpartition("exposure level for")[2].split(":")[1].split()[0])
    assert exposure <= most
