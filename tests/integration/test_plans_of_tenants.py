"""Plans, tenants' weights and limits, and limits that are set for jobs: what they say, and what senders make of it. No
worker lives here; passes are made by the test.
"""

import asyncio
import threading
import uuid

import pytest

from cgk_tasks import (
    SendItem,
    asend_job,
    get_job_status,
    get_tenant_limits,
    limit_history,
    list_limits,
    list_pauses,
    list_plans,
    pause,
    remove_limit,
    remove_plan,
    send_job,
    send_jobs,
    set_limit,
    set_plan,
    set_tenant_limits,
)
from cgk_tasks.admission.limits import LANES
from cgk_tasks.admission.passes import Passes
from cgk_tasks.admission.rules import AtOnce, Throttle
from cgk_tasks.admission.set_rules import SET_RULES, SetRules
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.errors import (
    ConfigurationError,
    IdempotencyConflictError,
    InvalidOptionError,
    QueueFullError,
    QuotaExceededError,
    TenantContextError,
    UnknownTenantError,
)
from cgk_tasks.events import TenantEvent
from cgk_tasks.flow.crowded import CROWDED
from cgk_tasks.flow.queues import pause_queue, resume_queue
from cgk_tasks.flow.quota import QUOTAS
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql import door
from cgk_tasks.sql.postgres import autocommit, fetch, statements
from cgk_tasks.tenancy import platform_context, resume_tenant, suspend_tenant, tenant_context
from tests.support.lanes import finish, ids_of, make_lane
from tests.support.limits_jobs import Paced, Single, Work
from tests.support.waiting import wait_until


class Free(TenantEvent, event="plans.free"):
    """Of which nobody has a job."""


@pytest.fixture(autouse=True)
def nothing_set(database):
    """No limits, runs and lanes of other tests."""
    with autocommit() as connection:
        connection.execute(
            "TRUNCATE cgk.runs, cgk.lanes, cgk.shares, cgk.gates, cgk.rules, cgk.workers, cgk.plans, cgk.tenant_limits,"
            " cgk.job_limits, cgk.runs_of_days, cgk.idempotency_keys"
        )
        connection.execute("UPDATE cgk.passes SET known = '{}', clocks = '{}'")
    forget()


def forget():
    """As a process that has just begun."""
    for part in (CROWDED, LANES, QUOTAS, ROUTES, SET_RULES, SWITCH):
        current_runtime().drop(part)


def send(event=Free, tenant="acme", **options):
    fields = {} if event in {Free, Paced} else {"path": ""}
    return send_job(event(tenant_id=tenant, **fields), **options).id


def states(runs):
    return [get_job_status(run).state for run in runs]


@pytest.fixture
def passes():
    return Passes({Free.event_name: 5.0, Single.event_name: 5.0}.get)


def admitted(passes, times=2):
    """How many a few passes admit: the first finds out that a gate has room, or lets its lanes go."""
    return sum(passes.make().runs for _ in range(times))


def weights():
    with autocommit() as connection:
        return dict(connection.execute("SELECT tenant_id, weight FROM cgk.shares").fetchall())


# What a tenant may


def test_a_tenant_has_what_its_plan_says_but_for_what_is_set_for_itself():
    set_plan("pro", weight=4, at_once=50, starts=(1000, 60), daily_runs=100_000)
    limits = set_tenant_limits("acme", plan="pro", at_once=80)
    assert (limits.plan, limits.weight, limits.at_once, limits.starts) == ("pro", 4, 80, (1000, 60))
    assert (limits.daily_runs, limits.max_waiting) == (100_000, None)
    assert limits.sources == {
        "weight": "plan", "at_once": "tenant", "starts": "plan", "daily_runs": "plan", "max_waiting": "default",
    }  # fmt: skip


def test_a_tenant_of_whom_nothing_is_set_has_a_weight_of_one_and_no_limit():
    limits = get_tenant_limits("acme")
    assert (limits.plan, limits.weight, limits.at_once, limits.starts) == (None, 1, None, None)
    assert set(limits.sources.values()) == {"default"}


def test_what_is_left_out_stays_and_none_takes_it_away():
    set_tenant_limits("acme", at_once=5, weight=2)
    limits = set_tenant_limits("acme", at_once=None)
    assert (limits.at_once, limits.weight) == (None, 2)


def test_a_plan_that_is_changed_counts_for_its_tenants():
    set_plan("pro", at_once=50)
    set_tenant_limits("acme", plan="pro")
    set_plan("pro", at_once=60)
    assert get_tenant_limits("acme").at_once == 60


def test_plans_are_listed_with_the_number_of_their_tenants():
    set_plan("pro", weight=4, by="ada")
    set_plan("free", max_waiting=10)
    set_tenant_limits("acme", plan="pro")
    assert [(plan.name, plan.tenants, plan.changed_by) for plan in list_plans()] == [("free", 0, ""), ("pro", 1, "ada")]


def test_a_plan_goes_once_no_tenant_has_it():
    set_plan("pro")
    set_tenant_limits("acme", plan="pro")
    with pytest.raises(InvalidOptionError, match="'pro' is that of acme"):
        remove_plan("pro")
    set_tenant_limits("acme", plan=None)
    assert [remove_plan("pro"), remove_plan("pro")] == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 0}, "weight is not valid: must be a number from 0.001"),
        ({"weight": -1.0}, "To let nothing of a tenant start, suspend it"),
        ({"weight": float("nan")}, "weight"),
        ({"at_once": -1}, "at_once is not valid: must be a whole number from 1"),
        ({"at_once": 0}, "None takes the limit away"),
        ({"at_once": True}, "at_once"),
        ({"daily_runs": 1.5}, "daily_runs"),
        ({"max_waiting": "many"}, "max_waiting"),
        ({"starts": 100}, "starts=\\(1000, 60\\)"),
        ({"starts": (100, 0)}, "starts"),
        ({"starts": (0, 60)}, "starts"),
        ({"plan": "por"}, 'Did you mean "pro"\\? There are: pro'),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(options, message):
    set_plan("pro")
    before = get_tenant_limits("acme")
    with pytest.raises(InvalidOptionError, match=message):
        set_tenant_limits("acme", **options)
    assert get_tenant_limits("acme") == before


def test_an_unknown_tenant_is_refused():
    with pytest.raises(UnknownTenantError):
        set_tenant_limits("nobody", at_once=1)


@pytest.mark.parametrize("name", ["", " pro", "x" * 64, "a\nb", 5])
def test_what_is_no_name_of_a_plan_is_refused(name):
    with pytest.raises(InvalidOptionError, match="1 to 63 printable characters"):
        set_plan(name)


def test_every_change_is_on_record_with_who_when_why_and_what_was():
    set_plan("pro", at_once=50, by="ada", reason="the new price list")
    set_tenant_limits("acme", plan="pro", weight=2, by="bob")
    set_tenant_limits("acme", weight=3, by="bob", reason="they complained")
    latest, _, first = limit_history()[:3]
    assert (first.who, first.action, first.subject, first.reason) == ("ada", "set plan", "pro", "the new price list")
    assert (first.old, first.new) == ({"at_once": None}, {"at_once": 50})
    assert (latest.who, latest.tenant_id, latest.old, latest.new) == ("bob", "acme", {"weight": 2}, {"weight": 3})


def test_what_changes_nothing_has_no_line():
    set_plan("pro", at_once=50)
    set_tenant_limits("acme", plan="pro")
    before = len(limit_history())
    set_plan("pro", at_once=50)
    set_tenant_limits("acme", plan="pro")
    assert len(limit_history()) == before


# Weights


def test_a_weight_is_that_of_the_tenants_shares_in_all_queues_also_of_later_ones():
    make_lane("acme", queue="q-one")
    make_lane("globex", queue="q-one")
    set_plan("pro", weight=4)
    set_tenant_limits("acme", plan="pro")
    make_lane("acme", queue="q-two")
    assert weights() == {"acme": 4, "globex": 1}
    set_plan("pro", weight=2)
    assert weights() == {"acme": 2, "globex": 1}
    set_tenant_limits("acme", plan=None)
    assert weights() == {"acme": 1, "globex": 1}


# How many at once, and how many starts


def test_runs_of_all_jobs_of_a_tenant_wait_for_its_places(passes):
    set_tenant_limits("acme", at_once=2)
    runs = [send(), send(Single), send(), send(Work)]
    assert states(runs) == ["pending", "pending", "held", "held"]
    finish(runs[:1])
    assert admitted(passes) == 1


ASKED_NOW_AND_THEN = {"admission.crowd", "dispatch.run_times"}
"""By whichever send comes when their time is up."""


def test_a_tenant_without_limits_is_sent_for_with_the_statements_that_there_were(setting):
    setting(CGK_RULES_REFRESH_SECONDS="60")

    def statements_of_sends():
        forget()
        send(tenant="globex")
        labels = []

        def note(statement, _seconds, _error):
            if statement.label not in ASKED_NOW_AND_THEN:
                labels.append(statement.label)

        door.observe(note)
        try:
            send(tenant="globex")
            send_jobs([SendItem(Free(tenant_id="globex"))] * 3)
        finally:
            door.forget_observer(note)
        return labels

    before = statements_of_sends()
    set_tenant_limits("acme", at_once=2, daily_runs=10, max_waiting=10)
    assert statements_of_sends() == before


def test_another_process_knows_of_a_change_within_its_time(setting):
    setting(CGK_RULES_REFRESH_SECONDS="0.05")
    send()
    switch, known = current_runtime().take(SWITCH), current_runtime().take(SET_RULES)
    set_tenant_limits("acme", at_once=1)
    current_runtime().put(SWITCH, switch)
    current_runtime().put(SET_RULES, known)
    send(tenant="globex")
    wait_until(lambda: "held" in states([send()]))


def test_changes_that_are_made_at_once_are_all_known():
    """They get their versions one after another, so that nobody who has read a later one has missed an earlier one."""
    tenants = ("acme", "globex", "initech")

    def change(tenant):
        for number in range(1, 11):
            set_tenant_limits(tenant, max_waiting=number)

    known = SetRules()
    threads = [threading.Thread(target=change, args=[tenant]) for tenant in tenants]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        known.refresh()
    current_runtime().drop(SWITCH)
    known.refresh()
    assert {known.of_tenant(tenant).max_waiting for tenant in tenants} == {10}


def test_a_limit_that_is_raised_lets_more_through(passes):
    set_tenant_limits("acme", at_once=1)
    runs = [send() for _ in range(5)]
    passes.make()
    set_tenant_limits("acme", at_once=3)
    assert admitted(passes) == 2
    assert states(runs).count("held") == 2


def test_a_limit_that_is_lowered_lets_nothing_through_until_fewer_are_on(passes):
    set_tenant_limits("acme", at_once=3)
    runs = [send() for _ in range(5)]
    set_tenant_limits("acme", at_once=1)
    finish(runs[:2])
    assert admitted(passes) == 0
    finish(runs[2:3])
    assert admitted(passes) == 1


def test_a_limit_that_is_taken_away_lets_all_through(passes):
    set_tenant_limits("acme", at_once=1)
    runs = [send() for _ in range(5)]
    passes.make()
    set_tenant_limits("acme", at_once=None)
    assert admitted(passes) == 4
    assert states([*runs, send()]) == ["pending"] * 6


def test_a_limit_of_the_plan_is_kept_for_each_of_its_tenants():
    set_plan("free", at_once=1)
    for tenant in ("acme", "globex"):
        set_tenant_limits(tenant, plan="free")
    assert states([send(tenant=tenant) for tenant in ("acme", "globex", "initech", "acme", "globex")]) == [
        "pending", "pending", "pending", "held", "held",
    ]  # fmt: skip


def test_starts_in_a_time_are_counted_over_all_jobs(passes):
    set_tenant_limits("acme", starts=(2, 3600))
    runs = [send(), send(Paced), send(), send(Paced)]
    assert states(runs).count("held") == 3
    finish(runs[:1])
    assert admitted(passes) == 0
    set_tenant_limits("acme", starts=(100_000, 1))
    assert admitted(passes, 3) == 3


def test_the_limits_of_a_job_count_beside_those_of_the_tenant(passes):
    set_tenant_limits("acme", at_once=2)
    runs = [send(Single), send(Single), send()]
    assert states(runs) == ["pending", "held", "pending"]


def test_a_gate_has_the_number_that_is_in_force_whatever_its_maker_knows():
    send(Single)
    set_limit("limits-single", AtOnce(7), tenant="globex")
    current_runtime().drop(SET_RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SetRules, "refresh", lambda _self: None)
        send(Single, "globex")
    with autocommit() as connection:
        assert connection.execute("SELECT key, at_once FROM cgk.gates ORDER BY key").fetchall() == [
            ("acme", 1), ("globex", 7),
        ]  # fmt: skip


def running(event=Free, runs=1, pid=1, tenant="acme"):
    """The ids of runs that a process holds, and that nobody had to admit."""
    ids = [handle.id for handle in send_jobs([SendItem(event(tenant_id=tenant))] * runs)]
    with autocommit() as connection:
        connection.execute(
            "UPDATE cgk.runs SET state = 'running', worker_id = %s, worker_pid = %s, attempt = 1, started_at = now()"
            " WHERE id = ANY(%s::uuid[])",
            [uuid.uuid5(uuid.NAMESPACE_OID, "w"), pid, ids],
        )
    return ids


def test_what_is_on_when_a_tenant_gets_its_first_limit_takes_places_one_for_each_process(passes):
    one, other = running(runs=3, pid=1), running(runs=2, pid=2)
    set_tenant_limits("acme", at_once=2)
    waiting = send()
    assert (states([waiting]), admitted(passes)) == (["held"], 0)
    finish(one)
    assert admitted(passes) == 1
    finish(other)


def test_what_is_on_when_a_plan_gets_its_first_limit_takes_places_too(passes):
    set_plan("free")
    set_tenant_limits("acme", plan="free")
    running()
    set_plan("free", at_once=1)
    assert states([send(), send(tenant="globex")]) == ["held", "pending"]


def test_what_is_on_keeps_its_places_at_the_gates_that_it_has(passes):
    first = send(Single)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET state = 'running', worker_id = gen_random_uuid(), worker_pid = 1")
    set_tenant_limits("acme", at_once=5)
    second = send(Single)
    assert (states([second]), admitted(passes)) == (["held"], 0)
    finish([first])
    assert admitted(passes) == 1


# How many may wait


def test_a_send_beyond_what_may_wait_is_refused_and_says_when_to_come_back():
    set_tenant_limits("acme", at_once=1, max_waiting=3)
    for _ in range(3):
        send()
    with pytest.raises(QueueFullError, match="'acme' may have 3 runs wait") as refused:
        send()
    assert (refused.value.limit, refused.value.tenant_id, refused.value.retry_after) == (3, "acme", 1.0)
    assert get_job_status(send(tenant="globex")).state == "pending"


def test_it_is_refused_on_an_event_loop_likewise():
    set_tenant_limits("acme", at_once=1, max_waiting=3)
    send(tenant="globex")

    async def run():
        for _ in range(3):
            await asend_job(Free(tenant_id="acme"))
        with pytest.raises(QueueFullError, match="'acme' may have 3 runs wait"):
            await asend_job(Free(tenant_id="acme"))

    asyncio.run(run())


def test_sends_are_taken_again_once_fewer_wait():
    set_tenant_limits("acme", at_once=1, max_waiting=2)
    runs = [send(), send()]
    with pytest.raises(QueueFullError):
        send()
    finish(runs)
    current_runtime().drop(QUOTAS)
    assert [get_job_status(send()).tenant_id, get_job_status(send()).tenant_id] == ["acme", "acme"]


def test_what_waits_for_the_tenant_elsewhere_counts_too():
    set_tenant_limits("acme", at_once=1, max_waiting=2)
    runs = [send(queue="q-elsewhere"), send(queue="q-elsewhere")]
    current_runtime().drop(QUOTAS)
    with pytest.raises(QueueFullError):
        send()
    assert len(runs) == 2


@pytest.mark.parametrize("whose", ["globex", "acme"])
def test_a_look_at_what_waits_does_not_read_all_runs(whose):
    """Neither those of others, nor those of the tenant beyond its limit."""
    lane = make_lane(whose)
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, rank, lane_id)"
            " SELECT gen_random_uuid(), %s, 'plans.free', 'held', 'q-lanes', 5, '{}', now(), now(), %s"
            "  FROM generate_series(1, 20000)",
            [whose, lane],
        )
        connection.execute("VACUUM ANALYZE cgk.runs, cgk.lanes, cgk.shares")
        look = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statements('limits')['count_waiting']}"
        values = {"tenant_id": "acme", "limit": 50, "queues": ["q-lanes"], "looked_at": 10_000}
        plan = fetch(connection, look, values)[0]["QUERY PLAN"][0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 100


def test_of_a_lot_that_has_no_room_nothing_is_sent():
    set_tenant_limits("acme", max_waiting=3)
    with pytest.raises(QueueFullError):
        send_jobs([SendItem(Free(tenant_id="acme"))] * 4)
    with autocommit() as connection:
        assert connection.execute("SELECT count(*) FROM cgk.runs").fetchone() == (0,)
    assert len(send_jobs([SendItem(Free(tenant_id="acme"))] * 3)) == 3


# How many a day


def sent_today(tenant="acme"):
    with autocommit() as connection:
        found = connection.execute("SELECT runs FROM cgk.runs_of_days WHERE tenant_id = %s", [tenant]).fetchone()
    return found[0] if found else 0


def test_a_tenant_sends_so_many_runs_a_day_and_is_told_when_the_next_begins():
    set_tenant_limits("acme", daily_runs=3)
    send_jobs([SendItem(Free(tenant_id="acme"))] * 3)
    with pytest.raises(QuotaExceededError, match="'acme' may send 3 runs a day") as refused:
        send()
    assert refused.value.code == "QUOTA_EXCEEDED"
    assert 0 < refused.value.retry_after <= 86_400
    assert sent_today() == 3


def test_the_next_day_counts_anew():
    set_tenant_limits("acme", daily_runs=1)
    send()
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs_of_days SET day = day - 1")
    send()
    assert sent_today() == 1


def test_what_is_not_sent_does_not_count():
    set_tenant_limits("acme", daily_runs=10, max_waiting=10)
    for _ in range(2):
        send(Work, idempotency_key="k")
    with pytest.raises(IdempotencyConflictError):
        send_job(Work(tenant_id="acme", path="other"), idempotency_key="k")
    assert sent_today() == 1


def test_a_send_that_was_made_before_is_answered_though_nothing_may_be_sent_any_more():
    set_tenant_limits("acme", daily_runs=1, at_once=1, max_waiting=1)
    first = send(idempotency_key="k")
    assert send(idempotency_key="k") == first
    with pytest.raises((QuotaExceededError, QueueFullError)):
        send(idempotency_key="other")


def test_a_task_of_celery_is_counted_too():
    from cgk_tasks import tasks

    set_tenant_limits("acme", daily_runs=1)
    payload = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 1.0}
    result = tasks.order_created.delay(**payload)
    with pytest.raises(QuotaExceededError):
        tasks.order_created.delay(**payload)
    assert get_job_status(run_id_of(result.id)).tenant_id == "acme"


# Limits of jobs


def test_a_limit_that_is_set_takes_the_place_of_the_declared_one_for_the_tenant():
    set_limit("limits-single", AtOnce(2), tenant="acme")
    runs = [send(Single, tenant) for tenant in ("acme", "acme", "acme", "globex", "globex")]
    assert states(runs) == ["pending", "pending", "held", "pending", "held"]


def test_a_limit_for_one_tenant_comes_before_one_for_all():
    set_limit("limits-single", AtOnce(3))
    set_limit("limits-single", AtOnce(2), tenant="acme")
    runs = [send(Single, tenant) for tenant in ("acme", "globex") for _ in range(4)]
    assert states(runs).count("held") == 2 + 1


def test_a_limit_that_is_removed_lets_the_declared_one_count_again(passes):
    set_limit("limits-single", AtOnce(2), tenant="acme")
    runs = [send(Single) for _ in range(4)]
    assert remove_limit("limits-single", tenant="acme") == 1
    finish(runs[:1])
    assert admitted(passes) == 0
    assert remove_limit("limits-single", tenant="acme") == 0


def test_a_limit_of_another_kind_is_one_more():
    set_limit("limits-single", Throttle(1, every=3600), tenant="acme")
    first = send(Single)
    finish([first])
    assert states([send(Single), send(Single, "globex")]) == ["held", "pending"]


def test_a_job_without_limits_gets_one_and_what_is_on_takes_its_place(passes):
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.workers (id, name, pid, queues, executes, revision)"
            " VALUES (%s, 'w', 1, '{q}', %s, '0023')",
            [uuid.uuid4(), [Free.event_name, f"{Free.event_name}:free-job"]],
        )
    on = running()
    set_limit("free-job", AtOnce(1))
    assert states([send()]) == ["held"]
    finish(on)
    assert admitted(passes) == 1
    remove_limit("free-job")
    assert states([send()]) == ["pending"]


def test_a_limit_for_values_of_a_field_counts_each_of_them():
    set_limit("limits-work", AtOnce(1, key="path"), tenant="acme")
    runs = [send_job(Work(tenant_id="acme", path=path, shop_id=path)).id for path in ("a", "a", "b")]
    assert states(runs) == ["pending", "held", "pending"]


def test_limits_are_listed_with_where_they_come_from():
    send(Single)
    set_limit("limits-single", AtOnce(10, lend_to=20), tenant="acme", by="ada", reason="their interface is slow")
    found = [(one.source, one.tenant_id, one.limit, one.changed_by, one.reason) for one in list_limits()]
    assert found == [
        ("code", None, AtOnce(1), "", ""),
        ("set", "acme", AtOnce(10, lend_to=20), "ada", "their interface is slow"),
    ]


def test_the_history_has_limits_of_jobs():
    set_limit("limits-single", AtOnce(10), tenant="acme", by="ada", reason="slow")
    set_limit("limits-single", AtOnce(5), tenant="acme", by="bob")
    remove_limit("limits-single", tenant="acme", by="ada")
    removed, changed, made = limit_history(tenant="acme")[:3]
    assert (made.who, made.reason, made.old, made.new) == ("ada", "slow", {"at_once": None}, {"at_once": 10})
    assert (changed.who, changed.old, changed.new) == ("bob", {"at_once": 10}, {"at_once": 5})
    assert (removed.action, removed.old, removed.new) == ("remove limit", {"at_once": 5}, {"at_once": None})


def test_an_unknown_job_is_refused_with_the_nearest_name():
    with pytest.raises(InvalidOptionError, match='Did you mean "limits-single"'):
        set_limit("limits-singel", AtOnce(1))


def test_a_field_that_the_payload_has_not_is_refused():
    with pytest.raises(ConfigurationError, match="has no such field"):
        set_limit("limits-single", AtOnce(1, key="shpoId"))


def test_what_is_no_limit_is_refused():
    with pytest.raises(ConfigurationError, match="is no limit"):
        set_limit("limits-single", 5)


def test_a_limit_of_all_together_is_none_of_one_tenant():
    with pytest.raises(InvalidOptionError, match="of all tenants together"):
        set_limit("limits-single", AtOnce(5, per="all"), tenant="acme")


def test_ids_of_a_pass_are_those_of_the_tenants_lanes(passes):
    set_tenant_limits("acme", at_once=1)
    runs = [send(), send()]
    finish(runs[:1])
    assert ids_of(passes.make()) == runs[1:]


@pytest.mark.parametrize(
    "reach",
    [
        lambda: set_plan("pro", at_once=5),
        lambda: set_tenant_limits("globex", at_once=5),
        lambda: set_tenant_limits("acme", at_once=5),
        lambda: get_tenant_limits("globex"),
        limit_history,
        list_pauses,
        lambda: pause(tenant="globex"),
        lambda: pause_queue("cgk"),
        lambda: resume_queue("cgk"),
        lambda: suspend_tenant("globex"),
        lambda: resume_tenant("acme"),
    ],
    ids=[
        "plan",
        "another's limits",
        "its own limits",
        "what another may",
        "history",
        "pauses",
        "pause",
        "queue",
        "resumed queue",
        "suspended tenant",
        "resumed tenant",
    ],
)
def test_a_tenants_code_reaches_nothing_of_what_others_may(reach):
    with tenant_context("acme"), pytest.raises(TenantContextError, match="'acme'"):
        reach()


def test_a_tenants_code_sees_what_the_tenant_may():
    set_tenant_limits("acme", at_once=5)
    with tenant_context("acme"):
        assert get_tenant_limits("acme").at_once == 5


def test_the_platforms_code_sets_what_tenants_may():
    with platform_context():
        set_tenant_limits("acme", at_once=5)
    assert get_tenant_limits("acme").at_once == 5
