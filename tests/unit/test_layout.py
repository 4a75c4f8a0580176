"""Paths and ids."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.layout import (
    AppLayout,
    HostLayout,
    current_target,
    is_release_id,
    live_release,
    live_venv_target,
    metadata_folder,
    next_release_id,
    shared_target,
    venv_target,
)


def test_a_root_moves_everything_beneath_it():
    host = HostLayout(Path("/srv/x"))
    assert host.agent_toml == Path("/srv/x/etc/pusher-agent/agent.toml")
    assert host.app_toml("flask-demo") == Path("/srv/x/etc/pusher-agent/apps/flask-demo.toml")
    assert host.allowed_signers == Path("/srv/x/etc/pusher-agent/allowed_signers")
    assert host.hooks("flask-demo") == Path("/srv/x/etc/pusher-agent/hooks/flask-demo")
    assert host.journal == Path("/srv/x/var/lib/pusher-agent/journal.sqlite")
    assert host.lock == Path("/srv/x/var/lib/pusher-agent/agent.lock")
    assert host.drop("flask-demo") == Path("/srv/x/var/lib/pusher-agent/drop/flask-demo")
    assert host.cache == Path("/srv/x/var/cache/pusher-agent")
    assert host.api_socket == Path("/srv/x/run/pusher-agent/api.sock")
    assert host.beneath("/opt/flask-demo") == Path("/srv/x/opt/flask-demo")
    assert HostLayout(Path("/")).beneath("/opt/flask-demo") == Path("/opt/flask-demo")


def test_an_app_has_the_folders_of_the_workshop():
    app = AppLayout(Path("/opt/flask-demo"))
    assert app.release("20261123020055Z") == Path("/opt/flask-demo/releases/20261123020055Z")
    assert app.current == Path("/opt/flask-demo/current")
    assert app.venv("k") == Path("/opt/flask-demo/shared/venvs/k")
    assert app.shared_venv == Path("/opt/flask-demo/shared/venv")
    assert app.staged("x") == Path("/opt/flask-demo/.staging/x")
    assert app.trash("x") == Path("/opt/flask-demo/.staging/trash-x")
    assert metadata_folder(app.release("x")) == Path("/opt/flask-demo/releases/x/.pusher")


def test_links_are_relative_and_lead_where_they_say(tmp_path):
    app = AppLayout(tmp_path)
    release = app.release("20261123020055Z")
    (release / "a/b").mkdir(parents=True)
    app.venv("k").mkdir(parents=True)
    (app.shared / "a/b/uploads").mkdir(parents=True)
    for path, target, place in (
        (app.current, current_target("20261123020055Z"), release),
        (release / "venv", venv_target("k"), app.venv("k")),
        (app.shared_venv, live_venv_target("k"), app.venv("k")),
        (release / "a/b/uploads", shared_target("a/b/uploads"), app.shared / "a/b/uploads"),
    ):
        path.symlink_to(target)
        assert path.resolve() == place


def test_current_names_a_release_only_in_our_own_spelling():
    assert live_release("./releases/20261123020055Z") == "20261123020055Z"
    assert live_release("releases/20261123020055Z") == "20261123020055Z"
    for other in ("/opt/x/releases/20261123020055Z", "releases/latest", "../releases/20261123020055Z", "x"):
        assert live_release(other) is None


@pytest.mark.parametrize(
    "name", ["20261123020055", "2026112302005Z", "20261323020055Z", "trash-1", " 0261123020055Z"]
)
def test_a_name_that_is_no_time_is_no_release_id(name):
    assert not is_release_id(name)


def test_an_id_is_the_time_it_was_made():
    assert next_release_id(1_795_399_255_999, []) == "20261123020055Z"


def test_an_id_is_later_than_every_one_before_even_if_the_clock_went_back():
    assert next_release_id(0, ["20261123020055Z", "20261123015900Z"]) == "20261123020056Z"
    assert next_release_id(1_795_399_255_000, ["20261231235959Z"]) == "20270101000000Z"


@given(st.lists(st.integers(0, 4_000_000_000_000), max_size=20))
def test_ids_always_rise(times):
    ids: list[str] = []
    for now in times:
        ids.append(next_release_id(now, ids))
    assert ids == sorted(set(ids))
    assert all(is_release_id(one) for one in ids)
