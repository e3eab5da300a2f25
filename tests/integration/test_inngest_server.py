"""The provider inngest with a real Inngest server on this machine: run where the program `inngest` is installed."""

import pytest

from cgk_tasks import create_job_client
from cgk_tasks.config import use_settings
from cgk_tasks.errors import ProviderError, RunStateError, UnknownRunError
from tests.conformance.jobs import Act, Nobody, Two
from tests.support.inngest_server import EVENT_KEY, SIGNING_KEY, find_inngest, inngest_server, wait_registered
from tests.support.waiting import wait_until

pytest.importorskip("inngest", reason="needs Inngest's SDK for Python")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_inngest() is None, reason="needs the program inngest")]


@pytest.fixture(scope="module")
def url(services, tmp_path_factory):
    with inngest_server(services.database_url, tmp_path_factory.mktemp("inngest")) as url:
        yield url


@pytest.fixture(scope="module")
def client(url):
    settings = {
        "JOBS_PROVIDER": "inngest", "INNGEST_BASE_URL": url, "INNGEST_EVENT_KEY": EVENT_KEY,
        "INNGEST_SIGNING_KEY": SIGNING_KEY,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CGK_DATABASE_URL", "CGK_BROKER_URL"):
            patch.delenv(name, raising=False)
        for name, value in settings.items():
            patch.setenv(name, value)
        use_settings(None)
        client = create_job_client()
        wait_registered(client)
        yield client
        client.close()
    use_settings(None)


def closed(client, run_id):
    def look():
        status = client.get_run_status(run_id)
        return status if status.is_closed else None

    return wait_until(look, 30, f"run {run_id} closed")


@pytest.mark.parametrize("text", ["hello", "größer 🦊", "", "0"])
def test_a_function_runs_and_its_result_comes_back(client, text):
    assert client.trigger_and_wait(Act(tenant_id="acme", action="echo", argument=text)).unwrap() == text


def test_a_result_that_looks_like_an_envelope_comes_back_whole(client):
    assert client.trigger_and_wait(Act(tenant_id="acme", action="data", argument="x")).unwrap() == {"data": "x"}


def test_the_status_of_a_run(client):
    status = closed(client, client.send(Act(tenant_id="acme", action="echo", argument="x")).id)
    assert (status.state, status.event, status.tenant_id, status.attempt) == ("completed", "conformance.act", "acme", 1)
    assert status.payload == {"tenantId": "acme", "action": "echo", "argument": "x"}
    assert status.created_at <= status.closed_at


def test_a_failed_function_tells_its_error(client):
    result = client.trigger_and_wait(Act(tenant_id="acme", action="fail", argument="no such account"))
    assert (result.success, result.code, result.message) == (False, "UNKNOWN_ERROR", "no such account")


@pytest.mark.parametrize(("fails", "state"), [(False, "completed"), (True, "failed")])
def test_two_functions_of_an_event_are_told_together(client, fails, state):
    status = closed(client, client.send(Two(tenant_id="acme", second_fails=fails)).id)
    assert (status.state, len(status.result), "first" in status.result.values()) == (state, 2, True)


def test_a_run_for_later_is_scheduled_and_then_runs(client):
    handle = client.send(Act(tenant_id="acme", action="echo", argument="later"), delay=3)
    assert client.get_run_status(handle.id).state == "scheduled"
    assert closed(client, handle.id).result == "later"


def test_a_running_function_is_cancelled(client):
    handle = client.send(Act(tenant_id="acme", action="sleep"))
    wait_until(lambda: client.get_run_status(handle.id).state == "running", 20)
    client.cancel(handle.id)
    assert closed(client, handle.id).state == "cancelled"
    with pytest.raises(RunStateError, match="it is cancelled"):
        client.cancel(handle.id)


def test_a_scheduled_function_is_cancelled(client):
    handle = client.send(Act(tenant_id="acme", action="echo"), delay=60)
    wait_until(lambda: client.get_run_status(handle.id).job, 20)
    client.cancel(handle.id)
    status = closed(client, handle.id)
    assert (status.state, status.attempt) == ("cancelled", 0)


def test_a_closed_run_is_sent_again(client):
    first = client.trigger_and_wait(Act(tenant_id="acme", action="echo", argument="again"))
    again = client.retry(first.run_id)
    assert (again.id != first.run_id, closed(client, again.id).result) == (True, "again")


def test_a_key_that_comes_again_from_another_process_runs_nothing(client, tmp_path):
    event = Act(tenant_id="acme", action="count", argument=str(tmp_path / "count"))
    assert closed(client, client.send(event, idempotency_key="once").id)
    other = create_job_client()
    again = other.send(event, idempotency_key="once")
    client.trigger_and_wait(Act(tenant_id="acme", action="echo"))
    assert (other.get_run_status(again.id).state, (tmp_path / "count").read_text()) == ("pending", "ran\n")
    other.close()


def test_a_repeat_of_a_request_gives_the_same_id_and_runs_once(client, tmp_path, monkeypatch):
    event = Act(tenant_id="acme", action="count", argument=str(tmp_path / "count"))
    connection = client.provider._events
    answers = []

    def twice(*arguments, **options):
        answers.extend(type(connection).post(connection, *arguments, **options) for _ in range(2))
        return answers[-1]

    monkeypatch.setattr(connection, "post", twice)
    handle = client.send(event)
    monkeypatch.undo()
    assert closed(client, handle.id).state == "completed"
    assert [answer.body["ids"] for answer in answers] == [[handle.id]] * 2
    client.trigger_and_wait(Act(tenant_id="acme", action="echo"))
    assert (tmp_path / "count").read_text() == "ran\n"


def test_a_batch_has_an_id_for_each_event(client):
    handles = client.send_batch([Act(tenant_id="acme", action="echo", argument=str(number)) for number in range(20)])
    assert [closed(client, handle.id).result for handle in handles] == [str(number) for number in range(20)]


def test_an_unknown_run_is_an_error(client):
    with pytest.raises(UnknownRunError):
        client.get_run_status("01HZZZZZZZZZZZZZZZZZZZZZZZ")


def test_an_event_that_starts_nothing_stays_pending(client):
    handle = client.send(Nobody(tenant_id="acme"))
    client.trigger_and_wait(Act(tenant_id="acme", action="echo"))
    assert client.get_run_status(handle.id).state == "pending"


def test_a_server_that_knows_the_keys_is_healthy(client):
    assert client.health_check().error is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INNGEST_EVENT_KEY", "another-event-key"),
        ("INNGEST_SIGNING_KEY", "signkey-test-ffff0123456789abcdef0123456789ab"),
    ],
)
def test_a_wrong_key_is_named(client, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    use_settings(None)
    other = create_job_client()
    with pytest.raises(ProviderError, match=f"refused {name}"):
        other.get_run_status(other.send(Act(tenant_id="acme", action="echo")).id)
    other.close()
    monkeypatch.undo()
    use_settings(None)
