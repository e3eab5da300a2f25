"""The services of the pages on Django, FastAPI and Flask: their files are saved and run as the pages show them."""

import uuid
from contextlib import contextmanager

import psycopg
import pytest
import requests

from cgk_tasks import get_run
from tests.docs.pages import ROOT, blocks
from tests.projects.processes import run, running, server, worker
from tests.support.waiting import wait_closed, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FASTAPI_OR_FLASK = ROOT / "docs/how-to/use-with-fastapi-or-flask.md"
DJANGO = ROOT / "docs/how-to/use-with-django.md"
DJANGOS_TASKS = ROOT / "docs/how-to/use-djangos-tasks.md"
ACME = {"X-Tenant": "acme"}

# How the page says that each is served, with a port of ours.
SERVED = {
    "fastapi": (["uvicorn", "api:api", "--log-level", "warning"], "--port"),
    "flask": (["flask", "--app", "web:web", "run"], "--port"),
}

# What the pages take for granted: a Django project with an app, its model, and a task of Celery.
MANAGE = """
import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
execute_from_command_line(sys.argv)
"""
SETTINGS = """
import os

from psycopg.conninfo import conninfo_to_dict

SECRET_KEY = "only for tests"
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "django_celery_beat", "orders", {more_apps}
]
MIDDLEWARE = [{middleware}]
ROOT_URLCONF = "proj.urls"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CELERY_TASK_ALWAYS_EAGER = os.environ.get("EAGER") == "1"

_place = conninfo_to_dict(os.environ["CGK_DATABASE_URL"])
_keys = {{"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}}
DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.postgresql",
        **{{name: _place.pop(key, "") for name, key in _keys.items()}},
        "OPTIONS": _place,
    }}
}}
"""
MODELS = """
from django.db import models


class Order(models.Model):
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    receipt = models.TextField(default="")
    paid = models.BooleanField(default=False)
"""
CELERY_TASKS = """
from celery import shared_task

from cgk_tasks import current_tenant
from orders.models import Order


@shared_task
def write_receipt(pk):
    order = Order.objects.get(pk=pk)
    order.receipt = f"{order.amount} EUR"
    order.save(update_fields=["receipt"])


@shared_task
def count_orders():
    return [current_tenant().id, Order.objects.count()]
"""
URLS = """
from django.urls import path

from orders import views

urlpatterns = [path("orders/", views.create), path("results/<str:result_id>/", views.show)]
"""


def save(page, folder):
    """The page's files, and those of its Python blocks that are none."""
    rest = []
    for block in blocks(page, "python"):
        if block.saved_as is None:
            rest.append(block.text)
        else:
            path = folder / block.saved_as
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text)
    return rest


def note_of(database, order_id):
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT note FROM tenant_acme.orders WHERE order_id = %s", [order_id]).fetchall()
    return rows[0][0] if rows else None


@pytest.fixture(scope="class")
def shop(tmp_path_factory, database):
    """The folder with the page's services, and a worker of it."""
    folder = tmp_path_factory.mktemp("shop")
    save(FASTAPI_OR_FLASK, folder)
    with worker(folder, "shop", **queue_of(folder)):
        yield folder


def queue_of(folder):
    """Each project has a queue of its own: a worker of another one would not know its tasks."""
    return {"CGK_DEFAULT_QUEUE": f"q-{folder.name}"}


@contextmanager
def serving(folder, *arguments, **variables):
    with server(folder, "-m", *arguments, **queue_of(folder), **variables) as url:
        yield url


@pytest.fixture(scope="class", params=SERVED)
def service(request, shop):
    arguments, port = SERVED[request.param]
    with serving(shop, *arguments, port) as url:
        yield url


class TestFastAPIAndFlask:
    def test_an_order_and_its_run_are_one_transaction(self, service, database):
        order = f"kept-{uuid.uuid4()}"
        answer = requests.post(f"{service}/orders/{order}", headers=ACME, timeout=30)
        assert answer.status_code == 200, answer.text
        assert wait_closed(answer.json()["run"], 40).state == "completed"
        assert note_of(database, order) == "receipt"

    def test_an_order_that_is_refused_leaves_neither(self, service, database):
        order, before = f"lost-{uuid.uuid4()}", runs(database)
        answer = requests.post(f"{service}/orders/{order}", params={"abort": "1"}, headers=ACME, timeout=30)
        assert (answer.status_code, note_of(database, order), runs(database)) == (409, None, before)

    def test_it_is_live_and_ready(self, service):
        answers = [requests.get(f"{service}/health/{word}", timeout=30) for word in ("live", "ready")]
        assert [(one.status_code, one.json()["status"]) for one in answers] == [(200, "live"), (200, "ready")]

    @pytest.mark.parametrize("framework", SERVED)
    def test_without_postgresql_it_is_live_and_not_ready(self, shop, framework):
        arguments, port = SERVED[framework]
        with serving(shop, *arguments, port, CGK_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none") as url:
            answers = [requests.get(f"{url}/health/{word}", timeout=30) for word in ("live", "ready")]
        assert [one.status_code for one in answers] == [200, 503]

    def test_without_a_broker_it_is_ready_and_nothing_is_lost(self, shop):
        arguments, port = SERVED["fastapi"]
        with serving(shop, *arguments, port, CGK_BROKER_URL="redis://127.0.0.1:1/0") as url:
            assert requests.get(f"{url}/health/ready", timeout=30).status_code == 200
            sent = requests.post(f"{url}/orders/no-broker", headers=ACME, timeout=60).json()["run"]
        assert wait_closed(sent, 60).state == "completed", "the dispatcher sends what the application could not"


def runs(database):
    """How many there are, open and closed."""
    return one(database, "SELECT (SELECT count(*) FROM cgk.runs) + (SELECT count(*) FROM cgk.run_history)")


def project(folder, page, *, more_apps="", middleware=""):
    """A Django project of the page's files and of what it takes for granted; returns its other blocks."""
    (folder / "orders/migrations").mkdir(parents=True)
    (folder / "proj").mkdir()
    settings = SETTINGS.format(more_apps=more_apps, middleware=middleware)
    texts = {
        "manage.py": MANAGE, "proj/__init__.py": "", "proj/settings.py": settings, "proj/urls.py": URLS,
        "orders/__init__.py": "", "orders/migrations/__init__.py": "", "orders/models.py": MODELS,
        "orders/tasks.py": CELERY_TASKS,
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    return save(page, folder)


def receipt_of(database, pk):
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT receipt, paid FROM public.orders_order WHERE id = %s", [pk]).fetchall()
    return rows[0] if rows else None


@pytest.fixture(scope="class")
def django_project(tmp_path_factory, database):
    folder = tmp_path_factory.mktemp("django")
    project(folder, DJANGO, middleware='"proj.tenants.TenantOfRequest"')
    (folder / "proj/__init__.py").write_text("from proj.celery import app as celery_app\n")
    run(folder, "manage.py", "makemigrations", "orders")
    run(folder, "manage.py", "migrate")
    return folder


@pytest.fixture(scope="class")
def django_site(django_project):
    with (
        worker(django_project, "proj", **queue_of(django_project)),
        serving(django_project, "django", "runserver", "--noreload", DJANGO_SETTINGS_MODULE="proj.settings") as url,
    ):
        yield url


class TestDjango:
    def test_an_order_and_what_is_sent_are_one_transaction(self, django_site, database):
        answer = requests.post(f"{django_site}/orders/", {"amount": "10.00"}, headers=ACME, timeout=30).json()
        wait_until(lambda: receipt_of(database, answer["id"])[0] == "10.00 EUR", 40, "the receipt is written")
        assert (get_run(answer["run"]).event, get_run(answer["run"]).tenant_id) == ("order.created", "acme")

    def test_a_rollback_leaves_neither(self, django_site, database):
        before = runs(database)
        lost = requests.post(f"{django_site}/orders/", {"amount": "1", "abort": "1"}, headers=ACME, timeout=30).json()
        assert (receipt_of(database, lost["id"]), runs(database)) == (None, before)

    def test_delay_on_commit_sends_after_it(self, django_site, database):
        pk = requests.post(f"{django_site}/orders/later/", {"amount": "5.00"}, headers=ACME, timeout=30).json()["id"]
        wait_until(lambda: receipt_of(database, pk)[0] == "5.00 EUR", 40, "the receipt is written")

    def test_it_is_live_and_ready(self, django_site):
        answers = [requests.get(f"{django_site}/health/{word}", timeout=30) for word in ("live", "ready")]
        assert [(one.status_code, one.json()["status"]) for one in answers] == [(200, "live"), (200, "ready")]

    def test_a_row_of_periodic_tasks_that_the_project_makes_is_sent_for_each_tenant(
        self, django_site, django_project, database
    ):
        often = (django_project / "orders/periodic.py").read_text().replace("every=60", "every=1")
        (django_project / "orders/often.py").write_text(often)
        run(django_project, "manage.py", "shell", "-c", "from orders.often import make; make()")
        without = """SELECT count(*) FROM cgk.tenants t WHERE status = 'active' AND NOT EXISTS (
            SELECT FROM cgk.runs r WHERE r.tenant_id = t.id AND r.event = 'orders.tasks.count_orders' UNION ALL
            SELECT FROM cgk.run_history r WHERE r.tenant_id = t.id AND r.event = 'orders.tasks.count_orders')"""
        with running(django_project, "-m", "celery", "-A", "proj", "beat", "--pidfile=", **queue_of(django_project)):
            wait_until(lambda: one(database, without) == 0, 60, "a run for each tenant")

    def test_the_pages_test_case_passes(self, django_project):
        assert "Ran 1 test" in run(django_project, "manage.py", "test", "orders", "--noinput", EAGER="1")


def one(database, statement):
    with psycopg.connect(database) as connection:
        return connection.execute(statement).fetchone()[0]


@pytest.fixture(scope="class")
def tasks_site(tmp_path_factory, database):
    """The project of the page on Django's own tasks, with a worker that knows of it by its settings alone."""
    from cgk_tasks.django.framework import HOME

    folder = tmp_path_factory.mktemp("tasks")
    backend, *_rest = project(folder, DJANGOS_TASKS, more_apps='"django_tasks"' if HOME == "django_tasks" else "")
    with (folder / "proj/settings.py").open("a") as file:
        file.write(backend)
    tasks = folder / "orders/tasks.py"
    tasks.write_text(tasks.read_text().replace("from django.tasks", f"from {HOME}"))
    settings = {"DJANGO_SETTINGS_MODULE": "proj.settings"}
    run(folder, "manage.py", "makemigrations", "orders")
    run(folder, "manage.py", "migrate")
    assert "no issues" in run(folder, "manage.py", "check")
    with (
        worker(folder, "cgk_tasks", **queue_of(folder), **settings),
        serving(folder, "django", "runserver", "--noreload", **settings) as url,
    ):
        yield url


class TestDjangosTasks:
    def test_a_task_is_enqueued_with_its_order_and_has_a_result(self, tasks_site, database):
        sent = requests.post(f"{tasks_site}/orders/", {"amount": "7.00"}, headers=ACME, timeout=30).json()
        shown = wait_until(lambda: finished(tasks_site, sent["receipt"]), 40, "the receipt is written")
        assert (shown["value"], shown["attempts"]) == ("7.00 EUR", 1)
        wait_until(lambda: receipt_of(database, sent["id"]) == ("7.00 EUR", True), 40, "the second attempt charges")

    def test_an_order_that_is_rolled_back_has_no_task(self, tasks_site, database):
        before = runs(database)
        lost = requests.post(f"{tasks_site}/orders/", {"amount": "1", "abort": "1"}, headers=ACME, timeout=30).json()
        assert (receipt_of(database, lost["id"]), runs(database)) == (None, before)


def finished(site, result_id):
    shown = requests.get(f"{site}/results/{result_id}/", headers=ACME, timeout=30).json()
    return shown if shown["status"] == "SUCCESSFUL" else None
