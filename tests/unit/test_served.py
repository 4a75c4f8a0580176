"""Where an app answers is told as the person would type it."""

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
    assert served_at({"listen": listen}, host) == said


def test_an_older_agent_does_not_say_it() -> None:
    assert served_at({}, THERE) == ""
