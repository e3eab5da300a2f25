"""How long a supervisor pauses between its turns."""

from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.worker.pace import pause

INTERVAL = 0.25
times = st.floats(-10, 10, allow_nan=False)


def test_without_a_run_to_come_it_lasts_until_the_turn():
    assert pause(0.2, None, INTERVAL) == 0.2


def test_a_run_that_is_due_before_the_turn_ends_it():
    assert pause(0.2, 0.1, INTERVAL) == 0.1


def test_a_run_that_is_due_after_the_turn_is_left_to_that():
    assert pause(0.2, 5.0, INTERVAL) == 0.2


def test_runs_that_are_due_close_together_share_a_look():
    assert pause(0.2, 0.001, INTERVAL) == 0.02


@given(to_turn=times, to_due=st.none() | times)
def test_it_never_lasts_beyond_the_turn(to_turn, to_due):
    assert pause(to_turn, to_due, INTERVAL) <= to_turn
