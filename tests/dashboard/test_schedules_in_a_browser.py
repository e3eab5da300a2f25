"""The pages of schedules and workers in a headless Chromium."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks.runs.job_events import Route, note_job_events
from cgk_tasks.runs.tick_outcomes import count_outcomes
from cgk_tasks.schedules.fan_out import fire
from cgk_tasks.schedules.lookup import all_schedules, find_schedule
from cgk_tasks.sql.postgres import autocommit
from tests.dashboard.browsing import IN_A_BROWSER
from tests.dashboard.test_accessibility import violations

pytestmark = IN_A_BROWSER

NAME = "ab.hourlyMetrics"


@pytest.fixture
def table(sample):
    """Every entry has a job, some of them have ticked, and a worker is on record."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.schedule_ticks, cgk.idempotency_keys, cgk.workers")
        note_job_events(connection, {one.event: Route() for one in list(all_schedules().values())[:-5]})
        connection.execute(
            "INSERT INTO cgk.workers (id, name, pid, queues, revision, pool_size, heartbeat_at) VALUES"
            " (%s, 'celery@worker-3', 7, '{cgk}', '0031', 4, now() + interval '1 hour')",
            [uuid.uuid4()],
        )
    for hour in range(12):
        fire(find_schedule(NAME), now - timedelta(hours=12 - hour), tenant_id="acme")
        with autocommit() as connection:
            connection.execute("DELETE FROM cgk.runs WHERE schedule IS NOT NULL")
    fire(find_schedule(NAME), now - timedelta(seconds=1))
    count_outcomes()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_coming_day(table, visit, picture, scheme):
    page = visit(color_scheme=scheme)
    page.goto("/schedules")
    page.click("text=The coming day")
    page.wait_for_url("**/schedules/coming-day*")
    links = page.locator("svg.day a.entry")
    assert links.count() == len(all_schedules())
    assert min(link.bounding_box()["height"] for link in links.all()[:3]) >= 24
    assert violations(page) == []
    page.set_viewport_size({"width": 1300, "height": 1100})
    picture(page, "coming-day")
    page.locator(f"svg.day a[href$='/{NAME}']").click()
    page.wait_for_url(f"**/schedules/{NAME}")


def test_lines_of_the_day_are_reached_by_keyboard(table, visit):
    page = visit()
    page.goto("/schedules/coming-day?text=ab.hourly")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "a":  # of SVG; those of HTML are in capitals
            break
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/schedules/{NAME}")


def test_run_now_from_the_list_without_scripts(table, visit):
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.runs WHERE schedule IS NOT NULL")  # who still runs would be left out
    page = visit(java_script_enabled=False)
    page.goto("/schedules?text=ab.hourly")
    page.click(f"[aria-label='Run {NAME} now']")
    assert "tenants" in page.inner_text("#reach")
    page.click("button[type=submit] >> nth=0")
    page.wait_for_url(f"**/schedules/{NAME}")
    assert page.inner_text(".flash").startswith("Ticked now: ")


def test_the_strip_is_an_image_with_words(table, visit):
    page = visit()
    page.goto("/schedules?text=ab.hourly")
    strip = page.get_by_role("img", name="Last 13 ticks: 1 with open runs, 12 completed")
    assert strip.locator("i").count() == 13
    assert violations(page) == []


def test_a_worker_is_drained_and_takes_work_again(table, visit, picture):
    page = visit()
    page.goto("/workers?live=0")
    assert violations(page) == []
    page.fill("[aria-label='Why celery@worker-3 is drained']", "new kernel")
    page.click("[aria-label='Drain celery@worker-3']")
    page.wait_for_selector("text=to be drained")
    assert "by oscar: new kernel" in page.inner_text(".worker")
    picture(page, "workers")
    assert violations(page) == []
    page.click("[aria-label='Let celery@worker-3 take runs again']")
    page.wait_for_selector(".worker .state.active")


def test_what_is_typed_is_not_taken_away_by_an_update(table, visit):
    page = visit()
    page.goto("/workers")
    box = page.locator("[aria-label='Why celery@worker-3 is drained']")
    box.fill("new ke")  # and the cursor stays in it
    is_kept_back = """() => {
        const update = new CustomEvent("htmx:beforeRequest", { bubbles: true, cancelable: true });
        document.getElementById("live").dispatchEvent(update);
        return update.defaultPrevented;
    }"""
    assert page.evaluate(is_kept_back) is True
    box.blur()
    assert page.evaluate(is_kept_back) is False
