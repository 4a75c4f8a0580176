"""How a release runs: the host's word, then the release's, then the default; and what is kept stays."""

import pytest

from agent.core.config.app import parse_app
from agent.core.process_names import RESERVED
from agent.core.run import Run, RunRules, parse_run, run_text, start_text, with_additions
from pusher.wire import ANY_ANSWER, Refused, RunHealth, RunProcess, RunSection

FILE = "/etc/pusher-agent/apps/shop.toml"


def rules(text: str = "") -> RunRules:
    return RunRules("shop", parse_app(text, file=FILE, app="shop"), FILE)


def test_without_a_word_of_anybody_an_app_is_started_as_in_the_workshop() -> None:
    assert rules().decide(RunSection()).start == ("gunicorn", "-w", "2", "app:app")


def test_the_releases_word_counts_where_the_host_has_none() -> None:
    section = RunSection(
        start="uvicorn a:b --fd 3", health=RunHealth(path="/up", status=(204,)), hook_deadline_s=60
    )
    run = rules("[health]\nbake_s = 3\n").decide(section)
    assert run.start == ("uvicorn", "a:b", "--fd", "3")
    assert (run.health.path, run.health.status, run.health.bake_s) == ("/up", [204], 3)
    assert run.hook_deadline_s == 60


def test_the_hosts_question_counts_whole_and_the_times_one_by_one() -> None:
    section = RunSection(health=RunHealth(path="/up", status=(204,), deadline_s=60, bake_s=2))
    one = rules('[health]\nversion_member = "version"\nbake_s = 1\n')
    health = one.decide(section).health
    assert (health.path, health.status, health.version_member) == ("/", [200], "version")
    assert (health.deadline_s, health.bake_s) == (60, 1)
    assert [line.partition(":")[0] for line in one.overruled(section)] == [
        "health.bake_s",
        "health.path",
        "health.status",
    ]


def test_the_hosts_word_counts_more_and_the_difference_is_said() -> None:
    section = RunSection(start="uvicorn a:b", health=RunHealth(path="/up"))
    one = rules('start = "gunicorn b:b"\nhook_deadline_s = 5\n[health]\npath = "/mine"\n')
    assert one.decide(section).start == ("gunicorn", "b:b")
    assert one.overruled(section) == [
        f'start: {FILE} says "gunicorn b:b", which counts; the release says "uvicorn a:b"',
        f'health.path: {FILE} says "/mine", which counts; the release says "/up"',
    ]
    found = RunSection(health=RunHealth(status=(*ANY_ANSWER, 404)))
    assert one.overruled(found) == []  # nobody said it
    assert one.overruled(RunSection()) == rules().overruled(section) == []


def test_a_host_can_take_the_release_its_word() -> None:
    section = RunSection(start="uvicorn a:b", release="rm -rf /", processes={"w": RunProcess(start="x")})
    one = rules("release_decides = false")
    assert one.decide(section) == one.decide(RunSection())
    assert one.overruled(section) == [f"{FILE} decides how it runs (release_decides = false)"]


def test_a_process_or_timer_that_the_host_does_not_know_is_refused_with_the_lines_for_root() -> None:
    with pytest.raises(Refused) as refused:
        rules().decide(RunSection(processes={"worker": RunProcess(start="celery")}))
    assert refused.value.what == "The release has a process 'worker', which this host does not know"
    assert refused.value.hint == (
        f"Add this to {FILE} (with instances = 0 for a process that shall not run here), "
        "then: sudo pusher-agent app apply shop\n[processes.worker]"
    )
    with pytest.raises(Refused) as refused:
        rules().decide(RunSection(timers={"nightly": "flask x"}))
    assert refused.value.hint.endswith('\n[timers.nightly]\nschedule = "*-*-* 03:00"')


@pytest.mark.parametrize("name", RESERVED)
def test_a_process_with_a_name_that_no_host_can_give_it_is_refused_with_just_that(name: str) -> None:
    with pytest.raises(Refused, match="the agent itself uses that name") as refused:
        rules().decide(RunSection(processes={name: RunProcess(start="daphne x:y")}))
    assert "Give it another name" in refused.value.hint


def test_all_that_the_host_does_not_know_is_named_at_once() -> None:
    """A Procfile with a worker and a beat: one refusal, and one visit to the server."""
    one = RunProcess(start="celery")
    with pytest.raises(Refused) as refused:
        rules("[processes.mail]\n").decide(
            RunSection(processes={"worker": one, "mail": one, "beat": one}, timers={"nightly": "flask x"})
        )
    assert refused.value.what == (
        "The release has a process 'worker', a process 'beat' and a timer 'nightly', which this host does not know"
    )
    assert refused.value.why.startswith(f"{FILE} has no [processes.worker], [processes.beat] and [timers.nightly]")
    assert refused.value.hint.endswith(
        'shop\n[processes.worker]\n[processes.beat]\n[timers.nightly]\nschedule = "*-*-* 03:00"'
    )


def test_a_process_that_shall_not_run_here_is_known_and_left_out() -> None:
    section = RunSection(processes={"worker": RunProcess(start="celery")})
    assert rules("[processes.worker]\ninstances = 0\n").decide(section).processes == {}


def test_a_process_or_timer_that_nobody_starts_is_refused() -> None:
    for table in ("processes.worker", 'timers.worker]\nschedule = "daily"\n#['):
        with pytest.raises(Refused, match="Nobody says how worker is started") as refused:
            rules(f"[{table}]\n").decide(RunSection())
        kind = table.partition(".")[0]
        assert f"If no release has a worker any more, take [{kind}.worker] out of {FILE}" in refused.value.hint


def test_each_of_host_and_release_can_say_how_a_process_is_started() -> None:
    text = '[processes.a]\nhealth = ["ping"]\n[processes.b]\nstart = "mine"\n[timers.t]\nschedule = "daily"\n'
    section = RunSection(processes={"a": RunProcess(start="its", health="pong x")}, timers={"t": "flask t"})
    run = rules(text).decide(section)
    assert run.processes["a"].start == ("its",)
    assert run.processes["a"].health == ("ping",)
    assert run.processes["b"].start == ("mine",)
    assert run.timers == {"t": ("flask", "t")}
    assert rules(text).unsaid().processes.keys() == {"b"}
    assert rules("[processes.a]\n").decide(section.__class__(processes=section.processes)).processes[
        "a"
    ].health == (
        "pong",
        "x",
    )


def test_a_deadline_that_the_units_would_not_wait_for_needs_roots_word() -> None:
    section = RunSection(health=RunHealth(deadline_s=1000))
    with pytest.raises(Refused, match="900 s are the most") as refused:
        rules().decide(section)
    assert "Write deadline_s = 1000 into [health]" in refused.value.hint
    assert rules("[health]\ndeadline_s = 2000\n").decide(section).health.deadline_s == 2000


def test_a_hook_that_its_unit_would_not_wait_for_needs_roots_word() -> None:
    section = RunSection(hook_deadline_s=4000)
    with pytest.raises(Refused, match="3600 s are the most") as refused:
        rules().decide(section)
    assert "Write hook_deadline_s = 4000 at the top of" in refused.value.hint
    assert rules("hook_deadline_s = 5000\n").decide(section).hook_deadline_s == 5000
    assert rules().decide(RunSection(hook_deadline_s=3600)).hook_deadline_s == 3600


def test_what_is_kept_is_read_again_as_it_was() -> None:
    section = RunSection(
        start="a 'b c'", build=("x y",), build_paths=("out",), health=RunHealth(headers={"X": "1"})
    )
    run = rules('[processes.w]\nstart = "v w"\n').decide(section)
    assert parse_run(run_text(run)) == run
    assert start_text(run) == "service\t10\tsocket\ta\tb c\nw\t0\t-\tv\tw\n"
    for wrong in ("", "{}x", '{"start": 1}'):
        with pytest.raises(ValueError, match="it cannot be read"):
            parse_run(wrong)


def test_root_adds_a_process_to_what_runs_already_and_changes_none() -> None:
    before = rules('[processes.a]\nstart = "old"\n').decide(RunSection())
    host = rules('[processes.a]\nstart = "new"\n[processes.b]\nstart = "b"\n').unsaid()
    after = with_additions(before, host)
    assert {name: one.start for name, one in after.processes.items()} == {"a": ("old",), "b": ("b",)}


def test_a_host_that_cannot_decide_leaves_the_default() -> None:
    assert Run().start[0] == "gunicorn"


def test_without_units_the_next_send_reads_the_file() -> None:
    config = parse_app("", file=FILE, app="shop")
    with pytest.raises(Refused) as refused:
        RunRules("shop", config, FILE, units=False).decide(RunSection(processes={"w": RunProcess(start="x")}))
    assert refused.value.why == f"{FILE} has no [processes.w]"
    assert "then: send again\n[processes.w]" in refused.value.hint


def test_how_the_release_listens_belongs_to_its_own_start() -> None:
    section = RunSection(start="waitress-serve x", listen_via="port")
    assert rules().decide(section).listen_via == "port"
    assert rules('start = "gunicorn a:b"').decide(section).listen_via == "socket"
    assert rules('start = "x"\nlisten_via = "port"').decide(RunSection()).listen_via == "port"
