"""Exploration, not kept."""
import json, os, shlex, time, threading, subprocess
from pathlib import Path
import pytest
from tests.system import versions
from tests.system.server import APP, Server
from tests.system.test_processes import TOML, TABLES, WORKS, NIGHTLY, apply, runs, write

QUIET = TABLES.replace("*:*:0/2", "*-*-* 03:00")
def show(server, *a): print("$", *a); print(server.machine.says(*a))

@pytest.fixture
def fresh(server: Server, tmp_path: Path):
    apply(server, QUIET)
    server.deploy("w1", source=write(tmp_path/"w1src", "w1"))
    yield server
    print(server.log())

SLOWIMPORT = "import os, time\nif not os.environ.get('PUSHER_PREFLIGHT'): time.sleep(3)\n"

def slow(tmp_path, name, worker=WORKS):
    return versions.write(tmp_path, name, before=SLOWIMPORT, **{"worker.py": worker, "nightly.py": NIGHTLY})

def sending(s, name, src):
    path = s.pack(name, source=src)
    return subprocess.Popen(s.machine._inside(("curl", "-sS", "--max-time", "90", "--data-binary", f"@{path}", f"agent:9000/apps/{APP}/deployments"), ""), stdout=subprocess.PIPE)

def end(p):
    out = p.communicate()[0].decode(); print("ANSWER", out[-900:]); return out

@pytest.mark.parametrize("act", ["reload", "restart", "stop", "stopboth", "killrunner", "applyfewer", "applyadd", "applyrename", "killagent", "remove"])
def test_during_restart(fresh, tmp_path, act):
    s = fresh
    p = sending(s, "slow", slow(tmp_path, "slow"))
    s.machine.until(lambda: "restart" in s.status_text(), seconds=30, what="restart step")
    time.sleep(.5)
    t = time.monotonic()
    if act == "reload": print(s.machine.run("systemctl", "reload", APP, check=False))
    if act == "restart": print(s.machine.run("systemctl", "restart", APP, check=False))
    if act == "stop": print(s.machine.run("systemctl", "stop", APP, check=False))
    if act == "stopboth": print(s.machine.run("systemctl", "stop", f"{APP}.socket", f"{APP}.service", check=False))
    if act == "killrunner": s.machine.run("kill", "-9", str(s.runner()))
    if act == "applyfewer": print(apply(s, QUIET.replace("instances = 2", "instances = 1")))
    if act == "applyadd": print(apply(s, QUIET.replace("instances = 2", "instances = 3")))
    if act == "applyrename": print(apply(s, QUIET.replace("worker]", "busy]")))
    if act == "killagent": s.machine.run("systemctl", "kill", "-s", "KILL", "pusher-agent")
    if act == "remove": print(s.machine.run("pusher-agent", "app", "remove", APP, check=False))
    print("TOOK", time.monotonic() - t)
    end(p)
    if act == "remove":
        show(s, "systemctl", "list-units", "--all", f"{APP}*"); show(s, "ps", "-u", APP, "f")
        print(s.machine.run("pusher-agent", "app", "add", APP, "--health", "/version", "--version-member", "version", check=False))
    time.sleep(6)
    st = None
    for _ in range(20):
        try: st = s.curl("/status"); break
        except AssertionError: time.sleep(1)
    print("STATUS", {k: st[k] for k in ("live", "running", "processes", "trouble", "last", "warnings", "deploying")})
    try: print("VERSION", s.version())
    except Exception as e: print("VERSION none", e)
    show(s, "systemctl", "is-active", f"{APP}.socket", f"{APP}.service", f"{APP}-worker.service", f"{APP}-worker-2.service", f"{APP}-worker-3.service", f"{APP}-busy.service")
    if act == "stop": s.machine.run("systemctl", "start", APP)

@pytest.mark.parametrize("act", ["killagent", "applyfewer", "stopworker", "disable", "removeproc"])
def test_during_processes(fresh, tmp_path, act):
    s = fresh
    stubborn = WORKS.replace("sys.exit(0)", "(time.sleep(2), sys.exit(0))")
    s.deploy("st", source=write(tmp_path/"a", "st", worker=stubborn))
    p = sending(s, "w9", write(tmp_path/"b", "w9"))
    s.machine.until(lambda: "processes" in s.status_text(), seconds=30, what="processes step")
    time.sleep(.3)
    if act == "killagent": s.machine.run("systemctl", "kill", "-s", "KILL", "pusher-agent")
    if act == "applyfewer": print(apply(s, QUIET.replace("instances = 2", "instances = 1")))
    if act == "stopworker": print(s.machine.run("systemctl", "stop", f"{APP}-worker", check=False))
    if act == "disable": print(s.machine.run("systemctl", "disable", "--now", f"{APP}-worker", check=False))
    if act == "removeproc": print(apply(s, ""))
    end(p)
    time.sleep(6)
    for _ in range(20):
        try: st = s.curl("/status"); break
        except AssertionError: time.sleep(1)
    print("STATUS", {k: st[k] for k in ("live", "running", "processes", "trouble", "last", "warnings", "deploying")})
    print("VERSION", s.version())
    if act == "disable": print(s.machine.run("systemctl", "enable", "--now", f"{APP}-worker", check=False))
    show(s, "pusher-agent", "check")

def test_changed_start(fresh, tmp_path):
    s = fresh
    print(apply(s, QUIET.replace("python worker.py", "python worker.py again")))
    s.machine.run("systemctl", "restart", f"{APP}-worker")
    show(s, "ps", "-u", APP, "-o", "pid,args")

def test_nightly_across_switch(fresh, tmp_path):
    s = fresh
    src = versions.write(tmp_path/"n", "n1", **{"worker.py": WORKS, "nightly.py": "import os,time\nprint('begin', os.environ['PUSHER_VERSION'], os.getcwd(), flush=True)\ntime.sleep(6)\nprint('end', os.path.exists('app.py'), os.environ['PUSHER_VERSION'], flush=True)\n"})
    s.deploy("n1", source=src)
    s.machine.run("systemctl", "start", "--no-block", f"{APP}-nightly")
    s.deploy("n2", source=write(tmp_path/"n2", "n2"))
    time.sleep(6)
    show(s, "journalctl", "-u", f"{APP}-nightly", "-n", "10", "--no-pager"); print(s.curl("/status")["timers"])
