"""Junk in the broker ends no worker: it is set aside, and what comes after it runs."""

import base64
import json
import uuid
import zlib

import pytest
import redis

from cgk_tasks import send_job
from cgk_tasks.broker.dead_messages import KEY, MOST, keep, summary
from cgk_tasks.broker.envelope import PACKET_HEADER, redis_key
from cgk_tasks.cli.doctor import broker as doctor
from cgk_tasks.config import get_settings
from cgk_tasks.runs.models import DEFAULT_PRIORITY, new_run_id
from tests.support.jobs import Behave
from tests.support.waiting import wait_closed, wait_until

FOLLOWS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
HEADERS = {"lang": "py", "task": "test.behave", "id": str(uuid.uuid4()), PACKET_HEADER: 1.0}


def envelope(content, headers=HEADERS, **other):
    return json.dumps(
        {
            "body": base64.b64encode(content if isinstance(content, bytes) else json.dumps(content).encode()).decode(),
            "content-encoding": "utf-8", "content-type": "application/json", "headers": headers,
            "properties": {"delivery_tag": str(uuid.uuid4()), "body_encoding": "base64", "delivery_info": {},
                           "priority": 0, "correlation_id": "x"},
            **other,
        }
    )  # fmt: skip


UNREADABLE = {
    "text": "xx",
    "number": "5",
    "list": "[]",
    "null": "null",
    "not UTF-8": b"\xff\xfe",
    "empty": "",
    "deep": "[" * 100_000,
    "object": "{}",
    "properties": json.dumps({"properties": 5}),
    "headers": envelope([[[]], {}, FOLLOWS], headers=[1]),
    "not base64": envelope([], body="a"),
    "body that is a text": envelope("***"),
    "body that is a number": envelope(5),
    "body that is null": envelope(None),
    "body that is no JSON": envelope(b"{"),
    "body that is not UTF-8": envelope(b"\xff"),
    "short body": envelope([1, 2]),
    "wrong parts": envelope([1, 2, 3]),
    "no list of runs": envelope([[5], {}, FOLLOWS]),
    "task that is a list": envelope([[[]], {}, FOLLOWS], headers={**HEADERS, "task": ["a"]}),
    "no id": envelope([[[]], {}, FOLLOWS], headers={"task": "test.behave", PACKET_HEADER: 1.0}),
    "pickle": envelope(b"x", **{"content-type": "application/x-python-serialize"}),
    "bomb": envelope(zlib.compress(b"[" * 300_000_000, 1)[:400_000], headers={**HEADERS, "compression": "gzip"}),
    "foreign compression": envelope(b"x", headers={**HEADERS, "compression": "nobody-knows"}),
}
READ = {"no UUIDs": envelope([[["xx", 5, None]], {}, FOLLOWS])}


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker):
    return start_worker(["tests.support.jobs"])


@pytest.fixture
def broker():
    with redis.Redis.from_url(get_settings().broker) as client:
        client.delete(get_settings().key_prefix + KEY)
        yield client


def push(broker, *texts, queue=None):
    key = redis_key(queue or get_settings().default_queue, DEFAULT_PRIORITY, get_settings().key_prefix)
    broker.lpush(key, *texts)


def set_aside(broker):
    return summary(broker.lrange(get_settings().key_prefix + KEY, 0, -1))


def echo(argument):
    return Behave(tenant_id="acme", action="echo", argument=argument)


def test_one_worker_survives_every_kind_of_junk_and_runs_what_comes_after_it(worker, broker):
    push(broker, *UNREADABLE.values(), *READ.values())
    result = wait_closed(send_job(echo("after")).id, 60).result
    wait_until(lambda: len(set_aside(broker)) == len(UNREADABLE), 20, f"{len(UNREADABLE)} set aside")
    assert result == "after"
    assert worker.process.poll() is None
    assert worker.log.count("message_unreadable") == len(UNREADABLE)
    assert "Connection to broker lost" not in worker.log
    assert {entry["queue"] for entry in set_aside(broker)} == {get_settings().default_queue}


def test_the_rest_of_a_packet_with_a_foreign_id_runs(broker):
    held = send_job(echo("held"), delay=3600).id
    push(broker, envelope([[["xx", held]], {}, FOLLOWS], headers={**HEADERS, "id": new_run_id()}))
    good = send_job(echo("good")).id
    assert wait_closed(good).result == "good"


def test_junk_in_a_queue_that_nobody_serves_does_not_stop_the_search_for_lost_messages(broker):
    send_job(echo("unserved"), queue="a-nobody-serves")
    push(broker, "xx", queue="a-nobody-serves")
    broker.rpush(redis_key("a-nobody-serves", DEFAULT_PRIORITY, get_settings().key_prefix), "\xff")
    lost = send_job(echo("lost"), queue="z-nobody-serves").id
    key = redis_key("z-nobody-serves", DEFAULT_PRIORITY, get_settings().key_prefix)
    broker.delete(key)
    wait_until(lambda: lost.encode() in (broker.lindex(key, 0) or b""), 20, "dispatched again")


def test_the_list_is_cut(broker):
    for number in range(MOST + 5):
        keep(broker, "queue", str(number), "too many")
    assert broker.llen(KEY) == MOST
    broker.delete(KEY)


def test_doctor_tells_of_the_last_one(broker):
    found = doctor.unreadable([{"at": 0, "queue": "q", "bytes": 5, "problem": "it is not JSON"}], "prefix-")
    assert "1 unreadable" in found[0].message
    assert "it is not JSON" in found[0].message
