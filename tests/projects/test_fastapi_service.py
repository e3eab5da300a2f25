"""A FastAPI service on plain Celery and on cgk_tasks: the same code and the same assertions, another import."""

from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
import requests

from tests.conftest import copied_database
from tests.projects.processes import server, worker
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FOLDER = Path(__file__).parent / "fastapi_service"


@pytest.fixture(scope="module", params=["celery", "cgk_tasks"])
def place(request, services, database):
    """The service's settings, with its tables made in a database of its own."""
    address = copied_database(services, "template1")
    with psycopg.connect(address) as connection:
        connection.execute("CREATE TABLE totals (cart text, total numeric, seconds float)")
        connection.execute("CREATE TABLE notes (cart text, note text)")
    return {
        "SERVICE_RUNS_ON": request.param,
        "SERVICE_DATABASE_URL": address.replace("postgresql://", "postgresql+psycopg://"),
        "SERVICE_BROKER_URL": services.broker_url,
    }


@pytest.fixture(scope="module")
def url(place):
    with worker(FOLDER, "tasks", **place), server(FOLDER, "service.py", **place) as address:
        yield address


def post(url, path, products=()):
    return requests.post(f"{url}/carts/{path}", json=list(products), timeout=30).json()


def ended(url, task_id):
    def look():
        found = requests.get(f"{url}/results/{task_id}", timeout=30).json()
        return found if found["state"] in {"SUCCESS", "FAILURE"} else None

    return wait_until(look, 40, "the task has ended")


def select(place, statement, *values):
    with psycopg.connect(place["SERVICE_DATABASE_URL"].replace("+psycopg", "")) as connection:
        return connection.execute(statement, values).fetchall()


@pytest.mark.parametrize("path", ["c-1", "c-2/sync"])
def test_a_cart_is_priced_by_a_chord(url, place, path):
    made = post(url, path, ["tea", "milk"])
    assert ended(url, made["id"]) == {"state": "SUCCESS", "value": "7"}
    ((total, seconds),) = select(place, "SELECT total, seconds FROM totals WHERE cart = %s", path[:3])
    assert total == Decimal(7)
    assert 0 <= seconds < 600


def test_a_product_without_a_price_fails_the_cart(url):
    made = post(url, "c-3", ["tea", "unknown"])
    assert ended(url, made["id"])["state"] == "FAILURE"


def test_a_background_task_sends_for_the_customer(url, place):
    post(url, "c-4/notes")
    wait_until(lambda: select(place, "SELECT 1 FROM notes WHERE cart = 'c-4' AND note = 'later'"), 40, "the note")
