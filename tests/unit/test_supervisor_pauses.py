"""How long a supervisor pauses between its turns, and a leader between its looks."""

from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.worker.pace import LEAST_PAUSE, Pace, pause

INTERVAL, IDLE = 0.25, 1.0
times = st.floats(-10, 10, allow_nan=False)


def test_without_a_run_to_come_it_lasts_until_the_turn():
    assert pause(0.2, None) == 0.2


def test_a_run_that_is_due_before_the_turn_ends_it():
    assert pause(0.2, 0.1) == 0.1


def test_a_run_that_is_due_after_the_turn_is_left_to_that():
    assert pause(0.2, 5.0) == 0.2


def test_runs_that_are_due_close_together_share_a_look():
    assert pause(0.2, 0.001) == 0.02


def test_a_run_that_has_become_due_meanwhile_waits_for_no_turn():
    assert pause(0.2, -1.0) == 0.02


@given(to_turn=times, to_due=st.none() | times)
def test_it_never_lasts_beyond_the_turn(to_turn, to_due):
    assert pause(to_turn, to_due) <= to_turn


@given(to_due=times)
def test_looks_are_never_closer_together_than_the_least_pause(to_due):
    assert pause(1.0, to_due) >= LEAST_PAUSE


def test_turns_of_an_idle_worker_are_further_apart():
    assert Pace(INTERVAL, IDLE).seconds_to_turn(100.0, is_idle=True) == IDLE


def test_while_something_happens_they_are_close_together():
    assert Pace(INTERVAL, IDLE).seconds_to_turn(100.0, is_idle=False) == INTERVAL


def test_they_stay_so_for_some_seconds_after_it():
    pace = Pace(INTERVAL, IDLE)
    pace.seconds_to_turn(100.0, is_idle=False)
    assert [pace.seconds_to_turn(now, is_idle=True) for now in (104.9, 105.0)] == [INTERVAL, IDLE]


@given(looks=st.lists(st.tuples(st.floats(0, 2, allow_nan=False), st.booleans())))
def test_they_are_far_apart_only_if_nothing_has_happened_for_some_seconds(looks):
    pace, now, happened_at = Pace(INTERVAL, IDLE), 100.0, float("-inf")
    for passed, is_idle in looks:
        now += passed
        happened_at = happened_at if is_idle else now
        is_far = pace.seconds_to_turn(now, is_idle=is_idle) == IDLE
        assert is_far == (now >= happened_at + 5.0)
