"""The app's log on a server: what its units wrote, and nothing of anybody else's, for those who may."""

import json

from tests.system.server import APP, Server


def lines(server: Server, query: str = "", *, user: str = "") -> list[dict[str, object]]:
    """What the door says, line by line."""
    said = server.machine.says("curl", "-sS", "--max-time", "20", f"agent:9000/logs?{query}", user=user)
    return [json.loads(line) for line in said.splitlines() if line]


def test_the_log_has_what_the_apps_units_wrote_and_nothing_else_of_the_journal(live: Server) -> None:
    run = live.machine.run
    # Others, who are just noisy or would like to be taken for the app.
    run("systemd-run", "--quiet", "--wait", "--unit=noise", "echo", "not of the app")
    run("logger", "--tag", APP, "not of the app either")
    run("logger", "--journald", stdin=f"MESSAGE=nor this\nUNIT={APP}.service\n", user="mallory")
    run("systemctl", "restart", f"{APP}.service")
    found = lines(live, "lines=10000", user="alice")
    messages = [str(one["message"]) for one in found]
    units = {str(one["unit"]) for one in found}
    assert {"service", "socket", "preflight", "hook"} >= units >= {"service", "preflight"}
    assert any("Booting worker" in message for message in messages), messages
    assert any(message.startswith("Started") for message in messages), messages  # systemd's own words about it
    assert not [message for message in messages if "not of the app" in message or "nor this" in message]
    assert all(one["pid"] for one in found)
    assert len(lines(live, "lines=3")) == 3
    assert {one["unit"] for one in lines(live, "lines=50&unit=preflight")} == {"preflight"}


def test_strangers_and_the_app_itself_may_not_read_it(live: Server) -> None:
    for user in ("nobody", APP, "mallory"):
        (problem,) = lines(live, user=user)
        assert problem["code"] == "not_allowed"


def test_who_follows_hears_of_it_at_once_and_leaves_nothing_behind(live: Server) -> None:
    script = (
        "curl -sSN 'agent:9000/logs?follow=1&lines=0&unit=service' >/tmp/heard & "
        "until pgrep --exact journalctl >/dev/null; do sleep 0.05; done; "
        f"systemctl restart {APP}.service; "
        "until grep --quiet 'Booting worker' /tmp/heard; do sleep 0.05; done; kill $!; "
        "while pgrep --exact journalctl >/dev/null; do sleep 0.05; done"
    )
    live.machine.run("timeout", "30", "sh", "-c", script)
