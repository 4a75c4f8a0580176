"""How a release runs: what it says itself, under the host's word.

Invariant: what root has written into the app's file wins, then what the release says (it is signed), then the
default. The result is kept with the release: whatever root or a later release says, a rollback runs it as it was
confirmed. Which processes and timers there are is the host's alone, because their units are root's.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.core.config.app import AppConfig, Health, Process, Timer
from agent.core.process_names import RESERVED
from pusher.wire import ANY_ANSWER, Code, Refused, RunHealth, RunProcess, RunSection, split_command

DEFAULT_START = "gunicorn -w 2 app:app"
"""How an app is started if neither its file nor the release says it: as in the workshop that people come from."""

DEADLINE_MOST_S = 900
"""The longest `health.deadline_s` of a release: the units wait as long. Root's own file may ask for more."""

HOOK_DEADLINE_MOST_S = 3600
"""The longest `hook_deadline_s` of a release: their unit waits as long. Root's own file may ask for more."""

SERVICE = "service"
"""What the process that serves is called among the commands of a release. No worker can have this name."""

_QUESTION = frozenset({"path", "host", "status", "version_member", "headers"})
"""What of [health] belongs together: what is asked, and which answer is good."""

Words = tuple[str, ...]
"""A command, split into words."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ProcessRun(_Record):
    """How a worker runs; `health` is empty, or a command that ends with exit code 0 when the worker is well."""

    start: Words
    health: Words = ()


class Run(_Record):
    """How a release runs. Times in seconds. `release` and `build` are as in `pusher.wire.RunSection`."""

    start: Words = split_command(DEFAULT_START)
    listen_via: Literal["socket", "port"] = "socket"
    python: str = ""
    health: Health = Health()
    processes: dict[str, ProcessRun] = {}
    timers: dict[str, Words] = {}
    release: str = ""
    build: tuple[Words, ...] = ()
    build_paths: tuple[str, ...] = ()
    build_environment: bool = False
    hook_deadline_s: float = 300

    @property
    def commands(self) -> Iterable[tuple[str, Words]]:
        """Each start command with the name of its process, the one that serves first."""
        return (
            (SERVICE, self.start),
            *((name, one.start) for name, one in self.processes.items()),
            *self.timers.items(),
        )


@dataclass(frozen=True, slots=True)
class RunRules:
    """What a host says of how an app's releases run: its configuration, from the file that is called `file`."""

    app: str
    config: AppConfig
    file: str
    units: bool = True
    """Whether root renders units for what the file has."""

    def decide(self, section: RunSection) -> Run:
        """How a release with this run section runs here.

        Raises: Refused(configuration), with the line to write, if the two do not fit each other.
        """
        said = section if self.config.release_decides else RunSection()
        self._check_known(said)
        if (said.health.deadline_s or 0) > DEADLINE_MOST_S and not self._says("deadline_s", self.config.health):
            raise Refused(
                Code.CONFIGURATION,
                f"The release asks for a health.deadline_s of {said.health.deadline_s} s",
                why=f"without root's word, {DEADLINE_MOST_S} s are the most",
                hint=f"Write deadline_s = {said.health.deadline_s} into [health] of {self.file}, then: "
                f"{self._then}",
            )
        if said.hook_deadline_s > HOOK_DEADLINE_MOST_S and not self._says("hook_deadline_s", self.config):
            raise Refused(
                Code.CONFIGURATION,
                f"The release asks for a hook_deadline_s of {said.hook_deadline_s} s",
                why=f"without root's word, {HOOK_DEADLINE_MOST_S} s are the most",
                hint=f"Write hook_deadline_s = {said.hook_deadline_s} at the top of {self.file}, then: "
                f"{self._then}",
            )
        return Run(
            start=split_command(self.config.start or said.start or DEFAULT_START),
            listen_via="port" if self._listen_via(said) == "port" else "socket",
            python=said.python,
            health=self._health(said.health),
            processes={
                name: self._process(name, one, said.processes.get(name))
                for name, one in self.config.processes.items()
                if one.instances
            },
            timers={
                name: self._timer(name, one, said.timers.get(name)) for name, one in self.config.timers.items()
            },
            release=said.release,
            build=tuple(split_command(one) for one in said.build),
            build_paths=said.build_paths,
            build_environment=said.build_environment,
            hook_deadline_s=self.config.hook_deadline_s
            if self._says("hook_deadline_s", self.config) or not said.hook_deadline_s
            else said.hook_deadline_s,
        )

    def unsaid(self) -> Run:
        """How a release runs that has kept nothing of it: as the host says, as far as that goes."""
        lone = {name: RunProcess(start=one.start) for name, one in self.config.processes.items() if one.start}
        timed = {name: one.start for name, one in self.config.timers.items() if one.start}
        known = self.config.model_copy(
            update={
                "processes": {name: self.config.processes[name] for name in lone},
                "timers": {name: self.config.timers[name] for name in timed},
            }
        )
        return RunRules(self.app, known, self.file).decide(RunSection())

    def overruled(self, section: RunSection) -> list[str]:
        """What the release says and the host decides otherwise, a sentence each."""
        if not section:
            return []
        if not self.config.release_decides:
            return [f"{self.file} decides how it runs (release_decides = false)"]
        theirs = [
            ("start", section.start, self.config.start),
            ("listen_via", section.listen_via, self._listen_via(section)),
        ]
        theirs += [
            (f"processes.{name}.start", one.start, self.config.processes[name].start)
            for name, one in section.processes.items()
        ]
        theirs += [
            (f"timers.{name}.start", start, self.config.timers[name].start)
            for name, start in section.timers.items()
        ]
        theirs += [
            (f"health.{name}", getattr(section.health, name), getattr(self.config.health, name))
            for name in sorted(self._overruled_health(section.health))
            # Where any answer would do, nobody has said which: the host's word is no contradiction.
            if name != "status" or not {*ANY_ANSWER} <= {*section.health.status}
        ]
        return [
            f"{key}: {self.file} says {_shown(ours)}, which counts; the release says {_shown(its)}"
            for key, its, ours in theirs
            if its and ours and _plain(its) != _plain(ours)
        ]

    @property
    def _then(self) -> str:
        return f"sudo pusher-agent app apply {self.app}" if self.units else "send again"

    def _listen_via(self, said: RunSection) -> str:
        """Another start than the release's gets its connections in a way of its own."""
        return self.config.listen_via or ("" if self.config.start else said.listen_via)

    def _overruled_health(self, its: RunHealth) -> set[str]:
        ours = self.config.health.model_fields_set
        return _said(its) & (ours | (_QUESTION if ours & _QUESTION else set()))

    def _check_known(self, said: RunSection) -> None:
        """Raises: Refused, for all that the host does not know: root decides what has a unit."""
        processes = [name for name in said.processes if name not in self.config.processes]
        timers = [name for name in said.timers if name not in self.config.timers]
        if not processes and not timers:
            return
        for name in (*processes, *timers):
            if name in RESERVED:
                raise Refused(
                    Code.CONFIGURATION,
                    f"The release has a {'process' if name in said.processes else 'timer'} {name!r}",
                    why="the agent itself uses that name",
                    hint="Give it another name there (Procfile, or [run] in pusher.toml)",
                )
        named = [*(f"a process {name!r}" for name in processes), *(f"a timer {name!r}" for name in timers)]
        tables = [*(f"[processes.{name}]" for name in processes), *(f"[timers.{name}]" for name in timers)]
        lines = [f'{one}\nschedule = "*-*-* 03:00"' if one.startswith("[timers") else one for one in tables]
        without = " (with instances = 0 for a process that shall not run here)" if processes else ""
        raise Refused(
            Code.CONFIGURATION,
            f"The release has {_listed(named)}, which this host does not know",
            why=f"{self.file} has no {_listed(tables)}{', and only root makes units' if self.units else ''}",
            hint="\n".join([f"Add this to {self.file}{without}, then: {self._then}", *lines]),
        )

    def _process(self, name: str, ours: Process, its: RunProcess | None) -> ProcessRun:
        start = ours.start or (its.start if its else "")
        if not start:
            raise self._unsaid_start("processes", name)
        health = tuple(ours.health) or (split_command(its.health) if its and its.health else ())
        return ProcessRun(start=split_command(start), health=health)

    def _timer(self, name: str, ours: Timer, its: str | None) -> Words:
        if not (start := ours.start or its or ""):
            raise self._unsaid_start("timers", name)
        return split_command(start)

    def _unsaid_start(self, table: str, name: str) -> Refused:
        release = f"pusher.toml, under [run.{table}.{name}], or into {self.file}"
        procfile = f"the release's Procfile ({name}: COMMAND), or into " if table == "processes" else ""
        return Refused(
            Code.CONFIGURATION,
            f"Nobody says how {name} is started",
            why=f"{self.file} has [{table}.{name}] without a start, and the release does not say it either",
            hint=f'Write it into {procfile}{release}: start = "COMMAND". If no release has a {name} any more, '
            f"take [{table}.{name}] out of {self.file}, then: {self._then}",
        )

    def _health(self, its: RunHealth) -> Health:
        """The host's question counts whole: the release's status would answer another one."""
        ours, said = self.config.health, _said(its)
        if ours.model_fields_set & _QUESTION:
            said -= _QUESTION
        return ours.model_copy(update={name: _plain(getattr(its, name)) for name in said - ours.model_fields_set})

    @staticmethod
    def _says(key: str, table: BaseModel) -> bool:
        return key in table.model_fields_set


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def with_additions(run: Run, host: Run) -> Run:
    """A release that runs already, with the workers and timers that root has added since, and says how to start.

    `host` is how it would run if it had kept nothing. What the release has, stays as it was confirmed.
    """
    processes, timers = {**host.processes, **run.processes}, {**host.timers, **run.timers}
    return run.model_copy(update={"processes": processes, "timers": timers})


def run_text(run: Run) -> str:
    """A `Run` as it is kept with a release: JSON."""
    return run.model_dump_json() + "\n"


def parse_run(text: str) -> Run:
    """The inverse of `run_text`. Raises: ValueError."""
    try:
        return Run.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"it cannot be read: {error.errors()[0]['msg']}") from error


def start_text(run: Run) -> str:
    """The commands of a release, as its runner reads them (agent/host/run/runner.py).

    A line each: its name, how long it may take to accept connections (in seconds), how it gets them ("socket" or
    "port"; "-" for what does not serve), and the words of its command; between them tabs, which no word can have.
    """
    lines = []
    for name, words in run.commands:
        serves = name == SERVICE
        deadline_s = f"{run.health.deadline_s:g}" if serves else "0"
        lines.append("\t".join((name, deadline_s, run.listen_via if serves else "-", *words)))
    return "".join(f"{line}\n" for line in lines)


def _said(health: RunHealth) -> set[str]:
    return {name for name in RunHealth.__slots__ if getattr(health, name) not in (None, (), {})}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _shown(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False)
