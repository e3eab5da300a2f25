"""The stream that tells an open page to show itself anew: what is told, to whom, and for how long."""

import html
import re
import time
import uuid
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from cgk_tasks import cancel_job
from cgk_tasks import dashboard as dashboard_package
from cgk_tasks.dashboard import audit
from cgk_tasks.dashboard.access.users import save_user, set_role
from cgk_tasks.dashboard.live_marks import PACES, Topic, mark_of, marks
from cgk_tasks.dashboard.live_pages import MOST_OF_A_USER
from cgk_tasks.dashboard.pages.live import CHECK_SECONDS
from cgk_tasks.dashboard.roles import User
from cgk_tasks.flow.queues import pause_queue, resume_queue
from cgk_tasks.sql import door
from cgk_tasks.sql.postgres import autocommit, transaction
from tests.support.counting import count_all
from tests.support.lanes import hold, make_lane
from tests.support.waiting import busyness, wait_until

SECRET = "ada.secret@example.com"


class Stream:
    """What the server sends, as it comes."""

    def __init__(self, answer):
        self.answer, self.raw = answer, b""
        self._lines = answer.iter_lines()

    def line(self):
        """The next line that is not empty; None when the stream has ended."""
        for line in self._lines:
            self.raw += line + b"\n"
            if line:
                return line.decode()
        return None

    def told(self):
        """Read on until something is told. The server sends comments at least every 15 s."""
        while (line := self.line()) is not None:
            if line.startswith("data:"):
                return line
        raise AssertionError("the stream has ended")

    def ends(self):
        while self.line() is not None:
            pass
        return True


@contextmanager
def stream(browser, **about):
    headers = {"Accept": "text/event-stream"}
    timeout = 60 * busyness()
    with closing(
        browser.get(f"{browser.base}/live", params=about, headers=headers, stream=True, timeout=timeout)
    ) as got:
        yield Stream(got)


def test_whoever_comes_is_told_and_then_each_change_of_the_run(viola, open_run):
    run_id = open_run()
    with stream(viola, about="run", of=run_id) as found:
        assert found.told() == "data: changed"
        cancel_job(run_id)
        began = time.monotonic()
        assert found.told() == "data: changed"
        assert time.monotonic() - began < PACES["run"].stale * busyness()


@pytest.mark.slow
def test_who_has_a_page_that_shows_all_of_it_is_told_of_changes_alone(viola, open_run):
    run_id = open_run()
    with stream(viola, about="run", of=run_id, seen=mark_of(Topic("run", run_id))) as found:
        began = time.monotonic()
        found.told()
        assert time.monotonic() - began > PACES["run"].stale / 2  # its page is old by then


@pytest.mark.parametrize("address", ["/runs/{run}", "/runs", "/queues/lanes?queue=cgk", "/overview", "/workers-now"])
def test_pages_say_what_they_show(viola, open_run, address):
    run_id = open_run()
    page = viola.open(address.format(run=run_id)).text
    (path,) = re.findall(r'data-live="([^"]+)"', page)
    (seen,) = re.findall(r'data-seen="([^"]+)"', page)
    about = dict(parse_qsl(urlsplit(html.unescape(path)).query))
    assert mark_of(Topic(about["about"], about.get("of", ""))) == seen


def test_the_list_is_told_of_a_run_that_matches_its_search(viola, open_run):
    with stream(viola, about="runs", of="tenant:globex state:pending") as found:
        found.told()
        open_run(tenant="globex")
        found.told()


def test_a_queue_is_told_of_a_pause(viola):
    with stream(viola, about="queue", of="exports-live") as found:
        found.told()
        pause_queue("exports-live", by="ada")
        try:
            found.told()
        finally:
            resume_queue("exports-live")


@pytest.fixture
def action(database):
    """A long action of Ada's that has just begun."""
    return audit.begin(User("ada", "admin"), "retry matches", expected=9, details={"search": "state:failed"})


def test_whoever_watches_an_action_is_told_how_far_it_has_come_and_its_end(viola, action):
    page = viola.open(f"/actions/{action.id}").text
    (path,) = re.findall(r'data-live="([^"]+)"', page)
    (seen,) = re.findall(r'data-seen="([^"]+)"', page)
    with stream(viola, seen=seen, **dict(parse_qsl(urlsplit(html.unescape(path)).query))) as found:
        with transaction() as connection:
            audit.progress(connection, action, 4, {"left": {}})
        found.told()
        assert "4 of 9 runs" in viola.open(f"/actions/{action.id}").text
        audit.end(action, "done")
        found.told()
    assert "data-live" not in viola.open(f"/actions/{action.id}").text


def test_without_scripts_the_page_of_an_action_says_how_to_see_more(viola, action):
    page = viola.open(f"/actions/{action.id}").text
    (said,) = re.findall(r"<noscript>(.*?)</noscript>", page)
    assert f'<a href="/actions/{action.id}">' in said
    audit.end(action, "done")
    assert "<noscript>" not in viola.open(f"/actions/{action.id}").text


def test_no_page_asks_again_and_again_by_itself():
    templates = Path(dashboard_package.__file__).with_name("templates").glob("*.html")
    asking = [one.name for one in templates if re.search(r'hx-trigger="[^"]*(every|load)', one.read_text())]
    assert asking == []


def test_nothing_of_a_run_is_in_its_stream(viola, open_run):
    run_id = open_run("customer.created", tenant="globex", payload={"customerId": "c-1", "email": SECRET})
    with stream(viola, about="run", of=run_id) as found:
        found.told()
        cancel_job(run_id)
        found.told()
        assert set(found.raw.decode().split("\n")) <= {"", "retry: 3000", ":", "data: changed"}


def test_proxies_keep_nothing_back(viola, open_run):
    with stream(viola, about="run", of=open_run()) as found:
        told = {name: found.answer.headers[name] for name in ("Content-Type", "X-Accel-Buffering", "Cache-Control")}
    assert told == {
        "Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no", "Cache-Control": "no-store",
    }  # fmt: skip


def test_without_a_session_there_is_no_stream(dashboard, open_run):
    answer = requests.get(f"{dashboard.url}/live", params={"about": "run", "of": open_run()}, timeout=30)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "about",
    [
        {}, {"about": "tenants"}, {"about": "run", "of": "x"}, {"about": "queue", "of": ""},
        {"about": "runs", "of": "stat:failed"}, {"about": "action", "of": "0"}, {"about": "action", "of": "1e3"},
    ],
)  # fmt: skip
def test_what_no_page_shows_is_refused(viola, about):
    assert viola.open("/live", params=about).status_code == 400


def test_more_streams_of_a_user_than_there_may_be_are_refused_until_one_has_ended(dashboard, open_run):
    save_user("many", "viewer", "many-streams-1")
    browser = dashboard.browser()
    browser.submit(browser.open("/login"), "/login", name="many", password="many-streams-1")
    about = {"about": "run", "of": open_run()}
    with ExitStack() as opened:
        streams = [opened.enter_context(stream(browser, **about)) for _ in range(MOST_OF_A_USER)]
        assert {one.line() for one in streams} == {"retry: 3000"}
        refused = browser.open("/live", params=about)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
        with stream(dashboard.browser("oscar"), **about) as other:
            assert other.told()

    def is_free():
        with stream(browser, **about) as again:
            return again.answer.status_code == 200

    wait_until(is_free, 30, "the place is free")


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda browser: browser.submit(browser.open("/logout"), "/logout"),
        lambda _browser: set_role("temp", "operator"),
        lambda _browser: _expire(),
    ],
    ids=["logout", "role", "expired"],
)
def test_a_stream_ends_with_its_session(dashboard, open_run, change):
    save_user("temp", "viewer", "temporary-one")
    browser = dashboard.browser()
    browser.submit(browser.open("/login"), "/login", name="temp", password="temporary-one")
    with stream(browser, about="run", of=open_run()) as found:
        found.told()
        change(browser)
        began = time.monotonic()
        assert found.ends()
        assert time.monotonic() - began < 60 * busyness()
    assert CHECK_SECONDS < 60


def _expire():
    with autocommit() as connection:
        connection.execute("UPDATE cgk.dashboard_sessions SET expires_at = now() WHERE user_name = 'temp'")


# What is looked for


class Statements:
    """Those of a block."""

    def __init__(self):
        self.labels = []

    def __call__(self, statement, _seconds, _error):
        self.labels.append(statement.label)


@pytest.fixture
def asked():
    counted = Statements()
    door.observe(counted)
    yield counted
    door.forget_observer(counted)


def test_all_runs_are_looked_for_in_one_statement(open_run, closed_run, asked):
    topics = {Topic("run", open_run()) for _ in range(20)} | {Topic("run", closed_run())}
    assert marks(topics).keys() == topics
    assert asked.labels == ["live.runs"]


def test_a_run_that_is_not_there_has_no_mark(database):
    assert marks({Topic("run", "5f3c1f7e-0d3a-4c86-9d8e-2d4c2f1f6a10")}) == {}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE cgk.runs SET state = 'running', attempt = 1, started_at = now() WHERE id = %(id)s",
        "UPDATE cgk.runs SET cancel_requested_at = now() WHERE id = %(id)s",
        "INSERT INTO cgk.run_logs (run_id, tenant_id, attempt, size, line_count) VALUES (%(id)s, 'acme', 1, 0, 0)",
        "INSERT INTO cgk.run_progress (run_id, tenant_id, attempt, sealed_metadata) VALUES (%(id)s, 'acme', 1, '')",
        "INSERT INTO cgk.steps (run_id, name, place, kind, state, tenant_id) VALUES (%(id)s, 's', 1, 'k', 'done', 'a')",
    ],
    ids=["claimed", "cancelled", "logged", "told", "step"],
)
def test_whatever_its_page_shows_of_a_run_changes_its_mark(open_run, change):
    topic = Topic("run", open_run())
    before = mark_of(topic)
    assert mark_of(topic) == before
    with autocommit() as connection:
        connection.execute(change, {"id": topic.of})
    assert mark_of(topic) != before


def test_a_childs_state_changes_the_mark_of_its_parent(open_run):
    topic = Topic("run", open_run())
    child = open_run(parent_id=topic.of)
    before = mark_of(topic)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET state = 'held' WHERE id = %s", [child])
    assert mark_of(topic) != before


def test_a_run_that_waits_in_a_lane_changes_the_mark_of_its_queue(database):
    topic = Topic("queue", "exports-marks")
    before = mark_of(topic)
    hold(make_lane("globex", queue=topic.of))
    assert mark_of(topic) != before


def test_the_overview_has_another_mark_once_runs_are_counted(database):
    before = mark_of(Topic("overview"))
    count_all()
    assert mark_of(Topic("overview")) != before


def test_what_another_list_shows_does_not_change_a_lists_mark(open_run, empty_record):
    topic = Topic("runs", "tenant:globex")
    before = mark_of(topic)
    open_run(tenant="acme")
    assert mark_of(topic) == before
    open_run(tenant="globex")
    assert mark_of(topic) != before


@pytest.mark.parametrize(
    "change",
    [
        "abort_requested_at = now()",
        "affected = 5",
        "details = jsonb_set(details, '{left}', '{\"again\": 1}')",
        "outcome = 'aborted'",
        "seen_at = now() - interval '61 seconds'",
    ],
    ids=["to stop", "further", "left alone", "stopped", "its process is gone"],
)
def test_whatever_its_page_shows_of_an_action_changes_its_mark(action, change):
    topic = Topic("action", str(action.id))
    before = mark_of(topic)
    assert mark_of(topic) == before != ""
    with autocommit() as connection:
        connection.execute(f"UPDATE cgk.audit SET {change} WHERE id = %s", [action.id])
    assert mark_of(topic) != before


def test_of_an_action_its_position_and_its_message_are_in_no_mark(action):
    topic = Topic("action", str(action.id))
    before = mark_of(topic)
    with autocommit() as connection:
        connection.execute(
            "UPDATE cgk.audit SET message = 'x', details = jsonb_set(details, '{position}', '\"1.0_x\"') WHERE id = %s",
            [action.id],
        )
    assert mark_of(topic) == before


@pytest.fixture
def worker_row(database):
    worker_id = str(uuid.uuid4())
    with autocommit() as connection:
        connection.execute("INSERT INTO cgk.workers (id, name, pid, queues) VALUES (%s, 'w', 1, '{cgk}')", [worker_id])
    yield worker_id
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.workers WHERE id = %s", [worker_id])


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE cgk.workers SET drain_wanted_at = now() WHERE id = %(worker)s",
        "UPDATE cgk.workers SET heartbeat_at = now() - interval '1 hour' WHERE id = %(worker)s",
        "UPDATE cgk.runs SET state = 'running', attempt = 1, worker_id = %(worker)s WHERE id = %(run)s",
    ],
    ids=["to be drained", "silent", "a run"],
)
def test_whatever_the_page_of_workers_shows_changes_its_mark(worker_row, open_run, change):
    run_id, before = open_run(), mark_of(Topic("workers"))
    assert mark_of(Topic("workers")) == before
    with autocommit() as connection:
        connection.execute(change, {"worker": worker_row, "run": run_id})
    assert mark_of(Topic("workers")) != before


def test_heartbeats_alone_do_not_change_the_mark_of_the_workers(worker_row):
    before = mark_of(Topic("workers"))
    with autocommit() as connection:
        connection.execute("UPDATE cgk.workers SET heartbeat_at = clock_timestamp() WHERE id = %s", [worker_row])
    assert mark_of(Topic("workers")) == before
