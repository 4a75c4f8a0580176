"""The parts of the documents that are drawn from the code. `python -m tests.docs.drawings` draws them again."""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from agent.core.phases import PHASES, RECOVERY, Phase, Recovery, Signal, advance, recovery
from agent.core.plan import (
    BEGINS,
    ENDED,
    PLANS,
    RETURN_AFTER,
    RETURN_BEFORE,
    Commit,
    Hook,
    Item,
    Kind,
    Step,
    finish_at,
    resume_at,
)
from agent.doors.http import openapi
from agent.doors.http.families import METRICS
from tests.docs.documents import DOCUMENTS, REPOSITORY

PLACE = re.compile(r"(<!-- drawn: ([\w ]+) -->\n)(.*?)(<!-- /drawn -->)", re.S)
STEPS = REPOSITORY / "agent/deploy/steps"
SHOWN = ("agent", "agent.doors", "agent.deploy", "agent.host", "pusher")
SHOWN_DOCUMENTS = (
    *("Status", "Current", "Live", "Process", "Timer", "Channel", "Facts", "Past", "Releases", "Release"),
    *("Deployment", "Step", "Finished", "Serving", "Answered", "Apps"),
)
"""The documents that have more than two members, and no section of their own."""
ACTIONS = {
    Recovery.UNDO: "undoes the deployment",
    Recovery.RESUME: "resumes it from `restart` on",
    Recovery.FINISH: "finishes the clean-up",
}


def phases() -> str:
    """The state machine, as a Mermaid diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.VERIFIED.name}"]
    for phase, arrows in PHASES.items():
        lines += [f"    {phase.name} --> {after.name}: {signal.value}" for signal, after in arrows.items()]
    lines += [f"    {phase.name} --> [*]" for phase, arrows in PHASES.items() if not arrows]
    return _fenced(lines, "mermaid")


def recovery_table() -> str:
    """What recovery does with a deployment it finds, by phase and link."""
    rows = ["| found in phase | `current` names | recovery |", "| --- | --- | --- |"]
    for phase in RECOVERY:
        old, new = (recovery(phase, link_says_new=new, resumptions=0) for new in (False, True))
        if old is new:
            rows.append(f"| {phase.name} | either release | {ACTIONS[old]} |")
        else:
            rows.append(f"| {phase.name} | the previous release | {ACTIONS[old]} |")
            rows.append(f"| {phase.name} | the new release | {ACTIONS[new]} |")
    return "\n".join(rows) + "\n"


def hooks(kind: Kind) -> str:
    """The plan of a deployment: steps at the left, hooks indented."""
    return _fenced(_grouped(PLANS[kind]))


def hooks_of_a_return() -> str:
    """The way back after a failure behind the switch."""
    undone = [item for item in reversed(PLANS[Kind.DEPLOY]) if isinstance(item, Step)]
    undone = undone[undone.index(Step.CONFIRM) : undone.index(Step.SWITCH)]
    lines = ["  ".join(f"undo {step.value}" for step in undone), f"    {_names(RETURN_BEFORE)}"]
    return _fenced([*lines, f"undo {Step.SWITCH.value}", f"    {_names(RETURN_AFTER)}"])


def way(kind: Kind) -> str:
    """The steps of a deployment as a flow, and a table with the code of each."""
    return f"{_flow(kind)}\n{_steps(kind)}"


def way_of_a_recovery() -> str:
    """From the phase that is found to what is done about it."""
    plan = PLANS[Kind.DEPLOY]
    resumed, finished = plan[resume_at(plan)], plan[finish_at(plan)]
    lines = [
        "flowchart LR",
        '    undo["take_back"]',
        f'    resume["carry_out, from {_name(resumed)} on"]',
        f'    finish["carry_out, from {_name(finished)} on"]',
    ]
    for phase in RECOVERY:
        old, new = (recovery(phase, link_says_new=new, resumptions=0) for new in (False, True))
        if old is new:
            lines.append(f"    {phase.name} --> {old.value}")
        else:
            lines.append(f"    {phase.name} -->|current names the previous release| {old.value}")
            lines.append(f"    {phase.name} -->|current names the new release| {new.value}")
    return _fenced(lines, "mermaid")


def floors() -> str:
    """The layers of import-linter's contracts, from the top down, without those inside the wings."""
    lines = []
    for contract in _contracts("layers"):
        if contract["containers"][0] in SHOWN:
            lines += [*contract["containers"], *(f"    {layer}" for layer in contract["layers"]), ""]
    return _fenced(lines[:-1])


def walls() -> str:
    """The other contracts, by their names."""
    return "\n".join(f"- `{one['id']}`: {one['name']}" for one in _contracts("forbidden")) + "\n"


def metrics() -> str:
    """The table of all metrics."""
    rows = ["| metric | kind | labels | says |", "| --- | --- | --- | --- |"]
    for one in METRICS:
        rows.append(
            f"| `{one.name}` | {one.kind} | {' '.join(f'`{label}`' for label in one.labels)} | {one.says} |"
        )
    return "\n".join(rows) + "\n"


def routes() -> str:
    """The routes of the door, as its description has them: those of an app, then the short forms."""
    rows = ["| method | path | policy | parameters | response |", "| --- | --- | --- | --- | --- |"]
    long, short = [], []
    for path, methods in openapi.document()["paths"].items():
        only = path.count("/") == 1 and f"/apps/{{app}}{path}" in openapi.document()["paths"]
        by_summary: dict[str, list[str]] = {}
        for method, one in methods.items():
            by_summary.setdefault(one["summary"], []).append(method)
        for summary, names in by_summary.items():
            one = methods[names[0]]
            queries = [named["name"] for named in one["parameters"] if named["in"] == "query"]
            parameters = f" `{' '.join(queries)}`" if queries else ""
            says = "short form, for the only app of the host" if only else summary
            method = ", ".join(name.upper() for name in names)
            (short if only else long).append(
                f"| {method} | `{path}` | {one['x-policy'].upper()} |{parameters} | {says} |"
            )
    return "\n".join([*rows, *long, *short]) + "\n"


def documents() -> str:
    """The documents that the door answers, member by member, as its description has them."""
    schemas = openapi.document()["components"]["schemas"]
    parts = []
    for name in SHOWN_DOCUMENTS:
        schema = schemas[name]
        rows = [f"`{name}`: {schema['description'].removesuffix('.')}.", "", "| member | is | meaning |",
                "| --- | --- | --- |"]  # fmt: skip
        for member, its in schema["properties"].items():
            absent = "" if member in schema["required"] else ", or missing"
            rows.append(f"| `{member}` | {_type(its)}{absent} | {its['description']} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _type(schema: Mapping[str, Any]) -> str:
    """What a member is, in a word or two."""
    if "anyOf" in schema:
        return ", or ".join(_type(one) for one in schema["anyOf"])
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"`{name}`" if name in SHOWN_DOCUMENTS else name.lower()
    if "enum" in schema:
        return " ".join(f"`{one}`" for one in schema["enum"])
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if schema.get("format") == "date-time":
        return "time"
    return {"integer": "number", "boolean": "true or false"}.get(schema["type"], schema["type"])


DRAWINGS: Mapping[str, Callable[[], str]] = {
    "phases": phases,
    "recovery": recovery_table,
    "hooks of a deploy": lambda: hooks(Kind.DEPLOY),
    "hooks of a rollback": lambda: hooks(Kind.ROLLBACK),
    "hooks of a return": hooks_of_a_return,
    "way of a bundle": lambda: way(Kind.DEPLOY),
    "way of a rollback": lambda: way(Kind.ROLLBACK),
    "way of a recovery": way_of_a_recovery,
    "floors": floors,
    "walls": walls,
    "metrics": metrics,
    "routes": routes,
    "documents": documents,
}


def drawn(text: str) -> str:
    """A document with its drawings as they are now."""
    return PLACE.sub(lambda place: f"{place[1]}{DRAWINGS[place[2]]()}{place[4]}", text)


def _phased(kind: Kind) -> Iterator[tuple[Step | Commit, Phase]]:
    """The steps of a plan, and its commit, each with the phase in which it runs."""
    phase = Phase.VERIFIED
    for item in PLANS[kind]:
        if isinstance(item, Commit):
            phase = advance(phase, Signal.CONFIRMED)
        elif isinstance(item, Step):
            phase = advance(phase, BEGINS[item]) if item in BEGINS else phase
        else:
            continue
        yield item, phase
        phase = advance(phase, ENDED[item]) if isinstance(item, Step) and item in ENDED else phase


def _flow(kind: Kind) -> str:
    """A deployment: its steps in their phases, and where a failure leads."""
    steps = [*_phased(kind)]
    lines = ["flowchart TD"]
    before = [step.value for step in (Step.RECEIVE, Step.VERIFY)] if kind is Kind.DEPLOY else []
    names = [*before, *(step.value for step, _ in steps), Phase.DONE.name]
    lines += [f"    {step} --> {after}" for step, after in pairwise(names)]
    for phase in dict.fromkeys(phase for _, phase in steps):
        within = " & ".join(step.value for step, at in steps if at is phase)
        if failed := PHASES[phase].get(Signal.STEP_FAILED):
            lines.append(f"    {within} -.->|{Signal.STEP_FAILED.value}| {failed.name}")
    for phase in (Phase.DISCARDING, Phase.RETURNING):
        lines += [f"    {phase.name} -->|{signal.value}| {after.name}" for signal, after in PHASES[phase].items()]
    return _fenced(lines, "mermaid")


def _steps(kind: Kind) -> str:
    """The steps of a deployment: the code of each, the phase in which it runs, and what its failure leads to."""
    rows = ["| step | code | phase while it runs | if it fails |", "| --- | --- | --- | --- |"]
    if kind is Kind.DEPLOY:
        for step in (Step.RECEIVE, Step.VERIFY):
            rows.append(f"| {step.value} | `Admission` in `agent/deploy/admission.py` | none yet | refused |")
    for step, phase in _phased(kind):
        if isinstance(step, Commit):
            rows.append(f"| *commit* | | {phase.name} from here on | |")
            continue
        failed = PHASES[phase].get(Signal.STEP_FAILED)
        fate = f"{failed.name}, then FAILED" if failed else "a warning"
        name = step.value.title().replace("-", "")
        file = next(path for path in STEPS.glob("*.py") if f"class {name}" in path.read_text())
        rows.append(f"| {step.value} | `{name}` in `{file.relative_to(REPOSITORY)}` | {phase.name} | {fate} |")
    return "\n".join(rows) + "\n"


def _name(item: Item) -> str:
    return item.name if isinstance(item, Hook) else item.value


def _contracts(kind: str) -> list[dict[str, list[str]]]:
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return [one for one in contracts if one["type"] == kind]


def _grouped(items: Iterable[Item]) -> list[str]:
    lines: list[str] = []
    before: type | None = None
    for item in items:
        if isinstance(item, Hook) and before is Hook:
            lines[-1] += f"  {item.name}"
        elif isinstance(item, Hook):
            lines.append(f"    {item.name}")
        elif isinstance(item, Step) and before is Step:
            lines[-1] += f"  {item.value}"
        else:
            lines.append(item.value)
        before = type(item)
    return lines


def _names(found: Iterable[Hook]) -> str:
    return "  ".join(hook.name for hook in found)


def _fenced(lines: Iterable[str], language: str = "") -> str:
    return "\n".join((f"```{language}", *lines, "```", ""))


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(drawn(document.read_text()))
