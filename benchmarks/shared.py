"""What the benchmarks and the workers they start both know. Small: a worker's memory and start are measured."""

from __future__ import annotations

import os
from importlib import import_module

import redis

REDIS_URL = "BENCH_REDIS_URL"
"""The variable with the address of Redis, which is CGK_BROKER_URL too unless that names RabbitMQ."""

RABBITMQ_URL = "BENCH_RABBITMQ_URL"

IMPORTS = "BENCH_IMPORTS"
"""The variable with the modules that a worker's application imports at once, as a real one would."""

MARKS = "bench:marks"
"""A list in Redis to which tasks of both kinds write times."""

PLAIN_QUEUE = "plain"
PLAIN_WITH_RESULTS_QUEUE = "plain-with-results"


def client() -> redis.Redis:
    return redis.Redis.from_url(os.environ[REDIS_URL])


OF_A_PRODUCT = "sqlalchemy.orm sqlalchemy.dialects.postgresql.psycopg psycopg pydantic"
"""What a module of tasks imports that check their arguments and write rows, whichever side runs them."""


def import_what_jobs_need() -> None:
    """Both sides' applications call this, so that their memory is compared with the same libraries loaded."""
    for name in os.environ.get(IMPORTS, "").split():
        import_module(name)
