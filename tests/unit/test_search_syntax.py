"""A search as text: terms, quotes, and what is said of one that cannot be read."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.dashboard.search_syntax import SearchError, Term, parse, write

NAMES = ("tenant", "state", "error", "closed-since")

terms = st.builds(Term, st.sampled_from(NAMES), st.text(min_size=1)) | st.builds(Term, st.just(""), st.text())


def read(text):
    return [(term.name, term.value) for term in parse(text, NAMES)]


def problem(text):
    with pytest.raises(SearchError) as caught:
        parse(text, NAMES)
    return caught.value


@given(st.lists(terms))
def test_what_is_written_is_read_as_the_same_terms(given_terms):
    text = write(given_terms)
    assert read(text) == [(term.name, term.value) for term in given_terms]


@given(st.text())
def test_any_text_is_read_or_refused_with_a_position_in_it(text):
    try:
        positions = [term.position for term in parse(text, NAMES)]
    except SearchError as exc:
        positions = [exc.position]
    assert all(0 <= position < len(text) for position in positions)
    assert positions == sorted(positions)


@given(st.text())
def test_a_text_that_is_read_and_written_again_stays_the_same_search(text):
    try:
        once = read(text)
    except SearchError:
        return
    assert read(write(parse(text, NAMES))) == once


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("  tenant:acme   o-1 ", [("tenant", "acme"), ("", "o-1")]),
        ("TENANT:Acme", [("tenant", "Acme")]),
        ('error:"HTTP 502"', [("error", "HTTP 502")]),
        ('error:"say \\"no\\" \\\\"', [("error", 'say "no" \\')]),
        ("closed-since:2026-03-01T09:00", [("closed-since", "2026-03-01T09:00")]),
        ('"a:b"', [("", "a:b")]),
        ('o-"1"', [("", 'o-"1"')]),
        ("4711:7", [("", "4711:7")]),
    ],
)
def test_terms(text, wanted):
    assert read(text) == wanted


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("o-1 stat:failed", 4, 'at character 5, there is no term "stat:". Did you mean "state"?'),
        ("tenant: acme", 0, "at character 1, tenant: has no value"),
        ('state:failed error:"HTTP', 19, "at character 20, a quote is not closed"),
        ('"a"b', 3, "at character 4, a space is missing after the quote"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(text, position, said):
    found = problem(text)
    assert (found.position, found.problem) == (position, said)


def test_an_unknown_term_is_told_those_that_there_are():
    assert "tenant:, state:, error:, closed-since:" in problem("x:1").hint


def test_the_error_pickles():
    found = pickle.loads(pickle.dumps(problem("x:1")))
    assert (found.position, str(found)) == (0, str(problem("x:1")))
