"""Sends of threads that go together: who waits for whom, and what becomes of those whose leader fails or is gone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from cgk_tasks.flow import thread_sends
from cgk_tasks.flow.thread_sends import ThreadSends
from cgk_tasks.runs.models import NewRun, RunHandle
from tests.support.waiting import wait_until

AT_ONCE = thread_sends._AT_ONCE


class Record:
    """What the sends are accepted by. Those that are sent alone wait at a gate while it is closed."""

    def __init__(self):
        self.alone, self.together, self.again = [], [], []
        self.gate, self.leaders_gate = threading.Event(), threading.Event()
        self.leaders_gate.set()
        self.begins_at_once = True
        self.problem = None
        self.sends = ThreadSends(self.one, self.several, self.once_more)

    def one(self, run):
        self.alone.append(run.id)
        assert self.gate.wait(20)
        return RunHandle(run.id)

    def several(self, taken):
        """A leader waits at a gate of its own, before it has taken the sends or after."""
        if not self.begins_at_once:
            assert self.leaders_gate.wait(20)
        self.together.append([run.id for run in taken()])
        assert self.leaders_gate.wait(20)
        if self.problem is not None:
            raise self.problem

    def once_more(self, run):
        self.again.append(run.id)
        if run.id == "bad":
            raise psycopg.DataError("this one is refused")
        return RunHandle(run.id)

    @property
    def in_company(self):
        """The ids of what was sent together."""
        return [run_id for ids in self.together for run_id in ids]

    def accept(self, name):
        return self.sends.accept(NewRun(name, "acme", "a.b", "{}", "queue"))


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """On a busy machine a test may take longer than a send waits."""
    monkeypatch.setattr(thread_sends, "_WAIT_SECONDS", 60.0)


@pytest.fixture
def record():
    made = Record()
    yield made
    made.gate.set()
    made.leaders_gate.set()


@pytest.fixture
def threads():
    with ThreadPoolExecutor(20) as pool:
        yield pool


@pytest.fixture
def waiting(record, threads):
    """Sends that wait while others are on their way: theirs, by name."""

    def wait(*names):
        first = [threads.submit(record.accept, f"first {number}") for number in range(AT_ONCE)]
        wait_until(lambda: len(record.alone) == AT_ONCE, 20, "the first are on their way")
        sent = {}
        for count, name in enumerate(names, 1):
            sent[name] = threads.submit(record.accept, name)
            wait_until(lambda count=count: len(record.sends._waiting) == count, 20, "they wait")
        record.gate.set()
        for one in first:
            one.result(20)
        return sent

    return wait


def test_one_that_finds_nobody_on_the_way_is_sent_alone(record):
    record.gate.set()
    assert record.accept("only").id == "only"
    assert (record.alone, record.together, record.again) == (["only"], [], [])


def test_those_that_wait_go_together(record, waiting):
    sent = waiting("a", "b", "c", "d")
    assert [one.result(20).id for one in sent.values()] == ["a", "b", "c", "d"]
    assert sorted(record.in_company + record.alone[AT_ONCE:]) == ["a", "b", "c", "d"]
    assert record.again == []


def test_where_one_is_refused_each_is_sent_alone_and_has_its_own_error(record, waiting):
    record.problem = psycopg.DataError("one of them is refused")
    sent = waiting("a", "bad", "c", "d", "e", "f")
    errors = {name: one.exception(20) for name, one in sent.items()}
    assert [name for name, error in errors.items() if error is None and name != "bad"] == ["a", "c", "d", "e", "f"]
    # It may have been the only one that waited when a turn was free.
    assert "bad" in record.alone or str(errors["bad"]) == "this one is refused"


def test_where_postgresql_is_away_nobody_tries_alone(record, waiting):
    record.problem = psycopg.OperationalError("away")
    sent = waiting("a", "b", "c", "d")
    outcomes = {name: one.exception(20) for name, one in sent.items()}
    gone = [name for name, error in outcomes.items() if isinstance(error, psycopg.OperationalError)]
    assert sorted(gone) == sorted(record.in_company)
    assert len(gone) >= 2
    assert record.again == []


class Interrupt(BaseException):
    """As a time limit raises it."""


def test_a_leader_that_is_interrupted_leaves_the_others_to_send_what_may_have_been_sent(record, waiting):
    record.problem = Interrupt()
    sent = waiting("a", "b", "c", "d")
    outcomes = {name: one.exception(20) for name, one in sent.items()}
    leaders = [ids[0] for ids in record.together]
    assert [name for name, error in outcomes.items() if isinstance(error, Interrupt)] == sorted(leaders)
    assert sorted(record.again) == sorted(set(sent) - set(leaders) - set(record.alone))


def test_one_whose_leader_is_gone_without_a_word_is_sent_all_the_same(record, threads):
    turns = [record.sends._free_turn() for _ in range(AT_ONCE)]
    sent = threads.submit(record.accept, "left")
    wait_until(lambda: record.sends._waiting, 20, "it waits")
    taken = record.sends._waiting.popleft()
    taken.led_by = thread_sends.ref(turns[0])
    del turns[:]
    assert sent.result(20).id == "left"
    assert record.again == ["left"]


def test_nobody_waits_for_ever_for_a_leader_that_says_nothing(record, threads, monkeypatch):
    monkeypatch.setattr(thread_sends, "_TAKEN_SECONDS", 0.1)
    turns = [record.sends._free_turn() for _ in range(AT_ONCE)]
    sent = threads.submit(record.accept, "left")
    wait_until(lambda: record.sends._waiting, 20, "it waits")
    record.sends._waiting.popleft().led_by = thread_sends.ref(turns[0])
    assert sent.result(20).id == "left"
    assert record.again == ["left"]


@pytest.fixture
def led(record, threads):
    """A send that waits for one that leads, as a pair of futures. A leader is held back until its gate opens."""

    def lead():
        record.leaders_gate.clear()
        turns = [record.sends._free_turn() for _ in range(AT_ONCE)]
        sent = [threads.submit(record.accept, name) for name in ("a", "b")]
        wait_until(lambda: len(record.sends._waiting) == len(sent), 20, "they wait")
        turn, *_others = turns
        record.sends._hand_on(turn)
        wait_until(lambda: not record.sends._waiting, 20, "one leads, the other is taken")
        return sent

    return lead


def test_one_that_has_gone_alone_is_not_sent_by_a_leader_that_begins_after_that(record, led, monkeypatch):
    monkeypatch.setattr(thread_sends, "_TAKEN_SECONDS", 0.1)
    record.begins_at_once = False
    sent = led()
    wait_until(lambda: record.again, 20, "the one that waits goes alone")
    record.leaders_gate.set()
    assert [one.result(20).id for one in sent] == ["a", "b"]
    assert sorted(record.in_company + record.again) == ["a", "b"]


def test_one_whose_leader_has_begun_waits_for_what_becomes_of_it(record, led, monkeypatch):
    monkeypatch.setattr(thread_sends, "_TAKEN_SECONDS", 0.0)
    monkeypatch.setattr(thread_sends, "_LOOK_SECONDS", 0.001)
    looked = threading.Semaphore(0)
    take = thread_sends._Send.take
    monkeypatch.setattr(thread_sends._Send, "take", lambda send: looked.release() or take(send))
    sent = led()
    for _ in range(5):
        assert looked.acquire(timeout=20)
    record.leaders_gate.set()
    assert [one.result(20).id for one in sent] == ["a", "b"]
    assert (sorted(record.in_company), record.again) == (["a", "b"], [])


def test_a_turn_that_was_lost_is_found_by_whoever_waits(record, threads):
    record.gate.set()
    turns = [record.sends._free_turn() for _ in range(AT_ONCE)]
    sent = threads.submit(record.accept, "next")
    wait_until(lambda: record.sends._waiting, 20, "it waits")
    del turns[:]
    assert sent.result(20).id == "next"
    assert record.alone == ["next"]


def test_nobody_waits_for_long_for_those_that_hang(record, threads, monkeypatch):
    monkeypatch.setattr(thread_sends, "_WAIT_SECONDS", 0.1)
    hung = [threads.submit(record.accept, f"hung {number}") for number in range(AT_ONCE)]
    wait_until(lambda: len(record.alone) == AT_ONCE, 20, "they hang")
    assert record.accept("patient").id == "patient"
    assert record.again == ["patient"]
    record.gate.set()
    assert len([one.result(20) for one in hung]) == AT_ONCE


def test_one_that_is_interrupted_while_it_waits_is_not_sent(record, threads, monkeypatch):
    hung = [threads.submit(record.accept, f"hung {number}") for number in range(AT_ONCE)]
    wait_until(lambda: len(record.alone) == AT_ONCE, 20, "they hang")

    def interrupted(send):
        raise Interrupt

    with monkeypatch.context() as patch:
        patch.setattr(record.sends, "_wait", interrupted)
        with pytest.raises(Interrupt):
            record.accept("interrupted")
    record.gate.set()
    assert [one.result(20).id for one in hung] == [f"hung {number}" for number in range(AT_ONCE)]
    assert record.accept("next").id == "next"
    assert "interrupted" not in record.alone + record.in_company + record.again


def test_many_threads_send_each_run_once(record, threads):
    record.gate.set()
    names = [str(number) for number in range(400)]
    handles = list(threads.map(record.accept, names))
    assert [handle.id for handle in handles] == names
    assert sorted(record.alone + record.in_company) == sorted(names)
    assert not record.sends._waiting
    assert record.accept("last").id == "last"
