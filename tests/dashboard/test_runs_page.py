"""The page of runs: its search, what is said of one that cannot be read, files, and what is done with chosen runs."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import get_job_status
from cgk_tasks.dashboard import audit
from cgk_tasks.dashboard.data import run_search
from cgk_tasks.dashboard.data.run_search import RunFilter, count_states, find_runs
from tests.dashboard.sample_runs import id_at
from tests.support.counting import count_all, forget_all_counts

pytestmark = pytest.mark.usefixtures("empty_record")


def test_a_search_finds_what_matches_all_of_its_terms(viola, closed_run):
    match = closed_run("order.created", "globex", code="HTTP_502")
    closed_run("payout.completed", "globex", code="HTTP_502")
    closed_run("order.created", "globex", code="OTHER")
    text = viola.open("/runs", params={"q": "tenant:globex event:order.* error:HTTP_* state:failed since:1h"}).text
    assert text.count('id="r-') == 1
    assert f'id="r-{match}"' in text


def test_addresses_of_earlier_releases_are_searches(viola, closed_run):
    match = closed_run(tenant="globex")
    closed_run()
    text = viola.open("/runs?tenant=globex&state=failed&within=24h").text
    assert 'value="tenant:globex state:failed since:24h"' in text
    assert f'id="r-{match}"' in text
    assert text.count('id="r-') == 1


@pytest.mark.parametrize("address", ["/runs?q=stat:failed", "/runs?state=faild", "/runs?since=yesterday"])
def test_a_search_that_cannot_be_read_is_shown_with_what_is_wrong_in_it(viola, address):
    answer = viola.open(address)
    assert answer.status_code == 400
    assert "at character 1, " in answer.text
    assert 'role="alert"' in answer.text


def test_the_id_of_a_run_leads_to_the_run(viola, closed_run):
    run_id = closed_run()
    assert viola.open("/runs", params={"q": run_id}).url == f"{viola.base}/runs/{run_id}"


def test_matches_are_counted_by_state_and_each_count_is_a_search(viola, closed_run, open_run):
    for state in ("completed", "completed", "failed"):
        closed_run(tenant="globex", state=state)
    open_run(tenant="globex")
    closed_run(state="failed")
    text = viola.open("/runs?q=tenant:globex+state:failed").text
    assert "completed 2</a>" in text
    assert "pending 1</a>" in text
    assert 'href="/runs?q=tenant%3Aglobex+state%3Acompleted"' in text


def test_no_more_than_some_are_counted(closed_run, monkeypatch):
    monkeypatch.setattr(run_search, "MOST_COUNTED", 3)
    for _ in range(5):
        closed_run()
    assert count_states(RunFilter()) == {"failed": 3}


def test_what_no_index_knows_is_looked_for_among_some_and_pages_go_on(closed_run, open_run):
    now = datetime.now(UTC)
    sent = []
    for minutes in range(20):
        at = now - timedelta(minutes=minutes)
        make = closed_run if minutes % 2 else open_run
        sent.append(make(payload={"orderId": f"o-{minutes % 10}"}, run_id=id_at(at), created_at=at))
    forget_all_counts()
    count_all()
    wanted, key, pages = RunFilter(text="o-9"), None, []
    while True:
        page = find_runs(wanted, key, look_at=4)
        pages.append([run.id for run in page.runs])
        if page.next is None:
            break
        assert page.looked_until is not None
        key = page.next
    assert [run_id for page in pages for run_id in page] == [sent[9], sent[19]]
    assert len(pages) >= 4
    assert pages[0] == []


def test_all_are_looked_at_where_nobody_has_counted(closed_run):
    forget_all_counts()
    match = closed_run(payload={"orderId": "o-7"})
    page = find_runs(RunFilter(text="o-7"), look_at=1)
    assert ([run.id for run in page.runs], page.next, page.looked_until) == ([match], None, None)


def test_a_page_that_is_full_goes_on_behind_its_last_run(closed_run):
    sent = [closed_run() for _ in range(8)]
    forget_all_counts()
    count_all()
    first = find_runs(RunFilter(state="failed"), limit=3, look_at=50)
    second = find_runs(RunFilter(state="failed"), first.next, limit=3, look_at=50)
    third = find_runs(RunFilter(state="failed"), second.next, limit=3, look_at=50)
    assert [run.id for page in (first, second, third) for run in page.runs] == sent[::-1]
    assert (first.looked_until, second.looked_until) == (None, None)


@pytest.mark.parametrize(
    ("wanted", "found"), [({"queue": "slow"}, 1), ({"event": "order.*"}, 2), ({"event": "*.completed"}, 1)], ids=str
)
def test_queues_and_patterns(closed_run, wanted, found):
    closed_run("order.created", queue="slow")
    closed_run("order.fulfilled")
    closed_run("payout.completed")
    assert len(find_runs(RunFilter(**wanted)).runs) == found


@pytest.mark.parametrize("text", ["a%", "a_", "a\\"])
def test_signs_of_patterns_other_than_the_star_stand_for_themselves(closed_run, text):
    closed_run(code="ab-1")
    match = closed_run(code=f"{text}-1")
    assert [run.id for run in find_runs(RunFilter(error_code=f"{text}*")).runs] == [match]


def test_a_time_of_the_end_leaves_out_what_closed_at_another_and_what_is_open(closed_run, open_run):
    now = datetime.now(UTC)
    match = closed_run(age=3600)
    closed_run(age=60)
    open_run()
    wanted = {"closed_since": now - timedelta(hours=2), "closed_until": now - timedelta(minutes=30)}
    assert [run.id for run in find_runs(RunFilter(**wanted)).runs] == [match]
    assert find_runs(RunFilter(state="pending", **wanted)).runs == ()


def rows(answer):
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_the_file_has_all_that_match_and_no_payload(viola, closed_run, open_run):
    sent = [closed_run(tenant="globex", payload={"orderId": "o-4711"}) for _ in range(60)]
    closed_run()
    open_run(tenant="globex")
    answer = viola.open("/runs.csv?q=tenant:globex+state:failed")
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert "attachment" in answer.headers["Content-Disposition"]
    assert [row["id"] for row in rows(answer)] == sent[::-1]
    assert rows(answer)[0]["error_code"] == "INVALID_STATE"
    assert "o-4711" not in answer.text


def test_a_text_that_a_spreadsheet_would_compute_is_written_as_text(viola, closed_run):
    closed_run(code="=1+1")
    assert rows(viola.open("/runs.csv"))[0]["error_code"] == "'=1+1"


def test_a_file_of_a_search_that_cannot_be_read_is_refused(viola):
    assert viola.open("/runs.csv?q=stat:failed").status_code == 400


def test_chosen_runs_are_retried_and_each_is_in_the_audit(oscar, closed_run):
    chosen = [closed_run(), closed_run()]
    closed_run()
    page = oscar.open("/runs?q=state:failed")
    answer = oscar.submit(page, "/runs/selected", id=chosen, do="retry")
    assert "2 runs retried." in answer.text
    assert {line.subject for line in audit.lines() if line.action == "retry run"} == set(chosen)
    assert len(find_runs(RunFilter(state="pending")).runs) == 2


def test_chosen_runs_that_cannot_be_cancelled_are_said(oscar, closed_run, open_run):
    waiting, closed = open_run(), closed_run()
    answer = oscar.submit(oscar.open("/runs"), "/runs/selected", id=[waiting, closed], do="cancel")
    assert "1 run cancelled. 1 could not be:" in answer.text
    assert get_job_status(waiting).state == "cancelled"


@pytest.mark.parametrize("fields", [{"do": "retry"}, {"do": "discard", "id": "x"}, {"id": "x"}], ids=str)
def test_a_choice_that_makes_no_sense_is_refused(oscar, closed_run, fields):
    closed_run()
    page = oscar.open("/runs")
    token = {"_xsrf": oscar.cookies["_xsrf"]}
    assert page.ok
    assert oscar.post(f"{oscar.base}/runs/selected", data={**token, **fields}, timeout=30).status_code == 400


def test_a_viewer_chooses_nothing(viola, closed_run):
    closed_run()
    assert 'type="checkbox"' not in viola.open("/runs").text
