"""`cgk-tasks send`, with a real worker."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import get_job_status

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.support.jobs"])


@pytest.fixture(autouse=True)
def job_modules(worker, setting):
    setting(CGK_JOB_MODULES="tests.support.jobs")


def payload(action="echo", argument="hello", **more):
    return json.dumps({"action": action, "argument": argument, **more})


def test_a_send_prints_the_id_of_its_run_alone(cgk):
    sent = cgk("send", "test.behave", payload(tenantId="acme"))
    assert sent.code == 0
    assert get_job_status(sent.out.strip()).event == "test.behave"


def test_with_wait_it_prints_the_result(cgk):
    sent = cgk("send", "test.behave", payload(), "--tenant", "acme", "--wait", "30")
    assert (sent.code, json.loads(sent.out)) == (0, "hello")


def test_with_wait_a_failed_run_fails_and_says_how_to_look_at_it(cgk):
    sent = cgk("send", "test.behave", payload("fail_permanently"), "--tenant", "acme", "--wait", "30")
    assert (sent.code, sent.out) == (1, "")
    assert "ACCOUNT_NOT_FOUND" in sent.err
    assert "cgk-tasks runs show" in sent.err


def test_with_wait_a_run_that_takes_longer_fails_and_goes_on(cgk):
    sent = cgk("send", "test.behave", payload(), "--tenant", "acme", "--delay", "1h", "--wait", "0.1")
    assert (sent.code, "It goes on" in sent.err) == (1, True)


def test_json_has_the_outcome_even_of_a_failed_run(cgk):
    sent = cgk("send", "test.behave", payload("fail_permanently"), "--tenant", "acme", "--wait", "30", "--json")
    assert (sent.code, sent.json["success"], sent.json["code"]) == (1, False, "ACCOUNT_NOT_FOUND")


def test_a_payload_can_be_piped(cgk):
    sent = cgk("send", "test.behave", "-", "--tenant", "globex", "--wait", "30", stdin=payload(argument="piped"))
    assert json.loads(sent.out) == "piped"


def test_a_delay_makes_it_wait_in_the_record(cgk):
    run = get_job_status(cgk("send", "test.behave", payload(), "--tenant", "acme", "--delay", "1d2h").out.strip())
    assert run.state == "scheduled"
    assert timedelta(hours=25, minutes=59) < run.run_at - datetime.now(UTC) <= timedelta(hours=26)


def test_a_time_makes_it_wait_until_then(cgk):
    sent = cgk("send", "test.behave", payload(), "--tenant", "acme", "--at", "2099-01-01T00:00:00+01:00")
    assert get_job_status(sent.out.strip()).run_at == datetime(2098, 12, 31, 23, tzinfo=UTC)


def test_queue_and_priority_are_those_of_the_run(cgk):
    sent = cgk(
        "send",
        "test.behave",
        payload(),
        "--tenant",
        "acme",
        "--queue",
        "other",
        "--priority",
        "9",
        "--delay",
        "1h",
    )
    run = get_job_status(sent.out.strip())
    assert (run.queue, run.priority) == ("other", 9)


def test_a_key_makes_the_second_send_the_first_run(cgk):
    arguments = (
        "send",
        "test.behave",
        payload(),
        "--tenant",
        "acme",
        "--key",
        "once",
        "--delay",
        "1h",
        "--json",
    )
    first, second = cgk(*arguments).json, cgk(*arguments).json
    assert second == {"id": first["id"], "deduplicated": True, "outcome": "deduplicated"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("{not json",),
        ("[]",),
        ("{}", "--delay", "soon"),
        ("{}", "--at", "2026-01-01T00:00:00"),
        ("{}", "--delay", "1h", "--at", "2099-01-01T00:00:00Z"),
        ("{}", "--priority", "10"),
        ('{"tenantId": "globex"}', "--tenant", "acme"),
    ],
)
def test_values_that_cannot_be_read_are_wrong_usage(cgk, arguments):
    assert cgk("send", "test.behave", *arguments).code == 2


def test_waiting_for_telemetry_is_wrong_usage(cgk):
    assert cgk("send", "analytics.page_view", "{}", "--tenant", "acme", "--wait", "1").code == 2


def test_a_payload_that_does_not_fit_fails_and_says_where(cgk):
    sent = cgk("send", "order.created", '{"orderId": "o-1", "totalAmount": "59.97"}', "--tenant", "acme")
    assert (sent.code, "totalAmount" in sent.err, "cgk-tasks events show order.created" in sent.err) == (
        1,
        True,
        True,
    )


def test_an_unknown_tenant_fails_with_the_nearest(cgk):
    sent = cgk("send", "test.behave", payload(), "--tenant", "acmee")
    assert (sent.code, 'Did you mean "acme"?' in sent.err) == (1, True)
