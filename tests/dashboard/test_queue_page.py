"""The page of one queue, and that part of a tenant's: window, lanes, gates and shares."""

from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import pause, resume, set_tenant_limits
from cgk_tasks.admission.gates import WantedGate, gate_ids
from cgk_tasks.admission.passes import Passes
from cgk_tasks.dashboard.data.gates import MOST_GATES
from cgk_tasks.dashboard.data.lanes import COUNT_TO, MOST_LANES
from cgk_tasks.dashboard.data.queue_view import queue_view
from cgk_tasks.dashboard.data.tenant_limits import tenant_view
from cgk_tasks.flow.queues import pause_queue, resume_queue
from cgk_tasks.sql.postgres import autocommit, transaction
from cgk_tasks.tenancy import resume_tenant, suspend_tenant
from tests.support.lanes import add_worker, claim, hold, ids_of, make_gate, make_lane, note_used

QUEUE = "q-lanes"


@pytest.fixture(autouse=True)
def lanes(database, setting):
    """No lanes of other tests, and the window that is usual."""
    setting(CGK_WINDOW_SECONDS=None)
    with autocommit() as connection:
        connection.execute(
            "TRUNCATE cgk.runs, cgk.lanes, cgk.shares, cgk.gates, cgk.rules, cgk.workers, cgk.used_shares,"
            " cgk.used_half_hours, cgk.tenant_limits, cgk.job_limits CASCADE"
        )
        connection.execute("UPDATE cgk.passes SET known = '{}', clocks = '{}'")


@pytest.fixture
def passes():
    return Passes({"slow": 5.0}.get)


@pytest.fixture
def viola(dashboard):
    """Who may look, and nothing else."""
    return dashboard.browser("viola")


@pytest.fixture
def page(viola):
    def read(path=f"/queues/lanes?queue={QUEUE}"):
        answer = viola.open(path)
        return answer.status_code, " ".join(answer.text.split())

    return read


def since(**ago):
    return datetime.now(UTC) - timedelta(**ago)


def rule_of(job, event, field=None):
    """The id of a rule of a job, with the field of the payload that is its key."""
    with autocommit() as connection:
        return connection.execute(
            "INSERT INTO cgk.rules (name, job, event, kind, per, key_field, declared)"
            " VALUES (%s, %s, %s, 'at_once', 'tenant', %s, '{}') RETURNING id",
            [f"{job}/at_once/tenant", job, event, field],
        ).fetchone()[0]


def used(tenant, seconds, minutes_ago=5, queue=QUEUE):
    note_used(queue, tenant, {minutes_ago: seconds})


def test_the_list_of_queues_leads_to_it(page):
    hold(make_lane())
    assert 'href="/queues/lanes?queue=q-lanes"' in page("/queues")[1]


def test_a_queue_without_anything_has_a_page(page):
    status, text = page("/queues/lanes?queue=nothing+%3Cb%3E")
    assert status == 200
    assert "nothing &lt;b&gt;" in text
    assert "No run waits in a lane." in text
    assert "Nothing ran" in text


@pytest.mark.parametrize("queue", ["", "a%0Ab"])
def test_what_is_no_name_of_a_queue_is_refused(page, queue):
    assert page(f"/queues/lanes?queue={queue}")[0] == 400


def test_the_window_and_the_room_in_it():
    add_worker(QUEUE, 4)
    window = queue_view(QUEUE).window
    assert (window.processes, window.seconds, window.unclaimed, window.room) == (4, 2.0, 0, 2.0)
    assert not window.is_crowded


def test_a_queue_is_crowded_while_lanes_wait_and_when_there_is_no_room(passes):
    hold(make_lane(event="slow"), 3)
    assert queue_view(QUEUE).window.lanes_wait
    passes.make()  # a process has room for one of five seconds
    window = queue_view(QUEUE).window
    assert (window.unclaimed, window.is_crowded) == (1, True)


def test_lanes_are_listed_from_the_one_that_waits_longest():
    hold(make_lane("acme"), 2, since=since(minutes=1))
    hold(make_lane("globex"), 1, since=since(minutes=9))
    found = queue_view(QUEUE).lanes
    assert [(line.tenant_id, line.waiting) for line in found.lines] == [("globex", 1), ("acme", 2)]
    assert since(minutes=10) < found.lines[0].oldest < since(minutes=8)
    assert (found.lanes, found.tenants) == (2, 2)


def test_more_runs_than_that_are_not_counted():
    hold(make_lane(), COUNT_TO + 5)
    assert queue_view(QUEUE).lanes.lines[0].waiting == COUNT_TO + 1


def test_of_very_many_lanes_some_are_listed():
    for number in range(MOST_LANES + 3):
        hold(make_lane(f"t{number}"))
    found = queue_view(QUEUE).lanes
    assert (len(found.lines), found.lanes) == (MOST_LANES, MOST_LANES + 3)


def test_lanes_of_one_tenant_are_found(page):
    hold(make_lane("acme"))
    hold(make_lane("globex"))
    lines = queue_view(QUEUE, "globex").lanes.lines
    assert [line.tenant_id for line in lines] == ["globex"]
    assert "/tenants/acme" not in page(f"/queues/lanes?queue={QUEUE}&tenant=globex")[1]


def test_shares_are_by_weight_among_those_of_which_something_may_start(passes):
    add_worker(QUEUE, 4)
    hold(make_lane("initech", make_gate(at_once=1), event="slow"), 9)
    passes.make()
    hold(make_lane("acme", event="slow"), 9)
    hold(make_lane("globex", event="slow"), 9)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.shares SET weight = 3 WHERE tenant_id = 'acme'")
    passes.make()
    shares = {line.tenant_id: round(line.share, 3) for line in queue_view(QUEUE).lanes.lines}
    assert (shares["acme"], shares["globex"]) == (0.75, 0.25)
    assert shares["initech"] == 0.2  # if something of it could start


def test_the_part_that_each_had_in_the_last_hour_is_beside_it():
    hold(make_lane("acme"))
    hold(make_lane("globex"))
    used("acme", 30.0)
    used("initech", 10.0)
    parts = {line.tenant_id: line.used for line in queue_view(QUEUE).lanes.lines}
    assert parts == {"acme": 0.75, "globex": 0.0}


def test_a_lane_says_which_limit_keeps_it(passes):
    add_worker(QUEUE, 9)
    gate = make_gate(at_once=1)
    hold(make_lane("acme", gate, event="slow"), 3)
    passes.make()
    (line,) = queue_view(QUEUE).lanes.lines
    assert (line.state, line.waiting) == ("full", 2)
    assert line.why.startswith("No place at limit-")
    assert "(1 at once)" in line.why


def test_a_lane_says_when_its_gate_opens(passes):
    add_worker(QUEUE, 9)
    gate = make_gate(rate=1, period=3600.0, burst=1)
    hold(make_lane("acme", gate, event="slow"), 3)
    passes.make()
    view = queue_view(QUEUE)
    assert view.lanes.lines[0].state == "closed"
    assert "(1 in 3600 s), opens 20" in view.lanes.lines[0].why
    (line,) = view.gates.lines
    assert (line.used, line.lanes, line.opens) == (None, 1, "opens")
    assert timedelta(minutes=58) < line.opens_at - datetime.now(UTC) < timedelta(minutes=61)


def test_paused_lanes_and_those_of_suspended_tenants_are_listed_too(passes):
    add_worker(QUEUE, 9)
    hold(make_lane("acme", event="order.created"))
    hold(make_lane("globex", event="order.created"))
    suspend_tenant("globex")
    pause(tenant="acme", queue=QUEUE)
    try:
        passes.make()
        found = {line.tenant_id: (line.state, line.waiting) for line in queue_view(QUEUE).lanes.lines}
    finally:
        resume(tenant="acme", queue=QUEUE)
        resume_tenant("globex")
    assert found == {"acme": ("paused", 1), "globex": ("suspended", 1)}


def test_a_gate_says_what_is_used_by_whom_and_when_it_opens(passes):
    add_worker(QUEUE, 9)
    gate = make_gate(at_once=2, lend_to=5)
    hold(make_lane("acme", gate, event="slow"), 4)
    admitted = ids_of(passes.make())
    claim(admitted)
    (line,) = queue_view(QUEUE).gates.lines
    assert (line.limit, line.used, line.lanes) == ("2 at once (5 while nobody else waits)", 2, 1)
    assert {holder.run_id for holder in line.holders} == set(admitted)
    assert line.opens == "when one of its runs ends"


def test_a_gate_that_is_used_and_keeps_nobody_is_listed(passes):
    add_worker(QUEUE, 9)
    hold(make_lane("acme", make_gate(at_once=2), event="slow"), 1)
    passes.make()
    (line,) = queue_view(QUEUE).gates.lines
    assert (line.used, line.lanes, line.opens) == (1, 0, "open")


def test_gates_of_other_queues_are_not_listed(passes):
    add_worker("other", 9)
    hold(make_lane("acme", make_gate(at_once=1), queue="other", event="slow"), 2)
    passes.make()
    assert queue_view(QUEUE).gates.lines == ()
    assert len(queue_view("other").gates.lines) == 1


def test_of_very_many_gates_some_are_listed(passes):
    add_worker(QUEUE, 1000)
    for number in range(MOST_GATES + 3):
        hold(make_lane(f"t{number}", make_gate(at_once=1), event="slow"), 2)
    passes.make()
    gates = queue_view(QUEUE).gates
    assert (len(gates.lines), gates.kept) == (MOST_GATES, MOST_GATES + 3)


def test_the_value_of_a_key_is_shown_unless_it_is_personal_data(passes):
    add_worker(QUEUE, 9)
    rules = {"orderId": rule_of("by-order", "order.created", "orderId"),
             "email": rule_of("by-mail", "customer.created", "email")}  # fmt: skip
    with autocommit() as connection:
        gates = gate_ids(
            connection,
            [
                WantedGate(rules["orderId"], "acme:o-1", at_once=1),
                WantedGate(rules["email"], "acme:ada@example.com", at_once=1),
            ],
        )
    for gate in gates:
        hold(make_lane("acme", gate, event="slow"), 2)
    passes.make()
    assert sorted(line.whom for line in queue_view(QUEUE).gates.lines) == [
        "acme, email [redacted]", "acme, orderId o-1",
    ]  # fmt: skip


def test_names_do_not_break_out_of_the_page(page):
    hold(make_lane("acme", event="<script>alert(1)</script>"))
    used("<script>alert(2)</script>", 5.0)
    text = page()[1]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text


def test_a_paused_queue_says_by_whom_and_why(page):
    pause_queue(QUEUE, by="ada", reason="the catalog is down")
    try:
        text = page()[1]
    finally:
        resume_queue(QUEUE)
    assert "Paused by ada since" in text
    assert "the catalog is down" in text


def test_the_shares_of_the_last_hour_are_a_picture_and_a_table(page):
    for number in range(10):
        used(f"t{number}", 60.0 - number)
    used("t0", 40.0, minutes_ago=55)
    used("t0", 1e6, minutes_ago=70)
    hour = queue_view(QUEUE).hour
    assert [line.name for line in hour.lines] == [f"t{number}" for number in range(8)] + ["2 other tenants"]
    assert (hour.lines[0].columns[0], hour.lines[0].columns[5] or hour.lines[0].columns[4]) == (40.0, 60.0)
    text = page()[1]
    assert '<svg class="chart" viewBox' in text
    assert "100.0 s" in text


def test_a_tenants_page_has_its_shares_lanes_and_gates(page, passes):
    add_worker(QUEUE, 9)
    hold(make_lane("acme", make_gate(at_once=1), event="slow"), 3)
    hold(make_lane("acme", queue="other", event="slow"), 2)  # of which one starts
    passes.make()
    used("acme", 30.0)
    used("globex", 10.0)
    turns = tenant_view("acme").turns
    assert [(line.queue, line.used) for line in turns.shares] == [("other", 0.0), (QUEUE, 0.75)]
    assert {(line.queue, line.waiting) for line in turns.lanes.lines} == {(QUEUE, 2), ("other", 1)}
    assert [(line.used, line.lanes) for line in turns.gates.lines] == [(1, 1)]
    assert [line.name for line in turns.hour.lines] == [QUEUE]
    status, text = page("/tenants/acme")
    assert status == 200
    assert 'href="/queues/lanes?queue=other&amp;tenant=acme"' in text


def test_a_limit_of_all_jobs_of_a_tenant_is_called_so(passes):
    add_worker(QUEUE, 9)
    with transaction() as connection:
        rule = connection.execute(
            "INSERT INTO cgk.rules (name, job, event, kind, per, declared)"
            " VALUES ('/at_once/tenant', '', '', 'at_once', 'tenant', '{}') RETURNING id"
        ).fetchone()[0]
    set_tenant_limits("acme", at_once=1)
    hold(make_lane("acme", make_gate("acme", rule=rule), event="slow"), 2)
    passes.make()
    (line,) = queue_view(QUEUE).gates.lines
    assert (line.rule, line.whom, line.limit) == ("all jobs of the tenant", "acme", "1 at once")
    assert "the limit of all jobs of its tenant" in queue_view(QUEUE).lanes.lines[0].why


@pytest.mark.parametrize("table", ["used_shares", "pauses"])
def test_while_an_upgrade_is_under_way_the_pages_show_what_there_is(page, table):
    hold(make_lane())
    with autocommit() as connection:
        connection.execute(f"ALTER TABLE cgk.{table} RENAME TO {table}_away")
    try:
        status, text = page()
    finally:
        with autocommit() as connection:
            connection.execute(f"ALTER TABLE cgk.{table}_away RENAME TO {table}")
    assert status == 200
    assert ("That is counted once the database is migrated" in text) == (table == "used_shares")
