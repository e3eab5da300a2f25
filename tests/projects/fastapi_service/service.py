import asyncio
import sys
from typing import Annotated

import tasks
import uvicorn
from fastapi import BackgroundTasks, Depends, FastAPI, Header
from which_celery import tenant_context

service = FastAPI()


async def customer(x_customer: Annotated[str, Header()] = "acme"):
    """The customer of a request, for which everything in it is sent."""
    with tenant_context(x_customer):
        yield x_customer


@service.post("/carts/{cart}")
async def create(cart: str, products: list[str], _customer: Annotated[str, Depends(customer)]):
    return {"id": (await asyncio.to_thread(tasks.price_cart, cart, products)).id}


@service.post("/carts/{cart}/sync")
def create_in_a_thread(cart: str, products: list[str], _customer: Annotated[str, Depends(customer)]):
    return {"id": tasks.price_cart(cart, products).id}


def write_note(name, cart):
    with tenant_context(name):
        tasks.note.delay(cart, text_of_note="later")


@service.post("/carts/{cart}/notes")
async def add_note(cart: str, name: Annotated[str, Depends(customer)], background: BackgroundTasks):
    background.add_task(write_note, name, cart)


@service.get("/results/{task_id}")
def result(task_id: str, _customer: Annotated[str, Depends(customer)]):
    found = tasks.app.AsyncResult(task_id)
    return {"state": found.state, "value": str(found.result)}


if __name__ == "__main__":
    uvicorn.run(service, port=int(sys.argv[1]), log_level="warning")
