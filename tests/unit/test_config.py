"""Configuration: an error names the file, the key and the correction."""

import re
from functools import partial

import pytest

from agent.core.config.app import parse_app
from agent.core.config.clashes import clashes
from agent.core.config.host import parse_agent
from agent.core.listen import parse_listen
from agent.core.processes import instances
from pusher.wire import Code, Refused

FILE = "/etc/pusher-agent/apps/flask-demo.toml"


def refusal(text: str, *, agent: bool = False) -> Refused:
    parse = partial(parse_agent, file="agent.toml") if agent else partial(parse_app, file=FILE, app="flask-demo")
    with pytest.raises(Refused) as caught:
        parse(text)
    assert caught.value.code is Code.CONFIGURATION
    return caught.value


def test_an_empty_file_has_the_workshops_values():
    app = parse_app("", file=FILE, app="flask-demo")
    assert (app.path, app.user, app.listen) == ("/opt/flask-demo", "flask-demo", "0.0.0.0:8000")
    assert (app.start, app.keep_releases, app.drain_s) == ("", 5, 10)
    assert (app.health.path, app.health.status, app.health.deadline_s) == ("/", [200], 10)
    assert (app.dependencies.requirements, app.dependencies.python) == ("requirements.txt", "")
    assert app.preflight
    assert app.shared == ()


def test_an_unknown_key_is_named_with_its_file_and_the_nearest_right_one():
    problem = refusal("keep_release = 3")
    assert FILE in problem.what
    assert "'keep_release'" in problem.what
    assert problem.hint == "Did you mean keep_releases?"


def test_a_key_of_another_table_is_pointed_to_its_table():
    assert refusal("deadline = 3").hint == "Did you mean deadline_s in [health]?"
    assert refusal("[health]\nbake = 3").hint == "Did you mean bake_s?"


def test_a_key_of_the_file_itself_in_a_table_is_recognised():
    assert refusal("[health]\nkeep_release = 3").hint == "Did you mean keep_releases, above all tables?"


def test_a_key_that_is_like_no_other_gets_the_list():
    assert "listen" in refusal("zzzzzz = 1").hint


@pytest.mark.parametrize("text", ["[dependencies]\nindex_url", '[[dependencies.indexes]]\nname = "own"\nurl'])
def test_an_index_whose_address_cannot_be_read_is_refused(text):
    problem = refusal(f'{text} = "https://[::1/simple"')
    assert "'https://[::1/simple'" in problem.what
    assert "Invalid IPv6 URL" in problem.why


def test_a_wrong_type_is_not_converted():
    problem = refusal('keep_releases = "5"')
    assert "'keep_releases' is '5'" in problem.what
    assert "integer" in problem.why


@pytest.mark.parametrize(
    "text",
    [
        'listen = "8000"',
        'listen = "localhost:8000"',
        'listen = "0.0.0.0:99999"',
        'path = "opt/x"',
        'path = "/opt/../x"',
        'shared_paths = ["/var"]',
        'shared_paths = ["../x"]',
        "keep_releases = 0",
        "[health]\nstatus = []",
        '[health]\npath = "x"',
    ],
)
def test_impossible_values_are_refused(text):
    assert FILE in refusal(text).what


def test_a_bad_health_path_is_refused_with_an_example():
    for path in ("health", "https://a/health", "/a b"):
        assert 'a path like "/health"' in refusal(f'[health]\npath = "{path}"').why


def test_an_error_of_toml_is_named_with_its_line():
    problem = refusal("listen = = 1")
    assert "is not TOML" in problem.what
    assert "line 1" in problem.why


def test_a_file_that_an_editor_began_with_a_byte_order_mark_is_read():
    assert parse_app("\ufeffkeep_releases = 3\n", file="app.toml", app="app").keep_releases == 3


def test_the_host_has_a_loopback_door_and_limits():
    agent = parse_agent('name = "web1"\n[limits]\nfiles = 10', file="x")
    assert agent.door.address == "127.0.0.1:9000"
    assert agent.limits.tree.files == 10
    assert agent.service == "systemd"


def test_a_door_that_is_not_loopback_is_refused():
    assert "door.address" in refusal('[door]\naddress = "0.0.0.0:9000"', agent=True).what


def test_addresses_are_of_three_kinds():
    assert parse_listen("0.0.0.0:8000") == ("0.0.0.0", 8000)
    assert parse_listen("[::1]:8000") == ("::1", 8000)
    assert parse_listen("unix:/run/x.sock") == "/run/x.sock"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('shared_paths = ["venv"]', "'venv' begins with a name that the agent uses itself"),
        ('shared_files = [".pusher/x"]', "'.pusher/x' begins with a name that the agent uses itself"),
        ('shared_paths = ["venvs"]', "'venvs' begins with a name that the agent uses itself"),
        ('shared_paths = ["log", "log"]', "'log' and 'log' cannot both be links"),
        ('shared_paths = ["var/log", "var"]', "'var' and 'var/log' cannot both be links"),
        ('shared_paths = ["var"]\nshared_files = ["var/x"]', "'var/x' and 'var' cannot both be links"),
    ],
)
def test_shared_names_that_could_not_all_be_links_are_refused(text: str, why: str):
    with pytest.raises(Refused, match=re.escape(why)):
        parse_app(text, file=FILE, app="flask-demo")


def test_shared_names_may_begin_alike():
    app = parse_app(
        'shared_paths = ["var", "variant", "a/var"]\nshared_files = ["a/x"]', file=FILE, app="flask-demo"
    )
    assert app.shared == ("var", "variant", "a/var", "a/x")


def test_shared_files_and_folders_are_both_names_a_bundle_may_not_have():
    app = parse_app('shared_paths = ["uploads"]\nshared_files = [".env"]', file=FILE, app="flask-demo")
    assert app.shared == ("uploads", ".env")


@pytest.mark.parametrize("listen", ["256.0.0.1:80", "[::1::]:80", "1.2.3:80"])
def test_an_address_that_cannot_be_is_refused(listen: str) -> None:
    assert "does not appear to be an IPv4 or IPv6 address" in refusal(f'listen = "{listen}"').why


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("0.0.0.0:8000", "0.0.0.0:8001", False),
        ("0.0.0.0:8000", "127.0.0.1:8000", True),
        ("127.0.0.1:8000", "127.0.0.1:8000", True),
        ("127.0.0.1:8000", "127.0.0.2:8000", False),
        ("[::]:8000", "0.0.0.0:8000", True),
        ("[::]:8000", "127.0.0.1:8000", True),
        ("[::1]:8000", "0.0.0.0:8000", False),
        ("[::1]:8000", "[0:0::1]:8000", True),
        ("unix:/run/a.sock", "unix:/run/a.sock", True),
        ("unix:/run/a.sock", "0.0.0.0:8000", False),
    ],
)
def test_apps_that_clash_by_address_are_found(one: str, other: str, clash: bool) -> None:
    apps = {
        name: parse_app(f'listen = "{listen}"', file="x", app=name)
        for name, listen in (("shop", one), ("blog", other))
    }
    assert bool(clashes(apps)) == clash


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("/opt/a", "/opt/b", False),
        ("/opt/a", "/opt/ab", False),
        ("/opt/a", "/opt/a/", True),
        ("/opt", "/opt/a", True),
    ],
)
def test_apps_that_clash_by_path_are_found(one: str, other: str, clash: bool) -> None:
    apps = {
        name: parse_app(f'path = "{path}"\nlisten = "unix:/run/{name}"', file="x", app=name)
        for name, path in (("shop", one), ("blog", other))
    }
    assert bool(clashes(apps)) == bool(clashes({"zoo": apps["shop"], "blog": apps["blog"]})) == clash


INDEX = '[[dependencies.indexes]]\nname = "{name}"\nurl = "https://example.org/simple"\npackages = ["{package}"]\n'


def test_indexes_have_names_and_packages_of_their_own() -> None:
    text = INDEX.format(name="one", package="a") + INDEX.format(name="two", package="b")
    app = parse_app(text, file=FILE, app="flask-demo")
    assert [one.name for one in app.dependencies.indexes] == ["one", "two"]


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (("one", "a"), ("one", "b"), "the name 'one' is there twice"),
        (("default", "a"), ("one", "b"), "the name 'default' is there twice"),
        (("one", "my-own"), ("two", "My_Own"), "the package 'my-own' is there twice"),
    ],
)
def test_indexes_that_could_be_taken_for_each_other_are_refused(
    one: tuple[str, str], other: tuple[str, str], why: str
) -> None:
    text = "".join(INDEX.format(name=name, package=package) for name, package in (one, other))
    with pytest.raises(Refused, match=why):
        parse_app(text, file=FILE, app="flask-demo")


def test_an_unknown_key_of_an_index_is_named_with_the_nearest_right_one() -> None:
    text = INDEX.format(name="one", package="a") + 'ulr = "x"\n'
    with pytest.raises(Refused, match=r"unknown key 'dependencies\.indexes\.0\.ulr'\. Did you mean url\?"):
        parse_app(text, file=FILE, app="flask-demo")


def test_what_may_be_rolled_back_to_with_an_ended_key_is_named_by_its_id() -> None:
    assert parse_app('allow_revoked = ["20261123044011Z"]', file=FILE, app="flask-demo").allow_revoked
    with pytest.raises(Refused, match="the id of a release"):
        parse_app('allow_revoked = ["v2"]', file=FILE, app="flask-demo")


def test_the_history_counts_since_a_time_with_its_zone() -> None:
    assert parse_agent("", file="agent.toml").since == 0
    text = 'history_since = "2026-11-27T13:00:00Z"'
    assert parse_agent(text, file="agent.toml").since == 1_795_784_400
    for wrong in ("2026-11-27T13:00:00", "yesterday"):
        with pytest.raises(Refused, match="a time with its zone"):
            parse_agent(f'history_since = "{wrong}"', file="agent.toml")


WORKER = '[processes.worker]\nstart = "celery"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[processes.hook]\nstart = "x"\n',
            "needs the name 'hook', which the agent itself uses",
        ),
        (WORKER + '[timers.worker]\nstart = "x"\nschedule = "daily"\n', "which the process 'worker' uses"),
        (WORKER + 'instances = 2\n[processes.worker-2]\nstart = "x"\n', "needs the name 'worker-2'"),
        ('[processes.Big]\nstart = "x"\n', "processes.Big"),
        ('[processes.worker]\nstart = "celery \'x"\n', "No closing quotation"),
        ('[processes.worker]\nstart = " "\n', "names no program"),
        ('start = "gunicorn \'a"', "'start' is \"gunicorn 'a\""),
        ('[timers.t]\nstart = "\'a\\nb\'"\nschedule = "daily"\n', "a command cannot hold line breaks"),
        (WORKER + "drian_s = 3\n", "Did you mean drain_s?"),
        (WORKER + "instances = -1\n", "processes.worker.instances"),
        ('[timers.t]\nstart = "x"\n', "'timers.t.schedule' is missing"),
    ],
)
def test_processes_and_timers_that_cannot_be_are_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_app(text, file="app.toml", app="shop")
    assert said in f"{refused.value.what} {refused.value.why} {refused.value.hint}"


def test_instances_are_numbered() -> None:
    config = parse_app(
        WORKER + 'instances = 2\n[timers.t]\nstart = "flask x"\nschedule = "daily"\n', file="f", app="shop"
    )
    assert [(one.name, one.process, one.number) for one in instances(config)] == [
        ("worker", "worker", 1),
        ("worker-2", "worker", 2),
    ]


@pytest.mark.parametrize("python", ["3.13", "3.13.1", "/usr/local/bin/python3", ""])
def test_a_python_is_a_version_or_the_path_of_an_interpreter(python):
    assert parse_app(f'[dependencies]\npython = "{python}"', file=FILE, app="a").dependencies.python == python


@pytest.mark.parametrize("python", ["python3", "3", "2.7", ">=3.11", "/opt/../bin/python3", "3.13t"])
def test_a_python_that_is_neither_is_refused(python):
    problem = refusal(f'[dependencies]\npython = "{python}"')
    assert problem.what == f"{FILE}: 'dependencies.python' is {python!r}"


@pytest.mark.parametrize(
    "line",
    [
        'channel = "Stable"',
        'window = "always"',
        "poll_s = 1",
        'repository = ["gopher://x"]',
        'repository = "https://x"',
        'ca_file = "relative"',
        'notify = "http://x"',
        'labels = { "A B" = "x" }',
    ],
)
def test_a_subscription_that_cannot_be_followed_is_refused(line: str) -> None:
    with pytest.raises(Refused):
        parse_app(f"[subscribe]\n{line}\n", file="shop.toml", app="shop")
