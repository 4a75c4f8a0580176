"""The package's own scripts and files on any machine; tests/system has them on a server."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from agent.core.config.host import AgentConfig, parse_agent

PACKAGING = Path(__file__).parent.parent.parent / "packaging/debian"
LINE = "127.0.0.1 agent # by pusher-agent"


def function(script: str, name: str) -> str:
    """One function of a maintainer script, and the variables that stand above all of them."""
    text = (PACKAGING / script).read_text()
    found = re.search(rf"^{name}\(\) \{{\n.*?^\}}\n", text, re.M | re.S)
    line = re.search(r"^line=.*\n", text, re.M)
    assert found, name
    assert line
    return line[0] + found[0]


def run(script: str, name: str, hosts: Path, *, resolves: str = "") -> str:
    """Call it for another file than /etc/hosts; what it says. `resolves`: what `getent` answers."""
    getent = f"timeout() {{ {f'echo {resolves}' if resolves else 'return 2'}; }}\n"
    program = f"set -e\nhosts={hosts}\n{getent}{function(script, name)}{name}\n"
    done = subprocess.run(("sh", "-c", program), capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize(
    "text",
    ["", "\n", "127.0.0.1 localhost\n", "127.0.0.1 localhost", "a\n\n\n", "# agent\n1.2.3.4 b # x", "\tä\r\n"],
    ids=repr,
)
def test_the_line_in_hosts_comes_and_goes_and_leaves_every_byte_as_it_was(text: str, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(text.encode())
    hosts.chmod(0o604)
    inode = hosts.stat().st_ino
    run("postinst", "name_agent", hosts)
    added = hosts.read_bytes().decode()
    assert added.startswith(text)
    assert added.endswith("\n")
    assert [line for line in added.splitlines() if line.startswith(LINE)] == [added.splitlines()[-1]]
    run("postrm", "forget_name", hosts)
    assert hosts.read_bytes() == text.encode()
    assert (hosts.stat().st_mode & 0o777, hosts.stat().st_ino) == (0o604, inode)
    run("postrm", "forget_name", hosts)
    assert hosts.read_bytes() == text.encode()


@pytest.mark.parametrize("text", ["127.0.0.1 localhost\n", "127.0.0.1 localhost"], ids=repr)
def test_lines_that_others_wrote_after_it_stay(text: str, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(text)
    run("postinst", "name_agent", hosts)
    with hosts.open("a") as file:
        file.write("10.0.0.1 db\n")
    run("postrm", "forget_name", hosts)
    assert hosts.read_text() == "127.0.0.1 localhost\n10.0.0.1 db\n"


@pytest.mark.parametrize(
    ("resolves", "said"),
    [("127.0.0.1 agent", ""), ("10.0.0.7 agent.example.com", "is the name of another host here")],
)
def test_a_name_that_is_already_in_use_is_left_alone(resolves: str, said: str, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    assert said in run("postinst", "name_agent", hosts, resolves=resolves)
    assert hosts.read_text() == "127.0.0.1 localhost\n"


def test_where_there_is_no_hosts_file_none_is_made(tmp_path: Path) -> None:
    run("postinst", "name_agent", tmp_path / "hosts")
    run("postrm", "forget_name", tmp_path / "hosts")
    assert [*tmp_path.iterdir()] == []


def test_the_default_configuration_shows_the_defaults() -> None:
    text = (PACKAGING / "agent.toml").read_text()
    assert parse_agent(text, file="agent.toml") == AgentConfig()
    shown = re.sub(r"^#(?=\[|[a-z_]+ = )", "", text, flags=re.M).replace('name = "web1"\n', "")
    assert tomllib.loads(shown) == AgentConfig().model_dump(exclude={"name", "service"})


def test_the_package_has_the_version_of_the_project() -> None:
    project = tomllib.loads((PACKAGING.parent.parent / "pyproject.toml").read_text())["project"]
    assert (PACKAGING / "changelog").read_text().startswith(f"pusher-agent ({project['version']}) ")
