"""Every error has an answer: RFC 9457 problem details, which tell nothing of the server's side."""

import json

import pytest

from cgk_tasks import errors
from cgk_tasks.gateway.json_text import to_text
from cgk_tasks.gateway.problems import problem
from tests.unit.test_errors import EXAMPLES

SAID = {
    "The record of runs cannot be reached now.",
    "The request could not be served. The gateway's log says why.",
}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_has_an_answer(error):
    told = json.loads(to_text(problem(error)))
    assert {"type", "title", "status", "detail", "code"} <= set(told)
    assert told["type"] == f"urn:cgk-tasks:error:{told['code']}"
    assert 400 <= told["status"] < 600


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_what_is_the_servers_own_affair_is_not_told(error):
    told = problem(error)
    if told["status"] >= 500:
        assert (told["detail"] in SAID, "hint" in told) == (True, False)
    else:
        assert (told["detail"], told.get("hint")) == (error.text, error.hint)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.UnknownEventError("order.craeted"), 404),
        (errors.PayloadInvalidError("order.created", ["orderId: missing"]), 422),
        (errors.PayloadTooLargeError("order.created", 2, 1), 413),
        (errors.IdempotencyConflictError("order.created", "k", "run-1"), 409),
        (errors.QueueFullError(3, tenant_id="acme", retry_after=2.0), 429),
        (errors.QuotaExceededError("acme", 1000, 3600.0), 429),
        (errors.UnknownRunError("run-1"), 404),
        (errors.RunStateError("run-1", "running", "retry"), 409),
        (errors.UnknownTenantError("nobody"), 403),
        (errors.TenantContextError("no"), 403),
        (errors.StaleAttemptError("no"), 503),
        (errors.ConfigurationError("no"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_has_its_status(error, status):
    assert problem(error)["status"] == status


def test_a_wait_is_told_in_whole_seconds_and_never_too_short():
    assert problem(errors.QueueFullError(3, tenant_id="acme", retry_after=1.2))["retryAfter"] == 2
