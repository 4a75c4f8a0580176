"""Why a verified manifest is refused, in which order, and with which hint."""

from dataclasses import replace

import pytest

from agent.core.config.host import BundleLimits
from agent.core.trust import AHEAD_MOST_MS, Clashes, check, check_hook, check_requirements
from pusher.wire import Code, Directory, Entry, File, Link, Manifest, Refused

NOW = 1_700_000_000_000
MANIFEST = Manifest(
    app="demo",
    version="v1",
    created=NOW,
    expires=NOW + 1000,
    index_sha256="0" * 64,
    index_size=10,
    files=2,
    unpacked_size=100,
)


def _checked(manifest: Manifest, *, newest: int | None = None, retry: bool = False, **limits: int) -> None:
    check(
        manifest,
        app="demo",
        host="web1",
        now=NOW,
        newest_accepted=newest,
        limits=BundleLimits(**limits),
        retry=retry,
    )


def _refused(manifest: Manifest, *, newest: int | None = None, retry: bool = False, **limits: int) -> Refused:
    with pytest.raises(Refused) as caught:
        _checked(manifest, newest=newest, retry=retry, **limits)
    assert caught.value.why
    assert caught.value.hint
    return caught.value


def test_a_fresh_manifest_for_this_app_and_host_is_accepted() -> None:
    _checked(MANIFEST)
    _checked(replace(MANIFEST, hosts=("web0", "web1")), newest=NOW - 1)
    _checked(replace(MANIFEST, created=NOW + AHEAD_MOST_MS))
    _checked(MANIFEST, files=2, unpacked=100, index=10)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"app": "shop"}, Code.WRONG_APP),
        ({"hosts": ("web2", "web11", "WEB1")}, Code.WRONG_HOST),
        ({"expires": NOW}, Code.EXPIRED),
        ({"created": NOW + AHEAD_MOST_MS + 1}, Code.FROM_THE_FUTURE),
    ],
)
def test_a_manifest_for_another_app_host_or_time_is_refused(changes: dict[str, object], code: Code) -> None:
    assert _refused(replace(MANIFEST, **changes)).code is code  # type: ignore[arg-type]


@pytest.mark.parametrize(("limit", "most"), [("files", 1), ("unpacked", 99), ("index", 9)])
def test_a_bundle_that_is_too_large_is_refused_by_the_name_of_the_limit(limit: str, most: int) -> None:
    refused = _refused(MANIFEST, **{limit: most})
    assert refused.code is Code.LIMIT_EXCEEDED
    assert f"the limit is {most}" in refused.why
    assert f"limits.{limit}" in refused.hint


def test_a_manifest_older_than_the_accepted_one_must_be_signed_again() -> None:
    refused = _refused(MANIFEST, newest=NOW + 1)
    assert refused.code is Code.OLDER_THAN_ACCEPTED
    assert "Sign again" in refused.hint


def test_a_manifest_as_old_as_the_mark_is_accepted_only_if_it_set_the_mark() -> None:
    assert _refused(MANIFEST, newest=NOW).code is Code.OLDER_THAN_ACCEPTED
    _checked(MANIFEST, newest=NOW, retry=True)
    assert _refused(MANIFEST, newest=NOW + 1, retry=True).code is Code.OLDER_THAN_ACCEPTED


def test_the_first_refusal_is_the_one_to_mend_first() -> None:
    wrong = replace(
        MANIFEST,
        app="shop",
        hosts=("web2",),
        files=10**9,
        expires=NOW,
        created=NOW + AHEAD_MOST_MS + 1,
    )
    told = []
    for mend in ({"app": "demo"}, {"hosts": ()}, {"files": 2}, {"expires": NOW * 2}, {"created": NOW}):
        told.append(_refused(wrong, newest=NOW * 2).code)
        wrong = replace(wrong, **mend)  # type: ignore[arg-type]
    assert told == [Code.WRONG_APP, Code.WRONG_HOST, Code.LIMIT_EXCEEDED, Code.EXPIRED, Code.FROM_THE_FUTURE]
    assert _refused(wrong, newest=NOW * 2).code is Code.OLDER_THAN_ACCEPTED


def test_a_host_whose_clock_went_back_is_named_as_the_cause() -> None:
    ahead = replace(MANIFEST, created=NOW + AHEAD_MOST_MS + 2, expires=NOW * 2)
    assert "Set the clock of web1" in _refused(ahead, newest=NOW + AHEAD_MOST_MS + 1).hint
    assert "machine that signed" in _refused(ahead, newest=NOW).hint
    assert "machine that signed" in _refused(ahead).hint


def clashes(*paths: str, shared: tuple[str, ...] = ("uploads", "var/data")) -> None:
    found = Clashes(shared=shared)
    for path in paths:
        found.note(Directory(path[:-1]) if path.endswith("/") else File(path, 0o644, 0, "0" * 64))
    found.check()


def test_an_ordinary_name_is_allowed() -> None:
    clashes("app.py", "lib/venv", "lib/.pusher", "uploads2", "var/data2", ".completed")


@pytest.mark.parametrize("name", [".pusher", ".pusher/x", ".complete", "REVISION", "venv", "venv/bin/python"])
def test_a_name_that_the_agent_uses_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="the agent uses that name itself") as caught:
        clashes(name)
    assert caught.value.code is Code.NAME_NOT_ALLOWED


@pytest.mark.parametrize("name", ["uploads", "uploads/x", "var", "var/data/x"])
def test_a_shared_name_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(Refused, match="shared_paths") as caught:
        clashes(name)
    assert caught.value.code is Code.NAME_NOT_ALLOWED


@pytest.mark.parametrize("name", ["uploads/", "uploads/a/", "var/", "uploads/.gitkeep", "var/data/.gitignore"])
def test_what_only_keeps_a_shared_folder_in_git_is_forgiven(name: str) -> None:
    clashes(name)


def test_all_clashes_are_named_at_once() -> None:
    with pytest.raises(Refused) as caught:
        clashes("uploads/a", "app.py", "uploads/b", *(f"var/data/{number}" for number in range(20)))
    assert caught.value.what.startswith("The bundle contains 'uploads/a', 'uploads/b', 'var/data/0', ")
    assert caught.value.what.endswith("'var/data/7' and 12 more")


def test_an_index_without_the_requirements_file_is_refused() -> None:
    check_requirements(["app.py", "requirements.txt"], requirements="requirements.txt")
    with pytest.raises(Refused, match=r"no uv\.lock: .*\. Add it, or set") as caught:
        check_requirements(["app.py", "requirements.txt"], requirements="uv.lock")
    assert caught.value.code is Code.DEPENDENCIES_FAILED


def test_a_hook_of_a_release_has_to_be_executable() -> None:
    with pytest.raises(Refused, match="chmod"):
        check_hook(File("hooks/rollback-before-symlink", 0o644, 5, "0" * 64))


@pytest.mark.parametrize(
    "entry",
    [
        File("hooks/before-symlink", 0o755, 5, "0" * 64),
        File("hooks/lib.sh", 0o644, 5, "0" * 64),
        File("before-symlink", 0o644, 5, "0" * 64),
        File("hooks/before-symlink/readme", 0o644, 5, "0" * 64),
        Link("hooks/before-symlink", "../migrate.sh"),
    ],
)
def test_other_files_and_links_to_hooks_need_not_be_executable(entry: Entry) -> None:
    check_hook(entry)


def test_several_names_of_the_agents_own_are_said_to_be_its_own() -> None:
    found = Clashes(shared=())
    for path in ("venv", "REVISION"):
        found.note(File(path, 0o644, 1, "0" * 64))
    with pytest.raises(Refused) as refused:
        found.check()
    assert refused.value.why.startswith("the agent uses these names itself")
