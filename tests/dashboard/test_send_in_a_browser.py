"""Sending a job from the dashboard, and the pages of events and jobs, in a browser: with and without scripts."""

import pytest

from cgk_tasks import get_job_status
from cgk_tasks.sql.postgres import autocommit
from tests.dashboard.browsing import IN_A_BROWSER
from tests.dashboard.sample_runs import count_sample

pytestmark = IN_A_BROWSER


@pytest.mark.parametrize("scripts", [True, False])
def test_an_order_is_typed_corrected_and_sent(empty_record, visit, scripts):
    page = visit(expects="400", java_script_enabled=scripts)
    page.click(".cgk-header >> text=Events")
    page.fill("#text", "order.created")
    page.press("#text", "Enter")
    page.click("tbody >> text=order.created")
    page.click("#send")
    page.get_by_label("Tenant").fill("acme")
    page.locator('[name="f.orderId"]').fill("o-4711")
    page.locator('[name="f.totalAmount"]').fill("sixty")
    page.get_by_role("button", name="Send").click()
    amount = page.locator('[name="f.totalAmount"]')
    assert amount.get_attribute("aria-invalid") == "true"
    assert "must be a number" in page.inner_text("#f-totalAmount-problem")
    assert page.locator('[name="f.orderId"]').input_value() == "o-4711"
    amount.fill("59.97")
    page.get_by_role("button", name="Send").click()
    page.wait_for_url("**/runs/*")
    assert "Sent. This is its run." in page.inner_text(".flash")
    run = get_job_status(page.url.rpartition("/")[2])
    assert run.payload == {"tenantId": "acme", "orderId": "o-4711", "totalAmount": 59.97}


def test_a_replay_is_changed_in_its_form(sample, visit, closed_run):
    run_id = closed_run("customer.created", payload={"customerId": "c-1", "email": "ada.secret@example.com"})
    page = visit()
    page.goto(f"/runs/{run_id}")
    assert page.locator('[name="f.email"]').input_value() == "[redacted]"
    page.locator('[name="f.customerId"]').fill("c-2")
    page.get_by_role("button", name="Replay", exact=True).click()
    page.wait_for_selector(".flash")
    run = get_job_status(page.url.rpartition("/")[2])
    assert run.payload == {"tenantId": "acme", "customerId": "c-2", "email": "ada.secret@example.com"}


def test_the_form_of_an_event(empty_record, visit, picture):
    page = visit()
    page.goto("/events/order.created/send?tenant=acme")
    assert page.locator('[name="f.totalAmount"]').get_attribute("aria-required") == "true"
    picture(page, "send")


def test_an_events_page(sample, visit, picture):
    with autocommit() as connection:
        connection.execute("UPDATE cgk.run_history SET worker_id = gen_random_uuid()")
    count_sample()
    page = visit()
    page.goto("/events/payout.completed")
    drawn = page.get_by_role("img", name="Runs closed")
    assert drawn.locator(".series.failed").count() > 1
    assert page.locator("#lengths tr", has_text="took").locator("td").nth(1).inner_text().endswith("s")
    page.locator("#totals").evaluate("element => element.scrollIntoView()")
    picture(page, "event")
    page.click("#span-7d")
    page.wait_for_url("**span=7d")
    assert page.locator("#span-7d").get_attribute("aria-current") == "true"


@pytest.mark.parametrize(
    "path", ["/events", "/events/order.created", "/events/order.created/send", "/jobs", "/jobs/welcome"]
)
def test_on_a_phone_nothing_is_wider_than_the_screen(sample, visit, path):
    count_sample()
    page = visit(viewport={"width": 390, "height": 800})
    page.goto(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
