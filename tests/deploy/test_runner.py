"""The runner, with real processes on a real socket."""

import os
import py_compile
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.runner_place import AS_SYSTEMD_DOES, COUNTED, PYTHON, RUNNER, RunnerPlace, alive, until

RESISTS = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
BY_HAND = "def wait(): time.sleep(0.4)\n"
"""A way of accepting that nothing can see within 0.2 s: it looks for visitors now and then, first after 0.4 s."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[RunnerPlace]:
    one = RunnerPlace(tmp_path)
    yield one
    one.close()


def gate(place: RunnerPlace) -> tuple[Path, str]:
    """A file, and the prelude of an app that starts to accept when it is gone."""
    path = place.root / "gate"
    path.touch()
    return path, f"gate({str(path)!r})\n"


def test_the_app_runs_in_the_release_that_is_live_and_gets_the_socket_and_nothing_of_the_runner(
    place: RunnerPlace,
) -> None:
    name = place.release("v1")
    with place.running("python", "app.py", "an argument") as runner:
        found = place.ask()
        assert found["cwd"] == str(place.root / "releases" / name)
        assert found["argv"] == ["an argument"]
        assert (found["fds"], found["sid"]) == ([0, 1, 2, 3], found["pid"])
        assert int(found["blocked"], 16) == 0
        # Python itself ignores these two; what this process ignores is inherited.
        status = Path("/proc/self/status").read_text()
        inherited = int(status.partition("SigIgn:")[2].split()[0], 16)
        assert int(found["ignored"], 16) == inherited | 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
        environment = found["env"]
        assert (environment["LISTEN_FDS"], environment["LISTEN_PID"]) == ("1", str(found["pid"]))
        assert (environment["PUSHER_RELEASE"], environment["PUSHER_VERSION"]) == (name, "v1")
        assert environment["PATH"].startswith(f"{found['cwd']}/venv/bin:")
        assert environment["SECRET"] == "kept"
        assert "NOTIFY_SOCKET" not in environment
        assert runner.live() == (name, found["pid"])


@pytest.mark.parametrize("way", ["accept", "select", "poll", "epoll"])
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_the_successor_takes_over_when_it_accepts_and_not_before(tmp_path: Path, way: str, unix: bool) -> None:
    place = RunnerPlace(tmp_path, unix=unix)
    place.release("v1", way=way)
    with place.running() as runner:
        first = place.ask()
        path, prelude = gate(place)
        second = place.release("v2", way=way, prelude=prelude)
        reload = runner.ask_to_reload()
        assert f"{second} starts as process" in runner.hear("starts as process")
        assert [place.ask()["pid"] for _ in range(5)] == 5 * [first["pid"]]
        assert reload.poll() is None
        path.unlink()
        assert reload.wait() == 0
        assert {place.ask()["version"] for _ in range(5)} == {"v2"}
        runner.hear("READY=1")
        assert runner.live() == (second, place.ask()["pid"])
        assert [said for said in runner.heard if "RELOADING=1\nMONOTONIC_USEC=" in said]
        until(lambda: not alive(first["pid"]))
    place.close()


def test_the_predecessor_ends_when_as_many_workers_accept_as_it_has(place: RunnerPlace) -> None:
    trace = place.root / "trace"
    note = f"def note(what): open({str(trace)!r}, 'a').write(VERSION + ' ' + what + '\\n')\n"
    leave = "signal.signal(signal.SIGTERM, lambda *_: (note('is told to end'), os._exit(0)))\n"
    place.release("v1", prelude=f"{note}worker = os.fork() == 0\nif not worker:\n    {leave}")
    with place.running() as runner:
        first = place.ask()["pid"]
        until(lambda: place.ask()["pid"] != first)  # both accept
        path, wait = gate(place)
        second = f"if os.fork() == 0:\n    {wait}    note('is complete')\nelse:\n    note('begins')\n"
        place.release("v2", prelude=f"{note}{second}")
        reload = runner.ask_to_reload()
        until(lambda: trace.exists() and trace.read_text())
        path.unlink()
        assert reload.wait() == 0
        assert trace.read_text().splitlines() == ["v2 begins", "v2 is complete", "v1 is told to end"]


def test_a_successor_with_fewer_workers_takes_over_as_well(place: RunnerPlace) -> None:
    place.release("v1", prelude="os.fork()\n")
    with place.running() as runner:
        first = place.ask()["pid"]
        until(lambda: place.ask()["pid"] != first)
        place.release("v2")
        assert runner.reload() == 0
        assert {place.ask()["version"] for _ in range(5)} == {"v2"}


def test_a_plain_hangup_reloads_as_well(place: RunnerPlace) -> None:
    place.release("v1")
    with place.running() as runner:
        place.release("v2")
        runner.signal(signal.SIGHUP)
        runner.hear("RELOADING=1")
        runner.hear("READY=1")
        assert place.ask()["version"] == "v2"


def test_a_busy_server_accepts_without_ever_waiting(place: RunnerPlace) -> None:
    """A connection that it holds is proof enough; its calls show nothing."""
    place.release("v1")
    # It takes one visitor, and is busy ever after.
    busy = (
        "listening.setblocking(False)\n"
        "visitor = None\n"
        "while True:\n"
        "    try:\n"
        "        visitor = visitor or listening.accept()\n"
        "    except BlockingIOError:\n"
        "        pass\n"
    )
    with place.running(deadline=60) as runner:
        first = place.ask()["pid"]
        place.release("v2", way="by hand", prelude=busy)
        reload = runner.ask_to_reload()
        runner.hear("starts as process")
        until(lambda: place.knock() or reload.poll() is not None)
        assert reload.wait() == 0
        runner.hear("READY=1")
        assert runner.live()[1] != first


def test_where_nothing_shows_that_it_accepts_the_predecessor_ends_after_the_deadline_and_the_log_says_so(
    place: RunnerPlace,
) -> None:
    place.release("v1")
    with place.running(deadline=0.2) as runner:
        second = place.release("v2", way="by hand", prelude=BY_HAND)
        assert runner.reload() == 0
        assert place.ask()["version"] == "v2"
        assert f"{second} was not seen to accept in 0.2 s" in place.log.read_text()


def test_without_overlap_the_predecessor_ends_first(place: RunnerPlace) -> None:
    trace = place.root / "trace"
    note = (
        f"def note(what): open({str(trace)!r}, 'a').write(VERSION + ' ' + what + '\\n')\n"
        "def leave(*_): note('ends'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, leave)\nnote('starts')\n"
    )
    place.release("v1", prelude=note)
    with place.running(overlap=False) as runner:
        place.ask()
        place.release("v2", prelude=note)
        assert runner.reload() == 0
        assert place.ask()["version"] == "v2"
        assert trace.read_text().splitlines() == ["v1 starts", "v1 ends", "v2 starts"]


@pytest.mark.parametrize(
    ("prelude", "how"), [("sys.exit(3)", "exit code 3"), ("os.kill(os.getpid(), signal.SIGSEGV)", "signal 11")]
)
def test_a_successor_that_ends_while_it_starts_changes_nothing(place: RunnerPlace, prelude: str, how: str) -> None:
    place.release("v1")
    with place.running() as runner:
        first = place.ask()["pid"]
        second = place.release("v2", prelude=f"print('the reason', flush=True)\n{prelude}")
        assert runner.reload() == 1
        assert place.ask()["pid"] == first
        assert f"STATUS={second} was not started: {how}; " in runner.hear("READY=1")
        assert "the reason" in place.log.read_text()
        third = place.release("v3")
        assert runner.reload() == 0
        runner.hear("READY=1")
        assert runner.live() == (third, place.ask()["pid"])


def test_a_release_that_is_not_there_or_has_no_such_program_changes_nothing(place: RunnerPlace) -> None:
    name = place.release("v1")
    with place.running() as runner:
        first = place.ask()["pid"]
        place.go_live("20990101000000Z")
        assert runner.reload() == 1
        assert "STATUS=current was not started: " in runner.hear("READY=1")
        second = place.release("v2")
        (place.root / f"releases/{second}/venv/bin/python").unlink()
        assert runner.reload() == 1
        assert "venv/bin/python cannot be run: No such file" in place.log.read_text()
        assert f"{second} was not started: exit code 203" in runner.hear("READY=1")
        assert (runner.live(), place.ask()["pid"]) == ((name, first), first)


@pytest.mark.parametrize(
    "damage", ["\n", "service\n", "service\t15\tsocket\n", "service\tx\tsocket\tpython\tapp.py\n"]
)
def test_a_release_that_says_nothing_readable_of_its_start_changes_nothing(
    place: RunnerPlace, damage: str
) -> None:
    place.release("v1")
    with place.running() as runner:
        first = place.ask()["pid"]
        second = place.release("v2")
        (place.root / f"releases/{second}/.pusher/start").write_text(damage)
        assert runner.reload() == 1
        assert "STATUS=current was not started: " in runner.hear("READY=1")
        assert place.ask()["pid"] == first


def test_a_predecessor_that_ignores_term_is_killed_after_the_drain(place: RunnerPlace) -> None:
    place.release("v1", prelude=RESISTS)
    with place.running(drain=0.3) as runner:
        first = place.ask()["pid"]
        place.release("v2")
        assert runner.reload() == 0  # only then does nobody reach it
        assert not alive(first)
        assert "has not ended within 0.3 s and is killed" in place.log.read_text()


def test_a_predecessor_keeps_what_it_is_answering_and_delays_nobody(place: RunnerPlace) -> None:
    path, prelude = gate(place)
    path.unlink()
    # Told to end, it lets go of the socket, and goes on with what it has.
    place.release(
        "v1",
        prelude=f"def leave(*_): listening.close(); gate({str(path)!r}); os._exit(0)\n"
        "signal.signal(signal.SIGTERM, leave)\n",
    )
    with place.running(drain=30) as runner:
        first = place.ask()["pid"]
        path.touch()
        place.release("v2", prelude=prelude.replace("gate(", "len("))
        assert runner.reload() == 0
        assert f"finishes its requests as process {first}" in runner.hear("finishes")
        assert alive(first)
        assert place.ask()["version"] == "v2"
        path.unlink()
        runner.hear("STATUS=2026")
        assert "finishes" not in runner.heard[-1]


def test_of_two_reloads_at_once_both_are_answered_and_one_that_comes_in_between_goes_for_the_newest(
    place: RunnerPlace,
) -> None:
    place.release("v1")
    with place.running() as runner:
        place.ask()
        path, prelude = gate(place)
        place.release("v2", prelude=prelude)
        asked = [runner.ask_to_reload(), runner.ask_to_reload()]
        runner.hear("starts as process")
        third = place.release("v3")
        asked.append(runner.ask_to_reload())
        assert [one.poll() for one in asked] == 3 * [None]
        path.unlink()
        assert [one.wait() for one in asked] == [0, 0, 0]
        assert place.ask()["version"] == "v3"
        until(lambda: runner.hear("READY=1") and runner.live()[0] == third)


@pytest.mark.parametrize(
    ("prelude", "status"),
    [
        ("signal.raise_signal(signal.SIGKILL)", -9),
        ("signal.raise_signal(signal.SIGABRT)", -6),
        ("sys.exit(7)", 7),
        ("sys.exit(0)", 0),
    ],
)
def test_a_dead_app_ends_the_runner_in_the_same_way(place: RunnerPlace, prelude: str, status: int) -> None:
    path, wait = gate(place)
    place.release("v1", prelude=f"{wait}\n{prelude}")
    with place.running() as runner:
        path.unlink()
        assert runner.wait() == status


def test_if_the_live_release_dies_while_its_successor_starts_the_successor_takes_over(place: RunnerPlace) -> None:
    place.release("v1")
    with place.running() as runner:
        first = place.ask()["pid"]
        path, prelude = gate(place)
        second = place.release("v2", prelude=prelude)
        reload = runner.ask_to_reload()
        runner.hear("starts as process")
        os.kill(first, signal.SIGKILL)
        until(lambda: not alive(first))
        path.unlink()
        assert reload.wait() == 0
        runner.hear("READY=1")
        assert runner.live() == (second, place.ask()["pid"])


def test_if_both_die_the_runner_ends_as_the_live_one_did(place: RunnerPlace) -> None:
    place.release("v1")
    with place.running() as runner:
        first = place.ask()["pid"]
        path, prelude = gate(place)
        place.release("v2", prelude=f"{prelude}\nsys.exit(3)")
        reload = runner.ask_to_reload()
        runner.hear("starts as process")
        os.kill(first, signal.SIGKILL)
        until(lambda: not alive(first))
        path.unlink()
        assert (reload.wait(), runner.wait()) == (1, -9)


def test_a_killed_runner_takes_its_app_along_and_a_reload_that_waits_fails(place: RunnerPlace) -> None:
    place.release("v1")
    with place.running() as runner:
        first = place.ask()["pid"]
        _, prelude = gate(place)
        place.release("v2", prelude=prelude)
        reload = runner.ask_to_reload()
        runner.hear("starts as process")
        runner.signal(signal.SIGKILL)
        assert reload.wait() == 1
        until(lambda: not alive(first))


def test_a_stop_ends_predecessor_and_successor_alike_and_kills_what_resists(place: RunnerPlace) -> None:
    place.release("v1", prelude=RESISTS)
    with place.running(drain=0.3) as runner:
        first = place.ask()["pid"]
        _, prelude = gate(place)
        place.release("v2", prelude=prelude)
        reload = runner.ask_to_reload()
        second = int(runner.hear("starts as process").split("process ")[1].split(";")[0])
        runner.signal(signal.SIGTERM)
        runner.hear("STOPPING=1")
        assert (runner.wait(), reload.wait()) == (-9, 1)  # as v1 ended
        assert not alive(first)
        assert not alive(second)


def test_an_app_that_ends_in_order_when_stopped_lets_the_runner_end_in_order(place: RunnerPlace) -> None:
    place.release("v1", prelude="signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))")
    with place.running() as runner:
        place.ask()
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
            runner.signal(number)
        runner.signal(signal.SIGTERM)
        assert runner.wait() == 0


def leaves_its_session(place: RunnerPlace) -> tuple[Path, str]:
    """A file with the id of a process that has left the app's session, and the prelude that starts it."""
    path = place.root / "orphan"
    daemon = (
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        open({str(path)!r} + '.new', 'w').write(str(os.getpid()))\n"
        f"        os.rename({str(path)!r} + '.new', {str(path)!r})\n"
        "        time.sleep(600)\n"
        "    os._exit(0)\n"
    )
    return path, daemon


def test_nothing_of_a_predecessor_is_left_behind_not_even_what_has_left_its_session(place: RunnerPlace) -> None:
    path, daemon = leaves_its_session(place)
    place.release("v1", prelude=daemon)
    with place.running() as runner:
        first = place.ask()["pid"]
        until(path.exists)
        orphan = int(path.read_text())
        assert alive(orphan)
        place.release("v2")
        assert runner.reload() == 0
        until(lambda: not Path(f"/proc/{first}").exists() and not Path(f"/proc/{orphan}").exists())
        assert place.ask()["version"] == "v2"


@pytest.mark.parametrize("stopped", [True, False])
def test_nothing_of_the_app_outlives_its_runner_not_even_what_has_left_its_session(
    place: RunnerPlace, stopped: bool
) -> None:
    path, daemon = leaves_its_session(place)
    place.release("v1", prelude=daemon)
    with place.running() as runner:
        app = place.ask()["pid"]
        until(path.exists)
        if stopped:
            runner.signal(signal.SIGTERM)
        else:
            os.kill(app, signal.SIGKILL)
        runner.wait()
        assert not alive(int(path.read_text()))


@pytest.mark.skipif(COUNTED, reason="what counts the lines run takes memory of its own")
def test_it_is_small_and_at_rest_nothing_but_a_signal_wakes_it(place: RunnerPlace) -> None:
    place.release("v1")
    compiled = py_compile.compile(str(RUNNER), str(place.root / "runner.pyc"))  # as packaging/debian/postinst does
    with place.running(runner=Path(compiled)) as runner:
        place.ask()
        place.release("v2")
        assert runner.reload() == 0
        until(lambda: "finishes" not in runner.hear("STATUS="))
        if os.geteuid() == 0:
            until(lambda: _waits_for_ever(runner.pid))  # it gives memory back when it has said that all is done
        status = Path(f"/proc/{runner.pid}/status").read_text()
        resident = int(status.partition("VmRSS:")[2].split()[0])
        print(f"{resident} KiB")
        assert resident * 1024 < 12_000_000


def _waits_for_ever(pid: int) -> bool:
    """Whether it is in rt_sigtimedwait(2), with no timeout."""
    number, *arguments = Path(f"/proc/{pid}/syscall").read_text().split()
    return number == "128" and int(arguments[2], 16) == 0


def test_the_app_cannot_look_into_the_runner(place: RunnerPlace) -> None:
    """Who could trace it could also say, in its name, that all is well."""
    place.release("v1")
    with place.running() as runner:
        place.ask()
        assert Path(f"/proc/{runner.pid}/mem").stat().st_uid == 0
        assert runner.process.poll() is None


def test_without_a_socket_that_is_meant_for_it_the_runner_does_not_start(place: RunnerPlace) -> None:
    place.release("v1")
    argv = (PYTHON, "-I", "-S", str(RUNNER), f"--path={place.root}", "--drain=1", "--overlap=yes")
    for environment in ({}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}):
        done = subprocess.run(argv, env=environment, capture_output=True, check=False)
        assert (done.returncode, done.stderr.split(b":")[0]) == (78, b"runner")


def test_without_a_live_release_the_runner_does_not_start(place: RunnerPlace) -> None:
    place.go_live("20990101000000Z")
    argv = (PYTHON, "-I", "-S", str(RUNNER), f"--path={place.root}", "--drain=1", "--overlap=yes")
    done = subprocess.run(
        ("/bin/sh", "-c", AS_SYSTEMD_DOES, "sh", *argv),
        stdin=place.socket,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 200
    assert b"the live release cannot be started" in done.stderr


def test_a_process_that_the_live_release_does_not_have_ends_the_runner_with_a_code_of_its_own(
    place: RunnerPlace,
) -> None:
    place.release("v1")
    argv = (PYTHON, "-I", "-S", str(RUNNER), f"--path={place.root}", "--drain=1", "--process=beat")
    done = subprocess.run(argv, capture_output=True, check=False)
    assert (done.returncode, done.stderr.partition(b"Z ")[2]) == (199, b"has no process beat\n")


def test_it_becomes_a_process_of_a_release_and_is_no_parent_then(place: RunnerPlace) -> None:
    place.command = "python seen.py 'a b'"
    name = place.release("v1")
    release = place.root / "releases" / name
    (release / "seen.py").write_text("import os, sys; print(os.getpid(), os.getcwd(), sys.argv[1:], flush=True)")
    argv = (PYTHON, "-I", "-S", str(RUNNER), f"--become={place.root}/current", "--process=worker")
    child = subprocess.Popen(argv, stdout=subprocess.PIPE)
    seen, _ = child.communicate(timeout=20)
    assert seen.decode() == f"{child.pid} {release} ['a b']\n"
    for words, code in (("--process=none", 199), ("--process=service", 203)):
        place.command = "nothing"
        place.say_run(release)
        done = subprocess.run((*argv[:-1], words), capture_output=True, check=False)
        assert done.returncode == code, done
    done = subprocess.run(
        (*argv[:4], f"--become={place.root}/none", "--process=x"), capture_output=True, check=False
    )
    assert done.returncode == 200
