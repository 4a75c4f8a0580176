"""What systemd would drop silently from an environment file is refused loudly."""

from pathlib import Path

import pytest

from agent.core.config.app import AppConfig
from agent.core.environment_file import parse_environment_file
from agent.core.layout import HostLayout
from agent.host.run.environment import unusable_environment
from pusher.wire import Refused
from tests.field.environment_cases import PLAIN, odd


@pytest.mark.parametrize(("text", "values"), PLAIN.items(), ids=[text[:20] for text in PLAIN])
def test_a_file_is_read_as_systemd_reads_it(text: str, values: dict[str, str]) -> None:
    """My app gets the same under systemd and with `init`."""
    assert parse_environment_file(text, file="env") == values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A=1\nexport X=1", "env: line 2 would be left out: `export` belongs to shells. Write X=... without it"),
        (
            "SECRET KEY=x",
            "env: line 1 would be left out: 'SECRET KEY' is no name: letters, digits and _, no digit first. "
            "For example: SECRET_KEY=...",
        ),
        (
            "\n\n1BAD=2",
            "env: line 3 would be left out: '1BAD' is no name: letters, digits and _, no digit first. "
            "For example: _1BAD=...",
        ),
        (
            "A=1\nnonsense\n",
            "env: line 2 would be left out: 'nonsense' is not NAME=value. A comment begins with #",
        ),
        ("nonsense", "env: line 1 would be left out: 'nonsense' is not NAME=value. A comment begins with #"),
        ("\nA='open", "env: line 2 would be left out: a quote is not closed. Close it: A='...'"),
        ('A="open\\"\nB=1\n', "env: line 1 would be left out: a quote is not closed. Close it: A='...'"),
        (
            "\ufeffA=1",
            "env: line 1 would be left out: it begins with a byte order mark, so the first variable has another "
            "name. Save it as UTF-8 without one",
        ),
        (
            "# the key \\\nA=1\n",
            "env: line 2 would be left out: a backslash ends the comment above, so this line belongs to it. Take "
            "the backslash out",
        ),
        ("A=1\0", "env: line 1 would be left out: it contains a NUL. Save it as text"),
    ],
)
def test_a_line_that_would_be_dropped_is_named_with_the_right_form(text: str, said: str) -> None:
    """My app would run without SECRET_KEY, and nobody would say so."""
    with pytest.raises(Refused) as caught:
        parse_environment_file(text, file="env")
    assert str(caught.value) == said


def test_whatever_a_file_contains_there_is_an_answer() -> None:
    """No file, however odd, is a bug of the agent's."""
    answers, refusals = [], []
    for text in odd():
        try:
            answers.append(parse_environment_file(text, file="env"))
        except Refused as problem:
            refusals.append(problem)
    assert all(problem.hint for problem in refusals)
    assert min(len(answers), len(refusals)) > 20


def test_apply_check_and_send_say_the_same(tmp_path: Path) -> None:
    """`app apply`, `check` and `send` are not content with it."""
    config = AppConfig(path="/opt/shop", user="shop", environment_file="/etc/shop.env")
    layout = HostLayout(tmp_path)
    file = layout.beneath("/etc/shop.env")
    assert unusable_environment(config, layout) == (
        f"its environment file {file} does not exist, and systemd starts nothing without it"
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("export SECRET_KEY=x\n")
    assert unusable_environment(config, layout) == (
        f"{file}: line 1 would be left out: `export` belongs to shells. Write SECRET_KEY=... without it"
    )
    file.write_bytes(b"A=\xff\n")
    assert unusable_environment(config, layout) == f"its environment file {file} is not UTF-8"
    file.write_text("SECRET_KEY=x\n")
    assert unusable_environment(config, layout) == ""
