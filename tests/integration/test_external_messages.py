"""Whoever can write to the broker starts only what CGK_EXTERNAL_EVENTS names."""

import base64
import json
import uuid

import pytest
import redis
from celery import Celery
from kombu import Connection

import cgk_tasks
from cgk_tasks import get_run, send_job
from cgk_tasks.broker.dead_messages import KEY, summary
from cgk_tasks.broker.envelope import PACKET_HEADER, redis_key
from cgk_tasks.config import get_settings
from cgk_tasks.errors import UnknownRunError
from cgk_tasks.runs.models import DEFAULT_PRIORITY, run_id_of
from cgk_tasks.tenancy import tenant_context
from tests.integration import canvas_tasks as tasks
from tests.support.jobs import Behave
from tests.support.waiting import wait_closed, wait_until

PAYLOAD = {"tenantId": "acme", "action": "echo", "argument": "external, and private"}
MODULES = ["tests.support.jobs", "tests.integration.canvas_tasks"]


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(MODULES)


@pytest.fixture(scope="module")
def open_queue(start_worker):
    """The queue of a worker that takes one event of other producers."""
    start_worker(MODULES, CGK_EXTERNAL_EVENTS="test.behave", CGK_DEFAULT_QUEUE="external-open")
    return "external-open"


@pytest.fixture
def producer():
    made = Celery("another", broker=get_settings().broker, set_as_current=False)
    made.conf.task_default_queue = get_settings().default_queue
    yield made
    made.close()


@pytest.fixture
def broker():
    with redis.Redis.from_url(get_settings().broker) as client:
        client.delete(get_settings().key_prefix + KEY)
        yield client


def refused(broker):
    """What lies on the list, when the next message has been read."""
    assert wait_closed(send_job(Behave(tenant_id="acme", action="echo", argument="after")).id).result == "after"
    return summary(broker.lrange(get_settings().key_prefix + KEY, 0, -1))


def has_run(message_id):
    try:
        return get_run(run_id_of(str(message_id)))
    except UnknownRunError:
        return None


def test_an_event_of_another_producer_is_refused_with_one_line_that_names_it_and_the_setting(worker, broker, producer):
    before = len(worker.log)
    sent = producer.send_task("test.behave", kwargs=PAYLOAD)
    (entry,) = refused(broker)
    (line,) = [json.loads(line) for line in worker.log[before:].splitlines() if "message_refused" in line]
    assert has_run(sent.id) is None
    assert "names no run of the record" in entry["problem"]
    assert line["event"] == "test.behave"
    assert "CGK_EXTERNAL_EVENTS" in line["hint"]
    assert "private" not in worker.log


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        (tasks.add.name, (1, 2), {}),
        ("celery.map", ({"task": tasks.add.name, "args": [], "kwargs": {}, "options": {}}, [[1, 2]]), {}),
        ("celery.backend_cleanup", (), {}),
        ("nobody.knows", (), {}),
    ],
)
def test_tasks_and_celerys_own_are_refused_like_events(worker, broker, producer, name, args, kwargs):
    producer.send_task(name, args=args, kwargs=kwargs, headers={"tenant": "acme"})
    assert len(refused(broker)) == 1


def test_a_message_of_celerys_first_protocol_is_refused_too(worker, broker, producer):
    producer.conf.task_protocol = 1
    producer.send_task("test.behave", kwargs=PAYLOAD)
    assert len(refused(broker)) == 1


def test_what_the_setting_names_runs_and_nothing_else(open_queue, producer):
    sent = producer.send_task("test.behave", kwargs=PAYLOAD, queue=open_queue)
    other = producer.send_task(tasks.add.name, args=(1, 2), headers={"tenant": "acme"}, queue=open_queue)
    wait_until(lambda: has_run(sent.id), 20)
    last = producer.send_task("test.behave", kwargs=PAYLOAD, queue=open_queue)
    wait_until(lambda: has_run(last.id), 20)
    assert wait_closed(sent.id).result == PAYLOAD["argument"]
    assert has_run(other.id) is None


@pytest.fixture
def revoked():
    """Revokes an id that is not sent yet, for a tenant."""

    def revoke(tenant):
        task_id = str(uuid.uuid4())
        with tenant_context(tenant):
            cgk_tasks.app.control.revoke(task_id)
        return task_id

    return revoke


def test_a_message_whose_id_its_tenant_has_revoked_makes_a_cancelled_run(open_queue, producer, revoked):
    task_id = revoked("acme")
    producer.send_task("test.behave", kwargs=PAYLOAD, queue=open_queue, task_id=task_id)
    wait_until(lambda: has_run(task_id), 20)
    assert (wait_closed(task_id).state, get_run(task_id).attempt) == ("cancelled", 0)


def test_a_message_whose_id_another_tenant_has_revoked_runs(open_queue, producer, revoked):
    task_id = revoked("globex")
    producer.send_task("test.behave", kwargs=PAYLOAD, queue=open_queue, task_id=task_id)
    wait_until(lambda: has_run(task_id), 20)
    assert wait_closed(task_id).result == PAYLOAD["argument"]


def test_a_message_that_has_expired_makes_no_run(open_queue, producer):
    late = producer.send_task("test.behave", kwargs=PAYLOAD, queue=open_queue, expires=-1)
    next_one = producer.send_task("test.behave", kwargs=PAYLOAD, queue=open_queue)
    wait_until(lambda: has_run(next_one.id), 20)
    assert has_run(late.id) is None


def test_what_follows_an_event_that_is_taken_must_be_named_too(open_queue, broker, producer):
    link = producer.signature(tasks.add.name, args=(1, 2), immutable=True)
    sent = producer.send_task("test.behave", kwargs=PAYLOAD, queue=open_queue, link=link)
    wait_until(lambda: broker.llen(get_settings().key_prefix + KEY), 20)
    assert has_run(sent.id) is None


def test_a_task_that_opts_out_of_the_record_cannot_be_made_to_start_others(worker, broker, producer):
    link = producer.signature("test.behave", kwargs=PAYLOAD, immutable=True)
    producer.send_task(tasks.fleeting.name, args=(1,), headers={"tenant": "acme"}, link=link)
    assert len(refused(broker)) == 1


def test_a_task_that_opts_out_of_the_record_needs_no_setting(worker, broker, producer, tmp_path):
    path = tmp_path / "ran"
    producer.send_task(tasks.fleeting.name, args=(1, str(path)), headers={"tenant": "acme"})
    assert wait_until(lambda: path.exists() and path.read_text().strip()) == "1 acme"


def push_packet(broker, task, run_id, headers=None, follows=None):
    content = [[[run_id]], {}, follows or {}]
    text = json.dumps(
        {
            "body": base64.b64encode(json.dumps(content).encode()).decode(),
            "content-encoding": "utf-8", "content-type": "application/json",
            "headers": {"lang": "py", "task": task, "id": str(uuid.uuid4()), PACKET_HEADER: 1.0, **(headers or {})},
            "properties": {"delivery_tag": str(uuid.uuid4()), "body_encoding": "base64", "delivery_info": {},
                           "priority": 0, "correlation_id": "x"},
        }
    )  # fmt: skip
    broker.lpush(redis_key(get_settings().default_queue, DEFAULT_PRIORITY, get_settings().key_prefix), text)


LINK = {"task": "test.behave", "args": [], "kwargs": PAYLOAD, "options": {}, "immutable": True, "subtask_type": None}


@pytest.mark.parametrize("where", ["headers", "follows"])
def test_a_packet_cannot_say_what_follows(worker, broker, where):
    push_packet(broker, "test.behave", str(uuid.uuid4()), **{where: {"errbacks": [LINK]}})
    (entry,) = refused(broker)
    assert "follows" in entry["problem"]


def test_a_packet_cannot_give_a_run_to_another_task(worker, broker):
    with tenant_context("acme"):
        result = tasks.add.apply_async((1, 2), queue="external-nobody")
    push_packet(broker, tasks.collect.name, run_id_of(result.id))
    wait_until(lambda: "run_of_another_task" in worker.log)
    wait_until(lambda: get_run(run_id_of(result.id)).state == "pending")
    with Connection(get_settings().broker) as connection:
        connection.SimpleQueue("external-nobody").clear()
    push_packet(broker, tasks.add.name, run_id_of(result.id))
    assert wait_closed(run_id_of(result.id)).result == 3
