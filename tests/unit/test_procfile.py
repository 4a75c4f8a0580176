"""The processes of a Procfile are named one by one, or refused by the line."""

import pytest

from agent.core.procfile import procfile_processes
from pusher.wire import Refused


def test_what_serves_and_what_runs_once_are_no_processes_beside_it() -> None:
    text = (
        "# ours\n\nweb: gunicorn app:app\nworker:celery worker\r\nrelease: flask db upgrade\nbeat: celery beat\n"
    )
    assert procfile_processes(text, file="Procfile") == ("worker", "beat")


def test_an_empty_procfile_names_nothing() -> None:
    assert procfile_processes("", file="Procfile") == ()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no colon", "line 3 cannot be used: 'no colon': a line is NAME: COMMAND"),
        ("worker:", "NAME: COMMAND"),
        ("Celery_Beat: celery beat", "Call it 'celery-beat'"),
        ("1: celery", "small letters"),
        ("web: gunicorn b:b", "'web' is there twice"),
        ("hook: python a.py", "'hook'"),
    ],
)
def test_a_line_that_cannot_be_used_is_refused_with_its_number(line: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        procfile_processes(f"web: gunicorn a:a\n\n{line}\n", file="Procfile")
    problem = refused.value
    assert "line 3" in f"{problem.what} {problem.why}"
    assert said in f"{problem.what} {problem.why} {problem.hint}"
