"""The kernel says who the caller is; whatever is doubtful is anonymous."""

import os
import pwd
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from agent.doors.http.callers import Callers
from agent.host.net import peer, proc
from agent.host.net.peer import (
    ANONYMOUS,
    Caller,
    first_open,
    identify,
    may_deploy,
    proc_owner,
)
from agent.host.net.sock_diag import Owner, SockDiag, diag_request, netlink_owner

STRANGER = 12_345
CONNECT = "import socket, sys; port = int(sys.argv[1]); c = socket.create_connection(('127.0.0.1', port)); "
WAIT = "print(flush=True); sys.stdin.read()"
WAYS = pytest.mark.parametrize("find_owner", [netlink_owner, proc_owner])
needs_root = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]


def as_root_only(test):
    for mark in needs_root:
        test = mark(test)
    return test


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        yield listening


@contextmanager
def stranger(code: str, *arguments: object, uid: int = STRANGER) -> Iterator[subprocess.Popen[bytes]]:
    """A process of another user; entered when it has printed a line or ended, and ended at exit."""
    argv = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--")
    argv += ("/usr/bin/python3", "-I", "-S", "-c", code, *map(str, arguments))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as process:
        try:
            process.stdout.readline()
            yield process
        finally:
            process.stdin.close()
            assert process.wait(20) == 0


def accept(listening: socket.socket) -> socket.socket:
    listening.settimeout(10)
    return listening.accept()[0]


def test_a_netlink_socket_that_stays_open_answers_each_question_for_itself(listener: socket.socket) -> None:
    diag = SockDiag()
    try:
        for _ in range(2):
            with socket.create_connection(listener.getsockname()) as client:
                accepted, _ = listener.accept()
                with accepted:
                    own = os.fstat(client.fileno()).st_ino
                    assert diag.owner(client.getsockname(), accepted.getsockname()) == Owner(os.geteuid(), own)
            with pytest.raises(OSError, match="No such file"):
                diag.owner(("127.0.0.1", 1), ("127.0.0.1", 2))
    finally:
        diag.close()
        diag.close()


def test_a_caller_on_this_host_is_known_by_the_owner_of_the_socket(listener):
    with socket.create_connection(listener.getsockname()), accept(listener) as accepted:
        assert identify(accepted).uid == os.geteuid()


@WAYS
def test_both_ways_of_asking_name_the_same_socket(listener, find_owner):
    with socket.create_connection(listener.getsockname()) as client, accept(listener) as accepted:
        owner = find_owner(accepted.getpeername(), accepted.getsockname())
        assert owner == Owner(os.geteuid(), os.fstat(client.fileno()).st_ino)


@WAYS
def test_a_caller_that_has_sent_everything_is_still_known(listener, find_owner):
    with socket.create_connection(listener.getsockname()) as client, accept(listener) as accepted:
        client.shutdown(socket.SHUT_WR)
        assert peer.tcp_uid(accepted, find_owner=find_owner) == os.geteuid()


@as_root_only
@WAYS
def test_another_user_is_not_mistaken_for_root(listener, find_owner):
    with stranger(CONNECT + WAIT, listener.getsockname()[1]), accept(listener) as accepted:
        assert peer.tcp_uid(accepted, find_owner=find_owner) == STRANGER
        assert identify(accepted) == Caller(STRANGER)


@as_root_only
@WAYS
def test_the_orphaned_socket_trick_makes_no_one_root(listener, find_owner):
    """A kernel may report a socket that its owner has closed with uid 0: the uid alone would let any user in."""
    send_and_close = CONNECT + r"c.sendall(b'POST /rollback HTTP/1.1\r\n\r\n'); c.close()"
    with stranger(send_and_close, listener.getsockname()[1]) as process:
        process.wait(20)
        with accept(listener) as accepted:
            assert find_owner(accepted.getpeername(), accepted.getsockname()) is None
            assert identify(accepted) == ANONYMOUS
            assert accepted.recv(100).startswith(b"POST /rollback")


@as_root_only
def test_a_socket_its_owner_has_closed_has_no_inode_whatever_uid_the_kernel_says(listener):
    """Older kernels say root, newer ones keep the uid: what the two tests around this one stand on."""
    with stranger(CONNECT + "c.sendall(b'x'); c.close()", listener.getsockname()[1]) as process:
        process.wait(20)
        with accept(listener) as accepted:
            table = Path("/proc/self/net/tcp").read_text()
            ends = [proc.spelled(end).decode() for end in (accepted.getpeername(), accepted.getsockname())]
            # While others open sockets, the kernel may list one twice: the table is read in pieces.
            lines = [row.split() for row in table.splitlines() if row.split()[1:3] == ends]
            assert lines
            for line in lines:
                assert line[3] in ("04", "05")
                assert line[7] in ("0", str(STRANGER))
                assert line[9] == "0"


@WAYS
def test_the_remnant_of_a_closed_connection_has_no_owner(listener, find_owner):
    client = socket.create_connection(listener.getsockname())
    with accept(listener) as accepted:
        addresses = accepted.getpeername(), accepted.getsockname()
        client.close()
    left = b" %s %s 06 " % (proc.spelled(addresses[0]), proc.spelled(addresses[1]))
    assert left in Path("/proc/self/net/tcp").read_bytes()
    assert find_owner(*addresses) is None


def test_a_listener_on_the_callers_port_is_not_the_caller(listener):
    """The kernel falls back to a listener when no connection matches."""
    assert netlink_owner(listener.getsockname(), ("127.0.0.1", 1)) is None
    assert proc_owner(listener.getsockname(), ("127.0.0.1", 1)) is None


def test_a_socket_that_does_not_exist_is_an_error_for_netlink():
    with pytest.raises(FileNotFoundError):
        netlink_owner(("127.0.0.1", 1), ("127.0.0.1", 2))
    assert proc_owner(("127.0.0.1", 1), ("127.0.0.1", 2)) is None


@pytest.fixture
def port() -> Iterator[tuple[str, int]]:
    """An address to connect from, again and again; that something is bound keeps everybody else off the port."""
    with socket.socket() as placeholder:
        placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        placeholder.bind(("127.0.0.1", 0))
        yield placeholder.getsockname()


@contextmanager
def connected(port: tuple[str, int], listening: socket.socket) -> Iterator[socket.socket]:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(port)
        client.connect(listening.getsockname())
        yield client


def reset(client: socket.socket) -> None:
    """Close without the usual handshake, so that the same two addresses can be connected again at once."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_a_port_that_was_used_again_does_not_give_its_new_owner_to_the_old_connection(listener, port):
    with connected(port, listener) as client:
        reset(client)
    with connected(port, listener), accept(listener) as old, accept(listener) as new:
        assert identify(old) == ANONYMOUS
        assert identify(new).uid == os.geteuid()


def test_a_port_that_is_used_again_in_the_middle_of_a_look_up_names_no_one(listener, port):
    with ExitStack() as stack:
        client = stack.enter_context(connected(port, listener))
        accepted = stack.enter_context(accept(listener))
        answers: list[Owner | None] = []

        def find_owner(at: tuple[str, int], server: tuple[str, int]) -> Owner | None:
            if not answers:
                reset(client)
                stack.enter_context(connected(port, listener))
            answers.append(netlink_owner(at, server))
            return answers[-1]

        assert peer.tcp_uid(accepted, find_owner=find_owner) is None
        assert answers[0] == answers[1] is not None


def test_two_look_ups_that_disagree_name_no_one(listener):
    answers = iter([Owner(0, 7), Owner(STRANGER, 7)])
    with socket.create_connection(listener.getsockname()), accept(listener) as accepted:
        assert peer.tcp_uid(accepted, find_owner=lambda *_: next(answers)) is None


@as_root_only
def test_among_many_connections_each_has_its_own_caller(listener):
    port = listener.getsockname()[1]
    many = "import socket, sys; port = int(sys.argv[1]); "
    many += "all = [socket.create_connection(('127.0.0.1', port)) for _ in range(100)]; " + WAIT
    with stranger(many, port), stranger(many, port, uid=STRANGER + 1):
        mine = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        own_ports = {client.getsockname()[1] for client in mine}
        found: dict[int | None, int] = {}
        for _ in range(300):
            with accept(listener) as accepted:
                uid = identify(accepted).uid
                assert (accepted.getpeername()[1] in own_ports) == (uid == 0)
                found[uid] = found.get(uid, 0) + 1
        for client in mine:
            client.close()
    assert found == {0: 100, STRANGER: 100, STRANGER + 1: 100}


def test_where_netlink_is_refused_the_table_in_proc_is_asked(listener):
    def refused(*_: object) -> Owner | None:
        raise PermissionError

    with socket.create_connection(listener.getsockname()), accept(listener) as accepted:
        assert identify(accepted, find_owner=partial(peer.owner, ask=refused)).uid == os.geteuid()


def test_a_caller_that_is_gone_is_anonymous(listener):
    with socket.create_connection(listener.getsockname()) as client, accept(listener) as accepted:
        reset(client)
        assert identify(accepted) == ANONYMOUS


def test_a_caller_over_ipv6_is_anonymous():
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as listening,
        socket.create_connection(listening.getsockname()[:2]),
        accept(listening) as accepted,
    ):
        assert identify(accepted) == ANONYMOUS


def test_a_caller_on_the_unix_socket_is_the_user_that_connected(tmp_path):
    with (
        socket.socket(socket.AF_UNIX) as listening,
        socket.socket(socket.AF_UNIX) as client,
    ):
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        client.connect(str(tmp_path / "s"))
        with accept(listening) as accepted:
            client.close()
            assert identify(accepted) == Caller(os.geteuid(), peer.login_of(os.geteuid()))


@as_root_only
def test_another_user_on_the_unix_socket_is_known_after_closing_it():
    connect = "import socket, sys; c = socket.socket(socket.AF_UNIX); c.connect('\\0' + sys.argv[1]); c.close()"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0pusher-test-{os.getpid()}")
        listening.listen()
        with stranger(connect, f"pusher-test-{os.getpid()}") as process:
            process.wait(20)
            with accept(listening) as accepted:
                assert identify(accepted).uid == STRANGER


@as_root_only
def test_a_uid_that_the_kernel_cannot_express_is_anonymous(listener):
    with stranger(CONNECT + WAIT, listener.getsockname()[1], uid=65534), accept(listener) as accepted:
        assert peer.tcp_uid(accepted, find_owner=peer.owner) == 65534
        assert identify(accepted) == ANONYMOUS


def test_the_question_to_the_kernel_names_exactly_one_socket():
    asked = diag_request(("127.0.0.1", 0x1234), ("127.0.0.2", 0x2328))
    head = struct.pack("=IHHII", 72, 20, 1, 1, 0)
    what = struct.pack("=BBBBI", 2, 6, 0, 0, 0xFFFFFFFF)
    where = bytes.fromhex("1234 2328") + bytes([127, 0, 0, 1]) + bytes(12) + bytes([127, 0, 0, 2]) + bytes(12)
    assert asked == head + what + where + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)


LINE = "  1: {0}:1234 {0}:2328 {1} 00000000:00000000 00:00000000 00000000  {2}  0 {3} 1 0000 20\n"
HOST = "0100007F" if sys.byteorder == "little" else "7F000001"


@pytest.mark.parametrize(
    ("rows", "owner"),
    [
        ([("01", 1000, 77)], Owner(1000, 77)),
        ([("04", 1000, 77)], Owner(1000, 77)),
        ([("05", 1000, 77)], Owner(1000, 77)),
        ([("05", 0, 0)], None),
        ([("01", 0, 0)], None),
        ([("06", 0, 0), ("01", 1000, 77)], Owner(1000, 77)),
        *[([(f"{state:02X}", 0, 77)], None) for state in (2, 3, 6, 7, 8, 9, 10, 11, 12)],
        ([], None),
    ],
)
def test_only_an_open_socket_in_the_table_has_an_owner(rows, owner):
    table = "  sl  local_address rem_address st\n" + "".join(LINE.format(HOST, *row) for row in rows)
    client, server = ("127.0.0.1", 0x1234), ("127.0.0.1", 0x2328)
    assert first_open(proc.connections_in(table.encode(), client, server)) == owner


@pytest.mark.parametrize(
    ("caller", "name"),
    [
        (Caller(1000, "alice"), "alice (uid 1000)"),
        (Caller(1000), "uid 1000"),
        (ANONYMOUS, "anonymous"),
    ],
)
def test_a_caller_has_a_name_for_people(caller, name):
    assert caller.name == name


@pytest.mark.parametrize(
    ("uid", "allowed"),
    [(0, True), (4242, True), (None, False), (STRANGER, False), (pwd.getpwnam("daemon").pw_uid, False)],
)
def test_root_and_the_agents_own_user_may_deploy_and_others_may_not(uid, allowed):
    assert may_deploy(Caller(uid), own_uid=4242, group="tty") is allowed


def test_without_the_group_no_one_else_may_deploy():
    daemon = Caller(pwd.getpwnam("daemon").pw_uid)
    assert not may_deploy(daemon, own_uid=4242, group="no-such-group")


@as_root_only
def test_members_of_the_group_may_deploy_by_their_first_or_any_other_group(tmp_path):
    accounts = "primary:x:20001:30000::/:/bin/sh\nsupplementary:x:20002:30001::/:/bin/sh\n"
    accounts += "neither:x:20003:30001::/:/bin/sh\n"
    groups = "pusher:x:30000:supplementary\nothers:x:30001:\n"
    (tmp_path / "passwd").write_text(Path("/etc/passwd").read_text() + accounts)
    (tmp_path / "group").write_text(Path("/etc/group").read_text() + groups)
    ask = (
        "from agent.host.net.peer import Caller, may_deploy\n"
        "print([may_deploy(Caller(uid), own_uid=4242, group='pusher') for uid in (20001, 20002, 20003)])"
    )
    mount = 'mount --bind "$1/passwd" /etc/passwd; mount --bind "$1/group" /etc/group; exec "$2" -c "$3"'
    argv = ("unshare", "--mount", "sh", "-ec", mount, "sh", str(tmp_path), sys.executable, ask)
    done = subprocess.run(argv, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert (done.stdout.strip(), done.stderr) == ("[True, True, False]", "")


def test_what_the_accounts_say_of_a_caller_is_remembered_for_a_second_and_no_longer(listener):
    asked: list[int | None] = []
    now = [0.0]

    def account_of(uid: int | None) -> Caller:
        asked.append(uid)
        return Caller(uid, "somebody")

    callers = Callers(own_uid=os.geteuid(), group="no-such-group", account_of=account_of, elapsed=lambda: now[0])
    for seconds, times in ((0.0, 1), (0.9, 1), (1.1, 2)):
        now[0] = seconds
        with socket.create_connection(listener.getsockname()), accept(listener) as accepted:
            assert callers.identify(accepted) == (Caller(os.geteuid(), "somebody"), True)
        assert len(asked) == times
