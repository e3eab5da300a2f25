"""Workflows without a server: steps are done once, waits end a leg, and changed code is found."""

import asyncio
import contextlib
import os
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from pydantic import BaseModel

from cgk_tasks import SendOptions
from cgk_tasks.client.local import LocalProvider
from cgk_tasks.config import use_settings
from cgk_tasks.errors import (
    ConfigurationError,
    PermanentError,
    RetryLater,
    StepFailedError,
    TransientError,
    WorkflowChangedError,
)
from cgk_tasks.events import TenantEvent
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.runs.event_waits import EventKey
from cgk_tasks.sql.far_times import LATEST
from cgk_tasks.testing import LocalJobs
from cgk_tasks.worker.attempt import run_inline
from cgk_tasks.worker.interruption import RunInterrupted
from cgk_tasks.workflows.define import define_workflow
from cgk_tasks.workflows.effects import Reconciled
from cgk_tasks.workflows.sources import First
from tests.support.legs import ACME, Legs
from tests.support.waiting import wait_until

THRICE = RetryConfig(max_attempts=3, initial_delay=10, jitter=False, backoff="fixed")


class Walk(TenantEvent, event="test.walk"):
    label: str = ""


@pytest.fixture(autouse=True)
def without_servers(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("CGK_", "JOB"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    use_settings(None)
    yield
    use_settings(None)


@pytest.fixture
def define():
    """Defines `walk` from a function, and returns its run."""

    def define(function, **options):
        define_workflow("walk", event=Walk, **options)(function)
        return Legs("walk", Walk(tenant_id="acme", label="first"))

    yield define
    remove_job("walk")
    remove_job("awaited.test.walkPaid")


@pytest.fixture
def done():
    return []


def note(done):
    """A function for steps: notes that it was called."""

    def did(what):
        done.append(what)
        return what

    return did


# Steps


def test_a_workflow_returns_what_its_function_returns(define):
    legs = define(lambda wf: {"label": wf.payload.label, "tenant": wf.tenant_id, "version": wf.version})
    assert legs.run().value == {"label": "first", "tenant": "acme", "version": 1}


def test_a_step_is_done_once_however_many_legs_there_are(define, done):
    did = note(done)

    def walk(wf):
        first = wf.step("first", did, 1)
        wf.sleep("a", 60)
        wf.sleep("b", 60)
        return first + wf.step("second", did, 2)

    legs = define(walk)
    assert (legs.run().value, done, legs.kinds) == (3, [1, 2], ["suspended", "suspended", "completed"])


def test_calls_of_one_name_in_a_loop_are_steps_of_their_own(define, done):
    did = note(done)

    def walk(wf):
        got = [wf.step("send", did, number) for number in range(3)]
        wf.sleep("pause", 1)
        return got

    legs = define(walk)
    assert (legs.run().value, done) == ([0, 1, 2], [0, 1, 2])


class Account(BaseModel):
    name: str
    opened: datetime


@dataclass
class Charge:
    amount: int


def open_account(name: str) -> Account:
    return Account(name=name, opened=datetime(2026, 1, 2, tzinfo=UTC))


def charge() -> list[Charge]:
    return [Charge(3)]


def test_a_result_is_read_as_the_type_that_its_function_returns(define):
    def walk(wf):
        account, charges = wf.step("open", open_account, "ada"), wf.step("charge", charge)
        wf.sleep("pause", 1)
        return [account.opened.year, charges[0].amount]

    assert define(walk).run().value == [2026, 3]


def test_the_first_leg_gets_what_a_later_one_reads(define):
    seen = []

    def walk(wf):
        seen.append(wf.step("pair", lambda: (1, 2)))
        wf.sleep("pause", 1)

    define(walk).run()
    assert seen == [[1, 2], [1, 2]]


def lies() -> int:
    return "many"


def test_a_result_that_is_not_what_its_function_says_fails_the_step(define):
    legs = define(lambda wf: wf.step("lies", lies))
    outcome = legs.run()
    assert (outcome.kind, outcome.error_code) == ("failed", "INVALID_RESULT")


def test_a_result_that_is_too_large_fails_the_step(define, monkeypatch):
    monkeypatch.setenv("CGK_MAX_RESULT_BYTES", "100")
    use_settings(None)
    assert define(lambda wf: wf.step("large", lambda: "x" * 200)).run().error_code == "RESULT_TOO_LARGE"


def test_the_time_and_a_uuid_are_the_same_in_all_legs(define):
    seen = []

    def walk(wf):
        seen.append((wf.now(), wf.uuid(), wf.uuid()))
        wf.sleep("pause", 1)

    define(walk).run()
    assert seen[0] == seen[1]
    assert seen[0][1] != seen[0][2]


@pytest.mark.parametrize("name", ["", "a\nb", "$now", "x" * 201, 7, None])
def test_what_cannot_be_a_name_is_refused(define, name):
    outcome = define(lambda wf: wf.step(name, int), retry=RetryConfig(max_attempts=1)).run()
    assert isinstance(outcome.exception, ConfigurationError)


def test_a_step_inside_of_a_step_is_refused(define):
    legs = define(lambda wf: wf.step("outer", lambda: wf.step("inner", int)), retry=RetryConfig(max_attempts=1))
    assert "inside of the step 'outer'" in legs.run().exception.message


def test_the_database_session_belongs_to_a_step(define):
    with pytest.raises(ConfigurationError, match="outside of a step"):
        raise define(lambda wf: wf.db, retry=RetryConfig(max_attempts=1)).run().exception


def test_a_run_of_too_many_steps_fails(define, monkeypatch):
    monkeypatch.setenv("CGK_MAX_STEPS", "5")
    use_settings(None)
    legs = define(lambda wf: [wf.step("again", int) for _ in range(6)])
    assert (legs.run().error_code, len(legs.steps)) == ("TOO_MANY_STEPS", 5)


# Waits


def test_a_sleep_ends_the_leg_until_its_time_has_come(define):
    legs = define(lambda wf: wf.sleep("trial", timedelta(days=14)))
    begun = legs.now
    assert (legs.leg().kind, legs.due) == ("suspended", begun + timedelta(days=14))
    legs.now += timedelta(days=13)
    assert (legs.leg().kind, legs.due) == ("suspended", begun + timedelta(days=14))
    legs.now += timedelta(days=1)
    assert legs.leg().kind == "completed"


def test_a_sleep_until_a_time_lasts_until_then(define):
    moment = datetime(2026, 12, 24, tzinfo=UTC)
    legs = define(lambda wf: wf.sleep_until("christmas", moment))
    legs.leg()
    assert legs.due == moment


@pytest.mark.parametrize("duration", [-1, float("nan"), float("inf"), "soon", None])
def test_what_is_no_duration_is_refused(define, duration):
    with pytest.raises(ConfigurationError, match="cannot last"):
        raise define(lambda wf: wf.sleep("pause", duration), retry=RetryConfig(max_attempts=1)).run().exception


def test_a_time_without_a_zone_is_refused(define):
    legs = define(lambda wf: wf.sleep_until("a", datetime(2027, 1, 1)), retry=RetryConfig(max_attempts=1))  # noqa: DTZ001
    with pytest.raises(ConfigurationError, match="aware datetime"):
        raise legs.run().exception


def test_a_wait_is_no_exception_that_a_workflow_would_swallow(define, done):
    def walk(wf):
        try:
            wf.sleep("pause", 1)
        except Exception:
            done.append("swallowed")

    legs = define(walk)
    legs.run()
    assert (legs.kinds, done) == (["suspended", "completed"], [])


def test_a_workflow_that_catches_everything_waits_all_the_same(define, done):
    did = note(done)

    def walk(wf):
        with contextlib.suppress(BaseException):
            wf.sleep("pause", 1)
        wf.step("after", did, 1)

    legs = define(walk)
    legs.run()
    assert (legs.kinds, done) == (["suspended", "completed"], [1])


# Signals


class Approval(BaseModel):
    by: str


def approve(legs, by, key=None):
    return legs.record.deliver("approve", f'{{"by": "{by}"}}', key)


def test_a_workflow_waits_for_a_signal_and_gets_what_was_sent(define):
    legs = define(lambda wf: wf.wait_for_signal("approve", Approval).by)
    assert (legs.leg().kind, legs.due) == ("suspended", None)
    approve(legs, "ada")
    assert legs.leg().value == "ada"


def test_a_signal_that_comes_before_the_wait_counts(define):
    legs = define(lambda wf: wf.wait_for_signal("approve"))
    approve(legs, "ada")
    assert (legs.run().value, legs.kinds) == ({"by": "ada"}, ["completed"])


def test_each_signal_is_taken_once_the_oldest_first(define):
    def walk(wf):
        got = [wf.wait_for_signal("approve", Approval).by for _ in range(2)]
        wf.sleep("pause", 1)
        return got

    legs = define(walk)
    for by in ("ada", "bob", "eve"):
        approve(legs, by)
    assert (legs.run().value, legs.kinds) == (["ada", "bob"], ["suspended", "completed"])


def test_a_signal_that_does_not_come_in_time_is_none_for_ever(define):
    def walk(wf):
        first = wf.wait_for_signal("approve", Approval, timeout=timedelta(days=3))
        wf.sleep("pause", 60)
        return first

    legs = define(walk)
    begun = legs.now
    legs.leg()
    assert legs.due == begun + timedelta(days=3)
    legs.now = legs.due
    legs.leg()
    approve(legs, "late")
    assert (legs.run().value, legs.steps[0]) == (None, ("approve", "timed_out"))


def test_a_signal_that_comes_at_the_last_moment_is_taken(define):
    legs = define(lambda wf: wf.wait_for_signal("approve", Approval, timeout=60).by)
    legs.leg()
    legs.now = legs.due
    approve(legs, "ada")
    assert legs.run().value == "ada"


def test_a_signal_that_is_not_what_the_workflow_asks_for_fails_it(define):
    legs = define(lambda wf: wf.wait_for_signal("approve", Approval))
    legs.record.deliver("approve", "7")
    assert legs.run().error_code == "INVALID_RESULT"


def test_a_coroutine_waits_for_signals_beside_its_steps(define, done):
    did = note(done)

    async def walk(wf):
        return await asyncio.gather(wf.wait_for_signal("approve", Approval, timeout=60), wf.step("a", did, 1))

    legs = define(walk)
    assert (legs.leg().kind, done) == ("suspended", [1])
    approve(legs, "ada")
    assert legs.run().value == [Approval(by="ada"), 1]


# Events


class Paid(TenantEvent, event="test.walkPaid"):
    walk_id: str
    amount: int = 1


def send_paid(legs, walk_id, amount=1):
    event = Paid(tenant_id="acme", walk_id=walk_id, amount=amount)
    return legs.record.deliver(EventKey.of("test.walkPaid", "walkId", walk_id).mail, event.to_json().decode())


def test_a_workflow_waits_for_an_event_by_the_value_of_a_field(define):
    legs = define(lambda wf: wf.wait_for_event(Paid, match="w-1").amount, waits_for=[(Paid, "walkId")])
    legs.leg()
    send_paid(legs, "w-2")
    assert legs.leg().kind == "suspended"
    send_paid(legs, "w-1", 7)
    assert legs.run().value == 7


def test_an_event_may_be_the_first_of_several(define):
    def walk(wf):
        first = wf.wait_any("way", paid=wf.event("test.walkPaid", match="w-1"), late=wf.timer(60))
        wf.sleep("pause", 1)
        return first

    legs = define(walk, waits_for=[("test.walkPaid", "walkId")])
    legs.leg()
    send_paid(legs, "w-1", 7)
    assert legs.run().value == First("paid", Paid(tenant_id="acme", walk_id="w-1", amount=7))


def test_an_event_that_the_definition_does_not_name_cannot_be_waited_for(define):
    legs = define(lambda wf: wf.wait_for_event(Paid, match="w-1"), retry=RetryConfig(max_attempts=1))
    with pytest.raises(ConfigurationError, match="waits_for="):
        raise legs.run().exception


def test_a_definition_names_fields_that_the_event_has(define):
    with pytest.raises(ConfigurationError, match="has amount, tenantId, walkId"):
        define(lambda wf: None, waits_for=[(Paid, "walk_id")])


def test_the_local_provider_brings_events_to_workflows(define, local):
    define(lambda wf: wf.wait_for_event(Paid, match="w-1").amount, waits_for=[(Paid, "walkId")])
    run_id = local.send(Walk(tenant_id="acme"), SendOptions()).id
    wait_until(lambda: local.get_run_status(run_id).state == "scheduled")
    local.send(Paid(tenant_id="acme", walk_id="w-1", amount=7), SendOptions())
    assert closed(local, run_id).result == 7


# The first of several


def decide(wf):
    return wf.wait_any("decision", yes=wf.signal("approve", Approval), no=wf.signal("refuse"), late=wf.timer(60))


def test_the_first_that_comes_ends_the_wait_and_the_others_are_kept(define):
    def walk(wf):
        first = decide(wf)
        wf.sleep("pause", 1)
        return first, wf.wait_for_signal("refuse")

    legs = define(walk)
    legs.leg()
    legs.record.deliver("refuse", '"no"')
    approve(legs, "ada")
    assert legs.run().value == (First("yes", Approval(by="ada")), "no")


def test_a_timer_ends_the_wait_where_nothing_else_has_come(define):
    legs = define(decide)
    begun = legs.now
    legs.leg()
    assert legs.due == begun + timedelta(seconds=60)
    assert legs.run().value == First("late")


def test_what_has_come_goes_before_a_time_that_is_over(define):
    legs = define(decide)
    legs.leg()
    legs.now = legs.due
    legs.record.deliver("refuse", '"no"')
    assert legs.run().value == First("no", "no")


def test_what_came_first_is_the_same_in_all_legs(define):
    seen = []

    def walk(wf):
        seen.append(decide(wf))
        wf.sleep("pause", 1)

    legs = define(walk)
    approve(legs, "ada")
    legs.run()
    assert seen == [First("yes", Approval(by="ada"))] * 2


@pytest.mark.parametrize("sources", [{}, {"late": 60}])
def test_there_must_be_something_to_wait_for(define, sources):
    legs = define(lambda wf: wf.wait_any("decision", **sources), retry=RetryConfig(max_attempts=1))
    with pytest.raises(ConfigurationError, match="nothing to wait for"):
        raise legs.run().exception


def test_a_coroutine_waits_for_the_first_of_several_too(define):
    async def walk(wf):
        first = await wf.wait_any("decision", yes=wf.signal("approve"), late=wf.timer(60))
        return first.name

    assert define(walk).run().value == "late"


# Steps in threads


def test_steps_in_threads_are_on_at_the_same_time(define, done):
    did, met = note(done), threading.Barrier(2, timeout=20)

    def walk(wf):
        both = wf.parallel("meet", ada=lambda: met.wait() * 0 + 1, bob=lambda: met.wait() * 0 + 2)
        wf.sleep("pause", 1)
        wf.step("after", did, 3)
        return list(both)

    legs = define(walk)
    assert (legs.run().value, done) == ([1, 2], [3])
    assert [name for name, _ in legs.steps] in (
        ["meet.ada", "meet.bob", "pause", "after"], ["meet.bob", "meet.ada", "pause", "after"]
    )  # fmt: skip


def test_one_of_several_that_fails_is_tried_again_alone(define, done):
    did, shaky = note(done), fails(1)

    def walk(wf):
        return list(wf.parallel("both", shaky=shaky, other=lambda: did(1)))

    legs = define(walk, retry=THRICE)
    assert (legs.run().value, legs.kinds, done) == ([2, 1], ["retry", "completed"], [1])


def test_one_of_several_that_fails_for_good_is_raised_when_all_have_ended(define, done):
    did = note(done)
    legs = define(lambda wf: wf.parallel("both", gone=fails(9, PermanentError), other=lambda: did(1)))
    assert (legs.run().exception.step, done) == ("both.gone", [1])


def test_one_that_fails_for_good_waits_for_one_that_is_tried_again(define, done):
    did, shaky = note(done), fails(1)

    def walk(wf):
        try:
            wf.parallel("both", gone=fails(9, PermanentError), shaky=shaky)
        except StepFailedError as failed:
            return wf.step("after", did, failed.step)

    legs = define(walk, retry=THRICE)
    assert (legs.run().value, legs.kinds, shaky.calls) == ("both.gone", ["retry", "completed"], 2)


# Where nobody keeps a record


def test_a_workflow_without_waits_runs_where_nobody_keeps_its_steps(define, done):
    did = note(done)
    legs = define(lambda wf: wf.step("a", did, 1))
    assert run_inline(legs.job, legs.payload, ACME) == 1


def test_a_workflow_that_waits_says_that_it_needs_a_record(define):
    legs = define(lambda wf: wf.sleep("pause", 1), retry=RetryConfig(max_attempts=1))
    with pytest.raises(ConfigurationError, match="nobody keeps its steps"):
        run_inline(legs.job, legs.payload, ACME)


def test_a_step_that_fails_where_nobody_keeps_it_raises_its_error(define):
    legs = define(lambda wf: wf.step("shaky", fails(1)), retry=THRICE)
    with pytest.raises(TransientError, match="no luck"):
        run_inline(legs.job, legs.payload, ACME)


# Errors


def fails(times, error=TransientError):
    def call():
        call.calls += 1
        if call.calls <= times:
            raise error("no luck")
        return call.calls

    call.calls = 0
    return call


def test_a_step_that_fails_is_tried_again_by_its_own_policy(define, done):
    did, shaky = note(done), fails(2)

    def walk(wf):
        wf.step("before", did, 1)
        return wf.step("shaky", shaky, retry=THRICE)

    legs = define(walk)
    outcome = legs.run()
    assert (outcome.value, legs.kinds, done) == (3, ["retry", "retry", "completed"], [1])
    assert [one.delay_seconds for one in legs.outcomes[:2]] == [10, 10]


def test_waits_do_not_use_up_the_attempts_of_a_step(define):
    shaky = fails(2)

    def walk(wf):
        for _ in range(5):
            wf.sleep("pause", 1)
        return wf.step("shaky", shaky, retry=THRICE)

    assert define(walk).run().value == 3


def test_a_step_without_attempts_left_fails_the_run_with_its_code(define):
    legs = define(lambda wf: wf.step("shaky", fails(9, lambda text: TransientError(text, "BANK_CLOSED")), retry=THRICE))
    outcome = legs.run()
    assert (outcome.kind, outcome.error_code, legs.kinds) == ("failed", "BANK_CLOSED", ["retry", "retry", "failed"])
    assert isinstance(outcome.exception, StepFailedError)


def test_an_error_that_no_retry_cures_fails_the_step_at_once(define):
    legs = define(lambda wf: wf.step("gone", fails(9, PermanentError), retry=THRICE))
    assert (legs.run().kind, len(legs.outcomes)) == ("failed", 1)


async def fetch():
    return 1


@pytest.mark.parametrize(("function", "text"), [(fetch, "fetch is a coroutine function"), (None, "is no function")])
def test_what_cannot_be_a_step_is_said(define, function, text):
    assert text in str(define(lambda wf: wf.step("a", function)).run().exception)


def test_a_sleep_that_is_over_stays_so_when_the_clock_is_set_back(define, done):
    did = note(done)

    def walk(wf):
        wf.sleep("night", 60)
        wf.step("leave", did, 1)
        wf.wait_for_signal("go")
        wf.step("arrive", did, 2)

    legs = define(walk)
    legs.leg()
    legs.now = legs.due
    legs.leg()
    legs.now -= timedelta(seconds=30)
    legs.record.deliver("go", "null")
    assert (legs.leg().kind, done) == ("completed", [1, 2])


def test_a_step_that_has_failed_fails_alike_in_later_legs(define, done):
    did = note(done)

    def walk(wf):
        try:
            wf.step("pay", fails(9, PermanentError))
        except StepFailedError as failed:
            wf.sleep("pause", 1)
            wf.step("excuse", did, str(failed))

    legs = define(walk)
    assert (legs.run().kind, done) == ("completed", ["Step 'pay' failed with PERMANENT_ERROR: no luck."])
    assert legs.steps == [("pay", "failed"), ("pause", "done"), ("excuse", "done")]


def test_a_step_may_put_itself_off_without_using_an_attempt(define):
    put_off = iter([True] * 5 + [False] * 9)

    def busy():
        if next(put_off):
            raise RetryLater(30, "the bank is closed")
        return "done"

    legs = define(lambda wf: wf.step("pay", busy, retry=RetryConfig(max_attempts=1)))
    assert (legs.run().value, legs.kinds) == ("done", ["snooze"] * 5 + ["completed"])


def test_errors_between_steps_count_for_the_workflows_own_policy(define, done):
    did = note(done)

    def walk(wf):
        wf.step("once", did, 1)
        for _ in range(4):
            wf.sleep("pause", 1)
        raise ValueError("between steps")

    legs = define(walk, retry=THRICE)
    assert (legs.run().kind, legs.kinds) == ("failed", ["suspended"] * 4 + ["retry", "retry", "failed"])
    assert done == [1]


# Effects


class Bank:
    """Somebody else's system: what was paid there, by key. answers: what each call does after it has paid, or not."""

    def __init__(self, *answers):
        self.paid, self.asked, self.keys, self.answers = [], [], [], list(answers)

    def pay(self, key, amount=1):
        self.keys.append(key)
        answer = self.answers.pop(0) if self.answers else None
        if answer is None or not isinstance(answer, TransientError | PermanentError):
            self.paid.append(key)
        if answer is not None:
            raise answer
        return amount

    def find(self, key):
        self.asked.append(key)
        return 1 if key in self.paid else Reconciled.NOT_DONE


def paying(bank, **options):
    return lambda wf: wf.effect("pay", bank.pay, 1, **options)


def test_an_effect_is_done_once_and_given_a_key(define):
    bank = Bank()

    def walk(wf):
        paid = [wf.effect("pay", bank.pay, 7) for _ in range(2)]
        wf.sleep("pause", 1)
        return paid

    legs = define(walk)
    assert (legs.run().value, bank.paid) == ([7, 7], [f"{legs.run_id}:pay:1", f"{legs.run_id}:pay:2"])


def test_an_effect_that_happened_before_its_error_is_not_done_again(define):
    bank = Bank(ConnectionResetError("no answer"))
    legs = define(paying(bank, reconcile=bank.find), retry=THRICE)
    assert (legs.run().value, legs.kinds, len(bank.paid), len(bank.asked)) == (1, ["retry", "completed"], 1, 1)


def test_an_effect_that_did_not_happen_is_done_again_with_the_same_key(define):
    bank = Bank(RunInterrupted())
    bank.paid = NotPaid(1)
    legs = define(paying(bank, reconcile=bank.find), retry=THRICE)
    assert (legs.run(), len(bank.keys), len(set(bank.keys))) == (legs.outcomes[-1], 2, 1)
    assert legs.kinds == ["interrupted", "completed"]


class NotPaid(list):
    """Forgets so many payments."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def append(self, key):
        if self.times:
            self.times -= 1
        else:
            super().append(key)


@pytest.mark.parametrize("error", [TransientError("busy"), RetryLater(1)])
def test_an_effect_whose_error_says_that_it_did_not_happen_is_done_again_unasked(define, error):
    bank = Bank(error)
    legs = define(paying(bank, reconcile=bank.find), retry=THRICE)
    assert (legs.run().value, bank.asked, len(bank.keys)) == (1, [], 2)


def test_an_effect_whose_error_no_retry_cures_has_failed(define):
    bank = Bank(PermanentError("declined", "STRIPE_CARD_DECLINED"))
    assert define(paying(bank, reconcile=bank.find)).run().error_code == "STRIPE_CARD_DECLINED"


def test_an_effect_that_never_happens_fails_when_its_attempts_are_used_up(define):
    bank = Bank(*(ConnectionResetError("no answer") for _ in range(9)))
    bank.paid = NotPaid(9)
    legs = define(paying(bank, reconcile=bank.find), retry=THRICE)
    assert (legs.run().kind, len(bank.keys)) == ("failed", 3)


def test_it_is_asked_again_where_it_cannot_be_told_for_now(define):
    bank = Bank(ConnectionResetError("no answer"))
    away = iter([True] * 5 + [False])

    def find(key):
        if next(away):
            raise ConnectionRefusedError("the bank is away")
        return bank.find(key)

    legs = define(paying(bank, reconcile=find), retry=THRICE)
    assert (legs.run().value, legs.kinds, len(bank.keys)) == (1, ["retry"] * 6 + ["completed"], 1)


def undecided(define, bank, **options):
    """A run whose effect nobody knows about."""
    legs = define(paying(bank, **options), retry=THRICE)
    legs.leg()
    legs.now = legs.due
    assert legs.leg().kind == "suspended"
    assert "a decision about effect pay" in legs.outcomes[-1].deferral
    return legs


def unknown(key):
    return Reconciled.UNKNOWN


@pytest.mark.parametrize("options", [{}, {"reconcile": unknown}], ids=["nobody can say", "it cannot be told"])
def test_an_effect_of_which_nobody_knows_waits_for_a_decision(define, options):
    legs = undecided(define, Bank(ConnectionResetError("no answer")), **options)
    legs.record.deliver("pay", '{"outcome": "done", "result": 5}')
    assert legs.run().value == 5


def test_a_decision_may_be_to_do_it_again(define):
    bank = Bank(ConnectionResetError("no answer"))
    legs = undecided(define, bank)
    legs.record.deliver("pay", '{"outcome": "again"}')
    assert (legs.run().value, len(bank.keys), len(set(bank.keys))) == (1, 2, 1)


def test_a_decision_may_be_that_it_failed(define):
    legs = undecided(define, Bank(ConnectionResetError("no answer")))
    legs.record.deliver("pay", '{"outcome": "failed", "reason": "the bank says so"}')
    outcome = legs.run()
    assert (outcome.error_code, "the bank says so" in str(outcome.exception)) == ("EFFECT_FAILED", True)


def test_what_is_no_decision_decides_nothing(define):
    legs = undecided(define, Bank(ConnectionResetError("no answer")))
    legs.record.deliver("pay", '"yes"')
    assert legs.leg().kind == "suspended"


def unanswered(key) -> int:
    raise ConnectionResetError("no answer")


def test_a_decision_with_a_result_of_another_kind_decides_nothing(define):
    legs = define(lambda wf: wf.effect("pay", unanswered), retry=THRICE)
    legs.leg()
    legs.now = legs.due
    legs.leg()
    legs.record.deliver("pay", '{"outcome": "done", "result": "ch-17"}')
    assert legs.leg().kind == "suspended"
    legs.record.deliver("pay", '{"outcome": "done", "result": 17}')
    assert legs.run().value == 17


def test_it_is_asked_again_where_what_was_found_is_of_another_kind(define):
    found = iter(["ch-17", "ch-17", 17])
    legs = define(lambda wf: wf.effect("pay", unanswered, reconcile=lambda key: next(found)), retry=THRICE)
    assert (legs.run().value, legs.kinds) == (17, ["retry", "retry", "retry", "completed"])


def test_a_coroutine_has_effects_too(define):
    bank = Bank(ConnectionResetError("no answer"))

    async def find(key):
        return bank.find(key)

    async def walk(wf):
        return await asyncio.gather(wf.effect("pay", bank.pay, 1, reconcile=find), wf.step("other", int))

    legs = define(walk, retry=THRICE)
    assert (legs.run().value, len(bank.keys)) == ([1, 0], 1)


# Changed code


def changed(define, before, after, legs_before=1):
    legs = define(before)
    for _ in range(legs_before):
        legs.leg()
        legs.now = legs.due
    remove_job("walk")
    legs.job = define(after).job
    return legs


def test_a_step_that_was_removed_from_a_coroutine_is_found_at_its_next_wait(define, done):
    did = note(done)

    async def before(wf):
        await wf.step("charge", did, 1)
        await wf.sleep("pause", 1)

    async def after(wf):
        await wf.sleep("pause", 2)
        await wf.wait_for_signal("go")

    legs = changed(define, before, after)
    legs.now -= timedelta(hours=1)  # so that the sleep is not over yet
    outcome = legs.leg()
    assert isinstance(outcome.exception, WorkflowChangedError)
    assert outcome.exception.steps == ("charge",)


def test_a_step_that_was_renamed_is_found_before_anything_is_repeated(define, done):
    did = note(done)

    def before(wf):
        wf.step("charge", did, 1)
        wf.sleep("pause", 1)

    def after(wf):
        wf.step("charge-card", did, 2)
        wf.sleep("pause", 1)

    outcome = changed(define, before, after).run()
    assert isinstance(outcome.exception, WorkflowChangedError)
    assert (outcome.exception.steps, done) == (("charge",), [1])


def test_a_step_that_was_removed_is_found_at_the_end(define, done):
    did = note(done)

    def before(wf):
        wf.step("charge", did, 1)
        wf.sleep("pause", 1)

    outcome = changed(define, before, lambda wf: wf.sleep("pause", 1)).run()
    assert (outcome.error_code, outcome.exception.steps) == ("WORKFLOW_CHANGED", ("charge",))


def test_steps_that_were_added_and_reordered_are_fine(define, done):
    did = note(done)

    def before(wf):
        wf.step("a", did, 1)
        wf.step("b", did, 2)
        wf.sleep("pause", 1)

    def after(wf):
        wf.step("new", did, 3)
        wf.step("b", did, 2)
        wf.step("a", did, 1)
        wf.sleep("pause", 1)

    assert (changed(define, before, after).run().kind, done) == ("completed", [1, 2, 3])


def test_a_step_that_became_a_wait_is_found(define):
    outcome = changed(define, lambda wf: (wf.step("a", int), wf.sleep("b", 1)), lambda wf: wf.sleep("a", 1)).run()
    assert outcome.error_code == "WORKFLOW_CHANGED"


# Versions


def test_a_run_keeps_the_version_that_it_began_with(define):
    def first(wf):
        wf.sleep("pause", 1)
        return "first"

    legs = define(first)
    legs.leg()
    legs.now = legs.due
    legs.job = define(lambda wf: "second", version=2).job
    assert (legs.run().value, Legs("walk").run().value) == ("first", "second")


def test_a_newer_version_that_accepts_the_older_ones_goes_on_with_their_runs(define):
    legs = define(lambda wf: wf.sleep("pause", 1))
    legs.leg()
    remove_job("walk")
    legs.now = legs.due

    def second(wf):
        wf.sleep("pause", 1)
        return wf.version

    legs.job = define(second, version=2, accepts=[1]).job
    assert legs.run().value == 1


def test_a_run_whose_version_is_not_there_is_put_off(define):
    legs = define(lambda wf: wf.sleep("pause", 1))
    legs.leg()
    remove_job("walk")
    legs.job = define(lambda wf: None, version=2).job
    outcome = legs.leg()
    assert (outcome.kind, outcome.delay_seconds, "version 1 of workflow walk" in outcome.deferral) == (
        "snooze",
        30,
        True,
    )


def test_two_functions_of_one_version_are_refused(define):
    def one(wf): ...
    def other(wf): ...

    define(one)
    with pytest.raises(ConfigurationError, match="Version 1 of workflow 'walk' is defined twice"):
        define(other)


@pytest.mark.parametrize("version", [0, -1, "2", True])
def test_what_is_no_version_is_refused(define, version):
    with pytest.raises(ConfigurationError, match="whole number from 1"):
        define(lambda wf: None, version=version)


def test_a_function_without_a_place_for_the_context_is_refused(define):
    with pytest.raises(ConfigurationError, match="one argument, the context"):
        define(lambda: None)


# The local provider


@pytest.fixture
def local():
    provider = LocalProvider()
    yield provider
    provider.close()


def closed(local, run_id):
    return wait_until(lambda: status if (status := local.get_run_status(run_id)).is_closed else None)


def test_the_local_provider_takes_a_workflow_through_its_legs(define, local, done):
    did, shaky = note(done), fails(1)

    def walk(wf):
        wf.step("once", did, 1)
        wf.sleep("pause", 0.05)
        return wf.step("shaky", shaky, retry=RetryConfig(max_attempts=2, initial_delay=0.01))

    define(walk)
    status = closed(local, local.send(Walk(tenant_id="acme"), SendOptions()).id)
    assert (status.state, status.result, status.attempt, done) == ("completed", 2, 3, [1])


def test_a_wait_without_an_end_keeps_no_test_waiting(define):
    define(lambda wf: wf.wait_for_signal("answer"))
    with LocalJobs() as jobs:
        jobs.send(Walk(tenant_id="acme"))
        (run,) = jobs.wait_idle()
    assert (run.state, run.run_at) == ("scheduled", LATEST)


def test_the_local_provider_gives_a_workflow_what_is_sent_to_the_run_of_its_event(define, local):
    define(lambda wf: [wf.wait_for_signal("answer") for _ in range(2)])
    local.register_handler("test.walk", lambda _ctx: None)  # so the event has two jobs
    run_id = local.send(Walk(tenant_id="acme"), SendOptions(delay=0.1)).id
    local.signal(run_id, "answer", "1")
    wait_until(lambda: local.get_run_status(run_id).state == "running")
    local.signal(run_id, "answer", "2")
    assert closed(local, run_id).result["walk"] == [1, 2]


def test_the_local_provider_shows_a_workflow_that_waits_as_scheduled(define, local):
    define(lambda wf: wf.sleep("pause", 3600))
    run_id = local.send(Walk(tenant_id="acme"), SendOptions()).id
    wait_until(lambda: local.get_run_status(run_id).state == "scheduled")
    assert local.cancel(run_id).state == "cancelled"


def test_the_local_provider_wakes_a_workflow_for_its_signal(define, local):
    define(lambda wf: wf.wait_for_signal("approve", Approval).by)
    run_id = local.send(Walk(tenant_id="acme"), SendOptions()).id
    wait_until(lambda: local.get_run_status(run_id).state == "scheduled")
    assert (local.signal(run_id, "approve", '{"by": "ada"}', "k"), local.signal(run_id, "approve", "{}", "k")) == (
        True, False
    )  # fmt: skip
    assert closed(local, run_id).result == "ada"


# Coroutines


def test_steps_of_a_coroutine_are_on_at_the_same_time(define):
    async def walk(wf):
        met = asyncio.Event()

        async def meet():
            met.set()

        async def wait():
            await met.wait()
            return "met"

        return (await asyncio.gather(wf.step("wait", wait), wf.step("meet", meet)))[0]

    assert define(walk).run().value == "met"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_memos_go_by_name_in_whatever_order_steps_end(define, done, order):
    async def walk(wf):
        ended = [asyncio.Event() for _ in range(4)]
        ended[order[0]].set()
        following = dict(zip(order, [*order[1:], 3], strict=True))

        async def send(number):
            await ended[number].wait()
            done.append(number)
            ended[following[number]].set()
            return number

        got = await asyncio.gather(*(wf.step(f"send-{number}", send, number) for number in range(3)))
        await wf.sleep("pause", 1)
        return got

    assert (define(walk).run().value, done) == ([0, 1, 2], list(order))


def test_plain_functions_are_steps_of_a_coroutine_too(define):
    async def walk(wf):
        return await wf.step("open", open_account, "ada")

    assert define(walk).run().value.name == "ada"


def test_a_wait_ends_the_leg_only_when_no_step_is_on(define, done):
    did = note(done)

    async def branch(wf):
        await wf.step("a", did, 1)
        await wf.step("b", did, 2)

    async def walk(wf):
        await asyncio.gather(wf.sleep("pause", 60), branch(wf))

    legs = define(walk)
    assert (legs.leg().kind, done) == ("suspended", [1, 2])
    legs.now = legs.due
    assert (legs.run().kind, done) == ("completed", [1, 2])


async def with_task_group(*branches):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(branch) for branch in branches]
    return [task.result() for task in tasks]


@pytest.mark.parametrize("gather", [partial(asyncio.gather, return_exceptions=True), with_task_group])
def test_it_makes_no_difference_how_a_coroutine_gathers_what_waits(define, done, gather):
    did = note(done)

    async def walk(wf):
        await gather(wf.sleep("pause", 60), wf.step("a", did, 1))
        return await wf.step("b", did, 2)

    legs = define(walk)
    assert (legs.leg().kind, done) == ("suspended", [1])
    legs.now = legs.due
    assert (legs.run().value, done) == (2, [1, 2])


def test_a_coroutine_that_needs_one_of_its_branches_goes_on_with_it(define, done):
    did = note(done)

    async def walk(wf):
        branches = [asyncio.create_task(wf.sleep("long", 60)), asyncio.create_task(wf.step("a", did, 1))]
        await asyncio.wait(branches, return_when=asyncio.FIRST_COMPLETED)
        await wf.step("b", did, 2)
        return await wf.step("c", did, 3)

    assert (define(walk).leg().value, done) == (3, [1, 2, 3])


def test_a_coroutine_cannot_keep_its_leg_from_ending(define, done):
    did = note(done)

    async def walk(wf):
        try:
            await wf.sleep("pause", 60)
        except BaseException as exc:
            raise ValueError from exc
        finally:
            await wf.step("always", did, 1)

    legs = define(walk)
    assert (legs.leg().kind, done) == ("suspended", [])
    legs.now = legs.due
    assert (legs.run().kind, done) == ("completed", [1])


def test_a_coroutine_that_waits_for_several_times_is_due_at_the_first(define):
    async def walk(wf):
        await asyncio.gather(wf.sleep("long", 60), wf.sleep("short", 10))

    legs = define(walk)
    begun = legs.now
    assert (legs.leg().kind, legs.due) == ("suspended", begun + timedelta(seconds=10))
    legs.now = legs.due
    assert (legs.leg().kind, legs.due) == ("suspended", begun + timedelta(seconds=60))
    legs.now = legs.due
    assert legs.leg().kind == "completed"


def test_a_step_of_a_coroutine_that_fails_is_tried_again_and_the_others_are_not(define, done):
    did, shaky = note(done), fails(1)

    async def walk(wf):
        return await asyncio.gather(wf.step("shaky", shaky, retry=THRICE), wf.step("other", did, 1))

    legs = define(walk)
    assert (legs.run().value, legs.kinds, done) == ([2, 1], ["retry", "completed"], [1])


def test_a_wait_beside_a_step_that_is_tried_again_ends_in_its_own_time(define, done):
    did, shaky = note(done), fails(1)

    async def branch(wf):
        await wf.sleep("short", 5)
        await wf.step("after", did, 1)

    async def walk(wf):
        await asyncio.gather(wf.step("shaky", shaky, retry=THRICE), branch(wf))

    legs = define(walk)
    assert (legs.leg().delay_seconds, shaky.calls) == (5, 1)
    legs.now += timedelta(seconds=5)
    assert (legs.leg().kind, shaky.calls, done) == ("snooze", 1, [1])
    legs.now += timedelta(seconds=5)
    assert (legs.run().kind, shaky.calls) == ("completed", 2)


def test_two_steps_of_one_name_at_the_same_time_are_refused(define):
    async def walk(wf):
        await asyncio.gather(wf.step("send", asyncio.sleep, 0), wf.step("send", asyncio.sleep, 0))

    with pytest.raises(ConfigurationError, match="names of their own"):
        raise define(walk, retry=RetryConfig(max_attempts=1)).run().exception


def test_what_a_coroutine_leaves_behind_is_ended_with_it(define, done):
    async def forgotten(wf):
        try:
            await wf.sleep("never", 60)
        finally:
            done.append("ended")

    async def walk(wf):
        task = asyncio.create_task(forgotten(wf))
        await wf.step("a", int)
        return task.done()

    assert (define(walk).run().value, done) == (False, ["ended"])
