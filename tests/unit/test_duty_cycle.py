"""What may last long is done a fifth of the time at most."""

import pytest

from cgk_tasks.sql import duty_cycle
from cgk_tasks.sql.duty_cycle import DutyCycle


@pytest.fixture
def clock(monkeypatch):
    times = [100.0]
    monkeypatch.setattr(duty_cycle.time, "monotonic", lambda: times[0])
    return times


@pytest.mark.parametrize(("took", "pause"), [(0.0, 0.0), (0.001, 0.004), (0.5, 2.0), (60.0, 10.0)])
def test_a_pause_is_four_times_as_long_as_what_was_before_it_and_no_longer_than_ten_seconds(clock, took, pause):
    looks = DutyCycle()
    with looks.measured():
        clock[0] += took
    clock[0] += 0.99 * pause
    assert looks.is_time == (pause == 0.0)
    clock[0] += 0.02 * pause
    assert looks.is_time


def test_the_first_time_is_now():
    assert DutyCycle().is_time


def test_what_fails_has_taken_its_time_too(clock):
    looks = DutyCycle()

    def fail():
        clock[0] += 1.0
        raise RuntimeError

    with pytest.raises(RuntimeError), looks.measured():
        fail()
    assert not looks.is_time
