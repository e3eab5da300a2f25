"""Bulk sends: PostgreSQL has the first rows while the next ones are made, and all is as if they had been made first."""

import gc
import os
import subprocess
import sys
from datetime import UTC, datetime

import psycopg
import pytest
import redis

from cgk_tasks import SendItem, SendOptions, get_run, send_job, send_jobs, set_tenant_limits
from cgk_tasks.admission.limits import LANES
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.broker.packets import RUN_TIMES
from cgk_tasks.client.celery import CeleryProvider
from cgk_tasks.errors import (
    IdempotencyConflictError,
    PayloadInvalidError,
    PayloadTooLargeError,
    QueueFullError,
    StoreError,
    UnknownTenantError,
)
from cgk_tasks.events import OrderCreated, TenantEvent
from cgk_tasks.flow import bulk, lanes
from cgk_tasks.flow.crowded import CROWDED
from cgk_tasks.flow.drafts import Drafts
from cgk_tasks.flow.new_run import NO_OPTIONS
from cgk_tasks.runs import insertion
from cgk_tasks.runs.models import NewRun, new_run_id
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit, fetch, transaction
from cgk_tasks.tenancy import resume_tenant, suspend_tenant
from tests.support.code_steps import act_at, stop
from tests.support.limits_jobs import Single, Work
from tests.support.rule_jobs import Only
from tests.support.workers import ROOT

MANY = 100
ALIKE = SendOptions()
"""No options, as the plain ones, but not known to be none at a glance: such sends go by `accept`."""


class Reading(TenantEvent, event="test.bulk.reading", durable=False):
    """Telemetry."""

    number: int


def orders(count=MANY, tenants=("acme",), name="o"):
    return [
        OrderCreated(tenant_id=tenants[number % len(tenants)], order_id=f"{name}-{number}", total_amount=number)
        for number in range(count)
    ]


def rows(handles):
    values = {"ids": [handle.id for handle in handles]}
    with autocommit() as connection:
        return fetch(connection, "SELECT * FROM cgk.runs WHERE id = ANY(%(ids)s::uuid[]) ORDER BY id", values)


def count_of(name):
    """How many runs there are of orders whose names begin so."""
    with autocommit() as connection:
        found = connection.execute("SELECT count(*) FROM cgk.runs WHERE search_fields LIKE %s", [f"%orderId={name}-%"])
        return found.fetchone()[0]


def transactions(state="%"):
    """What is open of this database, apart from who asks."""
    with autocommit() as connection:
        found = connection.execute(
            "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL"
            " AND backend_type = 'client backend' AND state LIKE %s AND pid <> pg_backend_pid()",
            [state],
        )
        return [query for (query,) in found.fetchall()]


def drafts_of(events):
    drafts = Drafts()
    for event in events:
        drafts.add(event, NO_OPTIONS)
    return drafts


@pytest.fixture(autouse=True)
def queue(database, services):
    """An empty queue, of which this process knows nothing yet."""
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.lanes, cgk.shares, cgk.run_times")
    with redis.Redis.from_url(services.broker_url) as broker:
        broker.flushdb()
    for part in (CROWDED, LANES, SWITCH, RUN_TIMES):
        current_runtime().drop(part)


@pytest.fixture
def crowded(setting, monkeypatch):
    """A window that holds nothing of a bulk send, and nobody who lets runs through."""
    setting(CGK_WINDOW_SECONDS="0.000001")
    monkeypatch.setattr(lanes, "_make_pass", lambda: None)


@pytest.fixture
def not_alike(monkeypatch):
    """Which bulk sends were left to `accept`."""
    found = []

    def noting(drafts):
        handles = accept_alike(drafts)
        if handles is None:
            found.append(len(drafts))
        return handles

    accept_alike = bulk.accept_alike
    monkeypatch.setattr("cgk_tasks.client.celery.accept_alike", noting)
    return found


# What is made


def columns_of(handles):
    """The columns of the runs, without what follows from when they were made."""
    return [
        {name: row[name] for name in row if name not in {"id", "created_at", "handed_over_at", "run_at", "rank"}}
        for row in rows(handles)
    ]


def assert_both_ways_alike(events, not_alike):
    one_by_one = send_jobs([SendItem(event, options=ALIKE) for event in events])
    assert not_alike == [len(events)]
    together = send_jobs(events)
    assert not_alike == [len(events)]
    assert columns_of(together) == columns_of(one_by_one)


def test_runs_are_as_accept_makes_them(not_alike):
    assert_both_ways_alike(orders(tenants=("acme", "globex")), not_alike)


@pytest.mark.usefixtures("crowded")
def test_runs_that_wait_in_lanes_are_as_accept_makes_them(not_alike):
    assert_both_ways_alike(orders(tenants=("acme", "globex", "initech")), not_alike)


def test_runs_of_suspended_tenants_are_as_accept_makes_them(not_alike):
    suspend_tenant("globex")
    try:
        assert_both_ways_alike(orders(tenants=("acme", "globex")), not_alike)
    finally:
        resume_tenant("globex")


def test_fields_that_are_searched_otherwise_than_they_are_written_are_found_too(not_alike):
    assert_both_ways_alike(orders(name="two\nlines"), not_alike)


@pytest.mark.usefixtures("crowded")
def test_runs_in_a_lane_are_due_one_after_the_other_in_the_order_of_their_sends():
    ranks = [row["rank"] for row in rows(send_jobs(orders(300)))]
    assert ranks == sorted(set(ranks))


@pytest.mark.usefixtures("crowded")
def test_the_lane_of_each_tenant_is_told_how_many_have_come_and_since_when():
    found = rows(send_jobs(orders(99, tenants=("acme", "globex", "initech"), name="told")))
    with autocommit() as connection:
        told = fetch(connection, "SELECT tenant_id, status, arrivals, front FROM cgk.lanes")
    first = {row["tenant_id"]: row["rank"] for row in reversed(found)}
    assert {lane["tenant_id"]: (lane["status"], lane["arrivals"], lane["front"]) for lane in told} == {
        tenant: ("new", 33, rank) for tenant, rank in first.items()
    }


def test_each_send_has_its_own_run_in_their_order():
    handles = send_jobs(iter(orders(500)))
    assert [get_run(handles[n].id).payload["orderId"] for n in (0, 250, 499)] == ["o-0", "o-250", "o-499"]
    assert len({handle.id for handle in handles}) == 500


# What goes by `accept`


@pytest.mark.parametrize(
    ("items", "what"),
    [
        (lambda path: [SendItem(event, options=SendOptions(priority=9)) for event in orders()], "with options"),
        (lambda path: [Only(tenant_id="acme", key=str(number)) for number in range(MANY)], "of jobs with rules"),
        (lambda path: [Work(tenant_id="acme", path=path, shop_id=str(n % 7)) for n in range(MANY)], "limited by a key"),
        (
            lambda path: [*orders(MANY - 1), OrderCreated(tenant_id="acme", order_id="x" * 9_000, total_amount=1)],
            "large",
        ),
        (lambda path: orders(5), "few"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sends_that_are_not_decided_by_their_event_and_tenant_go_by_accept(items, what, not_alike, tmp_path):
    sends = items(str(tmp_path))
    handles = send_jobs(sends)
    assert not_alike == [len(sends)], what
    assert len({handle.id for handle in handles}) == len(sends)


def test_runs_that_a_limit_holds_are_sent_together_where_no_key_decides(not_alike, tmp_path):
    handles = send_jobs(Single(tenant_id="acme", path=str(tmp_path)) for _ in range(MANY))
    assert not not_alike
    assert len({row["lane_id"] for row in rows(handles)}) == 1


def test_telemetry_among_them_has_its_handle_in_its_place():
    events = [*orders(MANY), *(Reading(tenant_id="acme", number=number) for number in range(3)), *orders(2, name="p")]
    handles = send_jobs(events)
    assert len(handles) == MANY + 5
    on_record = {str(row["id"]) for row in rows(handles)}
    assert [handle.id in on_record for handle in handles] == [True] * MANY + [False] * 3 + [True] * 2


# All or nothing


def bad(event, at=MANY - 2):
    return [event if number == at else one for number, one in enumerate(orders(name="bad"))]


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (SendItem("order.created", {"tenantId": "acme", "orderId": 1, "totalAmount": 1}), PayloadInvalidError),
        (OrderCreated(tenant_id="acme", order_id="\ud800", total_amount=1), PayloadInvalidError),
        (OrderCreated(tenant_id="nobody-knows-them", order_id="o", total_amount=1), UnknownTenantError),
        (OrderCreated(tenant_id="acme", order_id="o" * 2_000_000, total_amount=1), PayloadTooLargeError),
    ],
    ids=["its payload", "its text", "its tenant", "its size"],
)
def test_one_that_is_wrong_is_named_and_nothing_is_sent(event, error):
    with pytest.raises(error) as refused:
        send_jobs(bad(event))
    assert refused.value.item == MANY - 2
    assert count_of("bad") == 0


def test_a_conflict_of_keys_says_which_of_them_it_is_about():
    send_job("order.created", {"tenantId": "acme", "orderId": "k", "totalAmount": 1}, idempotency_key="bulk")
    items = [SendItem(event) for event in orders(name="key")]
    items[40] = SendItem(items[40].event, options=SendOptions(idempotency_key="bulk"))
    with pytest.raises(IdempotencyConflictError) as refused:
        send_jobs(items)
    assert (refused.value.item, count_of("key")) == (40, 0)


def test_a_tenant_that_may_not_have_so_many_waiting_is_refused_and_nothing_is_sent():
    set_tenant_limits("initech", max_waiting=10)
    try:
        with pytest.raises(QueueFullError):
            send_jobs(orders(tenants=("initech",), name="full"))
    finally:
        set_tenant_limits("initech", max_waiting=None)
    assert count_of("full") == 0


def test_an_iterator_that_fails_sends_nothing():
    def failing():
        yield from orders(name="failing")
        raise LookupError("the caller's own")

    with pytest.raises(LookupError):
        send_jobs(failing())
    assert count_of("failing") == 0


def test_no_transaction_is_open_while_the_callers_iterator_is_at_work():
    seen = []

    def slow():
        yield from orders(2_000)
        seen.extend(transactions())

    send_jobs(slow())
    assert seen == []


def test_a_row_that_postgresql_refuses_is_a_store_error_and_nothing_is_sent():
    with autocommit() as connection:
        connection.execute(
            "ALTER TABLE cgk.runs ADD CONSTRAINT refuses CHECK (search_fields NOT LIKE '%%refused-77%%') NOT VALID"
        )
    try:
        with pytest.raises(StoreError):
            send_jobs(orders(name="refused"))
    finally:
        with autocommit() as connection:
            connection.execute("ALTER TABLE cgk.runs DROP CONSTRAINT refuses")
    assert count_of("refused") == 0


@pytest.mark.parametrize("step", [40, 250, 450])
def test_who_is_interrupted_amid_the_rows_has_sent_nothing_and_may_go_on(step):
    name = f"interrupted-{step}"
    assert act_at(step, stop, lambda: send_jobs(orders(name=name)), bulk)
    assert count_of(name) in {0, MANY}
    send_jobs(orders(name=f"again-{step}"))
    assert count_of(f"again-{step}") == MANY


def test_a_process_that_dies_amid_the_rows_has_sent_nothing():
    program = """if True:
        import os, signal
        from cgk_tasks import send_jobs
        from cgk_tasks.events import OrderCreated
        from cgk_tasks.flow import bulk

        made, new_run_id = [], bulk.new_run_id

        def dying():
            made.append(1)
            if len(made) == 4_000:
                os.kill(os.getpid(), signal.SIGKILL)
            return new_run_id()

        bulk.new_run_id = dying
        send_jobs(OrderCreated(tenant_id="acme", order_id=f"dead-{n}", total_amount=n) for n in range(5_000))
    """
    died = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=os.environ, check=False)
    assert (died.returncode, count_of("dead")) == (-9, 0)


# What it is for


def test_postgresql_has_the_first_rows_before_the_last_run_is_made():
    seen = []

    def made():
        for number in range(3_000):
            if number == 2_999:
                seen.extend(transactions("active"))
            yield NewRun(new_run_id(), "acme", "order.created", '{"orderId":"o"}', "cgk", search_fields="")

    with transaction() as connection:
        insertion.copy_as_made(connection, made(), in_lanes=False)
        raise psycopg.Rollback
    assert [query for query in seen if query.startswith("COPY cgk.runs")]


def test_what_is_checked_and_not_yet_sent_is_nothing_to_the_collector_of_cycles():
    drafts_of(orders(2))  # what is made once
    gc.collect()
    before = len(gc.get_objects())
    drafts = drafts_of(
        OrderCreated(tenant_id="acme", order_id=f"o-{number}", total_amount=number) for number in range(1_000)
    )
    assert len(gc.get_objects()) - before < 100
    assert len(drafts) == 1_000


def test_a_provider_is_given_each_send_before_the_next_one_is_checked(monkeypatch):
    begun = []

    def items():
        for event in orders(MANY):
            begun.append(datetime.now(UTC))
            yield event

    counts = []

    def send_each(_self, sends):
        counts.extend(len(begun) for _ in sends)
        return []

    monkeypatch.setattr(CeleryProvider, "send_each", send_each)
    send_jobs(items())
    assert counts == list(range(1, MANY + 1))
