"""Real venvs, made by the real uv: from wheels made here, and, where marked, from the package index."""

import asyncio
import os
import subprocess
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest
import uv

from agent.core.config.app import Dependencies
from agent.core.layout import AppLayout
from agent.host.dependencies.builder import LocalBuilder
from agent.host.dependencies.venvs import Venvs
from agent.host.releases.venv_files import difference
from agent.host.storage.disk import Disk
from pusher.wire import Code, Failed, Refused
from tests.packages import index, sdist, wheel

UV = Path(uv.find_uv_bin())
NOWHERE = "http://127.0.0.1:9/simple"
"""An index that nobody serves."""

LOCAL = LocalBuilder(Disk(), Path("/nonexistent"))


class Place:
    """An app's folder, and a release in it."""

    def __init__(self, path: Path, cache: Path) -> None:
        self.layout = AppLayout(path)
        self.cache = cache
        self.release = path / "releases/20261123020055Z"
        (self.release / "wheels").mkdir(parents=True)
        self.lines: list[str] = []

    def requirements(self, text: str) -> None:
        (self.release / "requirements.txt").write_text(text)

    def wheel(self, name: str, version: str = "1", *, files: Mapping[str, str] | None = None) -> Path:
        path = self.release / f"wheels/{name}-{version}-py3-none-any.whl"
        path.write_bytes(wheel(name, version, files=files))
        return path

    def venvs(self, *, credentials: Path | None = None, **options: object) -> Venvs:
        config = Dependencies.model_validate({"index_url": NOWHERE, **options})
        return Venvs(self.layout, Disk(), self.cache, config, UV, builder=LOCAL, credentials=credentials)

    async def make(self, venvs: Venvs | None = None) -> Path:
        """Make the release's venv; says where it is."""
        venvs = venvs or self.venvs()
        key = await venvs.key(self.release)
        assert await venvs.ensure(key, self.release, line=self.lines.append)
        return self.layout.venv(key)

    async def failure_beside(self, venv: Path, venvs: Venvs) -> Failed:
        """As `failure`, where there is another venv."""
        with pytest.raises(Failed) as caught:
            await self.make(venvs)
        assert os.listdir(self.layout.venvs) == [venv.name]
        return caught.value

    async def failure(self, venvs: Venvs | None = None) -> Failed:
        with pytest.raises(Failed) as caught:
            await self.make(venvs)
        assert caught.value.code is Code.DEPENDENCIES_FAILED
        assert not any(self.layout.venvs.iterdir())
        assert not any(self.layout.staging.iterdir())
        return caught.value


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "app", tmp_path / "cache")


def said(*argv: Path | str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


async def test_the_tests_of_packages_are_not_compiled(tmp_path: Path) -> None:
    # Wherever the agent is: a folder above that is called the same plays no part.
    place = Place(tmp_path / "lib/tests/app", tmp_path / "cache")
    place.wheel("tiny", files={"big/__init__.py": "", "big/tests/test_big.py": "", "big/testing.py": ""})
    place.requirements("tiny\n")
    venv = await place.make()
    compiled = {path.name.partition(".")[0] for path in venv.glob("lib/*/site-packages/big/**/*.pyc")}
    assert compiled == {"__init__", "testing"}
    assert list(venv.glob("lib/*/site-packages/big/tests/test_big.py"))


async def test_wheels_that_travel_along_need_no_network(place: Place) -> None:
    place.wheel("tiny")
    place.requirements("tiny\n")
    venv = await place.make()
    assert said(venv / "bin/tiny") == "1"
    assert " + tiny==1" in place.lines
    assert not any(place.layout.staging.iterdir())


async def test_a_venv_is_whole_compiled_and_not_open_to_others(place: Place) -> None:
    place.wheel("tiny")
    place.requirements("tiny\n")
    venv = await place.make()
    (compiled,) = venv.glob("lib/*/site-packages/__pycache__/tiny.*.pyc")
    show = "import marshal, sys; print(marshal.loads(open(sys.argv[1], 'rb').read()[16:]).co_filename)"
    assert said("/usr/bin/python3", "-I", "-c", show, compiled) == str(
        venv / f"lib/{compiled.parts[-4]}/site-packages/tiny.py"
    )
    assert (venv / ".complete").is_file()
    files = [path for path in venv.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if path.stat().st_mode & 0o002] == []
    assert [path for path in files if path.stat().st_nlink != 1] == [], "nothing is shared with the cache"


async def test_a_venv_that_is_there_is_found_and_not_touched(place: Place) -> None:
    place.wheel("tiny")
    place.requirements("tiny\n")
    venv = await place.make()
    before = snapshot(venv)
    venvs = place.venvs()
    assert not await venvs.ensure(venv.name, place.release, line=place.lines.append)
    assert snapshot(venv) == before


async def test_what_was_not_finished_is_made_again(place: Place) -> None:
    place.wheel("tiny")
    place.requirements("tiny\n")
    key = await place.venvs().key(place.release)
    for left in (place.layout.venv(key), place.layout.staging / f"venv-{key}"):
        (left / "lib").mkdir(parents=True)
        (left / "lib/half").touch()
    venv = await place.make()
    assert venv.name == key
    assert not (venv / "lib/half").exists()
    assert not any(place.layout.staging.iterdir())


async def test_a_file_that_is_included_and_a_wheel_count_for_the_key(place: Place) -> None:
    place.requirements("-r base.txt\n")
    base = place.release / "base.txt"
    base.write_text("tiny\n")
    place.wheel("tiny")
    keys = {await place.venvs().key(place.release)}
    base.write_text("tiny==1\n")
    keys.add(await place.venvs().key(place.release))
    place.wheel("tiny", files={"more.py": ""})
    keys.add(await place.venvs().key(place.release))
    (place.release / "app.py").write_text("more")
    keys.add(await place.venvs().key(place.release))
    assert len(keys) == 3


async def test_an_include_that_leaves_the_release_by_a_link_is_not_read(place: Place, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("tiny\n")
    (place.release / "base.txt").symlink_to(tmp_path / "secret.txt")
    place.requirements("-r base.txt\n")
    with pytest.raises(Failed, match=r"requirements\.txt, line 1 cannot be used: the release has no base\.txt"):
        await place.venvs().key(place.release)


async def test_no_code_of_a_wheel_runs_while_its_venv_is_made(place: Place, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    place.wheel("tiny", files={"evil.pth": f"import os; os.mkdir({str(mark)!r})\n"})
    place.requirements("tiny\n")
    venv = await place.make()
    assert not mark.exists()
    said(venv / "bin/tiny")
    assert mark.exists(), "the trap would have worked"


async def test_no_code_of_a_wheel_runs_when_an_installation_broke_off_and_is_tried_again(
    place: Place, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    place.wheel("tiny", files={"evil.pth": f"import os; os.makedirs({str(mark)!r}, exist_ok=True)\n"})
    place.requirements("tiny\n")
    # The first attempt breaks off when this wheel is there already. What uv knows of an interpreter lies in its
    # cache, which may be deleted at any time: then it asks that interpreter again.
    breaking = tmp_path / "uv"
    breaking.write_text(
        f"#!/bin/sh\nrm -rf {place.cache}/uv/interpreter-*\n"
        f'case "$*" in *--no-index*) {UV} "$@"; exit 1;; esac\nexec {UV} "$@"\n'
    )
    breaking.chmod(0o755)
    with index() as url:
        venv = await place.make(
            Venvs(place.layout, Disk(), place.cache, Dependencies(index_url=url), breaking, builder=LOCAL)
        )
    assert not mark.exists()
    assert said(venv / "bin/tiny") == "1"
    assert mark.exists(), "the trap would have worked"


async def test_a_hash_that_does_not_match_stops_the_installation(place: Place) -> None:
    place.wheel("tiny")
    place.requirements(f"tiny==1 --hash=sha256:{'0' * 64}\n")
    problem = await place.failure(place.venvs(no_index=True))
    assert "hash mismatch" in problem.why.lower()
    assert "hash" in problem.output.lower()


async def test_source_archives_are_built_only_where_the_host_allows_it(place: Place) -> None:
    (place.release / "wheels/tiny-1.tar.gz").write_bytes(sdist("tiny"))
    place.requirements("tiny\n")
    problem = await place.failure(place.venvs(no_index=True))
    assert problem.hint.startswith("Let the host build: `only_binary = false` in [dependencies] of the app's file")
    venv = await place.make(place.venvs(no_index=True, only_binary=False))
    assert said(venv / "bin/tiny") == "1"


async def test_what_cannot_be_found_is_named_and_shown(place: Place) -> None:
    place.wheel("tiny")
    place.requirements("tiny==2\n")
    problem = await place.failure(place.venvs(no_index=True))
    assert problem.why.startswith("No solution found when resolving dependencies: Because ")
    assert problem.hint.startswith("Mend the requirements")
    assert "tiny==2" in problem.output
    assert any("tiny==2" in line for line in place.lines)


@pytest.mark.slow
async def test_without_a_network_and_without_a_cache_the_message_says_so(place: Place) -> None:
    place.requirements("tiny\n")
    problem = await place.failure()
    assert problem.why == "the package index cannot be reached, and not everything is in the cache"
    assert "SSL_CERT_FILE" in problem.hint
    assert "error sending request" in problem.output


@pytest.mark.slow
async def test_what_an_index_gave_once_is_enough_when_it_cannot_be_reached(place: Place) -> None:
    place.requirements("tiny\n")
    with index() as url:
        venv = await place.make(place.venvs(index_url=url))
    await asyncio.to_thread(place.venvs().prune, set())
    assert not venv.exists()
    await place.make(place.venvs(index_url=url))
    assert " + tiny==1" in place.lines


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key and a certificate for 127.0.0.1, in which the agent trusts."""
    file = tmp_path / "certificate.pem"
    said(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", tmp_path / "key", "-out", file, "-days", "2", "-subj", "/CN=index"),
        *("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"),
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    both = tmp_path / "both.pem"
    both.write_bytes((tmp_path / "key").read_bytes() + file.read_bytes())
    return both


async def test_a_private_index_gets_the_credentials_of_the_file(
    place: Place, tmp_path: Path, certificate: Path
) -> None:
    place.requirements("tiny\n")
    netrc = tmp_path / "netrc"
    with index(password="secret", certificate=certificate) as url:
        await place.failure(place.venvs(index_url=url))
        with pytest.raises(Refused, match=r"The credentials .* cannot be read"):
            await place.make(place.venvs(index_url=url, credentials=netrc))
        netrc.write_text("something else\n")
        with pytest.raises(Refused, match=r"The credentials .* cannot be used"):
            await place.make(place.venvs(index_url=url, credentials=netrc))
        netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
        await place.make(place.venvs(index_url=url, credentials=netrc))


async def test_credentials_go_to_the_host_they_are_for_and_nowhere_else(
    place: Place, tmp_path: Path, certificate: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login somebody password secret\ndefault login somebody password secret\n")
    asked: list[tuple[str, str]] = []
    with index(certificate=certificate, asked=asked) as url:
        place.requirements(f"tiny\nmore @ {url.removesuffix('/simple')}/more-1-py3-none-any.whl\n")
        await place.failure(place.venvs(index_url=url, credentials=netrc))
    assert asked
    assert {given for _, given in asked} == {""}


async def test_credentials_are_not_sent_in_the_clear(place: Place, tmp_path: Path) -> None:
    place.requirements("tiny\n")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    asked: list[tuple[str, str]] = []
    with index(asked=asked) as url, pytest.raises(Refused, match="is not https"):
        await place.make(place.venvs(index_url=url, credentials=netrc))
    assert not asked


async def test_a_package_with_an_index_of_its_own_comes_from_there_alone(place: Place) -> None:
    public = {name: wheel(*name.split("-")[:2]) for name in ("corp-9-py3-none-any.whl", "tiny-1-py3-none-any.whl")}
    public["needy-1-py3-none-any.whl"] = wheel("needy", needs="corp")
    own = {"corp-1-py3-none-any.whl": wheel("corp"), "tiny-5-py3-none-any.whl": wheel("tiny", "5")}
    with index(public) as url, index(own) as corp:
        options = {"index_url": url, "indexes": [{"name": "corp", "url": corp, "packages": ["corp"]}]}
        place.requirements("tiny\ncorp\n")
        venv = await place.make(place.venvs(**options))
        assert (said(venv / "bin/corp"), said(venv / "bin/tiny")) == ("1", "1")
        place.requirements("needy\n")
        problem = await place.failure_beside(venv, place.venvs(**options))
        assert problem.why == "corp came from another index than its own"
        place.requirements("needy\ncorp\n")
        assert said(await place.make(place.venvs(**options)) / "bin/corp") == "1"


def lock_of(**packages: bytes) -> str:
    """A lock with one wheel of each package, at an address where nobody answers."""
    stated = "".join(
        f'[[packages]]\nname = "{name}"\nversion = "1"\n[[packages.wheels]]\nurl = "https://127.0.0.1:9/{name}.whl"\n'
        f'hashes.sha256 = "{sha256(content).hexdigest()}"\n'
        for name, content in packages.items()
    )
    return f'lock-version = "1.0"\n{stated}'


async def test_what_a_lock_names_comes_from_roots_indexes_and_from_no_address_in_it(place: Place) -> None:
    tiny, corp, fake = wheel("tiny", needs="nothing-like-this"), wheel("corp"), wheel("corp", files={"x.py": ""})
    public = {"tiny-1-py3-none-any.whl": tiny, "corp-1-py3-none-any.whl": fake}
    place.release.joinpath("pylock.toml").write_text(lock_of(tiny=tiny, corp=corp))
    with index(public) as url, index({"corp-1-py3-none-any.whl": corp}) as own:
        options = {"index_url": url, "indexes": [{"name": "corp", "url": own, "packages": ["corp"]}]}
        venv = await place.make(place.venvs(**options))
        assert (said(venv / "bin/corp"), said(venv / "bin/tiny")) == ("1", "1")


async def test_a_file_with_another_hash_than_the_lock_has_is_not_installed(place: Place) -> None:
    place.release.joinpath("pylock.toml").write_text(lock_of(tiny=b"another"))
    with index() as url:
        await place.failure(place.venvs(index_url=url))


async def test_an_index_for_every_package_is_asked_first(place: Place) -> None:
    own = {"tiny-5-py3-none-any.whl": wheel("tiny", "5")}
    with index() as url, index(own) as more:
        place.requirements("tiny\n")
        venv = await place.make(place.venvs(index_url=url, indexes=[{"name": "more", "url": more}]))
        assert said(venv / "bin/tiny") == "5"


async def test_a_wheel_deep_in_the_release_and_a_file_of_the_host_count_for_the_key(
    place: Place, tmp_path: Path
) -> None:
    place.requirements("./wheels/deep/tiny-1-py3-none-any.whl\n")
    host = tmp_path / "host"
    host.mkdir()
    deep = place.release / "wheels/deep/tiny-1-py3-none-any.whl"
    deep.parent.mkdir()
    keys = []
    venvs = place.venvs(no_index=True, find_links=[str(host), "https://127.0.0.1:9/x", "/nowhere"])
    for file, content in (
        (deep, wheel("tiny")),
        (deep, wheel("tiny", files={"more.py": ""})),
        (host / "other-1-py3-none-any.whl", b"1"),
        (host / "other-1-py3-none-any.whl", b"2"),
    ):
        file.write_bytes(content)
        keys.append(await venvs.key(place.release))
    assert len(set(keys)) == 4
    assert said(await place.make(place.venvs(no_index=True)) / "bin/tiny") == "1"


def test_a_venv_that_was_changed_is_found(place: Place) -> None:
    place.wheel("tiny")
    place.requirements("tiny\n")
    venv = asyncio.run(place.make())
    assert difference(venv) == ""
    (module,) = venv.glob("lib/*/site-packages/tiny.py")
    kept, name = module.read_bytes(), str(module.relative_to(venv))
    module.write_bytes(b"other")
    assert difference(venv) == f"{name} was changed in its venv {venv.name}"
    module.write_bytes(kept)
    module.chmod(0o666)
    assert difference(venv) == f"{name} was changed in its venv {venv.name}"
    module.unlink()
    assert difference(venv) == f"{name} is gone from its venv {venv.name}"
    module.write_bytes(kept)
    module.chmod(0o644)
    (module.parent / "__pycache__/later.pyc").touch()
    assert difference(venv) == "", "byte code that an interpreter added is no damage"
    (module.parent / "dropin.cache").touch()
    assert difference(venv) == "", "what a library keeps beside its files is no damage"
    for name in ("added.pth", "added.py", "added.so", "tiny-1.dist-info/added", "../../../bin/added"):
        (module.parent / name).touch()
        assert f"{Path(name).name} was added to" in difference(venv)
        (module.parent / name).unlink()
    (module.parent / "added").symlink_to("tiny.py")
    assert "added was added to" in difference(venv)
    (module.parent / "added").unlink()
    (venv / "bin/python").unlink()
    (venv / "bin/python").symlink_to("/bin/false")
    assert difference(venv) == f"bin/python was changed in its venv {venv.name}"
    (venv / ".installed").write_text("")
    assert difference(venv) == f".installed of its venv {venv.name} was changed"
    (venv / ".installed").unlink()
    assert "cannot be read" in difference(venv)
    (venv / ".complete").write_text("{}")
    assert difference(venv) == "", "one that was made before lists were kept"
    (venv / ".complete").unlink()
    assert difference(venv) == f"its venv {venv.name} is gone"


async def test_time_is_limited_and_nothing_is_left(place: Place) -> None:
    place.wheel("tiny")
    place.requirements("tiny\n")
    key = await place.venvs().key(place.release)
    with pytest.raises(Failed, match="there was no end after 0 s"):
        await place.venvs(deadline_s=0).ensure(key, place.release, line=place.lines.append)
    assert not any(place.layout.staging.iterdir())


async def test_programs_that_are_not_there_are_named(place: Place) -> None:
    place.requirements("tiny\n")
    with pytest.raises(Refused, match="The Python /nowhere/python3 cannot be run: No such file"):
        await place.venvs(python="/nowhere/python3").key(place.release)
    with pytest.raises(Refused, match="The Python /bin/false cannot be run: exit code 1"):
        await place.venvs(python="/bin/false").key(place.release)
    venvs = Venvs(place.layout, Disk(), place.cache, Dependencies(), Path("/nowhere/uv"), builder=LOCAL)
    assert "/nowhere/uv cannot be run" in (await place.failure(venvs)).why
    venvs = Venvs(place.layout, Disk(), place.cache, Dependencies(), Path("/bin/false"), builder=LOCAL)
    assert "uv venv: exit code 1" in (await place.failure(venvs)).why


async def test_a_python_is_asked_once_until_its_file_changes(place: Place, tmp_path: Path) -> None:
    place.requirements("")
    python, asked = tmp_path / "python3", tmp_path / "asked"
    text = f'#!/bin/sh\necho >>{asked}\nexec /usr/bin/python3 "$@"\n'
    python.write_text(text)
    python.chmod(0o755)
    venvs = place.venvs(python=str(python))
    assert await venvs.key(place.release) == await venvs.key(place.release)
    assert asked.read_text() == "\n"
    python.write_text(text + "#\n")
    await venvs.key(place.release)
    assert asked.read_text() == "\n\n"


async def test_pruning_keeps_what_is_named(place: Place) -> None:
    staging = place.layout.staging
    for left in (place.layout.venv("aa"), place.layout.venv("bb"), staging / "venv-cc", staging / "other"):
        (left / "lib").mkdir(parents=True)
    await asyncio.to_thread(place.venvs().prune, {"bb"})
    assert os.listdir(place.layout.venvs) == ["bb"]
    assert os.listdir(staging) == ["other"]


@pytest.mark.network
async def test_a_lock_and_a_project_bring_their_dependencies(place: Place, uv_cache: Path) -> None:
    place.cache = uv_cache
    project = '[project]\nname = "demo"\nversion = "1"\ndependencies = ["markupsafe==3.0.2"]\n'
    (place.release / "pyproject.toml").write_text(project)
    lock = (
        "/usr/bin/env",
        "-u",
        "UV_OFFLINE",
        UV,
        "lock",
        "--quiet",
        "--no-config",
        "--python",
        "/usr/bin/python3",
        "--system-certs",
    )
    said(*lock, "--cache-dir", uv_cache / "uv", "--project", place.release)
    for name in ("uv.lock", "pyproject.toml"):
        venv = await place.make(place.venvs(index_url="", requirements=name))
        assert list(venv.glob("lib/*/site-packages/[Mm]arkup[Ss]afe-3.0.2.dist-info"))
        assert not list(venv.glob("lib/*/site-packages/demo*"))
    (place.release / "uv.lock").write_text("version = 99\n")
    problem = await failure_of_lock(place)
    assert "uv export" in problem.why


async def failure_of_lock(place: Place) -> Failed:
    with pytest.raises(Failed) as caught:
        await place.make(place.venvs(index_url="", requirements="uv.lock"))
    return caught.value


@pytest.mark.network
def test_the_sample_applications_venv_has_its_programs(flask_venv: Path) -> None:
    assert {"gunicorn", "flask"} <= set(os.listdir(flask_venv / "bin"))
    assert list(flask_venv.glob("lib/*/site-packages/flask/__pycache__/app.*.pyc"))
