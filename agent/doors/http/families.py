"""The metrics: their names, and how figures become samples. Only a scrape imports this.

Invariant: the values of labels are names from the configuration and members of enums, so that nobody who calls the
agent can make series. The one exception is `pusher_release_info`: one series an app, with what is live.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from agent.core.drop import Awaited
from agent.core.phases import Phase
from agent.core.plan import Kind, Step
from agent.core.releases import Standing
from agent.core.tally import ENDLESS, Ending, Times
from agent.deploy.figures import AppFigures
from agent.host.own_process import OwnProcess
from pusher.wire import Code

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_DEPLOYMENTS = [Ending(kind, outcome) for kind in Kind for outcome in (Phase.DONE, Phase.FAILED, Phase.STUCK)]
_STEPS = [Ending(step, outcome) for step in Step for outcome in (Phase.DONE, Phase.FAILED)]
_SIGNATURE = (
    Code.SIGNATURE_INVALID,
    Code.SIGNER_UNKNOWN,
    Code.SIGNER_REVOKED,
    Code.SIGNATURES_MISSING,
    Code.TOUCH_MISSING,
)
_DOORS = ("http", "drop", "channel")
_KINDS = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


class Named(NamedTuple):
    """One metric: its name, its kind (`counter`, `gauge`, `histogram`), its labels, and what it says."""

    name: str
    kind: str
    labels: tuple[str, ...]
    says: str


_APP, _ENDED = ("app",), ("app", "kind", "outcome")
METRICS = (
    Named("pusher_app_usable", "gauge", _APP, "1 if the app's file can be used"),
    Named("pusher_deployments_total", "counter", _ENDED, "Deployments that ended, since the journal began"),
    Named("pusher_deployment_duration_seconds", "histogram", _ENDED, "How long deployments took"),
    Named("pusher_last_deployment_timestamp_seconds", "gauge", _ENDED, "When a deployment last ended so"),
    Named("pusher_step_duration_seconds", "histogram", ("app", "step", "outcome"), "How long steps took"),
    Named("pusher_deployment_running", "gauge", _APP, "1 while a deployment is under way"),
    Named("pusher_release_info", "gauge", ("app", "release", "version"), "1 for the release that is live"),
    Named("pusher_releases", "gauge", ("app", "standing"), "Releases on the host"),
    Named("pusher_release_drift", "gauge", _APP, "1 if the live release is not what was signed"),
    Named("pusher_app_running", "gauge", _APP, "1 if the app runs"),
    Named("pusher_app_healthy", "gauge", _APP, "1 if it answers as [health] wants; asked for this scrape"),
    Named("pusher_app_restarts_total", "counter", _APP, "How often it ended by itself, since the agent's start"),
    Named("pusher_app_trouble", "gauge", _APP, "1 if the agent could not recover or start it"),
    Named("pusher_process_running", "gauge", ("app", "process"), "1 if the worker runs"),
    Named("pusher_timer_last_run_timestamp_seconds", "gauge", ("app", "timer"), "When the timer last ran"),
    Named("pusher_timer_failed", "gauge", ("app", "timer"), "1 if the timer's last run ended badly"),
    Named("pusher_disk_free_bytes", "gauge", _APP, "Room for releases on their filesystem"),
    Named("pusher_disk_size_bytes", "gauge", _APP, "The size of that filesystem"),
    Named("pusher_drops_waiting", "gauge", ("app", "awaited"), "Drops that wait, as of the last scan"),
    Named("pusher_refusals_total", "counter", ("door", "code"), "What was refused, since the agent's start"),
    Named("pusher_agent_info", "gauge", ("version",), "1 for the agent's version"),
    Named("pusher_agent_connections", "gauge", (), "Open connections of the HTTP door"),
    Named("pusher_agent_uploads", "gauge", (), "Bundles on their way in"),
    Named("pusher_agent_tasks", "gauge", (), "Tasks of the agent's event loop"),
    Named("pusher_agent_threads", "gauge", (), "The agent's threads"),
    Named("pusher_agent_loop_delay_seconds", "gauge", (), "How long a callback waited; tried for this scrape"),
    Named("process_resident_memory_bytes", "gauge", (), "The agent's memory"),
    Named("process_virtual_memory_bytes", "gauge", (), "The agent's address space"),
    Named("process_cpu_seconds_total", "counter", (), "The time of the processor that the agent took"),
    Named("process_open_fds", "gauge", (), "The agent's open descriptors"),
    Named("process_max_fds", "gauge", (), "How many descriptors it may have"),
    Named("process_start_time_seconds", "gauge", (), "When the agent started"),
)
"""All metrics. docs/reference/metrics.md is drawn from this table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that one scrape has seen. `apps` has None for each app whose file cannot be used."""

    apps: Mapping[str, AppFigures | None]
    drops: Mapping[str, Mapping[Awaited, int]]
    refusals: Mapping[tuple[str, Code], int]
    version: str
    connections: int
    uploads: int
    tasks: int
    loop_delay_s: float
    process: OwnProcess
    started: int


def text(seen: Seen) -> bytes:
    """What was seen, in the text format of Prometheus 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Seen(seen))
    return generate_latest(registry)


class _Seen(Collector):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def collect(self) -> Iterable[Metric]:
        samples = {**_of_apps(self._seen), **_of_agent(self._seen)}
        for named in METRICS:
            if named.kind == "histogram":
                histogram = HistogramMetricFamily(named.name, named.says, labels=named.labels)
                for labels, times in self._times(named):
                    histogram.add_metric(labels, _buckets(times), times.ms / 1000)
                yield histogram
            else:
                family = _KINDS[named.kind](named.name, named.says, labels=named.labels)
                for labels, value in samples[named.name]:
                    family.add_metric(labels, value)
                yield family

    def _times(self, named: Named) -> Iterator[tuple[Sequence[str], Times]]:
        of_steps = "step" in named.labels
        for app, figures in _usable(self._seen):
            known = figures.tally.steps if of_steps else figures.tally.deployments
            # With those that never happened: a rate needs the 0 before the first one.
            for ending in _STEPS if of_steps else _DEPLOYMENTS:
                yield (app, *ending), known.get(ending, Times())


def _buckets(times: Times) -> list[tuple[str, float]]:
    return [("+Inf" if bound == ENDLESS else f"{bound / 1000:g}", count) for bound, count in times.up_to()]


_Samples = list[tuple[tuple[str, ...], float]]


def _of_apps(seen: Seen) -> dict[str, _Samples]:
    apps = [*_usable(seen)]
    return {
        "pusher_app_usable": [((app,), figures is not None) for app, figures in seen.apps.items()],
        "pusher_deployments_total": [
            ((app, *ending), one.tally.deployments.get(ending, Times()).count)
            for app, one in apps
            for ending in _DEPLOYMENTS
        ],
        "pusher_last_deployment_timestamp_seconds": [
            ((app, *ending), at / 1000) for app, one in apps for ending, at in one.tally.last.items()
        ],
        "pusher_deployment_running": [((app,), one.deploying) for app, one in apps],
        "pusher_release_info": [((app, one.live.id, one.live.version), 1) for app, one in apps if one.live],
        "pusher_releases": [
            ((app, standing), one.releases.get(standing, 0)) for app, one in apps for standing in Standing
        ],
        "pusher_release_drift": [((app,), one.drift) for app, one in apps if one.drift is not None],
        "pusher_app_running": [((app,), one.running) for app, one in apps],
        "pusher_app_healthy": [((app,), one.healthy) for app, one in apps if one.healthy is not None],
        "pusher_app_restarts_total": [((app,), one.restarts) for app, one in apps],
        "pusher_app_trouble": [((app,), one.trouble) for app, one in apps],
        "pusher_process_running": [
            ((app, process.name), process.running) for app, one in apps for process in one.processes
        ],
        "pusher_timer_last_run_timestamp_seconds": [
            ((app, timer.name), timer.last / 1000) for app, one in apps for timer in one.timers if timer.last
        ],
        "pusher_timer_failed": [
            ((app, timer.name), timer.ending not in ("", _WELL)) for app, one in apps for timer in one.timers
        ],
        "pusher_disk_free_bytes": [((app,), one.disk_free) for app, one in apps if one.disk_free is not None],
        "pusher_disk_size_bytes": [((app,), one.disk_size) for app, one in apps if one.disk_size is not None],
        "pusher_drops_waiting": [
            ((app, awaited), waiting.get(awaited, 0)) for app, waiting in seen.drops.items() for awaited in Awaited
        ],
    }


def _of_agent(seen: Seen) -> dict[str, _Samples]:
    process = seen.process
    refusals = {(door, code): 0 for door in _DOORS for code in _SIGNATURE} | dict(seen.refusals)
    return {
        "pusher_refusals_total": [((door, code), count) for (door, code), count in sorted(refusals.items())],
        "pusher_agent_info": [((seen.version,), 1)],
        **{
            name: [((), value)]
            for name, value in (
                ("pusher_agent_connections", seen.connections),
                ("pusher_agent_uploads", seen.uploads),
                ("pusher_agent_tasks", seen.tasks),
                ("pusher_agent_threads", process.threads),
                ("pusher_agent_loop_delay_seconds", seen.loop_delay_s),
                ("process_resident_memory_bytes", process.resident),
                ("process_virtual_memory_bytes", process.virtual),
                ("process_cpu_seconds_total", process.cpu_s),
                ("process_open_fds", process.descriptors),
                ("process_max_fds", process.descriptors_most),
                ("process_start_time_seconds", seen.started / 1000),
            )
        },
    }


_WELL = "exit code 0"


def _usable(seen: Seen) -> Iterator[tuple[str, AppFigures]]:
    return ((app, figures) for app, figures in seen.apps.items() if figures is not None)
