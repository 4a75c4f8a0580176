"""The name of a host says how to reach its agent, and data leaves this machine only through ssh."""

import socket
import sys
from pathlib import Path

import pytest

from pusher.errors import Unreachable, Usage
from pusher.transport.hosts import Address, Host, Loopback, Ssh, Unix, connect, parse_address, parse_door, ssh_argv


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("web1", Ssh("web1")),
        ("Web1.example.com", Ssh("Web1.example.com")),
        ("deploy@web1", Ssh("web1", "deploy")),
        ("deploy@web1:2222", Ssh("web1", "deploy", 2222)),
        ("ssh://web1", Ssh("web1")),
        ("ssh://deploy@web1:22/", Ssh("web1", "deploy", 22)),
        ("ssh://[2001:db8::1]:2222", Ssh("2001:db8::1", "", 2222)),
        ("192.0.2.7", Ssh("192.0.2.7")),
        ("unix:/run/pusher-agent/api.sock", Unix("/run/pusher-agent/api.sock")),
        ("http://127.0.0.1:9000", Loopback("127.0.0.1", 9000)),
        ("http://localhost:9001/", Loopback("localhost", 9001)),
        ("http://agent", Loopback("agent", 9000)),
        ("http://[::1]:9000", Loopback("::1", 9000)),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-oProxyCommand=touch x",
        "ssh://-oProxyCommand=touch",
        "-l@web1",
        "ssh://user:password@web1",
        "ssh://web1/path",
        "web1:port",
        "web1:99999",
        "web 1",
        "web1\n",
        "a@b@c",
        "ftp://web1",
        "https://web1",
        "http://user@127.0.0.1",
        "http://127.0.0.1:9000/status",
        "http://127.0.0.256:9000",
    ],
)
def test_a_wrong_address_is_refused(text: str) -> None:
    with pytest.raises(Usage, match=r"is not a valid address of a host\. Use NAME or ssh://"):
        parse_address(text)


def test_http_stays_on_this_machine() -> None:
    with pytest.raises(Usage, match=r"is not on this machine: plain http has no encryption.* Use ssh://web1"):
        parse_address("http://web1:9000")


def test_a_unix_socket_needs_its_whole_path() -> None:
    with pytest.raises(Usage, match="needs an absolute path"):
        parse_address("unix:api.sock")


def test_the_path_of_a_unix_socket_has_the_limit_of_the_kernel() -> None:
    assert parse_address("unix:/" + "x" * 106) == Unix("/" + "x" * 106)
    with pytest.raises(Usage, match="is too long: it has 108 bytes; the limit for the path of a socket is 107"):
        parse_address("unix:/" + "x" * 105 + "é")


@pytest.mark.parametrize("door", ["127.0.0.1:9000", "127.1.2.3:1", "localhost:65535", "[::1]:9000"])
def test_a_door_is_a_loopback_address(door: str) -> None:
    assert parse_door(door) == door


@pytest.mark.parametrize(
    "door",
    ["", "9000", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.256:9000", "10.0.0.1:9000", "a:1"],
)
def test_other_doors_are_refused(door: str) -> None:
    with pytest.raises(Usage, match="is not a loopback address"):
        parse_door(door)


def test_the_ssh_commands_are_these() -> None:
    assert ssh_argv(Ssh("web1"), command="ssh") == ("ssh", "-W", "127.0.0.1:290", "web1")
    assert ssh_argv(Ssh("web1", "deploy", 2222, "127.0.0.1:9100"), command="ssh -F 'my config'") == (
        *("ssh", "-F", "my config", "-W", "127.0.0.1:9100", "-p", "2222", "deploy@web1"),
    )


def test_ssh_that_must_not_ask_gets_batch_mode_after_the_users_options() -> None:
    # Of two values for one option, ssh uses the first: the one of the user.
    assert ssh_argv(Ssh("web1"), command="ssh -o BatchMode=no", may_ask=False) == (
        *("ssh", "-o", "BatchMode=no", "-o", "BatchMode=yes", "-W", "127.0.0.1:290", "web1"),
    )


@pytest.mark.parametrize("command", ["", "   ", "ssh 'unclosed"])
def test_an_empty_or_broken_ssh_command_is_refused(command: str) -> None:
    with pytest.raises(Usage, match="the ssh command"):
        ssh_argv(Ssh("web1"), command=command)


def test_an_address_without_a_listener_is_unreachable(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(
            Unreachable, match=f"No agent answers for here at http://127.0.0.1:{port}: Connection ref"
        ):
            connect(Host("here", Loopback("127.0.0.1", port)), ssh="ssh")
    with pytest.raises(Unreachable, match=r"No agent answers for here at http://\[::1\]:1: "):
        connect(Host("here", Loopback("::1", 1)), ssh="ssh")
    with pytest.raises(Unreachable, match=r"No agent answers for here at /.*: No such file or directory"):
        connect(Host("here", Unix(str(tmp_path / "none"))), ssh="ssh")


def test_the_name_agent_always_means_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        stream = connect(Host("a", Loopback("agent", port)), ssh="ssh")
        server.accept()[0].close()
    assert stream.authority == f"agent:{port}"
    stream.close()


def test_a_missing_ssh_is_named() -> None:
    with pytest.raises(Unreachable, match="web1 cannot be reached: no-such-ssh cannot be run"):
        connect(Host("web1", Ssh("web1")), ssh="no-such-ssh")


def test_the_exit_status_of_ssh_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    complain = f"""{sys.executable} -c 'import sys; sys.exit("Permission denied (publickey).")'"""
    stream = connect(Host("web1", Ssh("web1")), ssh=complain)
    assert stream.socket.recv(1) == b""
    assert stream.why_it_broke() == "ssh ended with exit status 1"
    assert "Permission denied (publickey)." in capfd.readouterr().err


def test_an_ssh_that_does_not_end_by_itself_is_terminated() -> None:
    stream = connect(Host("web1", Ssh("web1")), ssh=f"{sys.executable} -c 'import time; time.sleep(600)'")
    stream.close()
    assert stream.ssh is not None
    assert stream.ssh.returncode == -15
    assert stream.why_it_broke() == "the connection was closed"


def test_an_ssh_that_ignores_the_signal_is_killed() -> None:
    stream = connect(Host("web1", Ssh("web1")), ssh="sh -c 'trap \"\" TERM; echo; exec sleep 600' sh")
    stream.leaving_s = 0.1
    assert stream.socket.recv(1) == b"\n"
    stream.close()
    assert stream.ssh is not None
    assert stream.ssh.returncode == -9
