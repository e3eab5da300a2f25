"""The settings that an application's own app is given: laid over the package's, or refused by name."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from celery import Task
from kombu import Queue

from cgk_tasks import Celery, get_settings
from cgk_tasks.celery_tasks.result_backend import RunResultBackend
from cgk_tasks.config.broker_url import redis_server
from cgk_tasks.errors import ConfigurationError, InvalidOptionError

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def make_app(monkeypatch):
    """An app of the test's own, which the rest of the process does not see."""
    from cgk_tasks import celery_app

    monkeypatch.setattr(celery_app, "_apps", list(celery_app._apps))
    made = []

    def make(**options):
        made.append(Celery("shop", set_as_current=False, **options))
        return made[-1]

    yield make
    for app in made:
        app.close()


def broker():
    return get_settings().broker_url.get_secret_value()


def test_settings_with_a_prefix_are_laid_over_the_packages(make_app):
    app = make_app()
    settings = SimpleNamespace(CELERY_WORKER_CONCURRENCY=7, CELERY_TIMEZONE="Europe/Berlin", OTHER=1)
    app.config_from_object(settings, namespace="CELERY")
    assert (app.conf.worker_concurrency, app.conf.timezone) == (7, "Europe/Berlin")
    assert app.conf.worker_consumer == "cgk_tasks.celery_tasks.consumer:RunConsumer"
    assert isinstance(app.backend, RunResultBackend)


def test_settings_that_are_given_after_the_first_look_are_laid_over_them_too(make_app):
    app = make_app()
    assert app.conf.worker_prefetch_multiplier == 2
    app.config_from_object({"worker_prefetch_multiplier": 5})
    assert (app.conf.worker_prefetch_multiplier, app.conf.worker_soft_shutdown_timeout > 0) == (5, True)


def test_the_time_zone_of_a_django_project_is_taken_where_none_is_given(make_app):
    app = make_app()
    app.config_from_object(SimpleNamespace(TIME_ZONE="Europe/Berlin"), namespace="CELERY")
    assert app.conf.timezone == "Europe/Berlin"


def test_options_of_the_transport_are_added_to_the_packages(make_app):
    app = make_app()
    app.config_from_object({"broker_transport_options": {"visibility_timeout": 60}})
    assert app.conf.broker_transport_options.items() >= {("visibility_timeout", 60), ("socket_timeout", 5)}


def test_results_are_in_the_record_whatever_backend_is_named(make_app):
    app = make_app(backend="redis://elsewhere:6379/1")
    assert isinstance(app.backend, RunResultBackend)


def test_the_same_broker_in_other_words_is_no_other_broker(make_app):
    place = redis_server(broker())
    url = f"redis://someone:secret@localhost:{place.port}"
    assert make_app(broker=url).conf.broker_url == url


@pytest.mark.parametrize("name", ["broker_url", "broker_read_url", "broker_write_url"])
def test_another_broker_is_refused_with_both_named_and_no_password(make_app, name):
    app = make_app()
    app.config_from_object({name: "redis://:topsecret@elsewhere:6379/3"})
    with pytest.raises(ConfigurationError) as refused:
        app.conf.task_always_eager  # noqa: B018 - the settings are read here
    place = redis_server(broker())
    assert "elsewhere:6379/3" in str(refused.value)
    assert f"{place.host}:{place.port}" in str(refused.value)
    assert "topsecret" not in str(refused.value)
    assert place.password not in str(refused.value)


def test_another_broker_in_the_environment_is_refused_too(make_app, monkeypatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://elsewhere")
    with pytest.raises(ConfigurationError, match="amqp://elsewhere"):
        make_app().conf.task_always_eager  # noqa: B018


def test_a_broker_that_senders_do_not_know_is_refused(make_app, setting):
    setting(CGK_BROKER_URL=None)
    with pytest.raises(ConfigurationError, match="CGK_BROKER_URL is not set"):
        make_app(broker="redis://elsewhere").conf.task_always_eager  # noqa: B018


def test_tasks_that_run_at_once_need_no_broker(make_app):
    app = make_app(broker="redis://elsewhere", task_always_eager=True)
    app.conf.task_always_eager = True

    @app.task
    def double(value):
        return 2 * value

    assert double.delay(4).get() == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_serializer", "pickle"),
        ("result_serializer", "yaml"),
        ("accept_content", ["json", "pickle"]),
        ("broker_transport", "redis"),
        ("worker_consumer", "shop.consumer:Consumer"),
        ("broker_use_ssl", True),
        ("beat_scheduler", "redbeat.RedBeatScheduler"),
        ("broker_transport_options", {"global_keyprefix": "shop:"}),
    ],
)
def test_what_cannot_hold_is_refused_by_name(make_app, name, value):
    app = make_app()
    app.config_from_object({name: value})
    with pytest.raises(ConfigurationError, match=name):
        app.conf.task_always_eager  # noqa: B018


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("serializer", "pickle"),
        ("serializer", "msgpack"),
        ("serializer", "yaml"),
        ("time_limit", -1),
        ("soft_time_limit", "10"),
        ("expires", "tomorrow"),
        ("priority", 256),
        ("queue", ""),
    ],
)
def test_an_option_that_no_send_would_take_is_refused_where_the_task_is_defined(make_app, option, value):
    with pytest.raises(InvalidOptionError, match=f"{option} of the task shop.pay"):
        make_app().task(name="shop.pay", **{option: value})(print)


def test_so_is_an_option_of_a_tasks_class_when_the_task_is_made(make_app):
    class Pay(Task):
        name = "shop.pay"
        serializer = "pickle"

    with pytest.raises(InvalidOptionError, match=r"serializer of the task shop\.pay"):
        make_app().register_task(Pay())


def test_options_that_a_send_takes_are_taken(make_app):
    @make_app().task(serializer="json", time_limit=1.5, expires=60, priority=9, queue=Queue("shop"))
    def pay():
        return "paid"

    assert pay() == "paid"


DJANGO = """
import os, sys
{first}
from cgk_tasks import Celery
{second}
app = Celery("proj")
{third}
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.loader.import_default_modules()
import cgk_tasks
from celery import current_app, shared_task
assert cgk_tasks.app is app and current_app._get_current_object() is app
print(app.conf.worker_concurrency, "found.tasks.hello" in app.tasks)
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["first", "second", "third"])
def test_the_django_project_is_known_wherever_its_settings_are_named(tmp_path, place):
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "__init__.py").write_text("")
    (tmp_path / "found" / "tasks.py").write_text(
        "from celery import shared_task\n@shared_task(name='found.tasks.hello')\ndef hello(): pass\n"
    )
    (tmp_path / "mysettings.py").write_text(
        "SECRET_KEY = 'x'\nINSTALLED_APPS = ['found']\nCELERY_WORKER_CONCURRENCY = 9\n"
    )
    named = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'mysettings')"
    code = DJANGO.format(**{"first": "", "second": "", "third": "", place: named})
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["9", "True"], done.stderr
