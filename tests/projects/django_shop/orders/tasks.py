from decimal import Decimal

from celery import chain, shared_task

from orders.models import Count, Order


@shared_task(bind=True, max_retries=3)
def charge(self, pk, amount):
    if self.request.retries == 0:
        raise self.retry(countdown=0)  # the bank is busy at first
    Order.objects.filter(pk=pk, amount=amount).update(paid=True)
    return amount * Decimal("0.19")


@shared_task
def write_receipt(tax, pk):
    Order.objects.filter(pk=pk).update(receipt=f"tax {tax:.2f}")
    return pk


@shared_task
def place(pk):
    order = Order.objects.get(pk=pk)
    chain(charge.s(pk, order.amount), write_receipt.s(pk)).delay()


@shared_task
def count_orders(note):
    Count.objects.create(note=note, orders=Order.objects.count())
