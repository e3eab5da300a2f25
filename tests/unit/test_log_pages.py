"""The log of a run: which lines match, and how a long one is paged."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.dashboard.data.log_lines import LEVELS, PAGE, LogFilter, ShownLine, page_of
from cgk_tasks.dashboard.tracebacks import traceback_of

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


def line(number=1, level="info", message="paid", fields=None, trace=None):
    at = BEGIN + timedelta(seconds=number)
    kept = None if trace is None else traceback_of(trace)
    return ShownLine(number, at, 1, level, "shop", message, fields or {}, kept)


def numbers(lines, **wanted):
    return [one.number for one in page_of(lines, LogFilter(**wanted)).lines]


def test_a_level_shows_its_lines_and_those_that_are_more_severe():
    lines = [line(number, level) for number, level in enumerate(LEVELS, 1)]
    assert numbers(lines) == [1, 2, 3, 4, 5]
    assert numbers(lines, level="warning") == [3, 4, 5]


def test_a_level_that_the_application_has_made_is_ordered_by_its_number():
    lines = [line(1, "level 25"), line(2, "level 5"), line(3, "trace")]
    assert numbers(lines, level="info") == [1, 3]
    assert [one.severity for one in lines] == ["info", "debug", "info"]


@pytest.mark.parametrize("text", ["PAID", "o-4711", "customer=c-7", "shop", "Connection reset"])
def test_a_text_is_found_in_messages_fields_loggers_and_tracebacks(text):
    found = line(2, message="paid o-4711", fields={"customer": "c-7"}, trace="ConnectionError: connection reset")
    other = ShownLine(1, BEGIN, 1, "info", "other", "refused", {}, None)
    assert numbers([other, found], text=text) == [2]


def test_level_and_text_must_both_match():
    lines = [line(1, "error", "paid"), line(2, "error", "refused"), line(3, "info", "paid")]
    assert numbers(lines, level="error", text="paid") == [1]


def test_a_long_log_begins_with_its_last_page():
    log = page_of([line(number) for number in range(1, 2 * PAGE + 11)], LogFilter())
    assert (log.lines[0].number, log.lines[-1].number) == (PAGE + 11, 2 * PAGE + 10)
    assert (log.before, log.after) == (PAGE + 10, 0)


def test_nothing_is_shown_twice_by_the_pages_before_and_after():
    lines = [line(number) for number in range(1, 2 * PAGE + 11)]
    last = page_of(lines, LogFilter())
    middle = page_of(lines, LogFilter(until=last.earlier))
    first = page_of(lines, LogFilter(until=middle.earlier))
    shown = [one.number for page in (first, middle, last) for one in page.lines]
    assert shown[-2 * PAGE :] == list(range(11, 2 * PAGE + 11))
    assert page_of(lines, LogFilter(until=middle.later)).lines == last.lines


def test_without_lines_there_is_a_page_all_the_same():
    log = page_of([], LogFilter(level="error", until=40))
    assert (log.lines, log.before, log.after, log.lines_in_all) == ((), 0, 0, 0)


@given(st.integers(0, 3 * PAGE), st.none() | st.integers(0, 10**6), st.sampled_from(["", *LEVELS]))
def test_whatever_page_is_asked_for_all_lines_are_before_on_or_after_it(count, until, level):
    lines = [line(number, list(LEVELS)[number % 5]) for number in range(count)]
    log = page_of(lines, LogFilter(level=level, until=until))
    matching = [one for one in lines if not level or LEVELS[one.level] >= LEVELS[level]]
    assert log.matching == len(matching)
    assert list(log.lines) == matching[log.before : log.before + len(log.lines)]
    assert bool(log.lines) == bool(matching)
