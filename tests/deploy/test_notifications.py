"""A whole agent tells others how its deployments end, and no deployment waits for them."""

import asyncio
import json
import os
import signal
import sys

import pytest

from agent.core.config.host import parse_agent
from pusher.wire import Refused
from tests.deploy.shell import Shell
from tests.host import APP, Host, running, wsgi
from tests.ports import free_port
from tests.receiver import Receiver, receiving


def tell(host: Host, url: str, *lines: str) -> None:
    """Add [notify] to agent.toml."""
    with host.layout.agent_toml.open("a") as file:
        file.write("\n".join(["[notify]", f'url = "{url}"', *lines, ""]))


async def agent(host: Host, *words: str) -> tuple[int, str]:
    """`pusher-agent`, in a process of its own; exit code and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent", *words, "--root", str(host.root),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def events(receiver: Receiver, number: int) -> list[str]:
    return [json.loads(one.body)["event"] for one in await receiver.count(number)]


async def shown(host: Host, member: str, value: int) -> None:
    """Wait until `status` says so of the only way."""
    async with asyncio.timeout(20):
        while (await host.request("GET", "/status"))[1]["notices"][0][member] != value:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def up(host: Host) -> None:
    """Wait until the agent of another process answers."""
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", host.door)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return await writer.wait_closed()


async def test_each_ending_arrives_as_json_with_its_facts(host_off: Host):
    async with receiving() as receiver:
        tell(host_off, f"{receiver.url}/hook")
        async with running(host_off) as host:
            for version in ("v1", "v2"):
                await host.deploy(wsgi(version), version)
            await host.send({**wsgi("v3"), "app.py": "raise RuntimeError('no way')"}, "v3")
            await host.rollback()
            assert await events(receiver, 4) == ["done", "done", "failed", "rolled_back"]
        failed = json.loads(receiver.received[2].body)
        assert (failed["app"], failed["version"], failed["host"]) == (APP, "v3", "web1")
        assert failed["problem"]["title"]
        assert "output" not in failed["problem"]
        assert failed["text"] == f"{APP} v3 failed on web1, and was taken back"


async def test_a_receiver_that_never_answers_holds_up_no_deployment_and_no_stop(host_off: Host):
    async with receiving() as receiver:
        receiver.open.clear()
        tell(host_off, receiver.url)
        async with running(host_off) as host:
            await host.deploy(wsgi("v1"), "v1")
            await receiver.count(1)
            await host.deploy(wsgi("v2"), "v2")
            assert await host.serving() == "v2"
            _, status = await host.request("GET", "/status")
            assert status["notices"][0]["waiting"] == 2
        receiver.open.set()
        async with running(host_off):
            found = await receiver.count(3)
    ids = [json.loads(one.body)["id"] for one in found]
    assert ids[0] == ids[1] != ids[2], "the one under way at the stop comes again, with its id"


async def test_a_host_that_tells_nobody_says_so_and_shows_nothing(host: Host, shell: Shell):
    await host.deploy(wsgi("v1"), "v1")
    assert "notices" not in (await host.request("GET", "/status"))[1]
    code, said = await agent(host, "notify", "--test")
    assert code == 4
    assert "[notify] in agent.toml has no `url`, `url_file` or `email`" in said
    assert "notices" not in (await shell.pusher("status"))[1]


async def test_status_says_what_cannot_be_delivered_until_a_test_arrives(host_off: Host):
    port = free_port()
    tell(host_off, f"http://127.0.0.1:{port}/T0/secret", 'format = "slack"')
    async with running(host_off) as host:
        shell = Shell(host)
        await host.deploy(wsgi("v1"), "v1")
        await shown(host, "failures", 1)
        code, said = await shell.pusher("status")
        assert code == 0
        assert f"notices    http://127.0.0.1:{port} is not told since " in said
        assert "(1 waiting): http://127.0.0.1:" in said
        assert "secret" not in said
        code, said = await agent(host, "notify", "--test")
        assert code == 1
        assert "1 of 1 tests did not arrive" in said
        async with receiving(port=port) as receiver:
            code, said = await agent(host, "notify", "--test")
            assert (code, said) == (0, f"web   http://127.0.0.1:{port}: it arrived\n")
            found = await receiver.count(2)
            assert json.loads(found[0].body) == {"text": "web1 can reach you: this is a test", "mrkdwn": False}
            assert json.loads(found[1].body)["text"].startswith(f"{APP} v1 is live on web1\n")
            await shown(host, "waiting", 0)
            assert "notices" not in (await shell.pusher("status"))[1]


async def test_an_agent_that_is_not_there_cannot_test(host_off: Host):
    code, said = await agent(host_off, "notify", "--test")
    assert code == 1
    assert "The agent could not be asked" in said
    assert "systemctl status pusher-agent" in said


@pytest.mark.slow
async def test_kill_9_in_the_middle_of_a_delivery_loses_no_notice(host_off: Host):
    async with receiving() as receiver:
        receiver.open.clear()
        tell(host_off, receiver.url)
        for last in (False, True):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent", "serve", "--root", str(host_off.root),
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                await up(host_off)
                if not last:
                    await host_off.deploy(wsgi("v1"), "v1")
                    await receiver.count(1)
                    os.kill(process.pid, signal.SIGKILL)
                    receiver.open.set()
                else:
                    found = await receiver.count(2)
                    process.terminate()
            finally:
                await process.wait()
    assert len({json.loads(one.body)["id"] for one in found}) == 1
    if host_off.session is not None:
        await host_off.session.close()


def test_agent_toml_names_what_is_wrong_in_notify():
    for wrong, words in (
        ('url = "ftp://x"', 'an address like "https://hooks.example.com/services/..."'),
        ('url = "https://user:pass@x/"', "without a login"),
        ('url = "https://x"\nurl_file = "/y"', "keep one"),
        ('email = "-oQ/tmp@x"', 'one address like "ops@example.org"'),
        ('email = "a@x, b@y"', 'one address like "ops@example.org"'),
        ('events = ["fail"]', "'notify.events.0' is 'fail'"),
        ('format = "teams"', "'notify.format' is 'teams'"),
        ('urls = "x"', "Did you mean url"),
    ):
        with pytest.raises(Refused) as found:
            parse_agent(f"[notify]\n{wrong}", file="agent.toml")
        assert words in str(found.value)
