"""What a worker says of itself on record is said when it changes, and now and then."""

import pytest

from cgk_tasks.worker.notes import Notes


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def notes(clock):
    return Notes(clock)


@pytest.fixture
def said(notes):
    """Says something of two processes, and returns how often that was said."""
    times = []

    def say(what="two", subject="processes"):
        notes.say(subject, what, lambda: times.append(what))
        return len(times)

    return say


def test_the_same_is_said_once(said):
    assert [said(), said(), said()] == [1, 1, 1]


def test_what_has_changed_is_said(said):
    assert [said("two"), said("three"), said("two")] == [1, 2, 3]


def test_the_same_of_another_subject_is_said(said):
    assert [said(subject="processes"), said(subject="memory")] == [1, 2]


def test_after_a_minute_it_is_said_again(said, clock):
    said()
    clock.now = 59.9
    assert said() == 1
    clock.now = 60.0
    assert said() == 2


@pytest.mark.parametrize("subject", [None, "processes"])
def test_what_is_forgotten_is_said_again(said, notes, subject):
    said()
    notes.forget(subject)
    assert said() == 2


def test_what_could_not_be_said_is_said_again(said, notes):
    said()
    with pytest.raises(ZeroDivisionError):
        notes.say("processes", "three", lambda: 1 / 0)
    assert said() == 2
