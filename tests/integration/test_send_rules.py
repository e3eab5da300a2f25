"""Rules that decide about sends, in PostgreSQL, by senders alone: no worker lives here."""

import asyncio
import hashlib
import subprocess
import sys
import threading
import time
import uuid
from datetime import timedelta

import psycopg
import pytest
import redis
from celery import chain, group

from cgk_tasks import SendItem, app, asend_job, cancel_run, get_run, send_job, send_jobs, tasks
from cgk_tasks.admission.declared import SendRules, send_rules_of, text_of_send_rules
from cgk_tasks.admission.send_rules import Batch, Debounce, RateLimit, Singleton
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.celery_app import register_application_events
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.events import TenantEvent
from cgk_tasks.flow.awaited_events import AWAITED
from cgk_tasks.flow.crowded import CROWDED
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.monitoring.why import why
from cgk_tasks.runs import store
from cgk_tasks.runs.job_events import Route, note_job_events, note_rules
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import resume_tenant, suspend_tenant, tenant_context, tenant_session
from cgk_tasks.worker.dispatcher import Dispatcher
from cgk_tasks.worker.housekeeping import run_housekeeping
from tests.support.observed import observed_statements
from tests.support.rule_jobs import Counted, Edited, Limited, Newest, Only, Paced, Plain, Slowly
from tests.support.waiting import wait_exit, wait_until

SENDERS = 8


class Elsewhere(TenantEvent, event="rules.elsewhere"):
    """Of which no process of the tests has a job."""

    key: str = ""


@pytest.fixture(autouse=True)
def afresh(database, services):
    with redis.Redis.from_url(services.broker_url) as broker:
        broker.flushdb()
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.buckets, cgk.workers, cgk.mail, cgk.job_events")
    for part in (CROWDED, ROUTES, SWITCH):
        current_runtime().drop(part)


def rows(statement, *values):
    with autocommit() as connection:
        return connection.execute(statement, values).fetchall()


def outcomes(handles):
    return [handle.outcome for handle in handles]


def at_once(action):
    """What `action(number)` gives in threads that begin together."""
    barrier, found, problems = threading.Barrier(SENDERS), [], []

    def run(number):
        barrier.wait()
        try:
            found.append(action(number))
        except Exception as exc:
            problems.append(exc)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    return found


# Many senders


def test_of_many_senders_one_makes_the_only_run():
    handles = at_once(lambda _number: send_job(Only(tenant_id="acme", key="k")))
    assert sorted(outcomes(handles)) == ["accepted"] + ["skipped"] * (SENDERS - 1)
    assert {handle.id for handle in handles} == {str(rows("SELECT id FROM cgk.runs")[0][0])}


def test_a_run_that_is_sent_again_under_its_id_is_there_once():
    task_id = str(uuid.uuid4())
    for _ in range(2):
        task("rules.only").apply_async(kwargs={"tenant_id": "acme", "key": "k"}, task_id=task_id)
    assert rows("SELECT id::text FROM cgk.runs") == [(task_id,)]


def test_of_many_senders_the_run_of_one_is_left_where_the_newest_counts():
    at_once(lambda number: [send_job(Newest(tenant_id="acme", key="k"), delay=60 + number) for _ in range(5)])
    assert len(rows("SELECT FROM cgk.runs")) == 1


def test_sends_of_many_senders_are_one_run_with_what_came_last():
    def send(number):
        return [send_job(Edited(tenant_id="acme", key="k", text=f"{number}-{n}")) for n in range(5)]

    handles = [handle for found in at_once(send) for handle in found]
    (run_id,) = {handle.id for handle in handles}
    assert outcomes(handles).count("accepted") == 1
    assert get_run(run_id).payload["text"].endswith("-4")  # the last of all is the last of its sender


def test_many_senders_get_no_more_than_the_limit():
    handles = at_once(lambda _number: send_job(Limited(tenant_id="acme", key="k")))
    assert (outcomes(handles).count("accepted"), len(rows("SELECT FROM cgk.runs"))) == (3, 3)


PROGRAM = """
from cgk_tasks import send_job
from tests.support.rule_jobs import Edited, Only
for n in range(5):
    send_job(Edited(tenant_id="acme", key="k", text=f"{number}-{{n}}"))
    send_job(Only(tenant_id="acme", key="k"))
"""


def test_processes_that_send_at_once_make_one_run_of_each_with_what_came_last():
    senders = [subprocess.Popen([sys.executable, "-c", PROGRAM.format(number=number)]) for number in range(4)]
    assert [wait_exit(sender, 60) for sender in senders] == [0] * 4
    ids = dict(rows("SELECT event, id::text FROM cgk.runs"))
    assert (len(rows("SELECT FROM cgk.runs")), sorted(ids)) == (2, ["rules.edited", "rules.only"])
    assert get_run(ids["rules.edited"]).payload["text"].endswith("-4")


def test_at_no_time_more_were_accepted_than_the_burst_and_the_rate_allow():
    begun, accepted = time.monotonic(), []

    def send(_number):
        while time.monotonic() < begun + 1:
            if send_job(Paced(tenant_id="acme")).outcome == "accepted":
                accepted.append(time.monotonic() - begun)

    at_once(send)
    too_many = [at for nth, at in enumerate(sorted(accepted), 1) if nth > 5 + 20 * at + 1]
    assert (too_many, len(accepted) > 5) == ([], True)


def test_many_senders_of_several_keys_at_once_do_not_lock_each_other_out():
    keys = [[f"k{(number + n) % 4}" for n in range(4)] for number in range(SENDERS)]
    events = [Edited, Only, Limited]
    at_once(
        lambda number: [
            send_jobs([SendItem(event(tenant_id="acme", key=key)) for key in keys[number] for event in events])
            for _ in range(5)
        ]
    )
    assert rows("SELECT count(*) FROM cgk.runs WHERE event = 'rules.edited'") == [(4,)]


# Races, forced by a second connection


@pytest.fixture
def other(database):
    """A connection in a transaction of its own."""
    with psycopg.connect(database) as connection:
        yield connection


def sent_while(other, event):
    """The handle of a send that has to wait for what the other connection does, until that commits."""
    found = []
    sender = threading.Thread(target=lambda: found.append(send_job(event)))
    sender.start()
    wait_until(lambda: rows(BLOCKED, other.info.backend_pid)[0][0], what="the send waits for the other transaction")
    other.commit()
    sender.join()
    return found[0]


BLOCKED = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid)))"


def test_a_send_that_comes_while_the_run_is_dispatched_makes_the_next_one(other):
    first = send_job(Edited(tenant_id="acme", key="k"))
    other.execute("UPDATE cgk.runs SET state = 'pending', handed_over_at = now() WHERE id = %s", [first.id])
    assert sent_while(other, Edited(tenant_id="acme", key="k")).outcome == "accepted"


def test_an_event_that_comes_while_its_batch_is_dispatched_is_in_the_next_one(other):
    first = send_job(Slowly(tenant_id="acme", number=1))
    other.execute("UPDATE cgk.runs SET state = 'pending', handed_over_at = now() WHERE id = %s", [first.id])
    second = sent_while(other, Slowly(tenant_id="acme", number=2))
    assert (second.outcome, get_run(second.id).payload[0]["number"]) == ("accepted", 2)
    assert rows("SELECT FROM cgk.mail") == []


def test_a_send_that_comes_while_the_only_run_ends_makes_one(other):
    first = send_job(Only(tenant_id="acme", key="k"))
    other.execute("DELETE FROM cgk.runs WHERE id = %s", [first.id])
    assert sent_while(other, Only(tenant_id="acme", key="k")).outcome == "accepted"


def test_a_send_that_comes_while_another_makes_the_only_run_is_skipped(other):
    first = new_run_id()
    other.execute(
        "INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, single_key)"
        " SELECT %s, tenant_id, event, state, queue, priority, sealed_payload, run_at, key FROM (VALUES"
        " ('acme', 'rules.only', 'pending', 'q', 5::smallint, '{}'::bytea, now(), %s))"
        " AS v (tenant_id, event, state, queue, priority, sealed_payload, run_at, key)",
        [first, digest("acme:k")],
    )
    handle = sent_while(other, Only(tenant_id="acme", key="k"))
    assert (handle.outcome, handle.id) == ("skipped", first)


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


# In a transaction of the caller's


@pytest.fixture
def roll_back():
    """Sends in a transaction that does not come to its end."""

    def send(event):
        with tenant_context("acme"), tenant_session() as session:
            send_job(event, session=session)
            session.rollback()

    return send


def test_a_send_that_was_rolled_back_does_not_count(roll_back):
    for _ in range(3):
        roll_back(Limited(tenant_id="acme", key="k"))
    assert outcomes(send_job(Limited(tenant_id="acme", key="k")) for _ in range(4)) == ["accepted"] * 3 + ["skipped"]


def test_a_run_that_was_rolled_back_is_in_nobodys_way(roll_back):
    roll_back(Only(tenant_id="acme", key="k"))
    assert send_job(Only(tenant_id="acme", key="k")).outcome == "accepted"


def test_a_payload_that_was_rolled_back_is_not_the_last(roll_back):
    run = send_job(Edited(tenant_id="acme", key="k", text="kept"))
    roll_back(Edited(tenant_id="acme", key="k", text="rolled back"))
    assert get_run(run.id).payload["text"] == "kept"


def test_an_event_that_was_rolled_back_is_in_no_batch(roll_back):
    send_job(Slowly(tenant_id="acme", number=1))
    roll_back(Slowly(tenant_id="acme", number=2))
    assert rows("SELECT merged FROM cgk.runs") == [(1,)]
    assert rows("SELECT FROM cgk.mail") == []


def test_those_that_commit_do_all_that_they_do_elsewhere():
    events = [Only(tenant_id="acme"), Edited(tenant_id="acme"), Slowly(tenant_id="acme", number=1)]
    with tenant_context("acme"), tenant_session() as session:
        found = [send_job(event, session=session).outcome for event in events for _ in range(2)]
    assert found == ["accepted", "skipped", "accepted", "merged", "accepted", "merged"]
    assert len(rows("SELECT FROM cgk.runs")) == 3


def test_in_it_the_newest_cancels_the_old_one_too():
    old = send_job(Newest(tenant_id="acme"), delay=60)
    with tenant_context("acme"), tenant_session() as session:
        new = send_job(Newest(tenant_id="acme"), session=session)
    assert (get_run(old.id).state, get_run(new.id).state) == ("cancelled", "pending")


# Ways to send


def task(event):
    """The task of an event of the application's own, which was defined after the app was made perhaps."""
    register_application_events()
    return app.tasks[event]


def test_a_send_of_celerys_api_is_decided_about_too():
    first, second = (task("rules.only").delay(tenant_id="acme", key="k") for _ in range(2))
    assert (second.id, len(rows("SELECT FROM cgk.runs"))) == (first.id, 1)


def test_one_with_an_id_of_its_own_leads_to_the_run_that_it_became_part_of():
    first = send_job(Edited(tenant_id="acme", key="k"))
    task_id = str(uuid.uuid4())
    assert task("rules.edited").apply_async(kwargs={"tenant_id": "acme", "key": "k"}, task_id=task_id).id == first.id


def test_one_that_was_not_accepted_gives_nothing_at_once():
    results = [task("rules.limited").delay(tenant_id="acme", key="k") for _ in range(4)]
    assert results[3].get(timeout=1) is None


def test_an_asyncio_send_is_decided_about_too():
    async def send():
        return [await asend_job(Only(tenant_id="acme", key="k")) for _ in range(2)]

    assert outcomes(asyncio.run(send())) == ["accepted", "skipped"]


def test_different_events_of_one_batch_are_each_decided_by_their_own_rules():
    events = [Plain, Only, Edited, Limited]
    handles = send_jobs([SendItem(event(tenant_id="acme")) for event in events * 2])
    assert outcomes(handles) == ["accepted"] * 4 + ["accepted", "skipped", "merged", "accepted"]


@pytest.mark.parametrize("name", ["rules.only", "rules.edited", "rules.limited"])
def test_what_others_wait_for_cannot_be_a_send_that_may_make_no_run(name):
    signature = task(name).si(tenant_id="acme")
    with pytest.raises(InvalidOptionError, match="of its job may leave the send without a run of its own"):
        chain(signature, tasks.order_cancelled.si(tenant_id="acme", order_id="o")).apply_async()


@pytest.mark.parametrize("name", ["rules.only", "rules.edited", "rules.limited"])
def test_neither_can_a_member_of_a_group(name):
    with pytest.raises(InvalidOptionError, match="The option group_id is not valid: cannot be given for"):
        group(task(name).si(tenant_id="acme") for _ in range(2)).apply_async()
    assert rows("SELECT FROM cgk.runs") == []


def test_who_cancels_the_old_one_may_be_what_others_wait_for():
    signature = task("rules.newest").si(tenant_id="acme")
    with tenant_context("acme"):
        chain(signature, tasks.order_cancelled.si(tenant_id="acme", order_id="o")).apply_async()
    assert len(rows("SELECT FROM cgk.runs")) == 1


def test_what_would_have_followed_a_cancelled_run_fails():
    first = task("rules.newest").si(tenant_id="acme").set(countdown=60)
    with tenant_context("acme"):
        chain(first, tasks.order_cancelled.si(tenant_id="acme", order_id="o")).apply_async()
    send_job(Newest(tenant_id="acme"))
    assert [run.state for run in store.listing(event="order.cancelled")] == ["failed"]


def test_a_workflow_that_waits_for_the_event_gets_each_send():
    with autocommit() as connection:
        connection.execute("INSERT INTO cgk.awaited (event, fields) VALUES ('rules.edited', '{key}')")
    current_runtime().drop(AWAITED)
    try:
        handles = [send_job(Edited(tenant_id="acme", key="k", text=text)) for text in "ab"]
        assert outcomes(handles) == ["accepted", "merged"]
        assert rows("SELECT count(*) FROM cgk.event_mail") == [(2,)]
    finally:
        with autocommit() as connection:
            connection.execute("DELETE FROM cgk.awaited")
        current_runtime().drop(AWAITED)


# What senders know


def test_a_sender_without_the_job_learns_the_rules_from_the_record():
    routes = {Elsewhere.event_name: Route(send_rules=text_of_send_rules(SendRules("e", None, (Singleton(key="key"),))))}
    with autocommit() as connection:
        note_job_events(connection, routes)
        note_rules(connection, routes)
    assert outcomes(send_job(Elsewhere(tenant_id="acme")) for _ in range(2)) == ["accepted", "skipped"]


def test_rules_are_read_as_they_were_declared():
    rules = SendRules(
        "job", 5.0,
        (RateLimit(5, every=60.0, burst=2, per="all", key="k"), Singleton(on_conflict="cancel_old"),
         Debounce(5.0, max_wait=60.0, key="k"), Batch(5, max_wait=60.0)),
    )  # fmt: skip
    assert send_rules_of(text_of_send_rules(rules)) == rules


@pytest.mark.parametrize(
    "rule",
    [
        '{"kind": "lottery", "odds": 5}',
        '{"kind": "singleton", "key": null, "on_conflict": "queue"}',
        '{"kind": "singleton", "key": null, "on_conflict": "skip", "among": "all"}',
    ],
)
def test_a_rule_of_a_later_release_says_nothing_here(rule):
    assert send_rules_of(f'{{"job": "j", "ttl": 5, "rules": [{rule}]}}') == SendRules("j", 5)


def test_the_rules_wait_until_no_worker_of_an_earlier_release_lives():
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.workers (id, name, pid, queues, revision) VALUES (%s, 'old', 1, '{q}', '0021')",
            [new_run_id()],
        )
    handles = [send_job(Slowly(tenant_id="acme", number=n)) for n in range(2)]
    assert outcomes(handles) == ["accepted", "accepted"]
    assert [get_run(handle.id).payload["number"] for handle in handles] == [0, 1]


# Statements


@pytest.fixture
def labels():
    """The names of the statements that run in a test, after all that senders ask for now and then is known."""
    send_job(Plain(tenant_id="acme"))
    with observed_statements() as found:
        yield found


def of_runs(labels):
    """Without what a sender asks every some seconds."""
    return [one for one in labels if one.startswith(("transitions.", "merging.", "runs."))]


def test_an_event_without_rules_is_sent_by_the_one_statement_that_it_always_was(labels):
    send_job(Plain(tenant_id="acme"))
    assert of_runs(labels) == ["transitions.insert_plain"]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Only(tenant_id="acme"), ["transitions.insert_single"]),
        (Edited(tenant_id="acme"), ["transitions.debounce"]),
        (Limited(tenant_id="acme"), ["merging.take_from_bucket"] * 2 + ["transitions.insert_run"]),
        (Slowly(tenant_id="acme", number=1), ["transitions.collect"]),
    ],
)
def test_a_rule_costs_one_statement(labels, event, expected):
    send_job(event)
    assert of_runs(labels) == expected


# What is kept


def test_nothing_of_a_payload_stands_in_a_key():
    for event in (Only, Edited, Limited):
        send_job(event(tenant_id="acme", key="ada@example.com"))
    kept = rows("SELECT concat(merge_key, single_key) FROM cgk.runs UNION ALL SELECT key FROM cgk.buckets")
    assert (len(kept), [key for (key,) in kept if "ada" in key]) == (5, [])


def test_full_buckets_are_forgotten_and_what_they_did_not_accept_is_still_counted():
    for _ in range(4):
        send_job(Limited(tenant_id="acme", key="k"))
    with autocommit() as connection:
        connection.execute("UPDATE cgk.buckets SET tat = now() - interval '2 hours'")
    run_housekeeping()
    assert rows("SELECT rule, key, skipped FROM cgk.buckets WHERE skipped > 0") == [
        ("rules.limited/rate_limit/tenant/key", "", 1)
    ]


def test_a_send_that_one_limit_does_not_accept_uses_nothing_of_another():
    handles = [send_job(Limited(tenant_id="acme", key="a")) for _ in range(8)]
    others = [send_job(Limited(tenant_id="acme", key="b")) for _ in range(3)]
    assert outcomes(handles).count("accepted") == 3
    assert outcomes(others) == ["accepted", "accepted", "skipped"]  # five of all keys


# Times


def test_a_run_that_waits_for_sends_is_dispatched_when_it_is_due_and_takes_in_no_more():
    first = send_job(Edited(tenant_id="acme", key="k"))
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET run_at = now()")
    Dispatcher(new_run_id()).tick()
    second = send_job(Edited(tenant_id="acme", key="k"))
    assert (get_run(first.id).state, second.outcome) == ("pending", "accepted")


def test_one_that_was_begun_and_is_scheduled_again_takes_in_no_more():
    send_job(Edited(tenant_id="acme", key="k"))
    with autocommit() as connection:  # as a workflow that waits
        connection.execute("UPDATE cgk.runs SET attempt = 1, started_at = now()")
    assert send_job(Edited(tenant_id="acme", key="k")).outcome == "accepted"


def test_sends_that_never_pause_do_not_put_the_run_off_for_ever():
    run = send_job(Edited(tenant_id="acme", key="k"))
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET created_at = now() - interval '29.9 s'")
    send_job(Edited(tenant_id="acme", key="k"))
    found = get_run(run.id)
    assert found.run_at - found.created_at == timedelta(seconds=30)


def test_the_sends_of_a_suspended_tenant_wait_together():
    suspend_tenant("globex")
    try:
        handles = [send_job(Edited(tenant_id="globex", text=text)) for text in "ab"]
        with autocommit() as connection:
            connection.execute("UPDATE cgk.runs SET run_at = now()")
        Dispatcher(new_run_id()).tick()
        run = get_run(handles[0].id)
        assert (outcomes(handles), run.state, run.payload["text"]) == (["accepted", "merged"], "held", "b")
    finally:
        resume_tenant("globex")


def test_why_says_that_a_run_waits_for_further_sends():
    first, _ = [send_job(Slowly(tenant_id="acme", number=n)) for n in range(2)]
    (gate,) = why(first.id).gates
    assert gate.text.startswith("It waits for further sends of its event until")
    assert gate.text.endswith(", and has 2 so far.")


def test_a_cancelled_run_takes_in_nothing():
    first = send_job(Slowly(tenant_id="acme", number=1))
    cancel_run(first.id)
    assert send_job(Slowly(tenant_id="acme", number=2)).outcome == "accepted"


def test_a_batch_that_is_full_is_due_at_once():
    handles = [send_job(Counted(tenant_id="acme", number=n)) for n in range(7)]
    assert rows("SELECT merge_key, run_at <= now(), merged FROM cgk.runs") == [(None, True, 7)]
    assert len({handle.id for handle in handles}) == 1
