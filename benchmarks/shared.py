"""What the benchmarks and the workers they start both know. Small: a worker's memory and start are measured."""

from __future__ import annotations

import os

import redis

MARKS = "bench:marks"
"""A list in Redis to which tasks of both kinds write times."""

PLAIN_QUEUE = "plain"
PLAIN_WITH_RESULTS_QUEUE = "plain-with-results"


def client() -> redis.Redis:
    return redis.Redis.from_url(os.environ["CGK_BROKER_URL"])
