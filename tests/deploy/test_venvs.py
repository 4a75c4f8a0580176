"""Real venvs, made by the real uv: from wheels made here, and, where marked, from the package index."""

import asyncio
import base64
import io
import os
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import uv

from agent.core.config import Dependencies
from agent.core.layout import AppLayout
from agent.host.releases.venvs import Venvs
from agent.host.storage.disk import Disk
from pusher.wire import Code, Failed, Refused

UV = Path(uv.find_uv_bin())
NOWHERE = "http://127.0.0.1:9/simple"
"""An index that nobody serves."""


def wheel(name: str, version: str = "1", *, files: Mapping[str, str] | None = None) -> bytes:
    """A wheel with one module, which says its version, and one script."""
    info = f"{name}-{version}.dist-info"
    members = {
        f"{name}.py": f"def main():\n    print({version!r})\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
        **(files or {}),
    }
    members[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*members, f"{info}/RECORD"])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in members.items():
            archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), text)
    return content.getvalue()


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
        return Venvs(self.layout, Disk(), self.cache, config, UV, credentials=credentials)

    async def make(self, venvs: Venvs | None = None) -> Path:
        """Make the release's venv; says where it is."""
        venvs = venvs or self.venvs()
        key = await venvs.key(self.release)
        assert await venvs.ensure(key, self.release, line=self.lines.append)
        return self.layout.venv(key)

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
        venv = await place.make(Venvs(place.layout, Disk(), place.cache, Dependencies(index_url=url), breaking))
    assert not mark.exists()
    assert said(venv / "bin/tiny") == "1"
    assert mark.exists(), "the trap would have worked"


async def test_a_hash_that_does_not_match_stops_the_installation(place: Place) -> None:
    place.wheel("tiny")
    place.requirements(f"tiny==1 --hash=sha256:{'0' * 64}\n")
    problem = await place.failure(place.venvs(no_index=True))
    assert "hash mismatch" in problem.why.lower()
    assert "hash" in problem.output.lower()


def sdist(place: Place) -> None:
    """A source archive that builds the wheel by code of its own."""
    packed = base64.b64encode(wheel("tiny"))
    members = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "back"\nbackend-path = ["."]\n'
        '[project]\nname = "tiny"\nversion = "1"\n',
        "back.py": f"""
import base64
def build_wheel(folder, *_, **__):
    with open(folder + "/tiny-1-py3-none-any.whl", "wb") as file:
        file.write(base64.b64decode({packed!r}))
    return "tiny-1-py3-none-any.whl"
""",
    }
    with tarfile.open(place.release / "wheels/tiny-1.tar.gz", "w:gz") as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(f"tiny-1/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    place.requirements("tiny\n")


async def test_source_archives_are_built_only_where_the_host_allows_it(place: Place) -> None:
    sdist(place)
    problem = await place.failure(place.venvs(no_index=True))
    assert "Only wheels are installed (only_binary)" in problem.hint
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


@contextmanager
def index(*, password: str = "") -> Iterator[str]:
    """A package index that has `tiny`, asking for a password if there is one."""
    wanted = "Basic " + base64.b64encode(f"somebody:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if password and self.headers.get("Authorization") != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="x"')
                self.end_headers()
                return
            page = self.path.endswith("/")
            body = b'<a href="/tiny-1-py3-none-any.whl">tiny-1-py3-none-any.whl</a>' if page else wheel("tiny")
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if page else "application/zip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/simple"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
async def test_what_an_index_gave_once_is_enough_when_it_cannot_be_reached(place: Place) -> None:
    place.requirements("tiny\n")
    with index() as url:
        venv = await place.make(place.venvs(index_url=url))
    await asyncio.to_thread(place.venvs().prune, set())
    assert not venv.exists()
    await place.make(place.venvs(index_url=url))
    assert " + tiny==1" in place.lines


async def test_a_private_index_gets_the_credentials_of_the_file(place: Place, tmp_path: Path) -> None:
    place.requirements("tiny\n")
    netrc = tmp_path / "netrc"
    with index(password="secret") as url:
        await place.failure(place.venvs(index_url=url))
        with pytest.raises(Refused, match=r"The credentials .* cannot be read"):
            await place.make(place.venvs(index_url=url, credentials=netrc))
        netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
        await place.make(place.venvs(index_url=url, credentials=netrc))


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
    venvs = Venvs(place.layout, Disk(), place.cache, Dependencies(), Path("/nowhere/uv"))
    assert "/nowhere/uv cannot be run" in (await place.failure(venvs)).why
    assert (
        "uv venv: exit code 1"
        in (await place.failure(Venvs(place.layout, Disk(), place.cache, Dependencies(), Path("/bin/false")))).why
    )


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
    lock = (UV, "lock", "--quiet", "--no-config", "--python", "/usr/bin/python3", "--system-certs")
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
