"""`cgk-tasks bridge bullmq`: queues that the npm package bullmq has written become runs, each job once."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
import redis

from cgk_tasks import get_run
from cgk_tasks.bridges.bullmq import BullMQQueue
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.bridges.bullmq_support import HERE, NAME, RECORDED, WITHOUT_NPM, home, load, node
from tests.cli.conftest import cgk  # noqa: F401 - a fixture
from tests.support import jobs  # noqa: F401 - defines test.behave
from tests.support.waiting import wait_until
from tests.support.workers import ROOT

MOVABLE = {
    "first", "second", "of globex", "before the others", "of another name", "once", "urgent", "can wait", "in an hour",
    "in a year",
}  # fmt: skip
LEFT = {"text", "nobody", "wrong", "no-tenant", "child"}
"""And the job of the scheduler."""


@pytest.fixture
def place(services, database):
    """An empty Redis for BullMQ: its URL and a client."""
    url = f"{services.broker_url.rpartition('/')[0]}/9"
    with redis.Redis.from_url(url, decode_responses=True) as client, autocommit() as connection:
        client.flushdb()
        connection.execute("TRUNCATE cgk.runs, cgk.run_history, cgk.idempotency_keys")
        yield url, client
        client.flushdb()


@pytest.fixture(params=[*(one.stem for one in RECORDED), "the npm package"])
def queue(request, place):
    """The queue `orders`, paused, with a job of each kind."""
    url, client = place
    if request.param == "the npm package":
        if home() is None:
            pytest.skip(WITHOUT_NPM)
        node("fill_bullmq.mjs", url, NAME)
    else:
        load(client, HERE / f"{request.param}.json")
    return BullMQQueue(client, NAME)


@pytest.fixture
def bridge(cgk, place):  # noqa: F811 - the fixture
    def run(*options, queue=NAME, event=("--event", "test.behave")):
        return cgk("bridge", "bullmq", "--queue", queue, "--redis", place[0], *event, *options, "--json")

    return run


def runs():
    with autocommit() as connection:
        ids = [row["id"] for row in fetch(connection, "SELECT id::text FROM cgk.runs", {})]
    return {run.payload["argument"]: run for run in map(get_run, ids)}


def add(client, name, job_id, argument, place="wait", **fields):
    """A job as BullMQ writes it."""
    data = json.dumps({"tenantId": "acme", "action": "echo", "argument": argument})
    job = {"name": "echo", "data": data, "opts": '{"attempts":0}', "timestamp": "1764500000000", "priority": "0"}
    client.hset(f"bull:{name}:{job_id}", mapping=job | fields)
    client.lpush(f"bull:{name}:{place}", job_id)


def make_queue(client, name, count):
    client.hset(f"bull:{name}:meta", mapping={"opts.maxLenEvents": "10000", "paused": "1"})
    for n in range(count):
        add(client, name, str(n + 1), f"job {n}")


# What moves


def test_what_waits_becomes_runs_and_what_cannot_stays_with_a_sentence(queue, bridge, place):
    outcome = bridge()
    assert outcome.code == 1, outcome.err
    assert set(runs()) == MOVABLE
    assert (outcome.json["sent"], outcome.json["left"], outcome.json["active"]) == (len(MOVABLE), len(LEFT) + 1, 1)
    reasons = {one["example"]: one["reason"] for one in outcome.json["reasons"]}
    assert {job.partition(":")[0] for job in reasons} == LEFT | {"repeat"}
    assert "flow" in reasons["child"]
    assert "no object" in reasons["text"]
    assert "has no tenantId" in reasons["no-tenant"]
    assert '"nobody-there"' in reasons["nobody"]


def test_jobs_that_stay_are_as_they_were(queue, bridge, place):
    _, client = place
    before = {key: client.dump(key) for job in (*LEFT, "busy", "parent") for key in client.keys(f"bull:{NAME}:{job}*")}
    bridge()
    assert {key: client.dump(key) for key in before} == before
    assert queue.counts()["active"] == 1
    assert client.get(f"bull:{NAME}:busy:lock") == "a-token"


def test_nothing_of_a_moved_job_stays(queue, bridge, place):
    _, client = place
    ids = [job_id for name in ("wait", "paused", "prioritized", "delayed") for job_id, _ in queue.ids(name, 0, 100)]
    moved = [one for one in ids if one not in LEFT and not one.startswith("repeat:")]
    assert len(moved) == len(MOVABLE)
    bridge()
    assert [key for one in moved for key in client.keys(f"bull:{NAME}:{one}*")] == []
    waiting = {"wait", "paused", "prioritized", "delayed"}
    assert sum(count for name, count in queue.counts().items() if name in waiting) == len(LEFT) + 1
    assert client.exists(f"bull:{NAME}:de:once") == 0


def test_bullmq_is_told_of_what_was_removed(queue, bridge, place):
    _, client = place
    bridge()
    said = [entry for _, entry in client.xrange(f"bull:{NAME}:events") if entry["event"] == "removed"]
    assert len(said) == len(MOVABLE)
    assert {entry["prev"] for entry in said} - {"wait", "paused"} == {"prioritized", "delayed"}


def test_times_attempts_priorities_and_tenants_are_kept(queue, bridge):
    due = {
        job.data["argument"]: job.run_at
        for job in queue.read("delayed", queue.ids("delayed", 0, 100))
        if getattr(job, "run_at", None) is not None
    }
    bridge()
    made = runs()
    assert made["second"].max_attempts == 5
    assert made["first"].max_attempts is None
    assert made["of globex"].tenant_id == "globex"
    priorities = {name: made[name].priority for name in ("first", "urgent", "in a year", "can wait")}
    assert priorities == {"first": 5, "urgent": 4, "in a year": 3, "can wait": 0}
    assert made["in a year"].run_at == due["in a year"]
    assert (
        abs(made["in an hour"].run_at - due["in an hour"]).total_seconds() < 1 or made["in an hour"].state == "pending"
    )


def test_a_second_pass_finds_nothing_more(queue, bridge):
    bridge()
    again = bridge()
    assert (again.json["sent"], again.json["sent_before"], len(runs())) == (0, 0, len(MOVABLE))


def test_a_dry_run_says_what_would_move_and_changes_nothing(queue, bridge, place):
    _, client = place
    before = {key: client.dump(key) for key in client.keys("*")}
    outcome = bridge("--dry-run")
    assert (outcome.json["would_send"], outcome.json["left"]) == (len(MOVABLE), len(LEFT) + 1)
    assert ({key: client.dump(key) for key in client.keys("*")}, runs()) == (before, {})


def test_only_jobs_of_a_name_move_where_one_is_given(queue, bridge):
    outcome = bridge("--name", "other")
    assert (set(runs()), outcome.json["passed_over"] > 5) == ({"of another name"}, True)


def test_a_function_says_what_becomes_of_each_job(queue, bridge):
    outcome = bridge("--name", "other", event=("--map", "tests.bridges.bridge_map:mapped"))
    assert (outcome.code, [run.tenant_id for run in runs().values()]) == (1, ["globex"])
    assert set(runs()) == {"mapped: of another name"}


# Who else takes jobs


def test_a_queue_that_is_not_paused_is_refused(queue, bridge, place):
    _, client = place
    client.hdel(f"bull:{NAME}:meta", "paused")
    outcome = bridge()
    assert (outcome.code, "await queue.pause()" in outcome.err, runs()) == (1, True, {})


def test_a_job_that_a_worker_takes_meanwhile_is_told(bridge, place, monkeypatch):
    _, client = place
    make_queue(client, "raced", 3)

    def taken(self, found):
        client.lrem("bull:raced:wait", 1, "2")
        client.lpush("bull:raced:active", "2")
        return remove(self, found)

    remove = BullMQQueue.remove
    monkeypatch.setattr(BullMQQueue, "remove", taken)
    outcome = bridge(queue="raced")
    (reason,) = outcome.json["reasons"]
    assert (outcome.code, reason["example"], "both do it" in reason["reason"]) == (1, "2", True)
    assert client.exists("bull:raced:2") == 1


def test_a_job_whose_data_changed_meanwhile_stays(bridge, place, monkeypatch):
    _, client = place
    make_queue(client, "changed", 1)

    def changed(self, found):
        client.hset("bull:changed:1", "data", '{"tenantId": "acme", "action": "echo", "argument": "new"}')
        return remove(self, found)

    remove = BullMQQueue.remove
    monkeypatch.setattr(BullMQQueue, "remove", changed)
    outcome = bridge(queue="changed")
    assert "was changed" in outcome.json["reasons"][0]["reason"]
    assert client.lrange("bull:changed:wait", 0, -1) == ["1"]


# Deaths


@pytest.mark.slow
@pytest.mark.parametrize("where", ["after-send", "amid-removal"])
def test_a_bridge_that_is_killed_loses_nothing_and_sends_nothing_twice(where, bridge, place):
    url, client = place
    make_queue(client, "killed", 50)
    command = [sys.executable, "-m", "tests.bridges.killed_bridge", where, url, "killed"]
    died = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    left = client.llen("bull:killed:wait")
    assert left == (50 if where == "after-send" else 25)
    outcome = bridge(queue="killed")
    assert (outcome.code, outcome.json["sent"], outcome.json["sent_before"]) == (0, 0, left)
    assert (set(runs()), client.llen("bull:killed:wait")) == ({f"job {n}" for n in range(50)}, 0)


def test_an_id_that_is_used_again_later_is_another_job(bridge, place):
    _, client = place
    make_queue(client, "again", 1)
    bridge(queue="again")
    add(client, "again", "1", "later", timestamp="1764500009999")
    assert bridge(queue="again").json["sent"] == 1
    assert set(runs()) == {"job 0", "later"}


# Large queues, and those that grow


def test_a_queue_of_several_pages_moves_in_its_order(bridge, place):
    _, client = place
    make_queue(client, "large", 1_203)
    add(client, "large", "bad", "x", data='"no object"')
    outcome = bridge(queue="large")
    assert (outcome.json["sent"], outcome.json["left"]) == (1_203, 1)
    ordered = [run.payload["argument"] for run in sorted(runs().values(), key=lambda run: run.id)]
    assert ordered == [f"job {n}" for n in range(1_203)]


@pytest.mark.slow
def test_a_bridge_that_follows_takes_what_is_added_until_it_is_interrupted(place, tmp_path, setting):
    url, client = place
    make_queue(client, "followed", 2)
    setting(CGK_JOB_MODULES="tests.support.jobs")
    command = [
        sys.executable,
        "-m",
        "cgk_tasks.cli",
        "bridge",
        "bullmq",
        "--queue",
        "followed",
        "--event",
        "test.behave",
    ]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [*command, "--follow", "--json"], cwd=ROOT, env={**os.environ, "BULLMQ_REDIS_URL": url}, stdout=out
        )
    try:
        wait_until(lambda: len(runs()) == 2, 60, "what was there has moved")
        if home() is None:
            for n in range(3):
                add(client, "followed", f"new-{n}", f"n {n}")
        else:
            node("adding_bullmq.mjs", url, "followed", 3)
        wait_until(lambda: len(runs()) == 5, 60, "what was added has moved")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
    assert json.loads((tmp_path / "out").read_text())["sent"] == 5


# What is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"queue": "nothing"}, "There is no queue 'nothing'"),
        ({"event": ()}, "give --event or --map"),
        ({"event": ("--event", "test.behave", "--map", "a:b")}, "give --event or --map"),
        ({"event": ("--map", "tests.bridges.bridge_map:gone")}, "names no function"),
        ({"event": ("--event", "order.craeted")}, "order.created"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(bridge, place, options, said):
    make_queue(place[1], NAME, 1)
    outcome = bridge(**options)
    assert (outcome.code != 0, said in outcome.err, runs()) == (True, True, {})


def test_a_redis_that_is_away_is_said(cgk, database):  # noqa: F811 - the fixture
    outcome = cgk("bridge", "bullmq", "--queue", "q", "--redis", "redis://127.0.0.1:1", "--event", "test.behave")
    assert (outcome.code, "The Redis of BullMQ cannot be reached" in outcome.err) == (1, True)


@pytest.mark.parametrize(
    "fields",
    [
        {"data": "{"}, {"opts": "[]"}, {"timestamp": "soon"}, {"timestamp": "9" * 30}, {"priority": "high"},
        {"data": "[" * 100_000},
    ],
    ids=lambda fields: str(fields)[:40],
)  # fmt: skip
def test_a_job_that_cannot_be_read_stays(bridge, place, fields):
    _, client = place
    make_queue(client, "odd", 0)
    add(client, "odd", "1", "x", **fields)
    outcome = bridge(queue="odd")
    assert "cannot be read" in outcome.json["reasons"][0]["reason"]
    assert client.llen("bull:odd:wait") == 1


def test_an_entry_whose_job_is_gone_harms_nothing(bridge, place):
    _, client = place
    make_queue(client, "odd", 1)
    client.rpush("bull:odd:wait", "gone", "0:1764500000")
    assert bridge(queue="odd").json["sent"] == 1


def test_a_job_that_was_due_long_ago_runs_now(bridge, place):
    _, client = place
    make_queue(client, "late", 0)
    add(client, "late", "1", "late", place="elsewhere")
    client.zadd("bull:late:delayed", {"1": int(time.time() * 1000 - 60_000) * 4096 + 1})
    bridge(queue="late")
    run = runs()["late"]
    assert (run.state, run.run_at < datetime.now(UTC)) == ("pending", True)


def test_what_a_rule_of_the_job_does_not_accept_stays(bridge, place):
    from tests.bridges import bridge_map

    _, client = place
    make_queue(client, "limited", 3)
    with bridge_map.one_in_an_hour():
        outcome = bridge(queue="limited", event=("--map", "tests.bridges.bridge_map:limited"))
    assert (outcome.json["sent"], outcome.json["left"], client.llen("bull:limited:wait")) == (1, 2, 2)
