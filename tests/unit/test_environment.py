"""The environment of an app, and how it is started."""

from pathlib import Path

from agent.core.environment import CLEAN_PATH, Account, app_environment, trampoline

ME = Account("deploy", 1000, 1001, "/home/deploy", switch=False)
OTHER = Account("flask-demo", 1002, 1003, "/var/lib/flask-demo", switch=True)


def test_an_app_finds_its_venv_first_and_nothing_of_the_agents_own() -> None:
    found = app_environment({"PUSHER_APP": "demo"}, release=Path("/r"), account=ME, file={})
    assert found == {
        "HOME": "/home/deploy",
        "USER": "deploy",
        "LOGNAME": "deploy",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PUSHER_APP": "demo",
        "PATH": f"/r/venv/bin:{CLEAN_PATH}",
        "VIRTUAL_ENV": "/r/venv",
    }


def test_the_environment_file_wins_over_defaults_but_not_over_the_agents_variables() -> None:
    file = {"LANG": "de_DE.UTF-8", "PATH": "/opt/bin", "PUSHER_APP": "else", "VIRTUAL_ENV": "/x", "KEY": "1"}
    found = app_environment({"PUSHER_APP": "demo"}, release=Path("/r"), account=ME, file=file)
    assert found["LANG"] == "de_DE.UTF-8"
    assert found["PATH"] == "/r/venv/bin:/opt/bin"
    assert found["PUSHER_APP"] == "demo"
    assert found["VIRTUAL_ENV"] == "/r/venv"
    assert found["KEY"] == "1"


def test_a_program_is_started_with_the_parent_death_signal_and_checks_its_parent() -> None:
    assert trampoline(("/r/hook", "-x"), parent=7, account=ME) == (
        "/usr/bin/setpriv",
        "--pdeathsig=TERM",
        "/bin/sh",
        "-c",
        '[ "$PPID" = "$1" ] || exit 1; shift; exec "$@"',
        "sh",
        "7",
        "/r/hook",
        "-x",
    )


def test_an_app_of_another_user_gets_the_socket_as_descriptor_3_after_the_user_is_changed() -> None:
    assert trampoline(("/r/venv/bin/gunicorn",), parent=7, account=OTHER, socket=True) == (
        "/usr/bin/setpriv",
        "--pdeathsig=TERM",
        "--reuid=1002",
        "--regid=1003",
        "--init-groups",
        "/bin/sh",
        "-c",
        '[ "$PPID" = "$1" ] || exit 1; shift; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@" 3<&0 0</dev/null',
        "sh",
        "7",
        "/r/venv/bin/gunicorn",
    )
