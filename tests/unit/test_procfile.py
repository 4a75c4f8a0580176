"""A Procfile is understood line by line, or refused by the line."""

import pytest

from agent.core.procfile import parse_procfile
from pusher.wire import Refused


def test_web_and_release_are_told_from_the_others() -> None:
    text = (
        "# ours\n\nweb: gunicorn app:app\nworker:celery -A app worker\r\nrelease: flask db upgrade && echo $X\n"
        "celery-beat: celery -A app beat --schedule '/tmp/a b'\n"
    )
    found = parse_procfile(text, file="Procfile")
    assert (found.web, found.release) == ("gunicorn app:app", "flask db upgrade && echo $X")
    assert found.processes == {
        "worker": "celery -A app worker",
        "celery-beat": "celery -A app beat --schedule '/tmp/a b'",
    }


def test_an_empty_procfile_says_nothing() -> None:
    found = parse_procfile("", file="Procfile")
    assert (found.web, found.release, found.processes) == ("", "", {})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no colon", "NAME: COMMAND"),
        ("worker:", "NAME: COMMAND"),
        ("Celery_Beat: celery beat", "Call it 'celery-beat'"),
        ("1: celery", "small letters"),
        ("web: gunicorn b:b", "'web' is there twice"),
        ("hook: python a.py", "'hook'"),
        ("worker: celery 'x", "No closing quotation"),
        ("worker: cd x && celery", "'&' needs one"),
        ("worker: A=1 celery", "'A=' needs one"),
        ("worker: hypercorn --bind 0.0.0.0:$PORT", "it needs no port"),
    ],
)
def test_a_line_that_cannot_be_used_is_refused_with_its_number(line: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_procfile(f"web: gunicorn a:a\n\n{line}\n", file="Procfile")
    problem = refused.value
    assert "Procfile: line 3" in problem.what
    assert said in f"{problem.why} {problem.hint}"
