"""Reading what Prometheus would read."""

import socket
import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def samples(text: str) -> dict[tuple, float]:
    """{(name, (label, value), ...): number}, with the labels in the order of their names."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(port: int) -> dict[tuple, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return samples(answer.read().decode())


def names(text: str) -> set[str]:
    return {family.name for family in text_string_to_metric_families(text)}


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def attempts(found: dict[tuple, float], event: str, outcome: str) -> float:
    return found.get(("cgk_attempt_duration_seconds_count", ("event", event), ("outcome", outcome)), 0)


def ended(found: dict[tuple, float], event: str, outcome: str) -> float:
    return found.get(("cgk_runs_ended_total", ("event", event), ("outcome", outcome)), 0)
