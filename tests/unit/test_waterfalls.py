"""How a run went: what its record says, as lines on one axis of time."""

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

from cgk_tasks.dashboard.data.relatives import Relative
from cgk_tasks.dashboard.data.waterfall import MOST_ENTRIES, waterfall_of
from cgk_tasks.runs.shown_steps import ShownStep

SENT = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
NEVER_CLAIMED = {"started_at": None, "attempt": 0}


def at(seconds):
    return None if seconds is None else SENT + timedelta(seconds=seconds)


def facts(state="completed", *, due=0, started=1, closed=None, attempt=1, deaths=0, worker="w", left_out=0):
    return {
        "state": state, "created_at": SENT, "run_at": at(due), "started_at": at(started), "closed_at": at(closed),
        "attempt": attempt, "deaths": deaths, "worker_id": worker, "errors_left_out": left_out,
    }  # fmt: skip


def error(number, began, ended, kind="transient"):
    found = {"attempt": number, "code": "HTTP_502", "message": "bad gateway", "kind": kind, "at": at(ended).isoformat()}
    return found if began is None else {**found, "began_at": at(began).isoformat()}


def step(number, name, began, ended, state="done", kind="step", awaits=(), until=None):
    return ShownStep(number, name, 1, kind, state, 0, at(began), at(ended), awaits, at(until), None, None)


def child(job, sent, started, closed, state="completed"):
    return Relative("id", "an.event", job, state, at(sent), at(started), at(closed), None, "child")


def made(of, errors=(), relatives=(), steps=(), *, steps_in_all=None, now=100, **options):
    in_all = len(steps) if steps_in_all is None else steps_in_all
    return waterfall_of(of, errors, relatives, steps, in_all, at(now), **options)


def lines(*given, **options):
    """What, state, begin and end of each entry, in seconds since the send."""

    def seconds(moment):
        return None if moment is None else (moment - SENT).total_seconds()

    return [
        (one.what, one.state, seconds(one.begins), seconds(one.ends)) for one in made(*given, **options).entries
    ]  # fmt: skip


def test_a_run_that_completed():
    assert lines(facts(closed=3)) == [("In queue", "done", 0, 1), ("Attempt 1", "done", 1, 3)]


def test_a_run_that_was_sent_for_later():
    assert lines(facts(due=60, started=61, closed=62)) == [
        ("Not due", "done", 0, 60), ("In queue", "done", 60, 61), ("Attempt 1", "done", 61, 62),
    ]  # fmt: skip


def test_a_run_that_is_not_due_yet():
    assert lines({**facts("scheduled", due=500), **NEVER_CLAIMED}) == [("Not due", "waiting", 0, None)]


def test_a_run_that_nobody_has_claimed_yet():
    assert lines({**facts("pending"), **NEVER_CLAIMED}) == [("In queue", "pending", 0, None)]


def test_a_claim_that_only_held_the_run_was_no_attempt():
    assert lines(facts("held", started=5, attempt=0)) == [("In queue", "held", 0, None)]


def test_a_run_that_was_cancelled_before_it_was_due():
    assert lines({**facts("cancelled", due=500, closed=7), **NEVER_CLAIMED}) == [("Not due", "cancelled", 0, 7)]


def test_a_run_that_expired_in_the_queue():
    assert lines({**facts("expired", closed=7), **NEVER_CLAIMED}) == [("In queue", "expired", 0, 7)]


def test_a_run_that_is_on():
    assert lines(facts("running"))[-1] == ("Attempt 1", "running", 1, None)


def test_attempts_pauses_and_the_wait_after_the_last_pause():
    run = facts(due=30, started=33, closed=35, attempt=3)
    assert lines(run, [error(1, 1, 2), error(2, 10, 12)]) == [
        ("In queue", "done", 0, 1), ("Attempt 1", "failed", 1, 2), ("Pause", "done", 2, 10),
        ("Attempt 2", "failed", 10, 12), ("Pause", "done", 12, 30), ("In queue", "done", 30, 33),
        ("Attempt 3", "done", 33, 35),
    ]  # fmt: skip


def test_a_run_that_failed_ends_with_the_attempt_that_failed():
    run = facts("failed", due=5, started=6, closed=8.01, attempt=2)
    assert lines(run, [error(1, 1, 2), error(2, 6, 8)])[-1] == ("Attempt 2", "failed", 6, 8)


def test_a_run_that_is_to_be_tried_again():
    assert lines(facts("retrying", due=500), [error(1, 1, 2)])[-1] == ("Pause", "waiting", 2, None)


def test_a_run_that_waits_in_the_queue_again():
    assert lines(facts("pending", due=20), [error(1, 1, 2)])[-2:] == [
        ("Pause", "done", 2, 20), ("In queue", "pending", 20, None),
    ]  # fmt: skip


def test_a_run_that_was_cancelled_in_a_pause():
    assert lines(facts("cancelled", due=50, closed=9), [error(1, 1, 2)])[-1] == ("Pause", "cancelled", 2, 9)


def test_a_run_that_was_put_off_has_a_pause():
    assert lines(facts("retrying", due=500, attempt=0)) == [("In queue", "done", 0, 1), ("Pause", "waiting", 1, None)]


def test_the_death_of_a_process_is_an_attempt_that_died():
    run = facts(started=9, closed=10, attempt=2, deaths=1)
    assert ("Attempt, its process died", "died", 1, 4) in lines(run, [error(1, 1, 4, kind="death")])


def test_an_error_of_an_earlier_release_does_not_say_when_its_attempt_began():
    run = facts(due=30, started=33, closed=35, attempt=2)
    found = made(run, [error(1, None, 2)]).entries[1]
    assert (found.what, found.has_begin, found.seconds) == ("Attempt 1", False, None)
    assert "not on record" in found.detail


def test_of_the_last_one_the_record_knows_it():
    found = made(facts("failed", closed=3), [error(1, None, 2)]).entries[-1]
    assert (found.has_begin, found.seconds) == (True, 1)


def test_errors_that_are_not_kept_are_counted():
    run = facts("failed", due=80, started=80, closed=90, attempt=30, left_out=28)
    assert ("28 more attempts", "failed", 2, 80) in lines(run, [error(1, 1, 2), error(30, 80, 90)])


def test_steps_and_what_a_workflow_waits_for():
    steps = [
        step(1, "charge", 1, 3), step(2, "ship", 3, 5, "failed"),
        step(3, "approve", 5, None, "waiting", "signal", ("approve",), until=3600),
    ]  # fmt: skip
    found = made(facts("scheduled", due=3600, worker=None), steps=steps)
    assert [(one.what, one.state) for one in found.entries] == [
        ("In queue", "done"), ("charge", "done"), ("ship", "failed"), ("approve", "waiting"),
    ]  # fmt: skip
    assert found.entries[-1].detail == (
        "Waits for approve since 2026-03-01 09:00:05 UTC, until 2026-03-01 10:00:00 UTC."
    )
    assert "waiting for approve, 95 s so far" in found.picture


def test_the_last_leg_of_a_workflow():
    run = facts(due=50, started=51, closed=60, attempt=2)
    steps = [step(1, "charge", 1, 3), step(2, "nap", 3, 50, kind="sleep"), step(3, "ship", 51, 59)]
    assert ("Last leg", "done", 51, 60) in lines(run, steps=steps)


def test_a_workflow_that_was_woken_waits_in_the_queue():
    run = facts("pending", due=50, worker=None)
    assert lines(run, steps=[step(1, "nap", 1, 50, kind="sleep")])[-1] == ("In queue", "pending", 50, None)


def test_children_wait_and_run():
    found = made(facts(closed=9), relatives=[child("ship", 2, 4, 8)])
    assert [one.what for one in found.entries] == ["In queue", "Attempt 1", "ship"]
    looks = [box.get("class") for box in ET.fromstring(found.picture).iter("rect") if box.get("class")]
    assert looks[-2:] == ["span wait", "span work"]


def test_a_child_stands_below_the_step_that_invokes_it():
    found = lines(facts(closed=9), steps=[step(1, "ask", 2.005, 8, kind="invoke")], relatives=[child("ship", 2, 4, 8)])
    assert [what for what, *_ in found][-2:] == ["ask", "ship"]


def test_a_parent_of_several_jobs_waits_for_them():
    assert ("Waits for its children", "waiting", 1, None) in lines(facts("running", worker=None))


def test_replays_are_no_part_of_it():
    again = Relative("id", "an.event", None, "completed", at(50), at(51), at(52), None, "replay")
    assert len(lines(facts(closed=9), relatives=[again])) == 2


def test_what_failed_is_said_in_words():
    assert "✕ failed, 1.00 s" in made(facts("failed", closed=3), [error(1, 1, 2)]).picture


def test_a_long_delay_does_not_push_everything_to_the_edge():
    found = made(facts(due=86_400, started=86_401, closed=86_403))
    assert "this begins when it was due" in found.picture
    assert "2 lines from 2026-03-02 09:00:00 to 2026-03-02 09:00:03 UTC" in found.picture
    assert found.entries[0].what == "Not due"


def long_workflow(number=1000, bad=500):
    return [step(nth, f"s{nth}", nth, nth + 1, "failed" if nth == bad else "done") for nth in range(1, number + 1)]


def test_of_very_many_steps_the_first_the_last_and_the_bad_ones_are_shown():
    found = made(facts(closed=1001), steps=long_workflow(), now=1001)
    names = [one.what for one in found.entries]
    assert len(names) <= MOST_ENTRIES
    assert {"s1", "s500", "s1000"} <= set(names)
    assert found.left_out == 1002 - len(names)
    assert f"{found.left_out} more in the middle are left out" in found.picture


def test_all_are_in_the_table_for_who_asks_and_the_picture_stays_small():
    found = made(facts(closed=1001), steps=long_workflow(), now=1001, shows_all=True)
    assert (len(found.entries), found.left_out) == (1002, 0)
    assert len(list(ET.fromstring(found.picture).iter("g"))) <= MOST_ENTRIES


def test_steps_that_were_not_read_count_as_left_out():
    assert made(facts(closed=9), steps=long_workflow(10), steps_in_all=1000).left_out == 990
