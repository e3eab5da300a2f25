from django.db import transaction
from django.http import JsonResponse

from orders import tasks
from orders.models import Order


def create(request):
    with transaction.atomic():
        order = Order.objects.create(shop=request.headers.get("X-Shop", "acme"), amount=request.POST["amount"])
        tasks.place.delay_on_commit(order.pk)
        if "abort" in request.POST:
            transaction.set_rollback(True)
    return JsonResponse({"id": order.pk})


def show(_request, pk):
    order = Order.objects.get(pk=pk)
    return JsonResponse({"paid": order.paid, "receipt": order.receipt})
