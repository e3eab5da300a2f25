"""A worker that is started on a database without tables: it says what to do, waits quietly, and then works."""

import json
import os

import psycopg
import pytest

from cgk_tasks import send_job
from cgk_tasks.client import reset_job_client
from cgk_tasks.migrations import migrate
from cgk_tasks.sql.postgres import close_pools
from cgk_tasks.tenancy import add_tenant
from tests.support.jobs import Behave
from tests.support.waiting import wait_closed, wait_until
from tests.support.workers import Worker

pytestmark = pytest.mark.slow

COMPLAINTS = ("worker_waits_for_tables", "heartbeat_failed", "supervisor_unavailable", "supervisor_failed")


@pytest.fixture
def empty_database(environment, services, setting):
    name = f"empty_{os.urandom(4).hex()}"
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    setting(CGK_DATABASE_URL=services.database_url.replace("/cgk?", f"/{name}?"), CGK_DEFAULT_QUEUE=f"q-{name}")
    reset_job_client()
    yield
    reset_job_client()
    close_pools()


@pytest.fixture
def worker(empty_database):
    """A worker that has been without tables for so many heartbeats that it is fenced."""
    started = Worker(["tests.support.jobs"])
    wait_until(lambda: "worker_fenced" in started.log, 60, "it was fenced")
    yield started
    started.stop()


def complaints(worker):
    lines = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("message") in COMPLAINTS]


def test_it_says_once_what_to_do(worker):
    (line,) = complaints(worker)
    assert (line["level"], line["message"]) == ("warning", "worker_waits_for_tables")
    assert "cgk-tasks migrate" in line["reason"]


def test_it_works_once_the_tables_are_there(worker):
    migrate()
    add_tenant("acme")
    assert wait_closed(send_job(Behave(tenant_id="acme", action="echo")).id, 60).state == "completed"
    wait_until(lambda: "tables_found" in worker.log, 20, "the worker says so")
