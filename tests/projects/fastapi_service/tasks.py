import os
from datetime import UTC, datetime
from decimal import Decimal

from celery import chord
from sqlalchemy import create_engine, text
from which_celery import Celery

engine = create_engine(os.environ["SERVICE_DATABASE_URL"])

app = Celery("service", broker=os.environ["SERVICE_BROKER_URL"], backend=os.environ["SERVICE_BROKER_URL"])
app.conf.update(result_expires=600, task_track_started=True, timezone="Europe/Berlin", enable_utc=True)


@app.task(autoretry_for=(ConnectionError,), max_retries=2, default_retry_delay=0)
def price(product, currency="EUR"):
    if product == "unknown":
        raise LookupError(product)
    return Decimal(len(product))


@app.task
def total(prices, cart, placed_at):
    with engine.begin() as connection:
        values = {"cart": cart, "total": sum(prices), "seconds": (datetime.now(UTC) - placed_at).total_seconds()}
        connection.execute(text("INSERT INTO totals VALUES (:cart, :total, :seconds)"), values)
    return sum(prices)


@app.task
def note(cart, text_of_note):
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO notes VALUES (:cart, :note)"), {"cart": cart, "note": text_of_note})


def price_cart(cart, products):
    return chord([price.s(one) for one in products])(total.s(cart, datetime.now(UTC)))
