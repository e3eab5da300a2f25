"""Built-in jobs in a real worker."""

import pytest

from cgk_tasks import send_job
from cgk_tasks.builtin.webhooks import add_endpoint, list_deliveries
from tests.support.receiver import in_turn, status
from tests.support.waiting import wait_closed, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(
        ["tests.support.own_jobs"],
        CGK_WEBHOOKS="true",
        CGK_WEBHOOK_PRIVATE_HOSTS="127.0.0.1",
        CGK_WEBHOOK_RETRY_SECONDS="0.2,0.2,0.2",
    )


def test_a_delivery_whose_worker_is_killed_is_made_by_another_with_the_same_id(
    start_worker, tenant_id, receiver, setting
):
    setting(CGK_WEBHOOK_PRIVATE_HOSTS="127.0.0.1")
    receiver.answers["/"] = in_turn(receiver.stall, status(200))
    add_endpoint(tenant_id, receiver.url())
    options = {"CGK_WEBHOOKS": "true", "CGK_WEBHOOK_PRIVATE_HOSTS": "127.0.0.1", "CGK_WEBHOOK_TIMEOUT_SECONDS": "3"}
    queue = f"dying-{tenant_id}"
    first = start_worker(CGK_DEFAULT_QUEUE=queue, **options)
    message = {"tenantId": tenant_id, "webhookEventId": "evt-1", "source": "shop", "topic": "order.created"}
    send_job("webhook.process", message, queue=queue)
    wait_until(lambda: receiver.requests, what="the first attempt")
    first.kill()
    start_worker(CGK_DEFAULT_QUEUE=queue, **options)
    wait_until(lambda: [row["state"] for row in list_deliveries(tenant_id)] == ["delivered"], 60, "delivered")
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert [row["attempts"] for row in list_deliveries(tenant_id)] == [2]


@pytest.mark.usefixtures("worker")
class TestWebhooks:
    def test_a_received_call_reaches_an_endpoint_that_fails_twice(self, tenant_id, receiver, setting, worker):
        setting(CGK_WEBHOOK_PRIVATE_HOSTS="127.0.0.1")
        path = "/?token=planted-7"
        receiver.answers[path] = in_turn(status(500), status(503), status(200))
        endpoint = add_endpoint(tenant_id, receiver.url(path), ["order.*"])
        call = {
            "tenantId": tenant_id, "webhookEventId": "evt-1", "source": "shop", "topic": "order.created",
            "body": {"id": 7},
        }  # fmt: skip
        send_job("webhook.received", call)
        wait_until(lambda: [row["state"] for row in list_deliveries(tenant_id)] == ["delivered"], what="delivered")
        assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
        assert [request.json["data"] for request in receiver.requests] == [{"id": 7}] * 3
        assert not any(secret in worker.log for secret in ("planted-7", endpoint.secret.get_secret_value()))

    def test_an_applications_job_replaces_the_built_in_one(self, tenant_id):
        run = send_job("webhook.cleanup", {"tenantId": tenant_id})
        closed = wait_closed(run.id)
        assert (closed.job, closed.result) == ("own-cleanup", "the application's")
