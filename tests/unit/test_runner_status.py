"""What the runner says of itself is read as it is meant."""

import pytest

from agent.host.run.runner_status import RunnerStatus, parse_status

SERVES = "20261123020055Z serves as process 4321 (since 12.345678 s after boot)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SERVES, RunnerStatus("20261123020055Z", 4321, 12_345_678)),
        (f"v2 starts as process 5; {SERVES}", RunnerStatus("20261123020055Z", 4321, 12_345_678)),
        (f"v0 finishes its requests as process 5; {SERVES}", RunnerStatus("20261123020055Z", 4321, 12_345_678)),
        (
            f"v2 was not started: exit code 3; {SERVES}",
            RunnerStatus("20261123020055Z", 4321, 12_345_678, problem="exit code 3"),
        ),
        ("", None),
        ("Gunicorn arbiter booted", None),
    ],
)
def test_a_status_of_the_runner_is_read_and_nothing_else(text: str, expected: RunnerStatus | None) -> None:
    assert parse_status(text) == expected
