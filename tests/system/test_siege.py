"""Local users who attack the agent keep neither operators nor the watchdog from being answered."""

import pytest

from tests.system.server import Server
from tests.system.siege import ATTACKS, besieged, until_asked


@pytest.mark.timeout(300)
@pytest.mark.parametrize("names", [*((name,) for name in ATTACKS), tuple(ATTACKS)], ids=" and ".join)
def test_an_operator_is_answered_and_deploys_while_users_attack(live: Server, names: tuple[str, ...]) -> None:
    agent = live.says("show", "--value", "--property=MainPID", "pusher-agent.service")
    with besieged(live, *names) as healthz:
        live.deploy("v2")
        until_asked(healthz, 50)
    print(f"{names}: p99 {healthz.percentile(0.99) * 1000:.0f} ms of {len(healthz.seconds)}")
    assert not healthz.failures
    assert live.says("show", "--value", "--property=MainPID", "pusher-agent.service") == agent
