"""The run section of a version: what pusher.toml says, then its Procfile, then what was found in its files.

Invariant: each key comes from the first of these that says it.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pusher.run.build import find_build
from pusher.run.found import find_health, find_run
from pusher.run.procfile import read_procfile
from pusher.run.python import declared_python
from pusher.wire import PROCFILE, RunSection


class Said(NamedTuple):
    """A run section. `note` says where its start comes from, for people. `found`: nobody says it, it was found.

    `lacking` is a package without which the version cannot be started, unless the host says how; `then` is how it
    is started with that.
    """

    section: RunSection
    note: str
    found: bool
    lacking: str = ""
    then: str = ""


def run_section(folder: Path, said: RunSection, *, packages: Collection[str]) -> Said:
    """The run section of the version in `folder`. `packages` are the names of its dependencies. Raises: Usage."""
    procfile = read_procfile(folder)
    section = _over(said, procfile) if procfile else said
    python = RunSection(python=declared_python(folder).version)
    if section.start:
        where = "pusher.toml" if said.start else PROCFILE
        return Said(_asked(_over(section, python), folder), f"start: {section.start} ({where})", found=False)
    found = find_run(folder, packages)
    if not found.section.start:
        whole = _over(section, python)
        note = f"start: the host decides; {found.why}"
        return Said(whole, note, found=not section, lacking=found.lacking, then=found.then)
    whole = _asked(_over(_over(section, found.section), python), folder)
    return Said(whole, f"start: {whole.start} (found: {found.why})", found=not section)


def _asked(section: RunSection, folder: Path) -> RunSection:
    """The section with a question for its health, and with build steps, where nobody says them."""
    if not section.health.members():
        section = replace(section, health=find_health(folder))
    if not section.build and (steps := find_build(folder)).commands:
        section = replace(section, build=steps.commands, build_paths=steps.paths)
    return section


def _over(upper: RunSection, lower: RunSection) -> RunSection:
    """What the upper says, and the rest as the lower says. A start is never listened to in the other's way."""
    members = {**lower.members(), **upper.members()}
    if upper.start and not upper.listen_via:
        members.pop("listen_via", None)
    for table in ("processes", "timers", "health"):
        both = {**lower.members().get(table, {}), **upper.members().get(table, {})}
        if both:
            members[table] = both
    return RunSection.from_members(members)
