"""The page of a run in a headless Chromium: what is folded, copied, filtered, followed, and in which zone times are."""

import json
import logging
from datetime import UTC, datetime

import pytest

from cgk_tasks import cancel_job
from cgk_tasks.dashboard.access.users import save_user, set_role
from cgk_tasks.runs.log_writing import write
from cgk_tasks.runs.logs import RunLog
from cgk_tasks.sql.postgres import autocommit
from tests.dashboard.browsing import IN_A_BROWSER
from tests.dashboard.sample_runs import TRACEBACK
from tests.dashboard.test_accessibility import violations
from tests.support.waiting import busyness, wait_until

pytestmark = IN_A_BROWSER

SECRET = "ada.secret@example.com"
AT = datetime(2026, 3, 1, 9, 5, 7, 42_000, tzinfo=UTC)
RESULT = {
    "invoice": {"number": "i-1", "lines": [{"sku": 'A"1', "price": 12345678901234567890}, {"sku": "B", "price": 1.5}]},
    "note": "two\nlines",
    "ids": list(range(60)),
}


def log(run_id, level, text):
    logged = RunLog(run_id, "acme", 1, None)
    logged.add(logging.makeLogRecord({"msg": {"message": text, "order": "o-1"}, "levelname": level, "name": "shop"}))
    write([logged])


@pytest.fixture
def run_id(closed_run):
    """A run with everything that its page can show."""
    error = {
        "attempt": 1, "kind": "transient", "code": "HTTP_502", "type": "E", "message": "away", "traceback": TRACEBACK,
        "at": AT.isoformat(),
    }  # fmt: skip
    made = closed_run(
        "customer.created", state="completed", payload={"customerId": "c-1", "email": SECRET}, result=RESULT,
        errors=json.dumps([error]), created_at=AT,
    )  # fmt: skip
    log(made, "INFO", "asked the ledger")
    log(made, "ERROR", "no account")
    return made


def copied(page, wanted):
    """What the page has copied, once this is in it."""

    def read():
        text = page.evaluate("navigator.clipboard.readText()")
        return text if wanted in text else None

    return wait_until(read, 20, f"{wanted} is copied")


@pytest.fixture
def page(visit, run_id):
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.goto(f"/runs/{run_id}")
    return page


def value(page, name):
    return page.locator("#result-tree li", has=page.locator(f":scope > .key:text-is('{name}')"))


def test_a_value_is_copied_as_it_is(page):
    value(page, "note").get_by_role("button", name="Copy note").click()
    assert copied(page, "two") == "two\nlines"


def test_who_does_not_see_the_button_hears_that_it_was_copied(page):
    page.evaluate(
        """() => {
            window.heard = [];
            const said = document.querySelector("main > [role=status]");
            new MutationObserver(() => window.heard.push(said.textContent)).observe(said, { childList: true });
        }"""
    )
    page.click("#copy-result")
    page.wait_for_function("window.heard.includes('Copied')")


def test_an_object_is_copied_as_json_with_its_numbers_as_they_were_written(page):
    page.get_by_role("button", name="Copy invoice").click()
    text = copied(page, '"price": 12345678901234567890')
    assert json.loads(text) == RESULT["invoice"]


def test_the_whole_result_is_copied_also_what_the_tree_leaves_out(page):
    page.click("#copy-result")
    assert json.loads(copied(page, '"ids"')) == RESULT


def test_a_list_of_which_the_tree_has_only_some_is_not_copied_from_it(page):
    assert page.get_by_role("button", name="Copy ids").count() == 0
    page.click("#result-tree >> text=10 more")
    page.get_by_role("button", name="Copy ids").click()
    assert json.loads(copied(page, "59")) == RESULT["ids"]


def test_what_is_hidden_is_not_copied(page):
    page.click("#copy-payload")
    text = copied(page, '"customerId"')
    assert json.loads(text) == {"tenantId": "acme", "customerId": "c-1", "email": "[redacted]"}


def test_what_is_folded_opens_also_without_scripts(visit, run_id):
    page = visit(java_script_enabled=False)
    page.goto(f"/runs/{run_id}")
    sku = page.locator("#result-tree").get_by_text('"A\\"1"')
    before = sku.is_visible()
    page.locator("#result-tree summary", has_text="lines").click()
    page.locator("#result-tree summary", has_text="2 fields").nth(1).click()
    assert (before, sku.is_visible()) == (False, True)
    assert page.locator(".copy").count() == 0


def test_own_frames_are_seen_and_those_of_libraries_on_demand(page):
    assert "shop/ledger.py:112" in page.inner_text("#error-1 .frames")
    assert not page.locator("#error-trace-1 pre").is_visible()
    page.locator("#error-trace-1 summary").click()
    assert "cgk_tasks/worker/attempt.py" in page.inner_text("#error-trace-1 pre")


@pytest.mark.parametrize("has_scripts", [True, False])
def test_the_log_is_filtered_and_the_address_keeps_it(visit, run_id, has_scripts):
    page = visit(java_script_enabled=has_scripts)
    page.goto(f"/runs/{run_id}")
    page.select_option("#log-level", "error")
    page.click("#log-show")
    page.wait_for_url("**level=error**")
    assert page.locator("table.log tbody tr").count() == 1
    page.fill("#log-text", "ledger")
    page.press("#log-text", "Enter")
    page.wait_for_url("**find=ledger**")
    assert "None of 2 lines matches." in page.inner_text("#live-log")
    page.click("text=All lines")
    page.wait_for_url(lambda url: "level" not in url)
    assert page.locator("table.log tbody tr").count() == 2


# Following


def test_what_a_run_logs_appears_and_the_filter_stays(visit, open_run):
    run_id = open_run(state="running", attempt=1)
    log(run_id, "ERROR", "the first")
    page = visit()
    page.goto(f"/runs/{run_id}?level=warning")
    log(run_id, "INFO", "not wanted")
    log(run_id, "ERROR", "the second")
    page.wait_for_selector("table.log >> text=the second")
    assert page.locator("table.log tbody tr").count() == 2
    assert page.input_value("#log-level") == "warning"


def test_what_was_opened_stays_open_and_times_stay_those_of_the_reader(visit, open_run):
    error = {"attempt": 1, "code": "X", "message": "m", "traceback": TRACEBACK, "at": AT.isoformat()}
    run_id = open_run(state="running", attempt=2, errors=json.dumps([error]), created_at=AT)
    page = visit(timezone_id="Asia/Kolkata")
    page.goto(f"/runs/{run_id}")
    page.locator("#error-trace-1 summary").click()
    log(run_id, "INFO", "it goes on")
    page.wait_for_selector("table.log >> text=it goes on")
    assert page.locator("#error-trace-1 pre").is_visible()
    assert "14:35:07.042" in page.inner_text(".timeline")


def test_the_end_of_a_run_is_shown_and_then_nothing_is_asked_any_more(visit, open_run):
    run_id = open_run()
    page = visit()
    page.goto(f"/runs/{run_id}")
    cancel_job(run_id)
    page.wait_for_selector("h1 .state.cancelled")
    assert page.locator("[data-live]").count() == 0
    assert page.inner_text("#live-result p") == "None."
    assert page.locator("h2#replay").count() == 1


def test_a_form_that_somebody_fills_in_stays(visit, open_run):
    run_id = open_run(state="running", attempt=1)
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.steps (run_id, name, place, kind, state, tenant_id, awaits)"
            " VALUES (%s, 'answer', 1, 'signal', 'waiting', 'acme', '{answer}')",
            [run_id],
        )
    page = visit()
    page.goto(f"/runs/{run_id}")
    page.fill("#signal-payload", '{"yes": true}')
    log(run_id, "INFO", "it goes on")
    page.wait_for_selector("table.log >> text=it goes on")
    assert page.input_value("#signal-payload") == '{"yes": true}'


def test_where_no_stream_comes_through_the_page_is_asked_for_now_and_then(visit, open_run):
    run_id = open_run()
    page = visit(expects="ERR_FAILED")
    page.route("**/live?**", lambda route: route.abort())
    page.goto(f"/runs/{run_id}")
    cancel_job(run_id)
    page.wait_for_selector("h1 .state.cancelled")


def test_who_is_logged_out_is_told_and_the_page_stays(visit, open_run):
    save_user("leaving", "viewer", "leaving-soon-1")
    page = visit(None, expects="401")
    page.goto("/login")
    page.fill("#name", "leaving")
    page.fill("#password", "leaving-soon-1")
    page.press("#password", "Enter")
    page.wait_for_url("**/overview")
    run_id = open_run()
    page.goto(f"/runs/{run_id}")
    set_role("leaving", "operator")  # which ends the session
    cancel_job(run_id)
    page.set_default_timeout(40_000 * busyness())
    page.wait_for_selector("text=You are logged out.")
    assert page.locator("h1 .state.pending").count() == 1


# Times


@pytest.fixture
def in_kolkata(visit, run_id):
    page = visit(timezone_id="Asia/Kolkata")
    page.goto(f"/runs/{run_id}")
    return page


def first_time(page):
    return page.locator(".timeline time").first


def test_times_are_those_of_the_browsers_zone_and_utc_on_hover(in_kolkata):
    assert first_time(in_kolkata).inner_text() == "2026-03-01 14:35:07.042"
    assert first_time(in_kolkata).get_attribute("title") == "2026-03-01 09:05:07.042 UTC"


def test_headings_say_the_zone_that_is_shown(in_kolkata):
    zone = in_kolkata.evaluate("Intl.DateTimeFormat().resolvedOptions().timeZone")
    assert in_kolkata.inner_text("#timeline") == f"Timeline ({zone})"
    in_kolkata.click("#zone")
    assert in_kolkata.inner_text("#timeline") == "Timeline (UTC)"


def test_the_ticks_of_pictures_are_of_the_zone_too(in_kolkata, closed_run):
    in_kolkata.goto(f"/runs/{closed_run()}")
    tick = in_kolkata.locator("svg .tick").first
    before = tick.text_content()
    in_kolkata.click("#zone")
    assert tick.text_content() != before


def test_the_choice_of_utc_is_kept(in_kolkata):
    in_kolkata.click("#zone")
    assert first_time(in_kolkata).inner_text() == "2026-03-01 09:05:07.042"
    in_kolkata.reload()
    assert first_time(in_kolkata).inner_text() == "2026-03-01 09:05:07.042"
    in_kolkata.click("#zone")
    assert first_time(in_kolkata).inner_text() == "2026-03-01 14:35:07.042"


def test_without_scripts_times_are_utc_and_say_so(visit, run_id):
    page = visit(java_script_enabled=False, timezone_id="Asia/Kolkata")
    page.goto(f"/runs/{run_id}")
    assert page.inner_text("#timeline") == "Timeline (UTC)"
    assert first_time(page).inner_text() == "2026-03-01 09:05:07.042"
    assert page.locator("#zone").count() == 0


# For everybody


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_hinders_anybody_on_the_page_with_everything_open(visit, run_id, scheme):
    page = visit(color_scheme=scheme, timezone_id="Asia/Kolkata")
    page.goto(f"/runs/{run_id}")
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
    assert violations(page) == []


def test_on_a_phone_nothing_sticks_out(visit, run_id):
    page = visit(timezone_id="Asia/Kolkata")
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"/runs/{run_id}")
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
