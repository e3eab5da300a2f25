"""`purge` cancels what waits in the app's queues, on record."""

import subprocess
import sys

import pytest
from celery import chain

from cgk_tasks import app, get_job_status
from cgk_tasks.celery_tasks.purging import purge
from cgk_tasks.tenancy import platform_context, tenant_context
from tests.integration import revoked_tasks as tasks

pytestmark = pytest.mark.usefixtures("database")
QUEUE = "q-purged"


def send(tenant="acme", **options):
    with platform_context(), tenant_context(tenant):
        return tasks.add.apply_async((1, 2), queue=options.pop("queue", QUEUE), **options)


def state(result):
    return get_job_status(result.id).state


@pytest.fixture(autouse=True)
def nothing_else(database):
    purge(app, [QUEUE])


def test_what_waits_for_now_and_for_later_is_cancelled_and_counted():
    now, later = send(), send(countdown=600)
    assert purge(app, [QUEUE]) == 2
    assert (state(now), state(later)) == ("cancelled", "cancelled")


def test_other_queues_stay_as_they_are():
    elsewhere = send(queue="q-not-purged")
    assert purge(app, [QUEUE]) == 0
    assert state(elsewhere) == "pending"


def test_a_chain_that_is_cut_is_revoked():
    with tenant_context("acme"):
        result = chain(tasks.add.si(1, 1).set(queue=QUEUE), tasks.add.si(2, 2).set(queue=QUEUE)).delay()
    purge(app, [QUEUE])
    assert (result.parent.status, result.ready()) == ("REVOKED", True)


def test_a_tenants_code_cancels_its_own_runs_alone():
    ours, theirs = send("acme"), send("globex")
    with tenant_context("acme"):
        assert purge(app, [QUEUE]) == 1
    assert (state(ours), state(theirs)) == ("cancelled", "pending")


@pytest.mark.slow
def test_the_command_cancels_runs_and_says_how_many():
    waits = send()
    command = [sys.executable, "-m", "celery", "-A", "cgk_tasks", "purge", "-f", "-Q", QUEUE]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == f"Cancelled 1 run in: {QUEUE}."
    assert state(waits) == "cancelled"
