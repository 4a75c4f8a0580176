"""Metrics as a reader gets them: scraped from a door, and parsed by the library of those who write exporters."""

from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.host import Host


@dataclass(frozen=True)
class Scrape:
    """One scrape: the samples by name, each with its labels."""

    text: str
    samples: dict[str, list[tuple[dict[str, str], float]]]

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the one sample with these labels (and others); None without one."""
        found = [value for has, value in self.matching(name, **labels)]
        assert len(found) <= 1, found
        return found[0] if found else None

    def matching(self, name: str, **labels: str) -> Iterator[tuple[dict[str, str], float]]:
        """All samples with these labels."""
        for has, value in self.samples.get(name, []):
            if labels.items() <= has.items():
                yield has, value


def parse(text: str) -> Scrape:
    """What a scrape says."""
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return Scrape(text, samples)


async def scrape(host: Host) -> Scrape:
    """Scrape the agent of a host."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{host.door}/metrics") as answer,
    ):
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/plain"
        return parse(await answer.text())
