"""Why an app does not serve, in words."""

import pytest

from agent.host.systemd.outage import answer, outage, question
from agent.host.systemd.systemctl import State, parse_state

RUNS = "LoadState=loaded\nActiveState=active\nSubState=running\nMainPID=7"
LISTENS = "LoadState=loaded\nActiveState=active\nSubState=listening"
DEAD = "LoadState=loaded\nActiveState=inactive\nSubState=dead\nResult=success"
LOOPS = (
    "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\n"
    "Result=exit-code\nExecMainCode=1\nExecMainStatus=3"
)
FAILED = "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult="


def said(service: str, socket: str) -> tuple[str, bool]:
    found = outage("web", service=parse_state(service), socket=parse_state(socket))
    return (found.why, found.failing) if found else ("", False)


@pytest.mark.parametrize(
    ("service", "socket"),
    [
        (RUNS, LISTENS),
        (RUNS, DEAD),
        (RUNS.replace("loaded", "masked"), LISTENS),
        (DEAD.replace("inactive", "activating"), LISTENS),
        (DEAD.replace("inactive", "deactivating"), LISTENS),
    ],
)
def test_what_runs_or_is_on_its_way_is_no_outage(service: str, socket: str) -> None:
    assert said(service, socket) == ("", False)


@pytest.mark.parametrize(
    ("service", "socket", "why"),
    [
        (DEAD, DEAD, "it was stopped: systemctl start web.socket web.service"),
        (DEAD, LISTENS, "it was stopped, and the next request starts it again: systemctl start web.service"),
        (
            f"{DEAD}\nUnitFileState=disabled",
            f"{DEAD}\nUnitFileState=disabled",
            "it was stopped and disabled, so it stays down after a reboot, too: "
            "systemctl enable --now web.socket web.service",
        ),
        (
            DEAD.replace("loaded", "masked"),
            DEAD,
            "web.service cannot start, masked by root: "
            "systemctl unmask web.service, then systemctl start web.socket web.service",
        ),
    ],
)
def test_what_somebody_stopped_is_said_with_the_command_that_starts_it(
    service: str, socket: str, why: str
) -> None:
    assert said(service, socket) == (why, False)


def test_an_app_that_does_not_stay_up_fails_and_files_that_change_its_unit_are_named() -> None:
    mine = "DropInPaths=/etc/systemd/system/web.service.d/a.conf /usr/lib/systemd/system/service.d/10-os.conf"
    why, failing = said(f"{LOOPS}\n{mine}", LISTENS)
    assert failing
    assert why == (
        "web.service does not stay up: exit code 3 "
        "(the unit is changed by /etc/systemd/system/web.service.d/a.conf). "
        "journalctl -u web.service -n 50 says more; systemd tries again and again"
    )
    why, failing = said(f"{FAILED}start-limit-hit", LISTENS)
    assert failing
    assert why.startswith("web.service does not stay up: it was started too often (start limit). ")
    assert why.endswith("; then systemctl restart web.socket web.service")


def test_a_socket_that_does_not_open_is_the_reason() -> None:
    assert said(LOOPS, f"{FAILED}resources") == said(DEAD, f"{FAILED}resources")
    assert said(RUNS, f"{FAILED}resources") == ("", False)
    why, failing = said(DEAD, f"{FAILED}resources")
    assert failing
    assert why.startswith("web.socket does not open: systemd could not set it up. journalctl -u web.socket -n 20")


def test_files_of_the_system_are_no_change_of_the_unit() -> None:
    state: State = parse_state("DropInPaths=/usr/lib/systemd/system/service.d/10-os.conf")
    assert state.drop_ins == ()


def test_systemd_is_asked_for_both_units_and_its_answer_read_in_that_order() -> None:
    assert question("web")[-3:] == ("--", "web.service", "web.socket")
    found, drop_ins = answer("web", f"{RUNS}\nDropInPaths=/etc/a.conf\n\n{LISTENS}\n")
    assert (found, drop_ins) == (None, ("/etc/a.conf",))
