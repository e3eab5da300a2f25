"""Times on pages: elements that are UTC without scripts, and that scripts can make those of the reader's zone."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from cgk_tasks.dashboard.application import TEMPLATES
from cgk_tasks.dashboard.display import timed, when

AT = datetime(2026, 3, 1, 9, 5, 7, 42_900, tzinfo=UTC)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("milliseconds", "2026-03-01 09:05:07.042"), ("seconds", "2026-03-01 09:05:07"),
        ("minutes", "2026-03-01 09:05"), ("clock", "09:05"),
    ],
)  # fmt: skip
def test_a_time_is_written_in_utc_with_its_moment_beside_it(form, text):
    found = re.fullmatch(r'<time datetime="([^"]+)" data-form="[YMDhmsf .:-]+">([^<]+)</time>', when(AT, form))
    assert (found[1], found[2]) == ("2026-03-01T09:05:07.042Z", text)


def test_where_no_heading_says_the_zone_the_time_does():
    assert when(AT, zone=True).endswith(" data-zone>2026-03-01 09:05:07 UTC</time>")


def test_a_time_of_another_zone_is_the_same_moment():
    assert when(AT.astimezone(timezone(timedelta(hours=5, minutes=30)))) == when(AT)


def test_no_time_is_nothing():
    assert when(None) == ""


def test_times_in_a_text_become_elements_and_all_else_is_text():
    found = timed('<b>not due</b> until 2026-03-01 09:05:07 UTC & "later"')
    assert found.startswith("&lt;b&gt;not due&lt;/b&gt; until <time datetime=")
    assert found.endswith(">2026-03-01 09:05:07 UTC</time> &amp; &quot;later&quot;")


@pytest.mark.parametrize("text", ["2026-02-31 09:05:07 UTC", "2026-03-01 09:05:07", "2026-03-01"])
def test_what_is_no_time_of_utc_stays_as_it_is(text):
    assert timed(text) == text


@pytest.mark.parametrize("template", sorted(TEMPLATES.glob("*.html")), ids=lambda file: file.name)
def test_every_time_on_a_page_is_such_an_element(template):
    """`title="{{ utc(...) }} UTC"` and attributes like it may have texts."""
    bare = re.findall(r'(?<!title=")\{\{ *utc(?:_ms)?\(.*?\}\}', template.read_text())
    assert bare == [], "write {% raw when(...) %}"


@pytest.mark.parametrize("template", sorted(TEMPLATES.glob("*.html")), ids=lambda file: file.name)
def test_every_heading_that_names_the_zone_says_the_one_that_is_shown(template):
    assert "(UTC)" not in template.read_text(), 'write (<span class="zone">UTC</span>)'
