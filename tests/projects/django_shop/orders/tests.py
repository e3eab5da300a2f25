"""The shop's own tests, as `manage.py test` runs them."""

from django.test import TestCase

from orders.models import Order
from orders.tasks import count_orders


class OrderTests(TestCase):
    def test_an_order_is_placed_when_its_transaction_commits(self):
        with self.captureOnCommitCallbacks(execute=True):
            answer = self.client.post("/orders/", {"amount": "10.00"})
        assert Order.objects.get(pk=answer.json()["id"]).receipt == "tax 1.90"

    def test_an_order_that_is_rolled_back_is_not_placed(self):
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            self.client.post("/orders/", {"amount": "10.00", "abort": "1"})
        assert (callbacks, Order.objects.count()) == ([], 0)

    def test_a_task_runs_at_once(self):
        assert count_orders.delay(note="now").successful()
