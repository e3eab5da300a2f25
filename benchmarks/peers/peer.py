"""What a system must offer to be measured beside the others."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import redis

TENANT = "bench"


def redis_url() -> str:
    return os.environ["BENCH_REDIS_URL"]


def database_url() -> str:
    return os.environ["CGK_DATABASE_URL"]


def redis_client() -> redis.Redis:
    return redis.Redis.from_url(redis_url())


def order(number: int) -> dict[str, object]:
    """The payload of a no-op, the same for all."""
    return {"tenant_id": TENANT, "order_id": f"o-{number}", "total_amount": 59.97}


class Peer(ABC):
    """One system in one setting."""

    name: str
    packages: Sequence[str]
    """Distributions whose versions are printed."""
    how: str
    """How its workers are run, in a few words."""
    guarantees: str
    """What it guarantees in this setting, in a line."""
    environment: ClassVar[Mapping[str, str]] = {}
    """Variables of the sending process and of the workers."""
    share: float = 1.0
    """How much of the planned backlog it gets: a slow system does not need as much to be measured."""

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Once, before the first repetition."""

    def clear(self) -> None:  # noqa: B027
        """Before each repetition, when Redis and the record of runs are empty."""

    @abstractmethod
    def mark(self, since: float) -> None:
        """Send a job that writes the time of its start, less `since`."""

    @abstractmethod
    def send(self, number: int) -> None:
        """Send one no-op."""

    @abstractmethod
    def send_many(self, count: int) -> None:
        """Send no-ops in its own best documented way."""

    @abstractmethod
    def commands(self) -> list[list[str]]:
        """The commands that start two worker processes, in the folder benchmarks/."""

    @abstractmethod
    def left(self) -> int:
        """How many jobs are not done: waiting, or taken and not acknowledged where it knows that."""

    def span(self, marks: Sequence[float]) -> tuple[float, float]:
        """When the backlog was begun and done, once it is; marks: when the jobs before it and behind it began."""
        return min(marks), max(marks)

    def time_sends(self, count: int) -> list[float]:
        """Seconds of each of `count` sends, one after another."""
        times = []
        for number in range(count):
            begun = time.perf_counter()
            self.send(number)
            times.append(time.perf_counter() - begun)
        return times
