"""An app that does not start: the cause first and last, the app's own frames, nothing of the server's."""

from pathlib import Path

import pytest

from agent.core.ending import Cause, Loop, find_cause, find_loop, without_noise
from agent.host.ports import Placed
from agent.host.run.ended import ended, not_loaded, process_ended

RELEASE = "20261127093329Z"
LOGS = Path(__file__).parent / "logs"
START = ("gunicorn", "-w", "2", "app:app")


def cause(name: str, start: tuple[str, ...] = START) -> Cause | None:
    return find_cause((LOGS / f"{name}.txt").read_text(), release=RELEASE, start=start)


def test_a_module_that_is_not_there() -> None:
    """`ModuleNotFoundError: No module named 'shop'`, and where: not 60 lines of gunicorn, twice."""
    assert cause("gunicorn-import") == Cause(
        "app:app does not import",
        "ModuleNotFoundError: No module named 'shop' (app.py:10)",
        "  File \"app.py\", line 10, in <module>\n    import shop\nModuleNotFoundError: No module named 'shop'",
        "Is shop in the release, or among its dependencies?",
    )


def test_an_error_that_another_caused() -> None:
    """The error that ended it, with the place in my code; what I printed before stays."""
    found = cause("gunicorn-chain")
    assert found is not None
    assert found.why == "RuntimeError: SECRET_KEY is not set (settings.py:7)"
    assert found.output.startswith("reading the settings\n")
    assert found.output.endswith("\nRuntimeError: SECRET_KEY is not set")


def test_an_error_that_was_only_logged_is_not_the_cause() -> None:
    """The cache was down, and the app could live with that; the import is what ended it."""
    logged = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\nConnectionError: no cache\n'
    text = logged + (LOGS / "gunicorn-import.txt").read_text()
    found = find_cause(text, release=RELEASE, start=START)
    assert found is not None
    assert found.why == "ModuleNotFoundError: No module named 'shop' (app.py:10)"
    found = find_cause(logged + logged.replace("no cache", "no database"), release=RELEASE, start=START)
    assert found is not None
    assert found.why == "ConnectionError: no database"


def test_a_syntax_error() -> None:
    """The line that is wrong."""
    found = cause("gunicorn-syntax")
    assert found is not None
    assert found.why.startswith("SyntaxError: ")
    assert "app.py" in found.output


def test_an_asgi_app_that_is_not_there() -> None:
    """uvicorn says it in one line, and so does the agent."""
    assert cause("uvicorn-missing", ("uvicorn", "--fd", "3", "main:app")) == Cause(
        "main:app does not import", 'Error loading ASGI app. Could not import module "main".', ""
    )


@pytest.mark.parametrize(
    "text", ["", "hello\nworld\n", "Traceback (most recent call last):\n", "Traceback\n" * 100]
)
def test_without_a_cause_nothing_is_claimed(text: str) -> None:
    """No guess is better than a wrong one."""
    assert find_cause(text, release=RELEASE, start=START) is None


def test_a_log_of_a_deployment_has_no_noise_of_its_server() -> None:
    """What my app wrote, without how gunicorn goes to sleep."""
    text = (
        "[2026-11-27 15:41:05 +0000] [16759] [INFO] Handling signal: term\n"
        "cache is warm\n"
        "[2026-11-27 15:41:05 +0000] [16768] [INFO] Worker exiting (pid: 16768)\n"
        "[2026-11-27 15:41:05 +0000] [16759] [INFO] Shutting down: Master\n"
    )
    assert without_noise(text) == "cache is warm"


def test_a_traceback_with_a_line_before_its_frames_is_read_all_the_same() -> None:
    written = (
        "Traceback (most recent call last):\n  something odd\n"
        '  File "/opt/x/releases/20260101000000Z/app.py", line 1, in <module>\n    boom\nValueError: x\n'
    )
    cause = find_cause(written, release="20260101000000Z", start=("gunicorn", "app:app"))
    assert cause is not None
    assert cause.why == "ValueError: x (app.py:1)"


def test_the_end_of_a_traceback_is_not_shown_beside_the_whole_one() -> None:
    """Every answer was an error: only the last lines are kept, and they begin in the middle of one."""
    frame = f'  File "/opt/x/releases/{RELEASE}/app.py", line 16, in home\n    return render()\n'
    end = f"    await app(scope)\n{frame}TypeError: unhashable type: 'dict'\n"
    whole = f"Traceback (most recent call last):\n{frame}TypeError: unhashable type: 'dict'\n"
    found = find_cause(f"{end}Exception in ASGI application\n{whole}" + whole, release=RELEASE, start=START)
    assert found is not None
    assert found == find_cause(
        f"    ^^~~^\nTypeError: x\nException in ASGI application\n{whole}" + whole, release=RELEASE, start=START
    )
    assert found.why == "TypeError: unhashable type: 'dict' (app.py:16)"
    assert found.output == (
        'Exception in ASGI application\n  File "app.py", line 16, in home\n    return render()\n'
        "TypeError: unhashable type: 'dict'"
    )


def test_what_systemd_says_of_an_end_is_no_part_of_the_reason() -> None:
    """`status=3/NOTIMPLEMENTED` made me look for a method that my app lacks."""
    text = (
        "Starting shop-preflight.service - Candidate of shop, tried out by pusher-agent...\n"
        "Started shop-preflight.service - Candidate of shop, tried out by pusher-agent.\n"
        "cache is warm\n"
        "shop-preflight.service: Main process exited, code=exited, status=3/NOTIMPLEMENTED\n"
        "shop-preflight.service: Killing process 1451 (python3) with signal SIGKILL.\n"
        "shop-preflight.service: Failed with result 'exit-code'.\n"
    )
    assert without_noise(text) == "cache is warm"
    killed = "shop.service: A process of this unit has been killed by the OOM killer.\n"
    assert without_noise(killed + "shop.service: Failed with result 'oom-kill'.") != ""


FROZEN = '  File "<frozen os>", line 679, in __getitem__\n'
VARIABLE = "The app's environment has no {}: set it in the `environment_file` of the app's file"
WRITES = (
    "The app cannot write to its release. A folder that it writes to belongs into `shared_paths` in the app's file"
)


@pytest.mark.parametrize(
    ("end", "hint"),
    [
        (f"{FROZEN}KeyError: 'SERVER_NAME'", VARIABLE.format("SERVER_NAME")),
        ("decouple.UndefinedValueError: KEY not found. Declare it as envvar", VARIABLE.format("KEY")),
        (
            "django.core.exceptions.ImproperlyConfigured: Set the SECRET_KEY environment variable",
            VARIABLE.format("SECRET_KEY"),
        ),
        ('environs.exceptions.EnvError: Environment variable "TOKEN" not set', VARIABLE.format("TOKEN")),
        ("pydantic_core._pydantic_core.ValidationError: 2 validation errors for Settings", "Settings that are"),
        ("OSError: [Errno 30] Read-only file system: '/opt/shop/releases/1/.data'", WRITES),
        ("sqlite3.OperationalError: attempt to write a readonly database", WRITES),
        (
            "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) unable to open database file",
            "Is its folder there, and may the app write to it?",
        ),
        ("RuntimeError: can't start new thread", "How many threads and processes the app may have is tasks_max"),
        (f"{FROZEN}KeyError: 'PORT'", "A program that opens a port of its own needs `listen_via"),
        ("KeyError: 'SERVER_NAME'", ""),
        ("ValueError: x", ""),
    ],
)
def test_an_error_that_says_what_the_app_misses_comes_with_what_to_do(end: str, hint: str) -> None:
    """The first send of an app that needs a variable, or a folder to write to: where do I put it?"""
    text = f'Traceback (most recent call last):\n  File "/opt/shop/releases/{RELEASE}/app.py", line 3, in f\n{end}'
    found = find_cause(text, release=RELEASE, start=START)
    assert found is not None
    assert found.hint.startswith(hint)
    assert bool(found.hint) == bool(hint)


def test_workers_that_end_again_and_again_are_told_once() -> None:
    """An app that calls sys.exit() while it is imported: gunicorn starts a worker every tenth of a second."""
    turn = (
        "[2026-11-28 02:35:30 +0000] [19728] [INFO] Control socket listening at /root/.gunicorn/gunicorn.ctl\n"
        "[2026-11-28 02:35:30 +0000] [{pid}] [INFO] Booting worker with pid: {pid}\n"
        "2026-11-28 02:35:30,{pid}:ERROR: No website(s) configured\n"
        "[2026-11-28 02:35:30 +0000] [{pid}] [INFO] Worker exiting (pid: {pid})\n"
        "[2026-11-28 02:35:30 +0000] [19728] [ERROR] Worker (pid:{pid}) exited with code 1.\n"
    )
    assert find_loop(turn.format(pid=201)) is None
    found = find_loop("".join(turn.format(pid=pid) for pid in range(201, 230)))
    assert found == Loop("exit code 1", "2026-11-28 02:35:30,229:ERROR: No website(s) configured")
    assert find_loop("INFO:     Child process [7] died\n" * 2) == Loop("", "")


def test_workers_that_the_kernel_kills_are_told_as_that() -> None:
    """An app that needs more memory than it may have: it said that gunicorn still loads it."""
    turn = (
        "[2026-11-28 10:06:21 +0000] [3484] [ERROR] Control server error: [Errno 30] Read-only file system: '/x'\n"
        "[2026-11-28 10:06:21 +0000] [3484] [ERROR] Worker (pid:{pid}) was sent SIGKILL! Perhaps out of memory?\n"
        "[2026-11-28 10:06:21 +0000] [{next}] [INFO] Booting worker with pid: {next}\n"
    )
    written = "".join(turn.format(pid=pid, next=pid + 1) for pid in range(3491, 3500))
    assert find_loop(written) == Loop("SIGKILL", "")
    placed = Placed(RELEASE, "v1", Path("/opt/shop/releases") / RELEASE)
    problem = not_loaded(placed, deadline_s=10, written=written)
    assert problem.why.endswith("others take their place, again and again: SIGKILL")
    assert "there is no memory left" in problem.hint
    assert "memory_max in [resources]" in problem.hint
    assert problem.hint.endswith("They wrote nothing")


def test_an_app_that_was_killed_without_a_word_may_have_had_too_little_memory() -> None:
    placed = Placed(RELEASE, "v1", Path("/opt/shop/releases") / RELEASE)
    assert "memory_max in [resources]" in ended(placed, why="signal 9 (KILL)", written="").hint
    assert ended(placed, why="signal 15 (TERM)", written="").hint == "It wrote nothing"


def test_a_worker_that_ends_while_it_starts_is_told_with_its_cause_and_where_more_is() -> None:
    """A beat that writes into the release ends before systemd has it, or after: the advice is the same."""
    written = (
        "reading\n[2026-11-28 03:56:51,602: WARNING/MainProcess] [Errno 30] Read-only file system: 'schedule'\n"
    )
    problem = process_ended("The process beat did not start", how="exit code 1", written=written, release=RELEASE)
    assert problem.hint.startswith(f"Its last lines are below. {WRITES}")
    more = process_ended("x", how="exit code 1", written=written, release=RELEASE, hint="`systemctl` says more")
    assert more.hint.startswith(f"`systemctl` says more. {WRITES}")
