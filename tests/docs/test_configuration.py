"""docs/reference/configuration.md has every key that the files may have, with its default, and no other."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agent.core.config.app import AppConfig, Dependencies, Health, Process, Subscribe, Timer, parse_app
from agent.core.config.host import AgentConfig, BundleLimits, Door, Drop, Notify, parse_agent
from agent.core.config.repository import RepositoryConfig
from pusher.config import Dependencies as Sent
from pusher.config import Settings, load
from pusher.errors import Usage
from pusher.wire import RunSection
from tests.docs.documents import REPOSITORY, blocks

TEXT = (REPOSITORY / "docs/reference/configuration.md").read_text()
SENDER = TEXT.partition("\n## `pusher.toml`")[2]
TABLES: dict[str, type[BaseModel]] = {
    "## An app": AppConfig,
    "`[health]`": Health,
    "`[dependencies]`": Dependencies,
    "`[subscribe]`": Subscribe,
    "## The agent": AgentConfig,
    "`[door]`": Door,
    "`[limits]`": BundleLimits,
    "`[drop]`": Drop,
    "## The server of a repository": RepositoryConfig,
    "`[notify]`": Notify,
}
APPS = AppConfig(path="/opt/<app>", user="<app>")


def rows(beginning: str) -> dict[str, str]:
    """The keys and defaults of the first table after a line that begins so."""
    after = TEXT[re.search(rf"^{re.escape(beginning)}", TEXT, re.M).start() :]  # type: ignore[union-attr]
    table = re.search(r"(?:^\|.*\n)+", after, re.M)
    assert table, beginning
    return dict(re.findall(r"^\| `(\w+)` \| `?([^|]*?)`? \|", table[0], re.M))


@pytest.mark.parametrize("beginning", TABLES)
def test_every_key_stands_there_with_its_default(beginning: str):
    model = TABLES[beginning]
    instance: Any = APPS if model is AppConfig else model()
    own = {key for key, field in model.model_fields.items() if not isinstance(field.annotation, type(BaseModel))}
    own -= {"processes", "timers"}  # tables of tables
    # None is no value of TOML: the default of such a key is another key's value, in words.
    defaults = rows(beginning).items()
    written = {key: None if default.startswith("as ") else json.loads(default) for key, default in defaults}
    assert written == {key: getattr(instance, key) for key in own}


@pytest.mark.parametrize(("beginning", "model"), [("`[processes.NAME]`", Process), ("`[timers.NAME]`", Timer)])
def test_every_key_of_a_named_table_stands_there_with_its_default(beginning: str, model: type[BaseModel]):
    fields = model.model_fields
    written = {key: json.loads(default) for key, default in rows(beginning).items()}
    assert written == {key: field.default for key, field in fields.items() if not field.is_required()}
    table = TEXT.partition(f"\n{beginning}")[2].partition("\n\n`[")[0]
    assert {*re.findall(r"^\| `(\w+)` \| \|", table, re.M)} == {*fields} - {*written}


def test_the_keys_of_pusher_toml_stand_there_with_their_variables():
    found = {*re.findall(r"^\| `(\w+)` \| `PUSHER_(\w+)` \|", TEXT, re.M)}
    named = {
        "app",
        "source",
        "root",
        "key",
        "ssh",
        "repository",
        "credentials_file",
        "fleet",
        "signers",
        "bell",
        "keep_open_s",
    }
    named.add("bell_credentials_file")
    assert found == {(key, key.upper()) for key in named}
    assert named - {"keep_open_s"} < {*Settings.__dataclass_fields__}  # that one becomes a part of `ssh`


def test_the_documented_keys_of_pusher_toml_are_those_that_are_read(tmp_path: Path):
    tables = r"hosts\.NAME\.\w+|dependencies\.\w+|run\.\w+"
    files = "credentials_file|bell_credentials_file"
    keys = rf"{tables}|{files}|app|source|root|key|ssh|repository|fleet|signers|bell|keep_open_s"
    found = re.findall(rf"^\| `({keys})` \|", SENDER, re.M)
    top = [key for key in found if "." not in key]
    hosts, dependencies, run = (
        [key.rpartition(".")[2] for key in found if key.startswith(f"{table}.")]
        for table in ("hosts", "dependencies", "run")
    )
    values = {"address": "ssh://web1", "door": "127.0.0.1:9001", "drop": "/srv/drop", "owner": "root"}
    lines = [
        *(f"{key} = 1" if key == "keep_open_s" else f'{key} = "http://x"' for key in top),
        "[hosts.web1]",
        *(f'{key} = "{values[key]}"' for key in hosts),
    ]
    (tmp_path / "pusher.toml").write_text("\n".join(lines))
    assert load({}, environment={}, start=tmp_path).app == "http://x"
    (tmp_path / "pusher.toml").write_text("xyz = 1")
    with pytest.raises(Usage) as refused:
        load({}, environment={}, start=tmp_path)
    known = str(refused.value).rpartition(": ")[2]
    assert {*dependencies} == {*Sent.__dataclass_fields__}
    assert {*run} == {*RunSection.__dataclass_fields__}
    assert {*top, "hosts", "groups", "env", "dependencies", "run"} == {*known.split(", ")}


def test_the_agents_file_of_the_package_shows_the_defaults():
    lines = (REPOSITORY / "packaging/debian/agent.toml").read_text().splitlines()
    shown = tomllib.loads("\n".join(line[1:] for line in lines if re.match(r"#(\[|\w+ =)", line)))
    config = AgentConfig()
    for table in ("door", "limits", "drop", "notify"):
        assert shown[table] == getattr(config, table).model_dump()


def test_the_examples_of_configuration_can_be_used():
    found = {
        name: [block for language, block in blocks((REPOSITORY / name).read_text()) if language == "toml"]
        for name in ("docs/how-to/operating.md", "docs/reference/drop-directory.md")
    }
    [app], [agent] = found.values()
    assert parse_app(app, file="example", app="flask-demo").shared_paths == ["uploads"]
    assert parse_agent(agent, file="example") == AgentConfig()
