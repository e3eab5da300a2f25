"""What a stream owes its client: the last of each run, in the order of time, and never more than it can keep."""

import asyncio
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.gateway import watching
from cgk_tasks.gateway.watched_runs import Describer, Recent, SeenRun
from cgk_tasks.gateway.watching import Message, Stream


def seen(run_id="r", state="pending", tenant="acme", queue="q", event="e", attempt=0):
    return SeenRun(run_id, tenant, event, queue, state, attempt, None, None)


def due(stream, seconds=0.0):
    return asyncio.run(stream.due(seconds))


def test_a_message_is_as_browsers_read_it():
    assert Message("7", "r", b'{"a":1}').encoded() == b'id: 7\ndata: {"a":1}\n\n'
    assert Message("7").encoded() == b"event: reset\nid: 7\ndata: {}\n\n"


def test_a_stream_wants_its_tenant_its_run_its_queue_and_its_event():
    assert Stream("acme", "r").wants(seen())
    assert Stream("acme", queue="q", event="e").wants(seen())
    others = [Stream("globex", "r"), Stream("acme", "s"), Stream("acme", queue="p"), Stream("acme", event="f")]
    assert not any(stream.wants(seen()) for stream in others)


def test_what_was_told_is_no_change():
    stream = Stream("acme")
    stream.marks["r"] = seen().mark
    assert stream.changed([seen(), seen(state="running"), seen("s")]) == [seen(state="running"), seen("s")]


def test_of_a_run_the_last_that_was_not_sent_yet_is_sent():
    stream = Stream("acme")
    stream.tell([Message("1", "r", b"1"), Message("1", "s", b"1")])
    stream.tell([Message("2", "r", b"2")])
    assert [(one.run_id, one.text) for one in due(stream)] == [("s", b"1"), ("r", b"2")]
    assert due(stream) == []


def test_only_the_last_message_of_a_look_says_that_all_until_now_was_told(monkeypatch):
    """Else who loses the connection amid them would never be told the others."""
    runs = [seen("r", "completed"), seen("s", "failed"), seen("t", "running")]
    monkeypatch.setattr(watching, "runs_of_tenants", lambda _tenants, _since: Recent(runs, frozenset()))
    monkeypatch.setattr(watching, "runs_by_id", lambda _ids: [])
    stream, describer = Stream("acme"), Describer()
    stream.since = before = watching.database_now() - timedelta(minutes=5)
    ((_stream, messages),) = watching.look_at_tenants([stream], describer)
    ids = [one.id for one in messages]
    assert ids == [watching.cursor_of(before)] * 2 + [watching.cursor_of(stream.since)]
    assert stream.since > before


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=20))
def test_ids_come_in_the_order_of_time_whatever_was_left_out(looks):
    stream = Stream("acme")
    for number, runs in enumerate(looks):
        stream.tell([Message(str(number), str(run), b"") for run in runs])
    ids = [int(one.id) for one in due(stream)]
    assert ids == sorted(ids)
    assert len(ids) == len({run for runs in looks for run in runs})


def test_a_client_that_does_not_read_is_told_to_begin_anew(monkeypatch):
    monkeypatch.setattr(watching, "_MOST_DUE", 10)
    stream = Stream("acme")
    stream.tell([Message("1", str(run), b"") for run in range(11)])
    assert due(stream) == [Message("1")]


def test_a_stream_is_done_when_its_last_message_is_taken():
    stream = Stream("acme", "r")
    stream.tell([Message("1", "r", b"", is_last=True)])
    before = stream.is_done
    due(stream)
    assert (before, stream.is_done) == (False, True)


def test_a_stream_that_is_ended_says_first_what_is_due():
    stream = Stream("acme", "r")
    stream.tell([Message("1", "r", b"")])
    stream.end()
    assert (len(due(stream)), stream.is_done) == (1, True)


def test_of_a_tenants_open_runs_those_that_were_told_last_are_remembered(monkeypatch):
    monkeypatch.setattr(watching, "MOST_OPEN", 3)
    stream, now = Stream("acme"), watching.database_now()
    for number in range(5):
        watching._note(stream, [seen(str(number))], {}, now)
    assert list(stream.marks) == ["2", "3", "4"]


def test_a_run_that_has_ended_is_remembered_for_as_long_as_looks_find_it():
    stream, now, ended = Stream("acme"), watching.database_now(), seen(state="completed")
    watching._note(stream, [ended], {"r": ended}, now)
    watching._note(stream, [], {"r": ended}, now)
    found = list(stream.marks)
    watching._note(stream, [], {}, now)
    assert (found, list(stream.marks)) == (["r"], [])
