"""The pages in a headless Chromium: with and without scripts, by keyboard, in the dark."""

import pytest

from cgk_tasks import cancel_job
from cgk_tasks.api_keys.keys import authenticate
from cgk_tasks.dashboard.data.dead_letters import dead_letter_groups
from cgk_tasks.flow.queues import resume_queue
from cgk_tasks.sql.postgres import autocommit
from tests.dashboard.browsing import IN_A_BROWSER
from tests.dashboard.sample_runs import count_sample, make_sample_workflow
from tests.support.lanes import hold, make_lane

pytestmark = IN_A_BROWSER


@pytest.fixture(scope="module")
def dashboard(start_dashboard):
    """With the window that is usual, which the pages show."""
    return start_dashboard(CGK_WINDOW_SECONDS="0.5")


def test_the_list_of_runs(sample, visit, picture):
    page = visit()
    page.goto("/runs")
    assert page.locator("tbody tr").count() == 50
    picture(page, "runs")


def test_a_search_finds_and_pages_go_on(sample, visit):
    page = visit()
    page.goto("/runs")
    page.fill("#q", "event:product.* state:pending")
    page.press("#q", "Enter")
    page.wait_for_url("**q=event*")
    assert page.locator("tbody tr").count() == 50
    page.click("text=Older")
    assert page.locator("tbody tr").count() == 40


def test_without_scripts_everything_is_there(sample, visit):
    page = visit(java_script_enabled=False)
    page.click(".cgk-header >> text=Runs")
    page.fill("#q", "o-9003")
    page.click("form.search button")
    page.click("tbody td:last-child a")
    assert "is suspended by billing" in page.inner_text(".why")
    page.click("#cancel")
    assert page.locator("h1 .state").inner_text() == "cancelled"


def test_a_new_run_appears_without_a_reload(sample, visit, open_run):
    page = visit()
    page.goto("/runs?tenant=initech&state=pending")
    assert page.locator("tbody tr").count() == 0
    run_id = open_run(tenant="initech")
    page.wait_for_selector(f"#r-{run_id}")


def test_a_runs_page_follows_the_run(sample, visit):
    page = visit()
    page.goto(f"/runs/{sample['scheduled']}")
    assert "not due until" in page.inner_text(".why")
    cancel_job(sample["scheduled"])
    page.wait_for_selector("h1 .state.cancelled")
    assert page.locator(".why").count() == 0


def test_a_failed_run_and_what_now(sample, visit, picture):
    page = visit()
    page.goto(f"/runs/{sample['failed']}")
    assert "no account for creator" in page.inner_text("details[open]")
    picture(page, "run-failed")
    page.click("#retry")
    page.wait_for_selector(".flash")
    assert f"It repeats run {sample['failed']}" in page.inner_text(".flash")


def test_why_a_run_waits(sample, visit, picture):
    page = visit()
    page.goto(f"/runs/{sample['held']}")
    assert "Its tenant globex is suspended by billing" in page.inner_text(".why")
    picture(page, "run-why")


WATERFALL = "section[aria-labelledby=waterfall]"


def test_how_a_workflow_went(empty_record, open_run, closed_run, visit, picture):
    run_id = make_sample_workflow(open_run, closed_run)
    page = visit()
    page.goto(f"/runs/{run_id}")
    drawn = page.get_by_role("img", name="How the run went")
    assert drawn.bounding_box()["width"] > 600
    assert page.locator(f"{WATERFALL} .span").count() == 9  # a child has two
    assert "✕ failed, 60 s" in drawn.text_content()
    waits = page.locator(f"{WATERFALL} tbody tr", has_text="approve-extra-cost")
    assert "Waits for approve-extra-cost since" in waits.inner_text()
    picture(page, "run-waterfall", WATERFALL)


def test_failures_are_hatched_and_bars_lie_within_the_picture(empty_record, open_run, closed_run, visit):
    page = visit()
    page.goto(f"/runs/{make_sample_workflow(open_run, closed_run)}")
    hatch = page.locator(f"{WATERFALL} rect[fill='url(#waterfall-hatch)']")
    assert hatch.count() == 1
    whole = page.locator(f"{WATERFALL} svg").bounding_box()
    for box in page.locator(f"{WATERFALL} .span").all():
        found = box.bounding_box()
        assert found["x"] + found["width"] <= whole["x"] + whole["width"] + 1


def test_a_queue_and_its_lanes(crowded_queue, visit, picture):
    page = visit()
    page.goto("/queues")
    page.click(f"text={crowded_queue}")
    assert page.locator("h1 .state").inner_text() == "crowded"
    lanes = page.locator("table.lanes tbody tr")
    assert [lane.locator("th").inner_text() for lane in lanes.all()] == ["wayne", "umbrella", "initech", "acme"]
    assert "No place at sync-product/at_once/tenant (1 at once)." in page.inner_text("table.lanes")
    assert page.locator("table.gates tbody tr").count() == 2
    drawn = page.get_by_role("img", name=f"What tenants had of the workers of queue {crowded_queue}")
    assert drawn.bounding_box()["height"] > 150
    assert page.locator("table.shares tbody tr").count() == 5
    page.set_viewport_size({"width": 1180, "height": 1500})
    picture(page, "queue-lanes")


def test_the_lanes_of_one_tenant(crowded_queue, visit):
    page = visit()
    page.goto(f"/queues/lanes?queue={crowded_queue}")
    page.fill("#tenant", "initech")
    page.press("#tenant", "Enter")
    page.wait_for_url("**tenant=initech")
    assert page.locator("table.lanes tbody tr").count() == 1
    page.click("table.lanes tbody th a")
    page.wait_for_url("**/tenants/initech")
    assert page.get_by_role("img", name="What initech had of the workers of each queue").count() == 1


def test_a_queues_page_follows_the_queue(crowded_queue, visit):
    page = visit()
    page.goto(f"/queues/lanes?queue={crowded_queue}")
    hold(make_lane("globex", queue=crowded_queue))
    page.wait_for_selector("table.lanes >> text=globex")


def test_pictures_are_read_as_tables_without_scripts(crowded_queue, visit):
    page = visit(java_script_enabled=False)
    page.goto(f"/queues/lanes?queue={crowded_queue}")
    assert "wayne" in page.inner_text("table.shares")
    assert page.locator("svg .series").count() > 60


def test_pictures_have_the_colours_of_the_page(crowded_queue, visit):
    colours = {}
    for scheme in ("light", "dark"):
        page = visit(color_scheme=scheme)
        page.goto(f"/queues/lanes?queue={crowded_queue}")
        style = "element => getComputedStyle(element).fill"
        colours[scheme] = page.locator("svg .s0").first.evaluate(style), page.locator("svg .tick").first.evaluate(style)
    assert colours["light"][0] != colours["dark"][0]
    assert colours["light"][1] != colours["dark"][1]


def test_on_a_phone_pictures_are_scrolled_in_their_frames(crowded_queue, empty_record, open_run, closed_run, visit):
    run_id = make_sample_workflow(open_run, closed_run)
    page = visit()
    page.set_viewport_size({"width": 390, "height": 800})
    for path in (f"/runs/{run_id}", f"/queues/lanes?queue={crowded_queue}", "/tenants/initech"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("svg.chart").first.bounding_box()["width"] >= 640


def test_the_tenants(sample, visit, picture):
    page = visit()
    page.goto("/tenants")
    assert page.locator("tbody th").first.inner_text() == "wayne"
    picture(page, "tenants")


def test_an_api_key_is_made_shown_once_and_revoked(sample, visit):
    page = visit("ada")
    page.goto("/tenants/acme")
    page.fill("#key-name", "shop")
    page.fill("#key-scopes", "send:order.* read")
    page.press("#key-scopes", "Enter")
    secret = page.inner_text("#key")
    assert authenticate(secret).name == "shop"
    page.click("text=I have kept it")
    row = page.locator("tr", has_text=secret[:16])
    assert row.locator("td .state").inner_text() == "active"
    assert secret not in page.content()
    row.locator("text=Revoke").click()
    assert "is revoked" in page.inner_text(".flash")
    assert page.locator("tr", has_text=secret[:16]).locator("td .state").inner_text() == "revoked"


def test_an_api_key_is_made_on_a_phone_without_scripts(sample, visit):
    page = visit("ada", java_script_enabled=False)
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/tenants/globex")
    page.fill("#key-scopes", "read")
    page.click("#make-key")
    assert authenticate(page.inner_text("#key")).tenant_id == "globex"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_queue_is_paused_and_its_run_says_so(sample, visit, picture):
    page = visit()
    page.goto("/queues")
    page.fill("[aria-label='Why cgk is paused']", "the catalog's server is down")
    page.click("[aria-label='Pause cgk']")
    assert "nothing in it starts" in page.inner_text(".flash")
    try:
        assert "by oscar" in page.inner_text("tr:has([aria-label='Resume cgk'])")
        page.locator(".flash").evaluate("flash => flash.remove()")
        picture(page, "queues")
        page.goto(f"/runs/{sample['flood']}")
        assert "Its queue 'cgk' is paused by oscar" in page.inner_text(".why")
        page.goto("/queues")
        page.click("[aria-label='Resume cgk']")
        assert "is active" in page.inner_text(".flash")
    finally:
        resume_queue("cgk")


def test_a_group_of_dead_letters_from_the_count_to_the_end(sample, visit, picture):
    page = visit()
    page.goto("/dead-letters")
    assert page.locator("tbody tr").count() == 2
    picture(page, "dead-letters")
    page.click("[aria-label^='Retry all'][aria-label$='payout.completed']")
    assert "12 runs of" in page.inner_text("#dry-run")
    picture(page, "dead-letters-dry-run")
    page.fill("#pace", "2")
    page.click("text=Retry them")
    page.wait_for_function(
        "() => { const bar = document.querySelector('progress'); return bar && 0 < bar.value && bar.value < 12 }"
    )
    picture(page, "dead-letters-progress")
    page.wait_for_selector("text=12 of 12 runs. Done.")
    assert [group.group.event for group in dead_letter_groups()] == ["customer.created"]


def test_the_schedules(sample, visit, picture):
    page = visit()
    page.goto("/schedules")
    assert page.locator("tbody tr").count() > 60
    picture(page, "schedules")


def test_the_audit(sample, visit, picture):
    page = visit()
    page.goto(f"/runs/{sample['failed']}")
    page.click("#retry")
    page.goto("/audit")
    assert "retry run" in page.inner_text("tbody tr:first-child")
    picture(page, "audit")


def test_everything_is_reached_by_keyboard(sample, visit):
    page = visit()
    page.goto(f"/runs/{sample['failed']}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "retry":
            break
    page.keyboard.press("Enter")
    page.wait_for_selector(".flash")


def test_updates_leave_the_focus_where_it_is(sample, visit):
    page = visit()
    page.goto("/runs?state=held")
    link = page.locator("tbody td:last-child a").first
    link.focus()
    focused = link.get_attribute("id")
    with page.expect_response(lambda response: response.request.headers.get("hx-request") == "true"):
        pass
    page.wait_for_function("id => document.activeElement.id === id", arg=focused)


def test_it_is_dark_where_the_reader_wants_it_dark(sample, visit):
    grounds = {}
    for scheme in ("light", "dark"):
        page = visit(color_scheme=scheme)
        page.goto("/runs?within=24h")
        grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert grounds == {"light": "rgb(245, 246, 248)", "dark": "rgb(18, 23, 29)"}


def test_on_a_phone_nothing_sticks_out(sample, visit):
    page = visit()
    page.set_viewport_size({"width": 390, "height": 800})
    count_sample()
    for path in (
        "/overview", "/runs", f"/runs/{sample['failed']}", "/tenants", "/queues", "/dead-letters", "/schedules",
        "/schedules/coming-day", "/schedules/ops.dailyCleanup/run-now", "/workers",
    ):  # fmt: skip
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_bar_leads_to_flower_whose_pages_work_with_our_policy(visit):
    page = visit("ada")
    page.goto("/runs")
    page.click(".cgk-header >> text=Flower")
    page.wait_for_url("**/flower/")
    page.wait_for_load_state("networkidle")
    for name in ("Tasks", "Broker", "Workers"):
        page.click(f".app-navbar >> text={name}")
        page.wait_for_url(f"**/flower/{name.lower()}")
        page.wait_for_load_state("networkidle")
    # The script that stands in the page has run, and the style sheet is there.
    assert page.evaluate("autorefresh") == 1
    assert page.evaluate("getComputedStyle(document.querySelector('.app-navbar')).position") == "sticky"
    assert page.locator(".cgk-header").count() == 0
    page.go_back()
    page.go_back()
    page.go_back()
    page.go_back()
    page.wait_for_url("**/runs")


def test_the_login(visit, picture):
    page = visit(None)
    page.goto("/runs")
    assert page.url.endswith("/login?next=%2Fruns")
    picture(page, "login")


def test_a_dead_letter_of_a_viewer_has_no_buttons(sample, visit):
    page = visit("viola")
    page.goto(f"/runs/{sample['failed']}")
    assert page.locator("main form[method=post]").count() == 0


def test_the_database_gone_is_said_in_words(sample, visit):
    """A table that is missing stands in for a database that was not migrated."""
    page = visit()
    with autocommit() as connection:
        connection.execute("ALTER TABLE cgk.audit RENAME TO audit_away")
    try:
        answer = page.request.get("/audit")
    finally:
        with autocommit() as connection:
            connection.execute("ALTER TABLE cgk.audit_away RENAME TO audit")
    assert answer.status == 503
    assert "cgk-tasks migrate" in answer.text()
