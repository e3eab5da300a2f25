"""Sending events: what is accepted, and what is refused with a word on how to do it right. No worker runs here."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from pydantic import JsonValue

from cgk_tasks import (
    SendItem,
    SendOptions,
    cancel_job,
    create_job_client,
    get_job_status,
    retry_job,
    schedule_job,
    send_job,
    send_jobs,
    tenant_context,
)
from cgk_tasks.errors import (
    IdempotencyConflictError,
    InvalidOptionError,
    InvalidTenantError,
    PayloadInvalidError,
    PayloadTooLargeError,
    RunStateError,
    TenantMissingError,
    UnknownEventError,
    UnknownRunError,
    UnknownTenantError,
)
from cgk_tasks.events import OrderCreated, TenantEvent
from cgk_tasks.runs import store
from tests.support.examples import example
from tests.support.workers import ROOT

pytestmark = pytest.mark.usefixtures("database")

ORDER = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 59.97}


class Blob(TenantEvent, event="test.blob"):
    """Anything that JSON can say."""

    value: JsonValue = None


def order(**changes):
    return ORDER | changes


def runs_of(tenant):
    return sum(row["runs"] for row in store.counts(tenant))


# What a payload must be


def test_an_event_without_a_tenant_is_refused():
    with pytest.raises(TenantMissingError, match=r"order\.created"):
        send_job("order.created", {"orderId": "o-1", "totalAmount": 1})


def test_an_event_of_an_unknown_tenant_is_refused_and_the_nearest_is_named():
    with pytest.raises(UnknownTenantError, match='Did you mean "acme"'):
        send_job("order.created", order(tenantId="acmee"))


@pytest.mark.parametrize("tenant", ["", "ACME", "acme; DROP TABLE runs", "a" * 64, 42])
def test_a_malformed_tenant_is_refused(tenant):
    with pytest.raises(InvalidTenantError, match="not a tenant id"):
        send_job("order.created", order(tenantId=tenant))


def test_an_unknown_event_is_refused_and_the_nearest_is_named():
    with pytest.raises(UnknownEventError, match=r'Did you mean "order\.created"'):
        send_job("order.creatd", ORDER)


def test_a_value_of_the_wrong_type_is_refused_by_the_name_of_its_field():
    with pytest.raises(PayloadInvalidError, match="field 'orderId' must be a valid string, not a number"):
        send_job("order.created", order(orderId=7))


def test_an_unknown_field_is_refused_and_the_nearest_is_named():
    with pytest.raises(PayloadInvalidError, match="unknown field 'totalAmout': did you mean 'totalAmount'"):
        send_job("order.created", order(totalAmout=1))


def test_a_missing_field_is_named():
    with pytest.raises(PayloadInvalidError, match="'totalAmount' is missing"):
        send_job("order.created", {"tenantId": "acme", "orderId": "o-1"})


def test_a_payload_that_is_too_large_is_refused_with_the_advice_to_send_a_reference():
    with pytest.raises(PayloadTooLargeError, match="send a reference"):
        send_job(Blob(tenant_id="acme", value="x" * 256 * 1024))


def test_a_payload_just_within_the_limit_is_taken():
    payload = "x" * (256 * 1024 - len('{"tenantId":"acme","value":""}'))
    assert send_job(Blob(tenant_id="acme", value=payload)).id


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, float("nan"), float("inf"), "\ud800"], ids=["object", "set", "nan", "inf", "surrogate"]
)
def test_a_value_that_is_not_json_is_refused(value):
    with pytest.raises(PayloadInvalidError):
        send_job("test.blob", {"tenantId": "acme", "value": value})


@pytest.mark.parametrize("payload", ["{}", [1], 7])
def test_a_payload_that_is_not_an_object_is_refused(payload):
    with pytest.raises(PayloadInvalidError, match="must be an object"):
        send_job("order.created", payload)


def test_a_payload_beside_a_model_is_refused():
    with pytest.raises(PayloadInvalidError, match="carries its own"):
        send_job(OrderCreated(tenant_id="acme", order_id="o", total_amount=1), ORDER)


def test_nothing_is_stored_of_what_was_refused():
    before = runs_of(None)
    for payload in (order(orderId=7), order(tenantId="acmee"), order(extra=1)):
        with pytest.raises((PayloadInvalidError, UnknownTenantError)):
            send_job("order.created", payload)
    assert runs_of(None) == before


@pytest.mark.parametrize(
    "value",
    [
        "Zażółć 🦊 \u202e 漢字", "nul \0 inside", None, [], {}, {"a": [{"b": None}, [1.5, "\\", '"']]}, 2**53, -0.01,
        {"": ""}, "\u2028",
    ],
)  # fmt: skip
def test_a_payload_is_stored_as_it_was_sent(value):
    status = get_job_status(send_job(Blob(tenant_id="acme", value=value)).id)
    assert status.payload == {"tenantId": "acme"} | ({} if value is None else {"value": value})


@pytest.mark.parametrize("amount", ["0.01", "59.97", "1234567890123.45", "-0.10"])
def test_an_amount_is_stored_to_the_cent(amount):
    handle = send_job(OrderCreated(tenant_id="acme", order_id="o", total_amount=Decimal(amount)))
    assert Decimal(str(get_job_status(handle.id).payload["totalAmount"])) == Decimal(amount)


def test_a_second_spelling_of_an_event_leads_to_the_event():
    handle = send_job("review.reminder.scheduled", example("review.reminder", "acme"))
    assert get_job_status(handle.id).event == "review.reminder"


# Options


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(InvalidOptionError, match="has no time zone"):
        send_job("order.created", ORDER, run_at=datetime(2030, 1, 1))  # noqa: DTZ001


def test_a_negative_delay_is_refused():
    with pytest.raises(InvalidOptionError, match="is negative"):
        send_job("order.created", ORDER, delay=-1)


def test_a_delay_together_with_a_time_is_refused():
    with pytest.raises(InvalidOptionError, match="Give one of them"):
        send_job("order.created", ORDER, delay=1, run_at=datetime.now(UTC))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("delay", "soon"), ("delay", float("nan")), ("delay", True), ("delay", 1e12), ("run_at", "2030-01-01"),
        ("priority", 10), ("priority", -1), ("priority", 2.5), ("priority", True), ("max_attempts", 0),
        ("queue", ""), ("queue", "a\nb"), ("idempotency_key", ""), ("idempotency_key", "k" * 501),
        ("idempotency_key", "half \ud800"),
        ("idempotency_key", "nul\0"), ("expires", -1), ("expires", datetime(2030, 1, 1)),  # noqa: DTZ001
        ("run_at", datetime(9999, 12, 31, tzinfo=UTC)), ("run_at", datetime(1, 1, 1, tzinfo=UTC)),
        ("delay", float("inf")), ("delay", 10**400), ("delay", timedelta.max), ("expires", 1e12), ("expires", 10**400),
        ("expires", datetime(9999, 12, 31, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_an_option_out_of_its_range_is_refused_by_name(option, value):
    with pytest.raises(InvalidOptionError, match=f"option {option}"):
        send_job("order.created", ORDER, **{option: value})


def test_an_unknown_option_is_refused_with_a_list_of_those_there_are():
    with pytest.raises(InvalidOptionError, match=r"option delai .* There are: delay"):
        send_job("order.created", ORDER, delai=1)


def test_schedule_job_needs_a_time():
    with pytest.raises(InvalidOptionError, match="must be given to schedule_job"):
        schedule_job("order.created", ORDER)


def test_a_run_can_wait_for_ten_years():
    delay = timedelta(days=3653)
    status = get_job_status(schedule_job("order.created", ORDER, delay=delay).id)
    assert (status.state, abs(status.run_at - datetime.now(UTC) - delay) < timedelta(minutes=1)) == ("scheduled", True)


def test_a_time_in_the_past_is_due_at_once():
    status = get_job_status(send_job("order.created", ORDER, run_at=datetime(2020, 1, 1, tzinfo=UTC)).id)
    assert status.state in {"pending", "held"}  # held if earlier tests have left the queue crowded


def test_the_options_are_on_record():
    handle = send_job("order.created", ORDER, delay=60, priority=9, max_attempts=4, queue="vip", expires=3600)
    status = get_job_status(handle.id)
    assert (status.priority, status.max_attempts, status.queue, status.state) == (9, 4, "vip", "scheduled")
    assert timedelta(minutes=59) < status.expires_at - datetime.now(UTC) <= timedelta(hours=1)


def test_a_clients_defaults_are_where_its_sends_start_from():
    client = create_job_client("celery", defaults=SendOptions(queue="bulk", priority=1, delay=3600))
    status = client.get_run_status(client.send("order.created", ORDER, priority=7).id)
    assert (status.queue, status.priority, status.state) == ("bulk", 7, "scheduled")


def test_a_time_given_to_a_send_replaces_the_clients_default_delay():
    client = create_job_client("celery", defaults=SendOptions(delay=3600))
    when = datetime(2099, 1, 1, tzinfo=UTC)
    assert client.get_run_status(client.send("order.created", ORDER, run_at=when).id).run_at == when


# Idempotency keys


def test_a_key_that_comes_again_with_its_payload_returns_the_first_run():
    first = send_job("order.created", ORDER, idempotency_key="again")
    second = send_job("order.created", ORDER, idempotency_key="again")
    assert (first.deduplicated, second.deduplicated, second.id) == (False, True, first.id)


def test_a_key_that_comes_again_with_another_payload_is_refused_and_nothing_is_sent():
    first = send_job("order.created", ORDER, idempotency_key="other")
    before = runs_of("acme")
    with pytest.raises(IdempotencyConflictError, match=first.id):
        send_job("order.created", order(totalAmount=60), idempotency_key="other")
    assert runs_of("acme") == before


def test_a_key_belongs_to_one_tenant():
    handles = [send_job("order.created", order(tenantId=name), idempotency_key="mine") for name in ("acme", "globex")]
    assert [handle.deduplicated for handle in handles] == [False, False]


def test_a_key_belongs_to_one_event():
    send_job("order.created", ORDER, idempotency_key="per-event")
    assert not send_job(Blob(tenant_id="acme"), idempotency_key="per-event").deduplicated


def test_a_key_twice_in_a_batch_makes_one_run():
    item = SendItem("order.created", ORDER, SendOptions(idempotency_key="in-batch"))
    first, second = send_jobs([item, item])
    assert (second.id, second.deduplicated) == (first.id, True)


def test_threads_that_send_one_key_at_once_make_one_run():
    with ThreadPoolExecutor(8) as pool:
        handles = list(pool.map(lambda _: send_job("order.created", ORDER, idempotency_key="race"), range(24)))
    assert (len({handle.id for handle in handles}), sum(not handle.deduplicated for handle in handles)) == (1, 1)


def test_processes_that_send_one_key_at_once_make_one_run():
    program = f"""if True:
        from cgk_tasks import send_job
        print(*[send_job("order.created", {ORDER}, idempotency_key=f"race-{{n}}").id for n in range(20)])
    """
    senders = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    first, second = (sender.communicate()[0].split() for sender in senders)
    assert (first, len(set(first))) == (second, 20)


# Batches


def test_an_empty_batch_sends_nothing():
    assert send_jobs([]) == []


def test_one_bad_item_stops_its_whole_batch_and_is_named():
    before = runs_of("acme")
    with pytest.raises(PayloadInvalidError) as caught:
        send_jobs([SendItem("order.created", ORDER), SendItem("order.created", order(orderId=1))])
    assert "item 1" in "".join(caught.value.__notes__)
    assert runs_of("acme") == before


@pytest.mark.parametrize(
    ("item", "error"),
    [
        (SendItem("order.created", order(tenantId="nobody")), UnknownTenantError),
        (SendItem("order.crated", ORDER), UnknownEventError),
        (SendItem("order.created", ORDER, SendOptions(priority=11)), InvalidOptionError),
        (SendItem("order.created", {"orderId": "o"}), TenantMissingError),
    ],
)
def test_a_batch_is_all_or_nothing_and_says_which_item_was_wrong(item, error):
    before = runs_of("acme")
    with pytest.raises(error) as caught:
        send_jobs([SendItem("order.created", ORDER), item])
    assert "item 1" in "".join(getattr(caught.value, "__notes__", []))
    assert runs_of("acme") == before


def test_a_conflicting_key_stops_its_whole_batch():
    send_job("order.created", ORDER, idempotency_key="batch-conflict")
    before = runs_of("acme")
    conflict = SendItem("order.created", order(totalAmount=1), SendOptions(idempotency_key="batch-conflict"))
    with pytest.raises(IdempotencyConflictError):
        send_jobs([SendItem("order.created", ORDER), conflict])
    assert runs_of("acme") == before


def test_two_thousand_events_are_sent_in_one_call_and_come_back_in_their_order():
    handles = send_jobs(OrderCreated(tenant_id="acme", order_id=f"o-{n}", total_amount=n) for n in range(2000))
    assert len({handle.id for handle in handles}) == 2000
    assert [get_job_status(handles[n].id).payload["orderId"] for n in (0, 999, 1999)] == ["o-0", "o-999", "o-1999"]


def test_a_large_batch_is_stored_as_it_was_sent_whatever_is_in_it():
    odd = ["tab\there", "back\\slash", "line\nbreak\r", "\\N", "\\.", "nul\0", "quote\"'", "🦊", "", None]
    items = [
        SendItem(
            Blob(tenant_id="acme", value=odd[n % len(odd)]),
            options=SendOptions(idempotency_key=f"odd\t\\N-{n}" if n % 3 else None, queue="odd" if n % 2 else None),
        )
        for n in range(600)
    ]
    stored = [get_job_status(handle.id) for handle in send_jobs(items)]
    assert [status.payload.get("value") for status in stored] == [item.event.value for item in items]
    assert [status.idempotency_key for status in stored] == [item.options.idempotency_key for item in items]


# Runs that are there


@pytest.mark.parametrize("action", [get_job_status, cancel_job, retry_job])
@pytest.mark.parametrize("run_id", ["0198c0de-0000-7000-8000-000000000000", "no-id", ""])
def test_an_unknown_run_is_an_error(action, run_id):
    with pytest.raises(UnknownRunError):
        action(run_id)


def test_an_open_run_cannot_be_retried():
    handle = send_job("order.created", ORDER, delay=60)
    with pytest.raises(RunStateError, match=r"it is scheduled\. Only closed runs can be retried"):
        retry_job(handle.id)


def test_a_closed_run_cannot_be_cancelled_again():
    handle = send_job("order.created", ORDER, delay=60)
    cancel_job(handle.id)
    with pytest.raises(RunStateError, match=r"it is cancelled\. Only open runs can be cancelled"):
        cancel_job(handle.id)


def test_a_payload_names_its_tenant_also_inside_a_context():
    with tenant_context("globex"), pytest.raises(TenantMissingError):
        send_job("order.created", {"orderId": "o-1", "totalAmount": 1})


# Many at once, of which what is the same is looked up once


def test_each_of_many_has_a_run_and_a_payload_of_its_own():
    sent = send_jobs(SendItem("order.created", order(orderId=f"o-{number}")) for number in range(40))
    payloads = [get_job_status(handle.id).payload["orderId"] for handle in sent]
    assert payloads == [f"o-{number}" for number in range(40)]


def test_options_of_one_of_many_are_not_those_of_the_next():
    options = [SendOptions(priority=9), SendOptions(), SendOptions(queue="elsewhere"), SendOptions()]
    sent = send_jobs(SendItem("order.created", ORDER, one) for one in options)
    found = [(status.priority, status.queue == "elsewhere") for status in map(get_job_status, [one.id for one in sent])]
    assert found == [(9, False), (5, False), (5, True), (5, False)]


def test_a_payload_that_is_too_large_is_refused_behind_small_ones_and_nothing_is_sent(setting):
    setting(CGK_MAX_PAYLOAD_BYTES="1000")
    before = runs_of("acme")
    items = [SendItem("test.blob", {"tenantId": "acme", "value": "x" * length}) for length in (1, 1, 2_000, 1)]
    with pytest.raises(PayloadTooLargeError) as refused:
        send_jobs(items)
    assert refused.value.item == 2
    assert runs_of("acme") == before


def test_tenants_of_many_are_each_looked_up():
    items = [SendItem("order.created", order(tenantId=tenant)) for tenant in ("acme", "acme", "nobody-knows-them")]
    with pytest.raises(UnknownTenantError) as refused:
        send_jobs(items)
    assert refused.value.item == 2
