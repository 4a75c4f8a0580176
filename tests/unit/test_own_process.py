"""The agent's own process: what is in its memory while nothing goes on."""

import subprocess
import sys

import pytest

from agent.host.own_process import give_back, measure

SELDOM = {
    "agent.doors.channel": "an app that fetches its releases",
    "agent.host.channel": "an app that fetches its releases",
    "agent.host.embedded.service": "a host without systemd",
    "agent.host.notices.mail": "[notify] in agent.toml",
    "agent.host.notices.web": "[notify] in agent.toml",
    "agent.host.systemd": "a host with systemd",
    "nats": "an app that fetches its releases",
    "obstore": "an app that fetches its releases",
    "prometheus_client": "somebody who reads the metrics",
}
"""What is imported when it is needed, and by whom."""


def test_what_only_some_hosts_need_is_not_in_the_memory_of_all():
    program = f"import sys, agent.assembly\nprint([one for one in {list(SELDOM)} if one in sys.modules])"
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_free_memory_goes_back_to_the_system():
    # Small enough that the C library keeps them in its heap, with something behind them that stays.
    held = [bytearray(50_000) for _ in range(400)]
    last = bytearray(50_000)
    before = measure().resident
    held.clear()
    give_back()
    assert before - measure().resident > 10_000_000
    assert last


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has heaps for threads")
def test_threads_share_one_place_for_their_memory():
    without = """
import threading
gate, held = threading.Barrier(9), []
def hold():
    held.append([bytearray(1000) for _ in range(100)])
    gate.wait()
    gate.wait()
threads = [threading.Thread(target=hold) for _ in range(8)]
for one in threads: one.start()
gate.wait()
# A heap of its own is a mapping of 64 MB, of which little is used.
print(sum(int(line.split()[1]) > 60_000 for line in open("/proc/self/smaps") if line.startswith("Size:")))
gate.wait()
"""
    shared = f"from agent.host.own_process import share_memory\nshare_memory()\n{without}"

    def heaps(text: str) -> int:
        done = subprocess.run((sys.executable, "-c", text), capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert heaps(without) > heaps(shared) == 0
