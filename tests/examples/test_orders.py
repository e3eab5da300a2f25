"""The example of an order's life, in this process; weeks pass at once."""

from datetime import timedelta

import pytest

from cgk_tasks import send_job
from cgk_tasks.events import EmailReviewRequest, SlackNotify
from tests.examples.orders import OrderPacked, OrderPaid, OrderReturned, OrderShipped

DAY = timedelta(days=1)

PAID = OrderPaid(tenant_id="acme", order_id="o-1", email="ada@example.com")
PACKED = OrderPacked(tenant_id="acme", order_id="o-1")
SHIPPED = OrderShipped(tenant_id="acme", order_id="o-1")
RETURNED = OrderReturned(tenant_id="acme", order_id="o-1")


@pytest.fixture(autouse=True)
def shop(without_servers):
    """It needs none."""


def reviews_asked_for(local_jobs):
    return [event.order_id for event in local_jobs.sent if isinstance(event, EmailReviewRequest)]


def test_a_review_is_asked_for_two_weeks_after_the_order_was_shipped(local_jobs):
    for event in (PAID, PACKED, SHIPPED):
        send_job(event)

    local_jobs.advance(timedelta(days=13))
    assert reviews_asked_for(local_jobs) == []

    local_jobs.advance(timedelta(days=2))
    assert reviews_asked_for(local_jobs) == ["o-1"]
    assert local_jobs.runs[0].result == "kept"


def test_no_review_is_asked_for_if_the_order_is_returned(local_jobs):
    for event in (PAID, PACKED, SHIPPED):
        send_job(event)
    local_jobs.advance(10 * DAY)
    send_job(RETURNED)
    run = local_jobs.advance(30 * DAY)[0]
    assert (run.result, reviews_asked_for(local_jobs)) == ("returned", [])


def test_an_order_that_is_returned_before_the_carrier_says_that_it_was_shipped_is_returned(local_jobs):
    for event in (PAID, PACKED, RETURNED, SHIPPED):
        send_job(event)
    assert local_jobs.advance(DAY)[0].result == "returned"


def test_what_becomes_of_another_order_or_of_another_tenants_changes_nothing(local_jobs):
    for event in (PAID, PACKED, SHIPPED):
        send_job(event)
    local_jobs.advance(DAY)
    send_job(RETURNED.model_copy(update={"order_id": "o-2"}))
    send_job(RETURNED.model_copy(update={"tenant_id": "globex"}))
    assert local_jobs.advance(14 * DAY)[0].result == "kept"


def test_the_warehouse_is_reminded_each_day_until_the_order_is_packed(local_jobs):
    send_job(PAID)
    local_jobs.advance(3.5 * DAY)
    send_job(PACKED)
    local_jobs.advance(10 * DAY)
    messages = [event.message for event in local_jobs.sent if isinstance(event, SlackNotify)]
    assert messages == [f"Order o-1 was paid {days} days ago and is not packed." for days in (1, 2, 3)]


def test_an_order_that_is_returned_before_it_is_packed_waits_for_nothing_more(local_jobs):
    send_job(PAID)
    local_jobs.advance(10 * DAY)
    send_job(RETURNED)
    assert local_jobs.advance(DAY)[0].result == "returned"


def test_an_order_may_be_shipped_late_and_returned_later(local_jobs):
    send_job(PAID)
    send_job(PACKED)
    local_jobs.advance(100 * DAY)
    send_job(SHIPPED)
    local_jobs.advance(13 * DAY)
    send_job(RETURNED)
    assert local_jobs.advance(DAY)[0].result == "returned"
