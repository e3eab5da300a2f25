"""A Django project on plain Celery and on cgk_tasks: the same code and the same assertions, another import."""

from pathlib import Path

import psycopg
import pytest
import requests

from tests.conftest import copied_database
from tests.projects.processes import run, running, server, worker
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FOLDER = Path(__file__).parent / "django_shop"


@pytest.fixture(scope="module", params=["celery", "cgk_tasks"])
def shop(request, services, database):
    """The shop's settings, with its tables made in a database of its own."""
    address = copied_database(services, "template1")
    settings = {"SHOP_RUNS_ON": request.param, "SHOP_DATABASE_URL": address, "SHOP_BROKER_URL": services.broker_url}
    run(FOLDER, "manage.py", "migrate", **settings)
    return settings


@pytest.fixture(scope="module")
def url(shop):
    with (
        worker(FOLDER, "config", **shop),
        server(FOLDER, "manage.py", "runserver", "--noreload", **shop) as address,
    ):
        yield address


def order(url, **fields):
    return requests.post(f"{url}/orders/", {"amount": "10.00", **fields}, timeout=30).json()["id"]


def shown(url, pk):
    return requests.get(f"{url}/orders/{pk}/", timeout=30)


def select(shop, statement):
    with psycopg.connect(shop["SHOP_DATABASE_URL"]) as connection:
        return connection.execute(statement).fetchall()


def test_an_order_is_charged_and_gets_its_receipt(url):
    pk = order(url)
    receipt = {"paid": True, "receipt": "tax 1.90"}
    wait_until(lambda: shown(url, pk).json() == receipt, 40, "the receipt is written")


def test_an_order_that_is_rolled_back_is_never_charged(url, shop):
    lost, kept = order(url, abort="1"), order(url)
    wait_until(lambda: shown(url, kept).json()["receipt"], 40, "the next one is charged")
    assert select(shop, f"SELECT 1 FROM orders_order WHERE id = {lost}") == []


def test_the_shops_own_tests_pass(shop):
    assert "OK" in run(FOLDER, "manage.py", "test", "orders", "--noinput", **shop, SHOP_EAGER="1")


def test_entries_of_the_beat_schedule_setting_are_sent_and_counted(url, shop):
    ran = "SELECT count(*) FROM orders_count WHERE note = 'nightly'"
    with running(FOLDER, "-m", "celery", "-A", "config", "beat", "-S", "django", "--pidfile=", **shop):
        wait_until(lambda: select(shop, ran)[0][0] >= 2, 60, "the task ran twice")
    counted = "SELECT total_run_count FROM django_celery_beat_periodictask WHERE name = 'count-orders'"
    assert select(shop, counted)[0][0] >= 2
