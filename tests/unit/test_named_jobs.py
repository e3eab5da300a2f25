"""The names of jobs in queues, and the events that they have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks import create_job_queue
from cgk_tasks.errors import InvalidOptionError, PayloadInvalidError, TenantMissingError
from cgk_tasks.events import TenantEvent, sensitive_fields
from cgk_tasks.job_queues.named_jobs import NamedJob, event_of, name_of
from cgk_tasks.jobs.registry import define_job, remove_job
from cgk_tasks.testing import LocalJobs

NAMES = st.from_regex(
    r"[a-z][a-z0-9]{0,3}([-_][a-z0-9]{1,3}){0,2}(\.[a-z][a-z0-9]{0,3}([-_][a-z0-9]{1,3})?)?", fullmatch=True
)


@given(NAMES)
def test_a_name_comes_back_from_its_event(name):
    assert name_of(event_of(name).event_name) == name


def test_a_name_has_one_event():
    assert event_of("send-email") is event_of("send-email")
    assert event_of("send-email") is not event_of("send_email")


@pytest.mark.parametrize(
    "name", ["", "Send", "1st", "a b", "a__b", "a-", "-a", "a_-b", "a..b", "orders:sync", "a" * 101, 5]
)
def test_what_can_be_no_name_is_refused(name):
    with pytest.raises(InvalidOptionError, match="must be like 'send-email'"):
        event_of(name)


def test_an_event_of_the_applications_own_is_not_taken_for_one():
    class Own(TenantEvent, event="queued.own"):
        pass

    with pytest.raises(InvalidOptionError, match=r"has an event 'queued\.own' of its own"):
        event_of("own")


def test_what_a_job_carries_counts_as_personal_data():
    assert sensitive_fields(event_of("send-email")) == {"data", "metadata"}


@pytest.fixture
def emails():
    return create_job_queue("emails")


def test_a_job_is_sent_with_all_that_is_said_of_it(emails):
    with LocalJobs() as jobs:
        handle = emails.enqueue("greet", {"to": ["Ada"]}, priority=9, delay=60, tenant_id="acme", metadata={"by": "x"})
        job = emails.get_job(handle.id)
    (event,) = jobs.sent
    assert isinstance(event, NamedJob)
    assert (event.tenant_id, event.data, event.metadata) == ("acme", {"to": ["Ada"]}, {"by": "x"})
    assert (job.name, job.queue, job.status, job.priority) == ("greet", "emails", "scheduled", 9)
    assert (job.payload, job.metadata) == ({"to": ["Ada"]}, {"by": "x"})


def test_its_handler_finds_it_in_the_payload(emails):
    define_job("greet-now", event=event_of("greet-now"))(lambda ctx: f"Hello {ctx.payload.data['to']}")
    try:
        with LocalJobs() as jobs:
            handle = emails.enqueue("greet-now", {"to": "Ada"}, tenant_id="acme")
            jobs.wait_idle()
            assert emails.get_job(handle.id).result == "Hello Ada"
    finally:
        remove_job("greet-now")


def test_without_a_tenant_nothing_is_sent(emails):
    with LocalJobs() as jobs, pytest.raises(TenantMissingError):
        emails.enqueue("greet", {})
    assert jobs.sent == []


@pytest.mark.parametrize("wrong", [{"payload": ["a"]}, {"payload": "a"}, {"metadata": 5}], ids=str)
def test_what_a_job_carries_is_an_object(emails, wrong):
    with LocalJobs() as jobs, pytest.raises(PayloadInvalidError, match="must be an object with named fields"):
        emails.enqueue("greet", **wrong, tenant_id="acme")
    assert jobs.sent == []


def test_what_json_cannot_carry_is_refused(emails):
    with LocalJobs() as jobs, pytest.raises(PayloadInvalidError):
        emails.enqueue("greet", {"who": object()}, tenant_id="acme")
    assert jobs.sent == []


@pytest.mark.parametrize("name", ["", "a\nb", 5])
def test_a_queue_has_a_name(name):
    with pytest.raises(InvalidOptionError):
        create_job_queue(name)
