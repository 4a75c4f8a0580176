"""Which interpreter a release gets, and whether a venv still runs."""

import json
import os
from pathlib import Path

import pytest

from agent.core.pythons import Python, oldest_admitted, usual, version_of, why_lost
from agent.host.dependencies.pythons import Pythons
from pusher.wire import Code, Refused


def facts(version: str, path: object, *, abi: str = "") -> str:
    tag = f"cpython-{''.join(version.split('.')[:2])}"
    built = f"{version} (main, Nov 1 2026, 10:00:00) [GCC 12.2.0]"
    return f"{built} {tag} {path}\nlinux-x86_64 {abi or tag}-x86_64-linux-gnu"


def interpreter(folder: Path, version: str, *, called: str = "", says: str = "") -> Path:
    """A program that answers as an interpreter of this version would."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (called or f"python{'.'.join(version.split('.')[:2])}")
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says or facts(version, path)}\nEND\n")
    path.chmod(0o755)
    return path


class Host:
    """A host with interpreters in its system's folder, and in root's folder of managed ones."""

    def __init__(self, path: Path) -> None:
        self.system, self.managed = path / "bin", path / "pythons"
        self.pythons = Pythons(self.managed, system=(self.system,))

    def add(self, version: str) -> Path:
        return interpreter(self.managed / f"cpython-{version}-linux-x86_64-gnu/bin", version)

    async def chosen(self, setting: str = "", **wanted: str) -> str:
        return (await self.pythons.choose(setting, **wanted)).path

    async def refusal(self, setting: str = "", **wanted: str) -> Refused:
        with pytest.raises(Refused) as caught:
            await self.pythons.choose(setting, **wanted)
        return caught.value

    def venv(self, path: Path, *, python: Path, made_with: str) -> Path:
        (path / "bin").mkdir(parents=True)
        (path / "bin/python").symlink_to(python)
        (path / ".complete").write_text(json.dumps({"python": made_with}))
        return path


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def test_the_hosts_word_comes_before_the_releases(host: Host) -> None:
    old, new = interpreter(host.system, "3.11.2"), interpreter(host.system, "3.13.1")
    assert await host.chosen("3.11", named="3.13") == str(old)
    assert await host.chosen(str(new), named="3.11") == str(new)
    assert await host.chosen(named="3.13") == str(new)


async def test_without_a_word_it_is_the_systems_python3(host: Host) -> None:
    assert await host.chosen() == "/usr/bin/python3"


async def test_what_root_has_added_comes_before_the_systems_and_the_newest_first(host: Host) -> None:
    interpreter(host.system, "3.13.9")
    host.add("3.13.1")
    newest = host.add("3.13.10")
    (host.managed / "cpython-3.13-linux-x86_64-gnu").symlink_to("cpython-3.13.1-linux-x86_64-gnu")
    assert await host.chosen("3.13") == str(newest)
    assert [one.version for one in await host.pythons.found()] == ["3.13.10", "3.13.1", "3.13.9"]


async def test_a_patch_version_is_a_wish_of_the_release_and_an_order_of_the_host(host: Host) -> None:
    here = interpreter(host.system, "3.12.3")
    assert await host.chosen(named="3.12.9") == await host.chosen("3.12.3") == str(here)
    assert "asks for Python 3.12.9, and this host has 3.12.3" in str(await host.refusal("3.12.9"))


async def test_a_version_that_nobody_has_is_refused_with_both_versions_and_the_command(host: Host) -> None:
    interpreter(host.system, "3.9.2")
    interpreter(host.system, "3.11.2")
    problem = await host.refusal(named="3.13")
    assert problem.what == "The release asks for Python 3.13, and this host has 3.9.2 and 3.11.2"
    assert problem.hint.startswith("`sudo pusher-agent python add 3.13`")
    elsewhere = Pythons(host.managed, system=(host.system,), root=Path("/srv/my root"))
    with pytest.raises(Refused) as caught:
        await elsewhere.choose("3.13")
    assert "`pusher-agent python add 3.13 --root '/srv/my root'`" in caught.value.hint


async def test_what_a_lock_requires_is_looked_for_where_nobody_names_a_version(host: Host) -> None:
    host.add("3.40.1")
    wanted = host.add("3.39.2")
    assert await host.chosen(requires=">=3.39") == str(wanted)
    problem = await host.refusal(requires=">=3.41")
    assert "python add" in problem.hint
    assert "The release needs Python >=3.41" in problem.what


async def test_an_interpreter_that_does_not_run_is_passed_over_and_named_if_root_names_it(host: Host) -> None:
    broken = interpreter(host.system, "3.12.1")
    broken.write_text("#!/bin/sh\nexit 3\n")
    assert await host.pythons.found() == []
    assert (await host.refusal(str(broken))).code is Code.CONFIGURATION
    assert "No such file" in str(await host.refusal("/nowhere/python3"))


async def test_an_interpreter_is_asked_again_when_its_file_has_changed(host: Host) -> None:
    path = interpreter(host.system, "3.12.1")
    assert (await host.pythons.at(str(path))).version == "3.12.1"
    path.unlink()
    interpreter(host.system, "3.12.22")
    assert (await host.pythons.at(str(path))).version == "3.12.22"


async def test_a_venv_is_lost_when_its_python_is_gone_or_another_minor_version(host: Host, tmp_path: Path) -> None:
    path = interpreter(host.system, "3.12.1")
    venv = host.venv(tmp_path / "venv", python=path, made_with=facts("3.12.1", path))
    assert await host.pythons.why_lost(venv) == ""
    assert await host.pythons.upgraded(venv) == ("", "")
    interpreter(host.system, "3.12.45")
    assert await host.pythons.why_lost(venv) == "", "compiled code goes on with another patch version"
    assert await host.pythons.upgraded(venv) == ("3.12.1", "3.12.45")
    interpreter(host.system, "3.14.0", called="python3.12", says=facts("3.14.0", path))
    assert await host.pythons.why_lost(venv) == f"Python 3.12.1 ({path}) was replaced by Python 3.14.0"
    path.unlink()
    assert await host.pythons.why_lost(venv) == f"Python 3.12.1 ({path}) is gone"
    assert await host.pythons.upgraded(venv) == ("", "")


async def test_a_venv_whose_link_leads_elsewhere_by_now_is_lost(host: Host, tmp_path: Path) -> None:
    path, other = interpreter(host.system, "3.12.1"), interpreter(host.system, "3.13.1")
    link = host.system / "python3"
    link.symlink_to("python3.12")
    venv = host.venv(tmp_path / "venv", python=link, made_with=facts("3.12.1", path))
    assert await host.pythons.why_lost(venv) == ""
    link.unlink()
    link.symlink_to(other)
    assert "is not what its venv leads to any more" in await host.pythons.why_lost(venv)


async def test_a_venv_with_an_old_mark_is_lost_only_if_its_python_is_gone(host: Host, tmp_path: Path) -> None:
    path = interpreter(host.system, "3.12.1")
    venv = host.venv(tmp_path / "venv", python=path, made_with="")
    assert await host.pythons.why_lost(venv) == ""
    path.unlink()
    assert await host.pythons.why_lost(venv) == f"its Python ({path}) is gone"
    assert await host.pythons.why_lost(tmp_path / "none") == ""


def test_facts_are_read_in_all_their_shapes() -> None:
    conda = (
        "3.12.4 | packaged by conda-forge | (main)\n[GCC 12.3.0] cpython-312 /opt/my envs/bin/python3.12\n"
        "linux-x86_64 cpython-312-x86_64-linux-gnu\n"
    )
    assert version_of(conda) == "3.12.4"
    assert usual(conda)
    assert usual(facts("3.13.1", "/x"))
    assert not usual(facts("3.13.1", "/x", abi="cpython-313t"))
    assert not usual("3.10.14 pypy310 /x\nlinux-x86_64 pypy310-pp73")
    assert not usual("nothing of use")
    assert version_of("nothing of use") == ""
    assert Python("/x", facts("3.14.0rc1", "/x")).version == "3.14.0rc1"


def test_a_venv_of_another_build_for_compiled_code_is_lost() -> None:
    now = Python("/x", facts("3.13.1", "/x", abi="cpython-313t"))
    assert "was replaced by" in why_lost(facts("3.13.1", "/x"), now, link="/x")


def test_the_oldest_version_that_a_lock_admits_is_named() -> None:
    assert oldest_admitted(">=3.12") == "3.12"
    assert oldest_admitted(">=3.12.4") == "3.12"
    assert oldest_admitted("<3") == ""


async def test_interpreters_of_others_are_not_run(host: Host) -> None:
    interpreter(host.system, "3.12.1", called="python3.12-dbg")
    interpreter(host.system, "3.12.1", called="python3")
    os.chmod(interpreter(host.system, "3.13.1"), 0o644)
    assert await host.pythons.found() == []
