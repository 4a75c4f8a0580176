"""What happened on a server can be proved, also by the journal of the system, which the agent cannot change."""

import json
import re

from tests.system.server import APP, Server

JOURNAL = "/var/lib/pusher-agent/journal.sqlite"
BEFORE_HISTORIES = (
    "drop table history; drop table marks; drop table step_times; drop index deployments_of_outcome;"
    " drop table notices; drop table notice_ways; pragma user_version = 1"
)
"""Makes a journal one of the first schema."""
CHANGE = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.executescript(sys.argv[2])"


def check(server: Server) -> str:
    """What `pusher-agent check` says about histories, as root."""
    done = server.machine.run("pusher-agent", "check", check=False)
    return "\n".join(line for line in done.stdout.splitlines() if "histor" in line or "journal" in line)


def sql(server: Server, change: str) -> None:
    """What somebody with the agent's user could do."""
    server.machine.run("python3", "-c", CHANGE, JOURNAL, change, user="pusher-agent")


def test_the_heads_are_in_the_journal_of_the_system_and_check_compares_them(live: Server) -> None:
    live.deploy("v2")
    head = live.curl("/status")["history"]
    entries = live.machine.says(
        "journalctl", "-u", "pusher-agent", "-o", "json", "EVENT=deployment_finished", "--no-pager"
    ).splitlines()
    last = json.loads(entries[-1])
    assert (last["APP"], int(last["RECORDS"]), last["HISTORY"]) == (APP, head["records"], head["head"])
    assert re.search(rf"ok +{APP}: its history has \d+ records, and contains the \d+ heads", check(live))
    before = live.machine.says("ls", "-la", "--time-style=full-iso", "/var/lib/pusher-agent")
    check(live)
    assert live.machine.says("ls", "-la", "--time-style=full-iso", "/var/lib/pusher-agent") == before


def test_a_refusal_is_in_the_journal_of_the_system_with_caller_and_reason(live: Server) -> None:
    for _ in range(50):
        live.curl("/status", user="daemon")
    entries = live.machine.says(
        "journalctl", "-u", "pusher-agent", "-o", "json", "EVENT=refused", "--no-pager"
    ).splitlines()
    found = [json.loads(entry) for entry in entries]
    ours = [one for one in found if one["CALLER"].startswith("daemon ")]
    assert 1 <= len(ours) <= 12
    assert (ours[0]["CODE"], ours[0]["DOOR"], ours[0]["PATH"]) == ("not_allowed", "http", "/status")
    assert "may not deploy" in ours[0]["REASON"]


def test_a_changed_row_a_rewritten_chain_and_a_new_journal_are_found_by_check(live: Server) -> None:
    live.machine.run("cp", "-a", JOURNAL, "/root/kept.sqlite")
    try:
        live.machine.run("systemctl", "stop", "pusher-agent.socket", "pusher-agent")
        live.machine.run("cp", "-a", JOURNAL, "/root/kept.sqlite")
        sql(live, "update deployments set made_by = 'mallory' where app = 'flask-demo'")
        assert f"{APP}: its history was changed" in check(live)
        live.machine.run("cp", "-a", "/root/kept.sqlite", JOURNAL)
        sql(live, BEFORE_HISTORIES)
        live.machine.run("systemctl", "start", "pusher-agent.socket", "pusher-agent")
        assert f"{APP}: its history was shortened or replaced" in check(live)
        live.machine.run("sh", "-c", "echo 'history_since = \"2099-01-01T00:00:00Z\"' >> /etc/pusher-agent/since")
        live.machine.run("sh", "-c", "cp -a /etc/pusher-agent/agent.toml /root/agent.toml")
        live.machine.run("sh", "-c", "cat /etc/pusher-agent/since /root/agent.toml > /etc/pusher-agent/agent.toml")
        assert f"{APP}: its history has 1 records" in check(live)
        live.machine.run(
            "sh", "-c", "cat /root/agent.toml > /etc/pusher-agent/agent.toml; rm /etc/pusher-agent/since"
        )
        live.machine.run("systemctl", "stop", "pusher-agent.socket", "pusher-agent")
        live.machine.run("rm", JOURNAL)
        assert "it is gone, with the histories of" in check(live)
    finally:
        live.machine.run("systemctl", "stop", "pusher-agent.socket", "pusher-agent")
        live.machine.run("sh", "-c", f"rm -f {JOURNAL}*; cp -a /root/kept.sqlite {JOURNAL}")
        live.machine.run("systemctl", "start", "pusher-agent.socket", "pusher-agent")
    assert "its history has" in check(live)


def test_the_bill_of_materials_comes_over_the_door(live: Server) -> None:
    release = live.curl("/status")["live"]["release"]
    found = live.curl(f"/apps/{APP}/sbom?release={release}")
    assert {"flask", "gunicorn"} <= {one["name"].lower() for one in found["components"]}
