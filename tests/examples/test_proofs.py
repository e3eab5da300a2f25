"""The examples whose steps send: each message goes out once, wherever the process dies."""

import pytest

from cgk_tasks import get_run, send_job
from cgk_tasks.testing import prove_idempotent
from tests.examples.approvals import app, approve_creator
from tests.examples.orders import OrderPacked, OrderShipped, order_life

pytestmark = pytest.mark.slow


def pack_and_ship(run_id):
    tenant_id = get_run(run_id).tenant_id
    for event in (OrderPacked, OrderShipped):
        send_job(event(tenant_id=tenant_id, order_id="o-1"))


def test_a_review_is_asked_for_once(database):
    proof = prove_idempotent(order_life, {"orderId": "o-1", "email": "ada@example.com"}, meanwhile=pack_and_ship)
    assert "runs: 4" in proof.effects


def test_the_team_is_asked_reminded_and_the_creator_told_once(database):
    app.config.update(SECRET_KEY="only for tests", SHOP_URL="https://shop.example")
    proof = prove_idempotent(approve_creator, {"creatorId": "ada"})
    assert "runs: 4" in proof.effects
