"""The units and the polkit rule that root writes for an app: exact, escaped, hardened."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.core.config.app import AppConfig, Health, parse_app
from agent.core.layout import HostLayout
from agent.core.polkit import VERBS, render_rule
from agent.core.units import MARK, Units, every_unit, exec_word, render_drop_in
from agent.host.systemd.unit_files import abandoned, disagreement, known_units, rendered
from pusher.wire import Refused

HOST = HostLayout(Path("/"))
APP = "flask-demo"
PACKAGING = Path(__file__).parent.parent.parent / "packaging/systemd"


def units(**settings: Any) -> dict[str, str]:
    return rendered(APP, AppConfig(**({"path": f"/opt/{APP}", "user": APP} | settings)), host=HOST)


def values(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text, re.M)


BESIDE: dict[str, Any] = {
    "processes": {
        "worker": {"start": "celery -A app worker", "drain_s": 2.5, "instances": 2},
        "beat": {"start": "celery -A app beat"},
    },
    "timers": {"nightly": {"start": "flask send '50%'", "schedule": "*-*-* 03:00"}},
}


def test_every_unit_has_its_fixed_name_and_names_the_command_that_rendered_it() -> None:
    found = units()
    assert tuple(found) == Units.of(APP).all
    assert all(text.startswith(f"# {MARK} {APP}`") for text in found.values())
    assert not any(re.search("@[a-z_]+@", text) for text in found.values())


def test_the_service_gets_its_socket_and_waits_for_a_first_release() -> None:
    found = units(drain_s=2.5)
    service, socket = found[f"{APP}.service"], found[f"{APP}.socket"]
    assert (values(service, "Type"), values(service, "NotifyAccess")) == (["notify"], ["main"])
    assert values(service, "Sockets") == [f"{APP}.socket"]
    assert values(service, "StartLimitIntervalSec") == ["0"]
    assert values(service, "TimeoutStopSec") == ["4500ms"]  # the runner kills after 2.5 s what does not end
    assert values(socket, "TriggerLimitIntervalSec") == ["0"]
    assert values(socket, "ListenStream") == ["0.0.0.0:8000"]
    assert (
        values(service, "ConditionPathExists") == values(socket, "ConditionPathExists") == [f"/opt/{APP}/current"]
    )


def test_a_candidate_is_started_as_the_release_will_be() -> None:
    found = units(environment_file="/etc/flask-demo.env")
    service, candidate = found[f"{APP}.service"], found[f"{APP}-preflight.service"]
    runner = '/usr/bin/python3 "-I" "-S" "/usr/lib/pusher-agent/runner.pyc"'
    become = f'{runner} "--become=/opt/{APP}/.agent/candidate" "--process=service"'
    assert values(candidate, "ExecStart") == [f'{become} "--loopback=127.0.0.1"']
    for listen, loopback in (("[::]:8000", "::1"), ("unix:/run/demo/app.sock", "no")):
        other = units(listen=listen)[f"{APP}-preflight.service"]
        assert values(other, "ExecStart") == [f'{become} "--loopback={loopback}"']
    for name in ("User", "EnvironmentFile", "SystemCallFilter"):
        assert values(service, name) == values(candidate, name)
    assert values(candidate, "Environment") == [f"{values(service, 'Environment')[0]} PUSHER_PREFLIGHT=1"]


def test_the_service_runs_under_the_runner_which_is_told_what_the_configuration_says() -> None:
    def told(**settings: Any) -> str:
        return values(units(**settings)[f"{APP}.service"], "ExecStart")[0]

    runner = '/usr/bin/python3 "-I" "-S" "/usr/lib/pusher-agent/runner.pyc"'
    options = f'"--path=/opt/{APP}" "--drain=2.5" "--overlap=yes"'
    assert told(drain_s=2.5) == f"{runner} {options}"
    assert '"--overlap=no"' in told(preflight=False)
    assert '"--overlap=yes"' in told(preflight=False, overlap=True)
    assert '"--overlap=no"' in told(overlap=False)
    service = units(drain_s=2.5, health=Health(deadline_s=1000))[f"{APP}.service"]
    assert values(service, "ExecReload") == [
        "/usr/bin/python3 -I -S /usr/lib/pusher-agent/runner.pyc --reload=${MAINPID}"
    ]
    assert values(service, "TimeoutStartSec") == ["1032500ms"]


def test_each_worker_is_a_unit_of_its_own_that_runs_without_a_socket() -> None:
    found = units(**BESIDE, environment_file="/etc/e")
    assert set(found) == set(every_unit(APP, AppConfig(path="/opt/a", user="a", **BESIDE)))
    worker, second = (found[f"{APP}-worker{more}.service"] for more in ("", "-2"))
    options = f'"--path=/opt/{APP}" "--drain=2.5" "--process=worker"'
    assert values(worker, "ExecStart")[0].endswith(options)
    assert values(worker, "TimeoutStopSec") == ["4500ms"]
    assert values(worker, "Restart") == ["always"]
    assert values(worker, "Sockets") == []
    assert values(second, "Environment")[0].endswith("PUSHER_PROCESS=worker PUSHER_INSTANCE=2")
    for name in ("User", "EnvironmentFile", "SystemCallFilter", "UMask", "InaccessiblePaths"):
        assert values(worker, name) == values(found[f"{APP}.service"], name)


def test_a_timer_enters_what_is_live_and_catches_up() -> None:
    found = units(**BESIDE)
    service, timer = found[f"{APP}-nightly.service"], found[f"{APP}-nightly.timer"]
    assert values(timer, "OnCalendar") == ["*-*-* 03:00"]
    assert values(timer, "Persistent") == ["yes"]
    assert values(service, "Type") == ["oneshot"]
    assert values(service, "WorkingDirectory") == [f"/opt/{APP}/current"]
    assert values(service, "ExecStart")[0].endswith(f'"--become=/opt/{APP}/current" "--process=nightly"')


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"timers": {"t": {"start": "a", "schedule": "daily\nOnBootSec=1"}}}, "timers.t.schedule"),
    ],
)
def test_a_schedule_that_no_unit_can_hold_is_refused(table: dict[str, Any], key: str) -> None:
    with pytest.raises(Refused, match=key):
        units(**table)


def test_only_an_app_outside_of_opt_opens_its_place_to_the_agent() -> None:
    def drop_in(path: str) -> str:
        return render_drop_in(APP, AppConfig(path=path, user=APP), host=HOST)

    assert drop_in("/opt/some/where") == ""
    assert values(drop_in("/srv/50% off"), "ReadWritePaths") == ['"-/srv/50%% off"']
    assert values(drop_in("/srv/x"), "ProtectHome") == []
    assert values(drop_in("/home/alice/x"), "ProtectHome") == ["read-only"]
    with pytest.raises(Refused, match="of their own"):
        drop_in("/tmp/x")


def test_dependencies_are_built_as_a_user_of_their_own_with_the_network_that_root_allows() -> None:
    build, socket = (units()[f"{APP}-build.{kind}"] for kind in ("service", "socket"))
    assert values(build, "DynamicUser") == ["yes"]
    assert values(build, "User") == values(build, "PrivateNetwork") == []
    assert values(socket, "ListenStream") == [f"/run/pusher-build/{APP}.sock"]
    assert (values(socket, "SocketUser"), values(socket, "SocketMode")) == (["pusher-agent"], ["0600"])
    alone = units(dependencies={"network": "none", "deadline_s": 5})[f"{APP}-build.service"]
    assert (values(alone, "PrivateNetwork"), values(alone, "RuntimeMaxSec")) == (["yes"], ["15000ms"])


def test_what_runs_only_while_the_agent_waits_is_all_but_the_public_units() -> None:
    every = Units.of(APP)
    assert {*every.helpers} == {*every.all} - {every.socket, every.service}


def test_an_empty_setting_leaves_its_line_out() -> None:
    assert not values(units()[f"{APP}.service"], "EnvironmentFile")
    assert values(units(environment_file="/etc/e")[f"{APP}.service"], "EnvironmentFile") == ["/etc/e"]


@pytest.mark.parametrize(
    ("listen", "stream", "free"),
    [
        ("0.0.0.0:80", "0.0.0.0:80", []),
        ("[::]:80", "[::]:80", []),
        ("127.0.0.1:80", "127.0.0.1:80", []),
        ("192.0.2.7:80", "192.0.2.7:80", ["yes"]),
        ("unix:/run/flask-demo/app.sock", "/run/flask-demo/app.sock", []),
    ],
)
def test_an_address_that_may_come_late_in_the_boot_is_bound_all_the_same(
    listen: str, stream: str, free: list[str]
) -> None:
    socket = units(listen=listen)[f"{APP}.socket"]
    assert (values(socket, "ListenStream"), values(socket, "FreeBind")) == ([stream], free)


@pytest.mark.parametrize(("seconds", "expected"), [(0, "3610000ms"), (300, "3610000ms"), (7200, "7210000ms")])
def test_the_unit_of_the_hooks_waits_as_long_as_a_release_may_ask(seconds: int, expected: str) -> None:
    hook = units(hook_deadline_s=seconds)[f"{APP}-hook.service"]
    assert values(hook, "TimeoutStartSec") == [expected]


def test_no_time_at_all_is_not_written_as_for_ever() -> None:
    assert values(units(drain_s=0)[f"{APP}.service"], "TimeoutStopSec") == ["2000ms"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, "yes"), ({"path": "/home/a/app"}, "read-only"), ({"path": "/root"}, "read-only")],
)
def test_homes_are_hidden_unless_the_app_lives_in_one(settings: dict[str, str], expected: str) -> None:
    assert values(units(**settings)[f"{APP}-hook.service"], "ProtectHome") == [expected]


@pytest.mark.parametrize(
    ("word", "escaped"),
    [
        ("plain", '"plain"'),
        ("a b", '"a b"'),
        ("50%", '"50%%"'),
        ("$HOME", '"$$HOME"'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", r'"back\\slash"'),
    ],
)
def test_a_word_comes_out_of_systemd_as_it_went_in(word: str, escaped: str) -> None:
    assert exec_word(word) == escaped


def test_percent_signs_of_paths_are_no_specifiers() -> None:
    found = units(path="/opt/100%")
    assert values(found[f"{APP}-preflight.service"], "WorkingDirectory") == ["/opt/100%%/.agent/candidate"]
    assert '"--path=/opt/100%%"' in values(found[f"{APP}.service"], "ExecStart")[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"user": "a\nb"},
        {"path": "/opt/a\nExecStart=/bin/sh"},
        {"path": " /opt/a".strip() + "\\"},
        {"environment_file": "/etc/x\n[Install]"},
    ],
)
def test_a_value_that_could_become_a_line_of_its_own_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(Refused) as refusal:
        units(**settings)
    assert next(iter(settings)) in str(refusal.value)


def test_no_agent_owned_path_stands_where_process_1_would_use_it() -> None:
    allowed = ("WorkingDirectory", "ExecStart", "ConditionPathExists", "ReadWritePaths")
    for name, text in units(**BESIDE).items():
        for line in text.splitlines():
            if line.startswith("InaccessiblePaths=") and f"/opt/{APP}" not in line:
                continue  # /run/pusher-agent is the agent's, but root's folder says what that name is
            if f"/opt/{APP}" in line or "/run/pusher-agent" in line:
                assert line.partition("=")[0] in allowed, (name, line)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_the_units_of_an_app_and_of_the_agent_are_hardened(tmp_path: Path) -> None:
    for name, text in units(**BESIDE).items():
        (tmp_path / name).write_text(text)
    wanted = {tmp_path / name: 15 for name in units(**BESIDE) if name.endswith(".service")}
    wanted[PACKAGING / "pusher-agent.service"] = 15
    for file, threshold in wanted.items():
        argv = ("systemd-analyze", "security", "--offline=true", f"--threshold={threshold}", str(file))
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_the_rule_names_exact_units_and_verbs_of_one_user() -> None:
    rule = render_rule([*Units.of("a-app").all, *Units.of("b-app").all], users=["shop"])
    lists = [json.loads(found) for found in re.findall(r"var \w+ = (\[.*\]);", rule)]
    lingering = ["org.freedesktop.login1.set-self-linger", "org.freedesktop.login1.set-user-linger"]
    assert lists == [[*Units.of("a-app").all, *Units.of("b-app").all], list(VERBS), ["shop"], lingering]
    assert 'subject.user === "pusher-agent"' in rule
    assert "=> " not in rule, "polkit 122 speaks ES5"
    assert "let " not in rule


def test_without_apps_the_rule_allows_nothing() -> None:
    assert "var units = [];" in render_rule([])


def test_units_that_do_not_agree_with_the_file_are_named(tmp_path: Path) -> None:
    host = HostLayout(tmp_path)
    file = host.app_toml(APP)
    config = parse_app("", file=str(file), app=APP)
    assert f"{APP}.toml is gone: put it back" in disagreement(APP, config, host=host)
    file.mkdir(parents=True)
    assert "cannot be read" in disagreement(APP, config, host=host)
    file.rmdir()
    file.write_text("")
    host.units.mkdir(parents=True)
    assert f"{APP}.socket does not exist" in disagreement(APP, config, host=host)
    for name, text in rendered(APP, config, host=host).items():
        (host.units / name).write_text(text)
    assert disagreement(APP, config, host=host) == ""
    service = host.units / f"{APP}.service"
    service.write_text(service.read_text() + "# mine\n")
    assert f"{APP}.service does not agree with" in disagreement(APP, config, host=host)
    left = host.units / f"{APP}-worker.service"
    left.write_text(f"# {MARK} {APP}`.\n")
    assert f"does not have {APP}-worker.service any more" in disagreement(APP, config, host=host)
    assert known_units(host, APP) == [*Units.of(APP).all, left.name]
    left.write_text(f"# {MARK} {APP}-worker`.\n")  # that is another app's
    assert known_units(host, APP) == [*Units.of(APP).all]
    service.unlink()
    service.symlink_to("/dev/null")
    assert "masked" in disagreement(APP, config, host=host)
    file.write_text("drain_s = 3\n")
    assert "was changed since" in disagreement(APP, config, host=host)
    correct = f"Correct it, then run `pusher-agent app apply {APP}` as root"
    for wrong, end in (("keep_release = 3\n", "Did you mean keep_releases?"), ("keep_releases\n", ".")):
        file.write_text(wrong)
        assert disagreement(APP, config, host=host).endswith(f"{end} {correct}")


def test_units_whose_app_has_lost_its_file_are_found(tmp_path: Path) -> None:
    host = HostLayout(tmp_path)
    assert abandoned(host) == []
    host.units.mkdir(parents=True)
    host.apps.mkdir(parents=True)
    (host.units / "ssh.service").write_text("[Service]\n")
    (host.units / "masked.service").symlink_to("/dev/null")
    (host.units / "mine.service").write_text(f"# {MARK} other`. A copy\n")
    for name in (f"{APP}.service", f"{APP}-nightly.timer"):
        (host.units / name).write_text(f"# {MARK} {APP}`. After a change\n")
    file = host.app_toml(APP)
    file.write_text("=")
    assert abandoned(host) == []
    file.rename(file.with_name("shop.toml"))
    assert abandoned(host) == [APP]
