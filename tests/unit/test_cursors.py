"""The cursor of a job that goes through pages."""

import json

from cgk_tasks import create_cursor_state, update_cursor_state


def test_a_job_begins_before_the_first_page() -> None:
    assert create_cursor_state() == {"position": None, "processed": 0, "has_more": True}


def test_a_page_moves_the_cursor_and_counts() -> None:
    state = update_cursor_state(create_cursor_state(), "p-10", processed=10)
    state = update_cursor_state(state, "p-15", processed=5, has_more=False)
    assert state == {"position": "p-15", "processed": 15, "has_more": False}


def test_a_later_attempt_goes_on_with_what_was_saved() -> None:
    saved = json.loads(json.dumps(update_cursor_state(create_cursor_state(), {"page": 3}, processed=30)))
    assert create_cursor_state(saved) == {"position": {"page": 3}, "processed": 30, "has_more": True}


def test_the_state_before_a_page_stays_as_it_is() -> None:
    before = create_cursor_state()
    update_cursor_state(before, "p-10", processed=10)
    assert before["processed"] == 0
