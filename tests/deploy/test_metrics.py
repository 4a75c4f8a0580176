"""What the metrics say of a whole agent and its app, scraped while all kinds of things happen to both."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from agent.core.plan import Kind, Step
from agent.core.releases import Standing
from agent.doors.http.families import METRICS
from pusher.wire import Code, Failed
from tests.deploy.simulated_agent import until
from tests.deploy.visitor import visiting
from tests.host import APP, Host, hook, make_key, running, wsgi
from tests.scraping import Scrape, parse, scrape

HANGS = """
import time
def app(environ, start_response):
    if open("../../hangs").read().strip() == "yes":
        time.sleep(60)
    start_response("200 OK", [])
    return [b"{}"]
"""


async def until_scraped(host: Host, wanted: Callable[[Scrape], bool]) -> Scrape:
    """The first scrape that is as wanted."""
    async with asyncio.timeout(30):
        while not wanted(found := await scrape(host)):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.05)
    return found


async def test_a_scrape_has_each_metric_with_the_labels_that_are_documented(host: Host) -> None:
    await host.deploy(wsgi("v1"), "v1")
    found = await until_scraped(host, lambda one: one.value("pusher_release_drift") is not None)
    for named in METRICS:
        suffix = "_bucket" if named.kind == "histogram" else ""
        samples = found.samples.get(named.name + suffix, [])
        wanted = {*named.labels, *(["le"] if suffix else [])}
        assert {frozenset(labels) for labels, _ in samples} <= {frozenset(wanted)}, named
        assert samples or named.labels[1:] in (("process",), ("timer",)), named
    assert {line.split()[2] for line in found.text.splitlines() if line.startswith("# TYPE")} == {
        named.name for named in METRICS
    }


async def test_a_deployment_and_a_rollback_are_counted_with_their_steps(host: Host) -> None:
    await host.deploy(wsgi("v1"), "v1")
    await host.deploy(wsgi("v2"), "v2")
    assert (await host.rollback())[0] == 200
    status, _ = await host.send(wsgi("v3") | {"app.py": "import nothing_of_that_name\n"}, "v3")
    assert status == 422
    found = await scrape(host)
    ended = {
        (labels["kind"], labels["outcome"]): value
        for labels, value in found.matching("pusher_deployments_total") if value
    }  # fmt: skip
    assert ended == {("deploy", "done"): 2, ("deploy", "failed"): 1, ("rollback", "done"): 1}
    steps = {
        (labels["step"], labels["outcome"]): value
        for labels, value in found.matching("pusher_step_duration_seconds_count")
        if value
    }
    assert steps["unpack", "done"] == 3
    assert steps["switch", "done"] == 3
    assert steps["preflight", "failed"] == 1
    assert {step for step, _ in steps} <= {*Step}
    assert found.value("pusher_deployment_duration_seconds_count", kind="deploy", outcome="done") == 2
    last = {labels["kind"] + " " + labels["outcome"]: at for labels, at in found.matching(
        "pusher_last_deployment_timestamp_seconds")}  # fmt: skip
    assert last["deploy done"] < last["rollback done"] < last["deploy failed"]
    assert [labels["version"] for labels, _ in found.matching("pusher_release_info")] == ["v1"]
    assert found.value("pusher_releases", standing=Standing.GOOD) == 1
    assert found.value("pusher_releases", standing=Standing.WITHDRAWN) == 1


async def test_what_was_counted_survives_a_restart_of_the_agent(host_off: Host) -> None:
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
        before = await scrape(host)
    async with running(host_off) as host:
        after = await scrape(host)
    for name in ("pusher_deployments_total", "pusher_step_duration_seconds_bucket",
                 "pusher_step_duration_seconds_sum", "pusher_last_deployment_timestamp_seconds"):  # fmt: skip
        assert after.samples[name] == before.samples[name], name
        assert before.samples[name]


async def test_a_scrape_while_a_deployment_runs_says_so_and_the_app_is_well_meanwhile(host: Host) -> None:
    await host.deploy(wsgi("v1"), "v1")
    gate = host.root / "gate"
    os.mkfifo(gate)
    files = wsgi("v2", hooks__before_symlink=hook(f"cat {gate}"))
    files["hooks/before-symlink"] = files.pop("hooks/before_symlink")
    sending = asyncio.create_task(host.send(files, "v2"))
    found = await until_scraped(host, lambda one: one.value("pusher_deployment_running") == 1)
    assert found.value("pusher_app_healthy") == 1
    assert [labels["version"] for labels, _ in found.matching("pusher_release_info")] == ["v1"]
    scrapes = [asyncio.create_task(scrape(host)) for _ in range(20)]
    await asyncio.to_thread(gate.write_text, "go\n")
    assert (await sending)[0] == 200
    for one in await asyncio.gather(*scrapes):
        assert one.value("pusher_app_healthy") in (1, None)
    found = await scrape(host)
    assert (found.value("pusher_deployment_running"), found.value("pusher_app_healthy")) == (0, 1)


async def test_an_app_is_never_called_ill_because_it_is_being_replaced(host: Host) -> None:
    await host.deploy(wsgi("v1"), "v1")
    sending = asyncio.create_task(host.send(wsgi("v2"), "v2"))
    seen = []
    while not sending.done():
        seen.append((await scrape(host)).value("pusher_app_healthy"))
    assert (await sending)[0] == 200
    assert {*seen} <= {1, None}, seen


async def test_an_app_that_answers_nothing_any_more_is_ill_and_the_scrape_ends_all_the_same(
    host_off: Host,
) -> None:
    host_off.add_app(APP, health__version_member="")
    async with running(host_off) as host:
        switch = host.app.path / "hangs"
        switch.parent.mkdir(parents=True, exist_ok=True)
        switch.write_text("no")
        await host.deploy(wsgi("v1") | {"app.py": HANGS}, "v1")
        assert (await scrape(host)).value("pusher_app_healthy") == 1
        switch.write_text("yes")
        found = await until_scraped(host, lambda one: one.value("pusher_app_healthy") == 0)
        assert found.value("pusher_app_running") == 1


async def test_an_app_that_ended_by_itself_is_counted(host: Host) -> None:
    await host.deploy(wsgi("v1"), "v1")
    pid = (await host.answer())["pid"]
    os.kill(pid, signal.SIGKILL)
    found = await until_scraped(host, lambda one: one.value("pusher_app_restarts_total") == 1)
    assert found.value("pusher_app_usable") == 1


async def test_a_change_in_the_live_release_is_drift(host: Host) -> None:
    done = await host.deploy(wsgi("v1"), "v1")
    (host.app.releases / done["release"] / "app.py").write_text("changed = True\n")
    found = await until_scraped(host, lambda one: one.value("pusher_release_drift") is not None)
    assert found.value("pusher_release_drift") == 1


async def test_refusals_are_counted_by_door_and_reason(host: Host, tmp_path: Path) -> None:
    before = await scrape(host)
    assert before.value("pusher_refusals_total", door="http", code=Code.SIGNER_UNKNOWN) == 0
    make_key(tmp_path / "other")
    bundle = await asyncio.to_thread(host.bundle, wsgi("v1"), "v1", key=tmp_path / "other")
    for _ in range(40):  # more than the log takes
        assert (await host.post(bundle))[0] == 403
    found = await scrape(host)
    assert found.value("pusher_refusals_total", door="http", code=Code.SIGNER_UNKNOWN) == 40


async def test_drops_that_wait_are_counted_by_what_they_wait_for(host: Host) -> None:
    bundle = await asyncio.to_thread(host.bundle, wsgi("v1"), "v1")
    (host.layout.drop(APP) / "half.tar.zst").write_bytes(bundle[: len(bundle) // 2])
    found = await until_scraped(host, lambda one: one.value("pusher_drops_waiting", awaited="arrival") == 1)
    assert found.value("pusher_drops_waiting", awaited="turn") == 0


async def test_workers_and_timers_have_figures_of_their_own(host_off: Host) -> None:
    host_off.add_app(APP, processes__worker="", timers__nightly="")
    file = host_off.layout.app_toml(APP)
    text = file.read_text().replace('[processes]\nworker = ""\n', "").replace('[timers]\nnightly = ""\n', "")
    file.write_text(
        f"{text}[processes.worker]\nstart = \"python -c 'import time; time.sleep(600)'\"\n"
        '[timers.nightly]\nstart = "python -c pass"\nschedule = "*-*-* 03:00"\n'
    )
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
        found = await scrape(host)
        assert found.value("pusher_process_running", process="worker") == 1
        assert found.value("pusher_timer_failed", timer="nightly") == 0
        assert found.value("pusher_timer_last_run_timestamp_seconds", timer="nightly") is None


async def test_an_app_that_cannot_be_used_is_named_and_the_others_are_measured(host_off: Host) -> None:
    host_off.layout.app_toml("broken").write_text("paht = 1\n")
    async with running(host_off) as host:
        found = await scrape(host)
    assert found.value("pusher_app_usable", app="broken") == 0
    assert found.value("pusher_app_usable", app=APP) == 1
    assert {labels["app"] for labels, _ in found.samples["pusher_app_running"]} == {APP}


async def test_an_app_whose_journal_cannot_be_read_is_missing_and_nothing_else() -> None:
    async with visiting("blog", "shop") as at:
        at.shop.refusal = Failed(Code.DISK_ERROR, "The journal could not be used")
        answer = await at.curl("/metrics")
        found = parse(answer.body.decode())
    assert answer.status == 200
    assert {labels["app"] for labels, _ in found.samples["pusher_app_running"]} == {"blog"}


async def test_ten_thousand_deployments_are_counted_one_by_one(host_off: Host) -> None:
    async with running(host_off) as host:
        await host.deploy(wsgi("v1"), "v1")
    with closing(sqlite3.connect(host_off.layout.journal)) as db, db:
        db.executemany(
            "insert into deployments (id, app, kind, release, version, made_by, phase, started, finished, problem)"
            " values (?, ?, ?, 'R', 'v0', 'alice', ?, ?, ?, ?)",
            [
                (f"{APP}-2020{number:010}Z", APP, ("deploy", "rollback")[number % 2],
                 ("done", "failed", "stuck")[number % 3], 1_000_000, 1_000_000 + number, "x" * 500)
                for number in range(10_000)
            ],
        )  # fmt: skip
    async with running(host_off) as host:
        found = await scrape(host)
    counts = {
        (kind, outcome): found.value("pusher_deployments_total", kind=kind, outcome=outcome)
        for kind in Kind for outcome in ("done", "failed", "stuck")
    }  # fmt: skip
    assert sum(value or 0 for value in counts.values()) == 10_001
    assert counts["rollback", "stuck"] == 1_666
    buckets = [value for _, value in found.matching("pusher_deployment_duration_seconds_bucket", kind="rollback",
                                                    outcome="stuck")]  # fmt: skip
    assert buckets[:3] == [16, 41, 83]
    assert buckets[-1] == 1_666


async def test_many_callers_at_once_get_one_scrape() -> None:
    async with visiting("shop") as at:
        at.shop.goes_on.clear()
        asking = [asyncio.create_task(at.curl("/metrics")) for _ in range(10)]
        await until(lambda: at.door.connections == 10)
        at.shop.goes_on.set()
        answers = await asyncio.gather(*asking)
        assert {answer.status for answer in answers} == {200}
        assert {answer.body for answer in answers[:3]}
        assert len(at.calls) < 5  # the last ones may have come after the first scrape
