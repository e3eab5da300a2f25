"""`cgk-tasks queues`."""

import os

import pytest

from cgk_tasks import cancel_job, send_job
from cgk_tasks.flow.queues import resume_queue

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def queue():
    """A queue with a run in it, in which nobody works."""
    name = f"emails-{os.urandom(4).hex()}"
    run = send_job("order.created", {"tenantId": "acme", "orderId": "o-1", "totalAmount": 1.5}, queue=name)
    yield name
    cancel_job(run.id)
    resume_queue(name)


@pytest.fixture
def listed(cgk):
    def find(name):
        return next((row for row in cgk("queues", "list", "--json").json if row["queue"] == name), None)

    return find


def test_a_queue_is_listed_with_what_waits_in_it(listed, queue):
    row = listed(queue)
    assert row.pop("oldest_seconds") >= 0
    assert row == {
        "queue": queue, "state": "active", "waiting": 1, "running": 0, "held": 0, "later": 0, "workers": 0,
        "paused_at": None, "paused_by": None, "reason": None,
    }  # fmt: skip


def test_the_default_queue_is_listed_though_nothing_is_in_it(listed):
    assert listed(os.environ["CGK_DEFAULT_QUEUE"])["state"] == "active"


def test_the_table_for_people_has_every_queue(cgk, queue):
    assert queue in cgk("queues", "list").out


def test_a_queue_is_paused_with_who_and_why_and_resumed(cgk, listed, queue):
    assert cgk("queues", "pause", queue, "--by", "ops", "--reason", "no mail server").out.startswith(
        f"{queue}: paused since "
    )
    paused = listed(queue)
    resumed = cgk("queues", "resume", queue)
    assert (paused["state"], paused["paused_by"], paused["reason"]) == ("paused", "ops", "no mail server")
    assert (resumed.code, resumed.out, listed(queue)["state"]) == (0, f"{queue}: active\n", "active")


def test_pausing_again_prints_the_first_pause(cgk, queue):
    first = cgk("queues", "pause", queue, "--by", "ops", "--json").json
    assert cgk("queues", "pause", queue, "--by", "me", "--json").json == first


def test_a_queue_that_nobody_knows_is_paused_and_the_nearest_name_is_told(cgk, queue):
    misspelt = queue[:-1]
    outcome = cgk("queues", "pause", misspelt)
    resume_queue(misspelt)
    assert outcome.code == 0
    assert f'no run is in it. Did you mean "{queue}"?' in outcome.err


def test_resuming_what_is_not_paused_is_told_with_what_is(cgk, queue):
    cgk("queues", "pause", queue)
    outcome = cgk("queues", "resume", queue[:-1])
    assert outcome.code == 0
    assert "It was not paused. Paused are:" in outcome.err
    assert queue in outcome.err


def test_what_is_no_name_of_a_queue_fails(cgk):
    outcome = cgk("queues", "pause", "")
    assert (outcome.code, "1 to 200 printable characters" in outcome.err) == (1, True)
