"""No code of a release runs while its venv is made: each way in that was found is tried with the real uv.

`wheels/` of every release here has a source archive whose build code leaves a mark. The host takes wheels only.
"""

from pathlib import Path

import pytest
import uv

from agent.core.config.app import Dependencies
from agent.core.layout import AppLayout
from agent.host.dependencies.builder import LocalBuilder
from agent.host.dependencies.venvs import Venvs
from agent.host.storage.disk import Disk
from pusher.wire import Code, Failed
from tests.packages import sdist, wheel

LOCAL = LocalBuilder(Disk(), Path("/nonexistent"))
BUILDS = "--no-binary evil\nevil\n"
"""What makes uv run the build code of `evil`."""


class Release:
    """A release that tries; `ran` is there if it got through."""

    def __init__(self, folder: Path) -> None:
        self.layout = AppLayout(folder / "app")
        self.path = folder / "app/releases/20261123020055Z"
        self.ran = folder / "ran"
        self.cache = folder / "cache"
        self.write("wheels/evil-1.tar.gz", sdist("evil", code=f"open({str(self.ran)!r}, 'w')"))
        self.write("wheels/good-1-py3-none-any.whl", wheel("good"))

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    async def make(self, requirements: str = "requirements.txt", **options: object) -> Path:
        config = Dependencies.model_validate(
            {"requirements": requirements, "no_index": True, "deadline_s": 30} | options
        )
        venvs = Venvs(self.layout, Disk(), self.cache, config, Path(uv.find_uv_bin()), builder=LOCAL)
        key = await venvs.key(self.path)
        await venvs.ensure(key, self.path, line=print)
        return self.layout.venv(key)

    async def refusal(self, requirements: str = "requirements.txt", **options: object) -> str:
        """Why it is refused, with nothing run and nothing left."""
        with pytest.raises(Failed) as caught:
            await self.make(requirements, **options)
        assert caught.value.code is Code.DEPENDENCIES_FAILED
        assert not self.ran.exists(), "build code of the release ran as the agent"
        for folder in (self.layout.venvs, self.layout.staging):
            assert not folder.exists() or not any(folder.iterdir())
        return str(caught.value)


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release(tmp_path)


async def test_the_trap_works_where_builds_are_allowed(release: Release) -> None:
    release.write("requirements.txt", "evil\n")
    await release.make(only_binary=False)
    assert release.ran.exists()


async def test_an_include_that_uv_reads_under_another_name(release: Release) -> None:
    release.write("requirements.txt", "-r ${LANG}/more.txt\n")
    release.write("${LANG}/more.txt", "good\n")
    release.write("C.UTF-8/more.txt", BUILDS)
    assert "$ cannot be used" in await release.refusal()


@pytest.mark.parametrize(
    "text",
    [
        "-r more.txt",
        "-rmore.txt",
        "-r more.txt --no-binary evil",
        "-c more.txt\nevil",
        "--no-binary evil\nevil",
        "--no-binary=:all:\nevil",
        "evil --no-binary evil",
        "evil --config-settings=a=b",
        "evil --config-settings a=b --no-binary evil",
        "evil --global-option=x",
        "--only-binary :none:\nevil",
        "./wheels/evil-1.tar.gz",
        "wheels/evil-1.tar.gz",
        "evil @ ./wheels/evil-1.tar.gz",
        "evil @ file:wheels/evil-1.tar.gz",
        "evil @ file:///${PWD}/wheels/evil-1.tar.gz",
        "evil @ file://{release}/wheels/evil-1.tar.gz",
        "{release}/wheels/evil-1.tar.gz",
        "file://{release}/wheels/evil-1.tar.gz",
        "-e ./wheels/evil-1.tar.gz",
        "-e {release}",
        "evil @ git+file://{release}",
        "-f {release}/wheels\n--no-binary evil\nevil",
        "good\\\n--no-binary evil\nevil",
        "good \\\r\n--no-binary evil\r\nevil",
        "good # \\\n--no-binary evil\nevil",
        "good#\n--no-binary evil\nevil",
        "\ufeff--no-binary evil\nevil",
        "\ufeff\ufeff--no-binary evil\nevil",
        "good # a comment\r--no-binary evil\revil",
        "good # a comment\x0c--no-binary evil\x0cevil",
        "good # a comment\x85--no-binary evil\x85evil",
        "good # a comment\u2028--no-binary evil\u2028evil",
        "good # a comment\x0b--no-binary evil\x0bevil",
        "good ; python_version > '3 --no-binary evil'\nevil",
        "good ; python_version > '3' --no-binary evil\nevil",
        "good ; python_version > '3 # '\\\n--no-binary evil\nevil",
        "good\N{NO-BREAK SPACE}--no-binary\N{NO-BREAK SPACE}evil\nevil",
        "evil",
    ],
)
async def test_no_spelling_of_a_requirements_file_runs_build_code(release: Release, text: str) -> None:
    release.write("more.txt", BUILDS)
    release.write("requirements.txt", text.replace("{release}", str(release.path)))
    await release.refusal()


@pytest.mark.parametrize("name", ["uv.toml", "pyproject.toml", "pip.conf", ".env"])
async def test_settings_that_a_release_brings_along_are_not_read(release: Release, name: str) -> None:
    uv_table = 'no-binary-package = ["evil"]\nno-build = false\n'
    project = '[project]\nname = "x"\nversion = "1"\n'
    release.write("requirements.txt", "evil\n")
    release.write(
        name,
        {
            "uv.toml": uv_table,
            "pyproject.toml": f"{project}[tool.uv]\n{uv_table}",
            "pip.conf": "[install]\nno-binary = evil\n",
            ".env": "UV_NO_BINARY_PACKAGE=evil\nUV_NO_BUILD=0\n",
        }[name],
    )
    await release.refusal()


async def test_variables_of_the_agent_change_nothing(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "UV_NO_BINARY_PACKAGE": "evil",
        "UV_NO_BUILD": "0",
        "UV_CONFIG_FILE": str(release.write("uv.toml", "no-build = false\n")),
        "PIP_NO_BINARY": "evil",
        "PYTHONPATH": str(release.path),
    }.items():
        monkeypatch.setenv(name, value)
    release.write("requirements.txt", "evil\n")
    await release.refusal()


PROJECT = '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = {needs}\n'


@pytest.mark.parametrize(
    "text",
    [
        PROJECT.format(needs='["evil @ ./wheels/evil-1.tar.gz"]'),
        PROJECT.format(needs='["evil @ file:///${PWD}/wheels/evil-1.tar.gz"]'),
        PROJECT.format(needs='["good\\n--no-binary evil\\nevil"]'),
        PROJECT.format(needs="[\"good ; python_version > '3\\n--no-binary evil\\nevil'\"]"),
        PROJECT.format(needs='["-r more.txt"]'),
        PROJECT.format(needs='["evil"]') + '[tool.uv]\nno-binary-package = ["evil"]\n',
        PROJECT.format(needs='["evil"]') + '[tool.uv.sources]\nevil = { path = "wheels/evil-1.tar.gz" }\n',
        PROJECT.format(needs='["good"]') + '[tool.uv.sources]\nGood = { path = "wheels/evil-1.tar.gz" }\n',
        PROJECT.format(needs='["evil"]') + '[[tool.uv.index]]\nname = "x"\nurl = "wheels"\nformat = "flat"\n',
    ],
)
async def test_no_spelling_of_a_project_runs_build_code(release: Release, text: str) -> None:
    release.write("more.txt", BUILDS)
    release.write("pyproject.toml", text)
    await release.refusal("pyproject.toml")


ROOT = """version = 1
revision = 3
requires-python = ">=3.11"
[[package]]
name = "x"
version = "1"
source = { virtual = "." }
dependencies = [{ name = "evil" }]
"""


@pytest.mark.parametrize(
    "package",
    [
        'version = "1"\nsource = { path = "wheels/evil-1.tar.gz" }\n',
        'version = "1"\nsource = { registry = "wheels" }\nsdist = { path = "evil-1.tar.gz" }\n',
        'version = "1"\nsource = { url = "file://{release}/wheels/evil-1.tar.gz" }\n',
        'version = "1"\nsource = { url = "https://127.0.0.1:9/a\\n--no-binary evil\\n" }\n',
        'version = "1"\nsource = { url = "${PWD}/wheels/evil-1.tar.gz" }\n',
        'version = "1"\nsource = { git = "file://{release}" }\n',
        'version = "1"\nsource = { directory = "wheels" }\n',
        'version = "1"\nsource = { registry = "https://127.0.0.1:9" }\n',
    ],
)
async def test_no_lock_runs_build_code(release: Release, package: str) -> None:
    text = package.replace("{release}", str(release.path))
    release.write("uv.lock", f'{ROOT}[[package]]\nname = "evil"\n{text}')
    release.write("pyproject.toml", PROJECT.format(needs='["evil"]') + '[tool.uv]\nno-binary-package = ["evil"]\n')
    await release.refusal("uv.lock")


async def test_a_condition_in_a_lock_that_breaks_the_line_when_it_is_exported(release: Release) -> None:
    """uv takes a line break within the quotes of a condition, and writes it out as it is."""
    condition = "sys_platform != 'x\\n--no-binary evil\\nevil\\n#'"
    root = ROOT.replace('{ name = "evil" }', f'{{ name = "good", marker = "{condition}" }}')
    file = '{ path = "good-1-py3-none-any.whl" }'
    release.write(
        "uv.lock",
        f'{root}[[package]]\nname = "good"\nversion = "1"\n'
        f'source = {{ registry = "wheels" }}\nwheels = [{file}]\n',
    )
    release.write("pyproject.toml", PROJECT.format(needs='["good"]'))
    await release.refusal("uv.lock")


async def test_an_interpreter_of_the_release_is_not_asked_what_it_is(release: Release) -> None:
    """uv looks for a venv in the project's folder, and asks its interpreter."""
    release.write("uv.lock", ROOT.replace('{ name = "evil" }', ""))
    release.write("pyproject.toml", PROJECT.format(needs="[]"))
    release.write(".venv/pyvenv.cfg", "home = /usr/bin\nversion_info = 3.11.2\n")
    release.write(".python-version", f"{release.path}/.venv/bin/python\n")
    for name in ("python", "python3"):
        python = release.write(f".venv/bin/{name}", f"#!/bin/sh\ntouch {release.ran}\nexec /usr/bin/python3 $@\n")
        python.chmod(0o755)
    await release.make("uv.lock")
    assert not release.ran.exists()


@pytest.mark.parametrize(
    "text",
    [
        "good" + " " * 150_000 + "x",
        " " * 150_000 + "good ;",
        "good" + " " * 150_000 + "--hash",
        "good[" + "a," * 75_000,
        "good" + "=" * 150_000,
        "good ; " + "(" * 50_000,
        "good ; " + "python_version > '3' and " * 6_000,
        "\\\n" * 150_000 + "good ;",
        "-r" + " " * 150_000 + "x y",
        "#" * 150_000 + "\n;",
        "good" + " #" * 75_000 + "\n;",
        "good @ " + "a" * 150_000,
        f"good --hash=sha256:{'a' * 150_000}",
    ],
    ids=range(13),
)
@pytest.mark.timeout(60)
async def test_a_line_without_an_end_is_refused_at_once(release: Release, text: str) -> None:
    release.write("requirements.txt", text)
    await release.refusal()


@pytest.mark.timeout(10)
async def test_a_file_without_an_end_is_refused_at_once(release: Release) -> None:
    release.write("requirements.txt", "good\n" * 2_000_000)
    assert "is larger than" in await release.refusal()


@pytest.mark.timeout(10)
async def test_includes_without_an_end_are_refused_at_once(release: Release) -> None:
    for number in range(300):
        release.write(f"{number}.txt", f"-r {number + 1}.txt\n")
    release.write("requirements.txt", "-r 0.txt\n")
    await release.refusal()
