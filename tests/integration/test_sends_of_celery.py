"""What Celery's own options and settings do to a send: routes, default queue, priorities, times."""

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from celery.exceptions import QueueNotFound
from kombu import Exchange, Queue

from cgk_tasks import get_job_status
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError, InvalidOptionError, PayloadTooLargeError
from cgk_tasks.runs.models import DEFAULT_PRIORITY, run_id_of
from cgk_tasks.tenancy import tenant_context
from tests.integration import canvas_tasks as tasks

NAME = tasks.add.name


@pytest.fixture(autouse=True)
def acme(database):
    with tenant_context("acme"):
        yield


@pytest.fixture
def configure():
    """Change the app's settings for one test."""
    changes = tasks.app.conf.changes
    before = dict(changes)

    def change(**settings):
        tasks.app.conf.update(settings)

    yield change
    changes.clear()
    changes.update(before)
    tasks.add.apply_async((1, 1), countdown=3600)  # a send takes the settings up again


def sent(task=tasks.add, **options):
    return get_job_status(run_id_of(task.apply_async((1, 1), countdown=3600, **options).id))


def where(**options):
    run = sent(**options)
    return run.queue, run.priority


class ByHand:
    """A router class, as Celery had them before its functions."""

    def route_for_task(self, task, args=None, kwargs=None):
        return {"queue": "by-hand"} if task == NAME else None


def by_function(name, args, kwargs, options, task=None, **_more):
    return {"queue": f"{name.rpartition('.')[2]}-{args[0]}"}


def only_others(name, args, kwargs, options, task=None, **_more):
    return None


@pytest.mark.parametrize(
    ("routes", "queue"),
    [
        ({NAME: {"queue": "named"}}, "named"),
        ({NAME: "named"}, "named"),
        ({"tests.integration.*": {"queue": "glob"}}, "glob"),
        ([[(re.compile(r".*\.(add|total)"), {"queue": "regex"})]], "regex"),
        (({"nothing": "x"}, {"tests.*": "second"}), "second"),
        (by_function, "add-1"),
        ("tests.integration.test_sends_of_celery.by_function", "add-1"),
        ([only_others, ByHand()], "by-hand"),
        ("tests.integration.test_sends_of_celery.ByHand", "by-hand"),
    ],
    ids=["name", "text", "glob", "regex", "several", "function", "dotted", "class", "dotted class"],
)
def test_a_route_that_is_set_after_the_import_is_taken(configure, routes, queue):
    configure(task_routes=routes)
    assert sent().queue == queue


def test_a_route_gives_a_priority_and_what_the_call_says_wins(configure):
    configure(task_routes={NAME: {"queue": "named", "priority": 9}})
    assert where() == ("named", 0)
    assert where(queue="said", priority=0) == ("said", DEFAULT_PRIORITY)


def test_a_route_counts_for_a_send_by_name_and_is_given_up_again(configure):
    configure(task_routes={"of.elsewhere": "there"})
    assert get_job_status(tasks.app.send_task("of.elsewhere", countdown=3600).id).queue == "there"
    configure(task_routes=None)
    assert get_job_status(tasks.app.send_task("of.elsewhere", countdown=3600).id).queue == get_settings().default_queue


def test_the_default_queue_that_is_set_later_is_taken_and_consumed(configure):
    configure(task_default_queue="shop")
    assert sent().queue == "shop"
    assert {"shop", get_settings().default_queue} <= set(tasks.app.amqp.queues.consume_from)


def test_the_applications_queues_are_consumed_beside_ours(configure):
    tasks.add.apply_async((1, 1), countdown=3600)
    configure(task_queues=[Queue("fast"), Queue("slow", max_priority=10)])
    assert sent(queue=Queue("fast")).queue == "fast"
    assert {"fast", "slow", get_settings().default_queue} <= set(tasks.app.amqp.queues.consume_from)


def test_a_routing_key_leads_to_the_queue_that_is_bound_to_it(configure):
    media = Exchange("media", type="topic")
    configure(task_queues=[Queue("video", media, "media.video.#"), Queue("image", media, "media.image")])
    assert sent(exchange="media", routing_key="media.video.hd").queue == "video"
    assert sent(exchange=media, routing_key="media.image").queue == "image"
    with pytest.raises(InvalidOptionError, match=r"routing_key is not valid: 'media.text' leads to no queue"):
        sent(exchange="media", routing_key="media.text")


def test_an_exchange_that_leads_to_several_queues_is_refused(configure):
    news = Exchange("news", type="fanout")
    configure(task_queues=[Queue("one", news), Queue("two", news)])
    with pytest.raises(InvalidOptionError, match="leads to one, two, and a run goes to one queue"):
        sent(exchange="news")


def test_without_missing_queues_an_unknown_one_is_refused_as_in_celery(configure):
    configure(task_create_missing_queues=False)
    with pytest.raises(QueueNotFound, match="nowhere"):
        sent(queue="nowhere")


def test_a_broadcast_queue_is_refused_by_its_name(configure):
    from kombu.common import Broadcast

    configure(task_queues=[Broadcast("everybody")])
    with pytest.raises(ConfigurationError, match="everybody"):
        tasks.app.amqp.Queues(tasks.app.conf.task_queues)


@pytest.mark.parametrize("serializer", ["pickle", "yaml", "msgpack"])
def test_another_serializer_is_refused(serializer):
    with pytest.raises(InvalidOptionError, match=f"serializer is not valid: is '{serializer}'"):
        sent(serializer=serializer)


def test_another_serializer_is_refused_without_a_record_too():
    with pytest.raises(InvalidOptionError, match="serializer"):
        tasks.fleeting.apply_async((1,), serializer="pickle")


@pytest.mark.parametrize(("celerys", "ours"), [(0, 5), (2, 5), (3, 3), (6, 1), (8, 1), (9, 0), (255, 0)])
def test_a_priority_has_the_meaning_that_it_has_in_redis(celerys, ours):
    assert sent(priority=celerys).priority == ours


@pytest.mark.parametrize(
    ("celerys", "highest", "ours"),
    [(0, None, 5), (1, None, 6), (5, None, 7), (9, None, 9), (255, None, 9), (5, 255, 6)],
)
def test_a_priority_has_the_meaning_that_it_has_in_rabbitmq(setting, celerys, highest, ours):
    from cgk_tasks.celery_tasks.priorities import celery_priority, priority_of

    setting(CGK_BROKER_URL="amqp://localhost//")
    assert priority_of(celerys, highest) == ours
    assert priority_of(celery_priority(ours)) == ours


@pytest.mark.parametrize("value", [-1, 256, "high", 1.5, True])
def test_what_is_no_priority_is_refused(value):
    with pytest.raises(InvalidOptionError, match="from 0 to 255"):
        sent(priority=value)


def test_a_default_priority_is_that_of_a_send_without_one(configure):
    configure(task_default_priority=9)
    assert (sent().priority, sent(priority=3).priority) == (0, 3)


def test_annotations_that_are_set_later_change_the_task(configure):
    assert tasks.annotated.max_retries == 3
    configure(task_annotations={tasks.annotated.name: {"max_retries": 7, "queue": "annotated"}})
    assert get_job_status(tasks.annotated.apply_async(countdown=3600).id).queue == "annotated"
    assert tasks.annotated.max_retries == 7


def test_a_tasks_default_that_is_set_later_is_taken(configure):
    configure(task_ignore_result=True)
    result = tasks.add.apply_async((1, 1), countdown=3600)
    assert (tasks.add.ignore_result, result.get(timeout=0.1)) == (True, None)


@pytest.mark.parametrize("option", ["eta", "expires"])
def test_a_time_without_a_zone_is_utc(option):
    naive = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)
    run = get_job_status(tasks.add.apply_async((1, 1), **{option: naive}).id)
    found = run.run_at if option == "eta" else run.expires_at
    assert found == naive.replace(tzinfo=UTC)


def test_an_expiry_in_the_past_is_an_expiry_at_once():
    run = get_job_status(tasks.add.apply_async((1, 1), countdown=3600, expires=-1).id)
    assert run.expires_at <= datetime.now(UTC)


def test_the_options_of_a_task_count_for_a_send_by_its_name():
    run = get_job_status(tasks.app.send_task(tasks.with_options.name, countdown=60).id)
    assert (run.queue, run.expires_at is not None) == ("options", True)


def test_too_large_arguments_are_refused_when_they_are_sent(setting):
    setting(CGK_MAX_PAYLOAD_BYTES="1000")
    with pytest.raises(PayloadTooLargeError):
        tasks.same.delay("x" * 1001)


def test_a_router_sees_what_celerys_would():
    seen = SimpleNamespace()
    tasks.app.conf.task_routes = (lambda *args, **options: vars(seen).update(args=args, options=options),)
    try:
        tasks.add.apply_async((1,), {"y": 2}, countdown=60, priority=3)
    finally:
        del tasks.app.conf.changes["task_routes"]
    name, args, kwargs, options = seen.args
    assert (name, args, kwargs, options["priority"]) == (NAME, (1,), {"y": 2}, 3)
    assert seen.options["task"] == tasks.add
