import pytest

from cgk_tasks import recurring
from cgk_tasks.recurring import RecurringWarning


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now


class Log:
    def __init__(self):
        self.lines = []

    def warning(self, event, **fields):
        self.lines.append((event, fields))


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(recurring, "time", clock)
    return clock


@pytest.fixture
def log(clock):
    return Log()


@pytest.fixture
def warning(log):
    return RecurringWarning(log, "away", "back", counted="runs")


def test_it_is_said_once_then_once_a_minute_with_the_number_of_what_was_not_said(clock, log, warning):
    for _ in range(90 * 4):
        warning.warn(2, reason="refused")
        clock.now += 0.25
    assert log.lines == [
        ("away", {"runs": 2, "reason": "refused"}),
        ("away", {"runs": 60 * 4 * 2, "reason": "refused"}),
    ]


def test_the_end_is_said_once_with_everything(clock, log, warning):
    warning.warn(1)
    clock.now += 30
    warning.warn(4)
    warning.is_over()
    warning.is_over()
    assert log.lines[1:] == [("back", {"runs": 5, "seconds": 30.0})]


def test_the_next_time_is_said_at_once(log, warning):
    for _ in range(2):
        warning.warn()
        warning.is_over()
    assert [event for event, _ in log.lines] == ["away", "back", "away", "back"]


def test_nothing_is_said_where_nothing_was_wrong(log, warning):
    warning.is_over()
    assert log.lines == []
