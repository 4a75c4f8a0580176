"""Where an app answers is told as the person would type it."""

from pathlib import Path

import pytest

from pusher.fleet.served import served_at
from pusher.transport.hosts import Host, Loopback, Ssh, Unix

HERE, THERE = Host("here", Loopback("127.0.0.1", 9000)), Host("web1", Ssh("web1.example.org", "deploy"))


@pytest.mark.parametrize(
    ("host", "listen", "said"),
    [
        (THERE, "0.0.0.0:8000", "http://web1.example.org:8000/"),
        (THERE, "[::]:80", "http://web1.example.org/"),
        (Host("six", Ssh("2001:db8::1")), "[::]:8000", "http://[2001:db8::1]:8000/"),
        (THERE, "10.0.0.7:8000", "http://10.0.0.7:8000/"),
        (THERE, "127.0.0.1:8000", "127.0.0.1:8000 on web1"),
        (THERE, "[::1]:8000", "[::1]:8000 on web1"),
        (THERE, "unix:/run/app.sock", "unix:/run/app.sock on web1"),
        (HERE, "127.0.0.1:8000", "http://127.0.0.1:8000/"),
        (HERE, "0.0.0.0:8000", "http://127.0.0.1:8000/"),
        (Host("u", Unix("/run/x")), "[::]:8000", "http://127.0.0.1:8000/"),
        (HERE, "", ""),
        (HERE, 7, ""),
    ],
)
def test_an_app_answers_where_it_can_be_reached(host: Host, listen: object, said: str) -> None:
    assert served_at({"listen": listen}, host, ssh="ssh -F none") == said


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("Host web\n HostName 203.0.113.7\n", "http://203.0.113.7:8000/"),
        ("Host *\n HostName %h.example.org\n", "http://web.example.org:8000/"),
        ("Host web\n HostName 2001:db8::7\n", "http://[2001:db8::7]:8000/"),
        ("Host web\n HostName 10.0.0.7\n ProxyJump jump\n", "port 8000 of 10.0.0.7"),
        ("Host web\n ProxyCommand connect %h\n", "port 8000 of web"),
        ("Host other\n HostName 203.0.113.7\n ProxyJump jump\n", "http://web:8000/"),
    ],
)
def test_an_alias_of_ssh_is_followed_and_a_jump_host_is_no_way_for_a_browser(
    config: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(config)
    host = Host("production", Ssh("web"))
    assert served_at({"listen": "[::]:8000"}, host, ssh=f"ssh -F {tmp_path}/config") == said


@pytest.mark.parametrize("ssh", ["no-such-ssh", "false", "echo", "sh -c 'exec sleep 60'"])
def test_where_ssh_does_not_tell_the_host_is_named_as_it_is(ssh: str) -> None:
    assert served_at({"listen": "0.0.0.0:8000"}, THERE, ssh=ssh) == "http://web1.example.org:8000/"


def test_an_older_agent_does_not_say_it() -> None:
    assert served_at({}, THERE, ssh="ssh") == ""
