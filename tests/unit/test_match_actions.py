"""What is said of actions on many runs, and when one must be confirmed."""

import pytest

from cgk_tasks.dashboard.long_actions import FASTEST_PACE, checked_pace, left_alone
from cgk_tasks.dashboard.match_actions import needs_confirmation
from cgk_tasks.dashboard.search_syntax import SearchError
from cgk_tasks.errors import InvalidOptionError


@pytest.mark.parametrize(("search", "needed"), [("", True), ("  ", True), ("o-1", False), ("since:1h", False)])
def test_a_search_without_any_term_needs_confirmation(search, needed):
    assert needs_confirmation(search) is needed


def test_a_search_that_cannot_be_read_is_refused():
    with pytest.raises(SearchError):
        needs_confirmation("stat:failed")


def test_what_was_left_alone_is_said_in_one_line_with_why():
    left = {"again": 1200, "tenant": 1, "open": 0}
    assert left_alone(left) == "1,200 run again already, 1 of a tenant that is gone"
    assert left_alone({}) == ""


@pytest.mark.parametrize("pace", [0, -1, FASTEST_PACE + 1])
def test_a_pace_has_limits(pace):
    with pytest.raises(InvalidOptionError, match="runs a second"):
        checked_pace(pace)
