"""The page of a run as the server makes it: its log, errors, values and links."""

import html
import json
import logging
import re
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks.dashboard.data.log_lines import PAGE
from cgk_tasks.runs.log_writing import write
from cgk_tasks.runs.logs import RunLog
from tests.dashboard.sample_runs import TRACEBACK

SECRET = "ada.secret@example.com"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def log(run_id, *given):
    """Lines that an attempt has logged: each a level and a text, or a whole record."""
    logged = RunLog(run_id, "acme", 1, None)
    for number, (level, text, fields) in enumerate(given):
        record = logging.makeLogRecord({
            "msg": {"message": text, **fields}, "levelname": level, "name": "shop", "created": 1_780_000_000 + number,
        })  # fmt: skip
        logged.add(record)
    write([logged])


@pytest.fixture
def logging_run(closed_run):
    run_id = closed_run()
    log(
        run_id,
        ("INFO", "asked the ledger", {"creator": "cr-3"}),
        ("WARNING", "the ledger is slow", {"seconds": 4.2}),
        ("ERROR", "no account", {"creator": "cr-3", "balance": {"eur": 1}}),
    )
    return run_id


def text_of(page):
    """What is read on a page, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def log_rows(page):
    table = page[page.index('<table class="log">') :].partition("</table>")[0]
    return [text_of(row) for row in re.findall(r"<tr class=.*?</tr>", table, re.DOTALL)]


# Log


def test_log_lines_stand_in_columns(viola, logging_run):
    rows = log_rows(viola.open(f"/runs/{logging_run}").text)
    assert [row.split(maxsplit=2)[2] for row in rows] == [
        "info 1 asked the ledger shop creator =cr-3", "warning 1 the ledger is slow shop seconds =4.2",
        'error 1 no account shop creator =cr-3 balance ={"eur": 1}',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("level=warning", ["slow", "account"]), ("find=CR-3", ["asked", "account"]),
        ("level=error&find=cr-3", ["account"]), ("level=unknown", ["asked", "slow", "account"]),
    ],
)  # fmt: skip
def test_the_address_says_which_lines_are_shown(viola, logging_run, asked, found):
    rows = log_rows(viola.open(f"/runs/{logging_run}?{asked}").text)
    assert len(rows) == len(found)
    assert all(word in row for word, row in zip(found, rows, strict=True))


def test_what_was_asked_for_stands_in_the_form_and_one_is_told_when_nothing_matches(viola, logging_run):
    text = viola.open(f"/runs/{logging_run}", params={"level": "error", "find": '"><b>'}).text
    assert '<option value="error" selected>' in text
    assert 'value="&quot;&gt;&lt;b&gt;"' in text
    assert "None of 3 lines matches." in text


def test_a_long_log_is_paged(viola, closed_run):
    run_id = closed_run()
    log(run_id, *(("INFO", f"line-{number}.", {}) for number in range(PAGE + 30)))
    page = viola.open(f"/runs/{run_id}").text
    assert (len(log_rows(page)), "30 earlier</a>" in page, f"line-{PAGE + 29}." in page) == (PAGE, True, True)
    earlier = viola.get(viola.base + html.unescape(re.search(r'id="log-earlier" href="([^"#]+)', page)[1]), timeout=30)
    assert "line-0." in earlier.text
    assert 'id="log-later"' in earlier.text


def test_a_search_of_the_log_does_not_tell_what_is_hidden(viola, closed_run):
    run_id = closed_run("customer.created", payload={"customerId": "c-1", "email": SECRET})
    log(run_id, ("INFO", f"a mail to {SECRET}", {"to": SECRET}))
    assert SECRET not in viola.open(f"/runs/{run_id}").text
    found = viola.open(f"/runs/{run_id}", params={"find": "ada.secret"}).text
    assert "None of 1 lines matches." in found
    assert "a mail to [redacted]" in viola.open(f"/runs/{run_id}", params={"find": "a mail"}).text


def test_a_traceback_in_the_log_begins_with_the_own_frames(viola, closed_run):
    run_id = closed_run()
    logged = RunLog(run_id, "acme", 1, None)
    try:
        raise LookupError("no account")
    except LookupError as exc:
        logged.add(logging.makeLogRecord({
            "msg": "it failed", "levelname": "ERROR", "levelno": 40, "name": "shop",
            "exc_info": (type(exc), exc, exc.__traceback__),
        }))  # fmt: skip
    write([logged])
    (row,) = log_rows(viola.open(f"/runs/{run_id}").text)
    assert "tests/dashboard/test_run_page.py:" in row
    assert "LookupError: no account" in row


# Errors


def error(**fields):
    at = (datetime.now(UTC) - timedelta(seconds=60)).isoformat()
    return {
        "attempt": 1, "kind": "permanent", "code": "GONE", "type": "E", "message": "gone", "at": at,
        "traceback": TRACEBACK, **fields,
    }  # fmt: skip


def frames(page):
    return [text_of(one) for one in re.findall(r'<code class="where".*?</li>', page, re.DOTALL)]


def test_own_frames_stand_open_and_the_whole_text_is_folded(viola, closed_run):
    page = viola.open(f"/runs/{closed_run(errors=json.dumps([error()]))}").text
    first, second = frames(page)
    assert first == "shop/jobs/payouts.py:41 in book_payout account = ledger.account_of(ctx.payload.creator_id)"
    assert second.startswith('app/shop/ledger.py:112 in account_of raise PermanentError(f"no account for creator')
    assert "All of the traceback, with 1 frame of libraries" in page
    assert '<details id="error-trace-1"><summary>' in page
    assert TRACEBACK in html.unescape(page)


def test_a_traceback_without_own_frames_is_open(viola, closed_run):
    page = viola.open(f"/runs/{closed_run(errors=json.dumps([error(traceback='E: gone')]))}").text
    assert (frames(page), '<details id="error-trace-1" open>' in page) == ([], True)


def test_personal_data_in_a_traceback_is_hidden(viola, closed_run):
    kept = error(traceback=f'Traceback\n  File "/srv/{SECRET}.py", line 3, in f\n    mail("{SECRET}")\nE: {SECRET}')
    run_id = closed_run("customer.created", payload={"customerId": "c-1", "email": SECRET}, errors=json.dumps([kept]))
    page = viola.open(f"/runs/{run_id}").text
    assert frames(page) == ['/srv/[redacted].py:3 in f mail("[redacted]")']
    assert SECRET not in page


# Payload and result


def test_payload_and_result_are_trees_with_their_json_beside_them(viola, closed_run):
    run_id = closed_run(state="completed", result={"invoice": {"number": "i-1"}})
    page = viola.open(f"/runs/{run_id}").text
    assert '<span class="key">invoice</span>' in page
    plain = re.search(r'<pre tabindex="0" id="result-json" data-copy="result">(.*?)</pre>', page, re.DOTALL)[1]
    assert json.loads(html.unescape(plain)) == {"invoice": {"number": "i-1"}}


def test_a_big_list_is_cut_and_shown_whole_on_demand(viola, closed_run):
    run_id = closed_run(state="completed", result={"ids": list(range(1000, 1080))})
    page = viola.open(f"/runs/{run_id}").text
    assert '<code class="value number">1079</code>' not in page
    more = re.search(r'<a href="([^"#]+)#result">30 more</a>', page)[1]
    assert '<code class="value number">1079</code>' in viola.open(html.unescape(more)).text


def test_personal_data_is_in_neither_tree_nor_json(viola, closed_run):
    run_id = closed_run(
        "customer.created", state="completed", payload={"customerId": "c-1", "email": SECRET}, result={"to": [SECRET]}
    )
    page = viola.open(f"/runs/{run_id}").text
    assert SECRET not in page
    assert page.count("[redacted]") >= 4


# Links


def links(page):
    return {name: html.unescape(path) for name, path in re.findall(r'<a id="([\w-]+)"[^>]*? href="([^"]*)"', page)}


def test_the_facts_lead_to_what_they_name(viola, closed_run):
    parent = closed_run()
    run_id = closed_run(job="send-receipt", schedule="ops.dailyCleanup", parent_id=parent)
    found = links(viola.open(f"/runs/{run_id}").text)
    wanted = {
        "tenant": "/tenants/acme", "tenant-runs": "/runs?q=tenant%3Aacme", "event": "/events/order.created",
        "job": "/jobs/send-receipt", "schedule": "/schedules/ops.dailyCleanup", "parent": f"/runs/{parent}",
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted
    assert "trace" not in found


@pytest.fixture(scope="module")
def traced(start_dashboard):
    return start_dashboard(CGK_TRACE_URL="https://jaeger.example/trace/{trace_id}?run={run_id}").browser("viola")


def test_an_open_run_leads_to_the_trace_of_its_sender(traced, open_run):
    run_id = open_run(trace=TRACEPARENT)
    found = links(traced.open(f"/runs/{run_id}").text)["trace"]
    assert found == f"https://jaeger.example/trace/4bf92f3577b34da6a3ce929d0e0e4736?run={run_id}"


@pytest.mark.parametrize("event", ["order.created", "tenant.created"])  # with searchable fields, and without
def test_a_run_that_ended_well_leads_to_the_trace_of_its_sender(traced, closed_run, event):
    run_id = closed_run(event, state="completed", trace=TRACEPARENT)
    found = links(traced.open(f"/runs/{run_id}").text)["trace"]
    assert found == f"https://jaeger.example/trace/4bf92f3577b34da6a3ce929d0e0e4736?run={run_id}"


def test_a_failed_run_leads_to_the_trace_of_its_attempts(traced, closed_run):
    run_id = closed_run(errors=json.dumps([error(trace=TRACEPARENT)]))
    page = traced.open(f"/runs/{run_id}").text
    assert links(page)["trace"].startswith("https://jaeger.example/trace/4bf92f3577b34da6")
    assert "Trace of attempt 1</a>" in page


def test_a_run_whose_trace_is_not_on_record_has_no_link(traced, closed_run):
    assert "trace" not in links(traced.open(f"/runs/{closed_run()}").text)
